//! Pods that answer by each family of addresses that their cluster has.

use std::net::IpAddr;

use crate::support::engine::Engine;
use crate::support::wait_until;

/// A version of the internet protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// A store on each node, and a Service before them of all families that there are. The program is one that every node has, with its
/// client beside it.
const TALK: &str = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: talk}
spec:
  selector: {matchLabels: {app: talk}}
  template:
    metadata: {labels: {app: talk}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
      - name: talk
        image: IMAGE
        imagePullPolicy: IfNotPresent
        command: [etcd, --data-dir=/data, '--listen-client-urls=http://[::]:2379', '--advertise-client-urls=http://localhost:2379']
        readinessProbe: {tcpSocket: {port: 2379}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: talk}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: talk}
  ports: [{port: 2379}]
";

/// From a pod all pods and their Service answer, at their addresses of each family and at no others.
#[track_caller]
pub(super) fn pods_answer(engine: &Engine, cluster: &str, families: &[Family]) {
    let node = format!("{cluster}-control-plane");
    let run = |command: &str| {
        engine.exec(&node, &["sh", "-c", &format!("export KUBECONFIG=/etc/kubernetes/admin.conf; {command}")])
    };
    let said = |command: &str| {
        let (code, said) = run(command);
        assert_eq!(code, 0, "{command}: {said}");
        said
    };
    let image =
        said(&format!("kubectl get pod etcd-{node} -n kube-system -o 'jsonpath={{.spec.containers[0].image}}'"));
    said(&format!("kubectl apply -f - <<'END'\n{}END", TALK.replace("IMAGE", image.trim())));
    said("kubectl rollout status daemonset/talk --timeout=120s");
    let addresses = |command: &str| -> Vec<IpAddr> {
        said(command)
            .split_whitespace()
            .map(|text| text.parse().unwrap_or_else(|_| panic!("{text} is no address")))
            .collect()
    };
    let pods = addresses("kubectl get pods -l app=talk -o 'jsonpath={.items[*].status.podIPs[*].ip}'");
    let nodes = said("kubectl get nodes -o name").lines().count();
    assert_eq!(pods.len(), nodes * families.len(), "one address of each family for each pod: {pods:?}");
    let service = addresses("kubectl get service talk -o 'jsonpath={.spec.clusterIPs[*]}'");
    let of = |address: &IpAddr| if address.is_ipv6() { Family::V6 } else { Family::V4 };
    assert_eq!(service.iter().map(of).collect::<Vec<_>>(), families, "{service:?}");
    let first = said("kubectl get pods -l app=talk -o 'jsonpath={.items[0].metadata.name}'");
    for address in pods.iter().chain(&service) {
        assert!(families.contains(&of(address)), "{address}");
        let at = std::net::SocketAddr::new(*address, 2379);
        let ask =
            format!("kubectl exec {} -- etcdctl --endpoints=http://{at} --command-timeout=5s get x", first.trim());
        // What stands before pods is told to each node a moment later.
        wait_until(&format!("an answer from {at}"), || run(&ask).0 == 0);
    }
}
