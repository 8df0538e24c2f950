//! What kubeadm is told, changed on a cluster that goes on.

use std::time::Duration;

use super::World;
use crate::kills::seed;
use crate::support::wait_until;

/// Patches for all nodes: of the API server's names, of a program of the control plane, of etcd, of kubelets and of kube-proxy.
const PATCHES: &str = r#"kubeadmConfigPatches:
  - |
    kind: ClusterConfiguration
    apiServer:
      certSANs: [api.example]
    scheduler:
      extraArgs: {v: "3"}
    etcd:
      local:
        extraArgs: {snapshot-count: "9000"}
  - |
    kind: KubeletConfiguration
    maxPods: 50
  - |
    kind: KubeProxyConfiguration
    metricsBindAddress: "127.0.0.1:10249"
"#;
/// Killed once, at some moment of this time.
const KILLED_WITHIN: Duration = Duration::from_secs(30);
/// What was before is kept on a machine that is being changed.
const UNSETTLED: &str = "/var/lib/ksail/reconfigure/before/whole";

impl World {
    fn patch(&self, patches: &str) {
        let kind = self.project.read("kind.yaml");
        let head = kind.split("kubeadmConfigPatches").next().expect("a beginning").to_owned();
        self.project.write("kind.yaml", &format!("{head}{patches}"));
    }

    /// How many pods each node takes.
    #[track_caller]
    fn room(&self) -> String {
        self.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].status.capacity.pods}"])
    }

    #[track_caller]
    fn told(&self, node: &str, file: &str) -> String {
        let (code, text) = self.engine.exec(node, &["cat", file]);
        assert_eq!(code, 0, "{text}");
        text
    }

    /// Whether a program of the control plane has an argument, on each of some machines.
    #[track_caller]
    pub(super) fn is_told(&self, machines: &[String], program: &str, argument: &str) {
        for machine in machines {
            let manifest = self.told(machine, &format!("/etc/kubernetes/manifests/{program}.yaml"));
            assert!(manifest.contains(argument), "{machine}: {manifest}");
        }
    }
}

#[test]
fn what_kubeadm_was_told_changes_where_it_is_or_is_put_back() {
    let Some(world) = World::example() else { return };
    world.workers(1);
    world.project.apply();
    world.project.is_settled();
    let nodes = world.nodes(1);
    let uids = || nodes.iter().map(|node| world.uid(node)).collect::<Vec<_>>();
    let before = uids();
    assert_eq!(world.room(), "60 60");

    world.patch(PATCHES);
    let kind = world.project.read("kind.yaml");
    world
        .project
        .write("kind.yaml", &kind.replace("role: worker\n", "role: worker\n    labels: {example.com/tier: web}\n"));
    let file = world.project.read("ksail.yaml");
    world
        .project
        .write("ksail.yaml", &file.replace("distribution: Vanilla\n", "distribution: Vanilla\n    audit: {}\n"));
    let plan = world.project.run(&["plan"]).code(0);
    plan.says("0 to add, 2 to change, 0 to destroy").says("api.example").says("maxPods = 60 -> 50");
    let since = world.now();
    world.apply_through_kills(&mut seed(), 1, KILLED_WITHIN);
    world.rests(&nodes, &|| world.runs_since(&nodes[1], "") && world.kubectl(&["get", "--raw=/readyz"]) == "ok");
    world.project.is_settled();
    assert_eq!((uids(), world.room()), (before.clone(), "50 50".to_owned()));
    let control_plane = &nodes[..1];
    world.is_told(control_plane, "kube-scheduler", "--v=3");
    world.is_told(control_plane, "etcd", "--snapshot-count=9000");
    world.is_told(control_plane, "kube-apiserver", "--audit-log-path=");
    world.kubectl(&["--tls-server-name=api.example", "get", "namespaces"]);
    let labelled = world.kubectl(&["get", "nodes", "-l", "example.com/tier=web", "-o", "name"]);
    assert_eq!(labelled.trim(), format!("node/{}", nodes[1]));
    let log = world.told(&nodes[0], "/var/log/kubernetes/audit/audit.log");
    assert!(log.contains("\"verb\":\"get\""), "{log}");
    let kept = |name: &str| world.kubectl(&["get", "configmap", name, "-n", "kube-system", "-o", "yaml"]);
    assert!(kept("kubeadm-config").contains("api.example") && kept("kubelet-config").contains("maxPods: 50"));
    assert!(kept("kube-proxy").contains("metricsBindAddress: 127.0.0.1:10249"));
    let path = r#"jsonpath={range .items[*]}{.status.startTime}{"\n"}{end}"#;
    let proxies = world.kubectl(&["get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-proxy", "-o", path]);
    assert!(proxies.lines().count() == 2 && proxies.lines().all(|started| started >= since.as_str()), "{proxies}");

    // What does not come up is told, and what was before serves.
    let good = world.project.read("kind.yaml");
    world.project.write("kind.yaml", &good.replace("maxPods: 50", "maxPods: -7").replace(r#"v: "3""#, r#"v: "2""#));
    let failed = world.project.run(&["apply", "--auto-approve"]).code(3);
    failed
        .says("the kubelet does not come up")
        .says("maxPods (--max-pods) -7")
        .says("what was before is in place again");
    world.is_told(control_plane, "kube-scheduler", "--v=3");
    assert!(kept("kubelet-config").contains("maxPods: 50"));
    world.project.write("kind.yaml", &good);
    world.rests(&nodes, &|| true);
    world.project.is_settled();

    // The machine ends in the middle of it: the next apply puts back what was before, and goes on from there.
    world.project.write("kind.yaml", &good.replace("maxPods: 50", "maxPods: 70"));
    let run = world.project.start(&["apply", "--auto-approve"]);
    wait_until("a change that has begun", || world.engine.exec(&nodes[0], &["test", "-e", UNSETTLED]).0 == 0);
    world.engine.restart(&nodes[..1]);
    run.end();
    world.project.apply();
    world.rests(&nodes, &|| true);
    assert_eq!(world.room(), "70 70");
    assert_eq!(world.engine.exec(&nodes[0], &["test", "-e", UNSETTLED]).0, 1);

    // What stands as long as the cluster does says so, before anything is touched.
    let subnets = world.project.read("kind.yaml").replace("networking:\n", "networking:\n  podSubnet: 10.99.0.0/16\n");
    world.project.write("kind.yaml", &subnets);
    let refused = world.project.run(&["plan"]).code(3);
    refused.says("networking.podSubnet was \"10.244.0.0/16\", and \"10.99.0.0/16\" is declared");
    assert_eq!(uids(), before);
    world.project.write("kind.yaml", &subnets.replace("  podSubnet: 10.99.0.0/16\n", ""));
    world.project.run(&["destroy", "--auto-approve"]).code(0);
    world.is_gone();
}
