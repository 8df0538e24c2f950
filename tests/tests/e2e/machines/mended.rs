//! What ages, is lost or fills up in a cluster on machines: seen by a plan as what it is, and mended where it is.

use super::World;

/// Makes certificates whose time is over, as they are after a year, and loses one. What is in use goes on with those that it has read.
const AGE: &str = r#"set -e
sed 's/^  "clusterName"/  "certificateValidityPeriod": "1s",\n  "clusterName"/' /kind/kubeadm.conf >/tmp/aged.conf
cd /etc/kubernetes
for name in apiserver apiserver-kubelet-client apiserver-etcd-client front-proxy-client etcd/server etcd/healthcheck-client; do
  rm "pki/$name.crt" "pki/$name.key"
  kubeadm init phase certs "$(echo "$name" | tr / -)" --config=/tmp/aged.conf
done
for name in admin controller-manager scheduler; do
  rm "$name.conf"
  kubeadm init phase kubeconfig "$name" --config=/tmp/aged.conf
done
rm pki/etcd/peer.crt
sleep 1
"#;

/// Writes one object again and again, until etcd takes no more.
const FILL: &str = r#"export KUBECONFIG=/etc/kubernetes/admin.conf
head -c 700000 /dev/zero | tr '\0' x >/tmp/large
kubectl create configmap large --namespace=shop --from-file=/tmp/large || exit 1
for count in $(seq 1 60); do
  kubectl create configmap large --namespace=shop --from-file=/tmp/large --from-literal="count=$count" --dry-run=client -o yaml >/tmp/large.yaml
  said=$(kubectl replace -f /tmp/large.yaml 2>&1) || { echo "$said"; exit 0; }
done
echo "etcd is not full"
exit 1
"#;

#[test]
fn certificates_at_their_end_and_a_full_etcd_are_seen_and_mended() {
    let Some(world) = World::example() else { return };
    world.workers(1);
    let kind = world.project.read("kind.yaml");
    let small = "kubeadmConfigPatches:\n  - |\n    kind: ClusterConfiguration\n    etcd:\n      local:\n        extraArgs:\n          - name: quota-backend-bytes\n            value: \"16777216\"\n";
    world.project.write("kind.yaml", &kind.replacen("kubeadmConfigPatches:\n", small, 1));
    world.project.apply();
    world.project.is_settled();
    let nodes = world.nodes(1);
    let uids: Vec<String> = nodes.iter().map(|node| world.uid(node)).collect();
    let at_node = |node: &str, program: &str| {
        let (code, said) = world.engine.exec(node, &["sh", "-c", program]);
        assert_eq!(code, 0, "{said}");
        said
    };

    at_node(&nodes[0], AGE);
    // The user has had the same administrator's access all the time.
    let access = at_node(&nodes[0], "cat /etc/kubernetes/admin.conf");
    let line =
        |text: &str, field: &str| text.lines().find(|line| line.contains(field)).expect("a line").trim().to_owned();
    let config = world.project.home().join(".kube/config");
    let mut text = std::fs::read_to_string(&config).expect("a kubeconfig");
    for field in ["client-certificate-data:", "client-key-data:"] {
        text = text.replace(&line(&text, field), &line(&access, field));
    }
    std::fs::write(&config, text).expect("a kubeconfig");
    at_node(&nodes[1], "rm -rf /etc/kubernetes/kubelet.conf /var/lib/kubelet/pki");
    // As after a long time off.
    world.project.run(&["cluster", "stop"]).code(0);
    let plan = world.project.run(&["plan"]).code(0);
    let plan = plan.says("ended on 2").says(": apiserver.crt, ").says("lost: etcd/peer.crt");
    plan.says("lost: kubelet.conf").says("5 to change");
    world.project.apply();
    world.project.is_settled();
    assert_eq!(nodes.iter().map(|node| world.uid(node)).collect::<Vec<_>>(), uids, "the nodes are the same");
    assert_eq!(world.ready_nodes(), nodes);
    let link = at_node(&nodes[1], "readlink /var/lib/kubelet/pki/kubelet-client-current.pem");
    assert!(link.contains("/var/lib/kubelet/pki/kubelet-client-2"), "{link}");
    // The user's kubeconfig leads there again.
    world.project.run(&["cluster", "info"]).code(0).says("node/worker-0");

    let scheduler = || {
        let container = r#"ctr --namespace=k8s.io tasks list 2>/dev/null | grep RUNNING | cut -d ' ' -f 1 | sort >/tmp/running
            ctr --namespace=k8s.io containers list --quiet 'labels."io.kubernetes.container.name"==kube-scheduler' 2>/dev/null | sort | comm -12 - /tmp/running"#;
        at_node(&nodes[0], container)
    };
    let before = scheduler();
    at_node(&nodes[0], "rm /etc/kubernetes/scheduler.conf");
    world.project.run(&["plan"]).code(0).says("lost: scheduler.conf").says("1 to change");
    world.project.apply();
    world.project.is_settled();
    assert!(before != scheduler() && !before.trim().is_empty(), "it still has its former access: {before}");

    let said = at_node(&nodes[0], FILL);
    assert!(said.contains("database space exceeded"), "{said}");
    world.project.run(&["plan"]).code(0).says("etcd-member/control-plane-0").says("NOSPACE").says("1 to change");
    world.project.apply();
    world.project.is_settled();
    world.kubectl(&["create", "configmap", "small", "--namespace=shop", "--from-literal=a=b"]);
    super::members::conform(&world);
    world.project.is_settled();
    world.project.run(&["destroy", "--auto-approve"]).code(0);
    world.is_gone();
}
