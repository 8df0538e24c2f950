//! What runs in a cluster on machines: pods that talk across nodes, a budget in the way of a node that goes, and a mirror that comes to
//! nodes that run.

use std::process::Command;

use super::{LOADED, World};
use crate::support::engine::http;
use crate::support::wait_until;

/// A store on each node, that of the control plane too. The program is one that every node has, with its client beside it.
const TALK: &str = "apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: talk
  namespace: shop
spec:
  selector:
    matchLabels:
      app: talk
  template:
    metadata:
      labels:
        app: talk
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
        - operator: Exists
      containers:
        - name: talk
          image: IMAGE
          imagePullPolicy: IfNotPresent
          command:
            - etcd
            - --data-dir=/data
            - --listen-client-urls=http://0.0.0.0:2379
            - --advertise-client-urls=http://0.0.0.0:2379
          readinessProbe:
            tcpSocket:
              port: 2379
            periodSeconds: 1
---
apiVersion: v1
kind: Service
metadata:
  name: talk
  namespace: shop
spec:
  selector:
    app: talk
  ports:
    - port: 2379
";

/// What others have put into the cluster: one pod that would rather be on a node, and a budget that keeps it.
const HELD: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: held, namespace: shop}
spec:
  selector: {matchLabels: {app: held}}
  template:
    metadata: {labels: {app: held}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              preference:
                matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [NODE]}]
      containers: [{name: held, image: registry.k8s.io/pause:3.10.2, imagePullPolicy: IfNotPresent}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: held, namespace: shop}
spec:
  minAvailable: 1
  selector: {matchLabels: {app: held}}
";

/// A pod of an image that no node has.
const PULLED: &str = "apiVersion: v1
kind: Pod
metadata:
  name: pulled
  namespace: shop
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 1
  containers:
    - name: pulled
      image: quay.io/ksail-test/pulled:1
      imagePullPolicy: Always
";

impl World {
    /// Declares a store on each node, and a Service before them.
    pub(super) fn declares_stores(&self) {
        let pod = format!("etcd-{}", self.control_plane());
        let path = "jsonpath={.spec.containers[0].image}";
        let image = self.kubectl(&["get", "pod", &pod, "-n", "kube-system", "-o", path]);
        self.project.write("k8s/talk.yaml", &TALK.replace("IMAGE", image.trim()));
    }

    /// From each node's pod those of the other nodes are reached by their addresses, and one of them by the Service's name.
    #[track_caller]
    pub(super) fn pods_talk_across(&self, nodes: &[String]) {
        self.kubectl(&["rollout", "status", "deployment", "coredns", "-n", "kube-system", "--timeout=60s"]);
        let path = r#"jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP}{"\n"}{end}"#;
        let said = self.kubectl(&["get", "pods", "-n", "shop", "-l", "app=talk", "-o", path]);
        let pods: Vec<[&str; 3]> = said
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>().try_into().expect("a pod, its node and its address"))
            .collect();
        let mut on: Vec<&str> = pods.iter().map(|[_, node, _]| *node).collect();
        on.sort_unstable();
        assert_eq!(on, nodes, "a pod on each node");
        for [pod, node, _] in &pods {
            self.ask(pod, "127.0.0.1", &["put", "node", node]);
        }
        for [pod, from, _] in &pods {
            for [_, node, address] in pods.iter().filter(|[_, node, _]| node != from) {
                let told = self.ask(pod, address, &["get", "node", "--print-value-only"]);
                assert_eq!(told.trim(), *node, "from {from}");
            }
            let told = self.ask(pod, "talk.shop", &["get", "node", "--print-value-only"]);
            assert!(nodes.iter().any(|node| node == told.trim()), "from {from} by the Service's name: {told}");
        }
    }

    /// What a store says to the client in a pod.
    #[track_caller]
    fn ask(&self, pod: &str, host: &str, question: &[&str]) -> String {
        let endpoint = format!("--endpoints=http://{host}:2379");
        let mut command = vec!["exec", "-n", "shop", pod, "--", "etcdctl", &endpoint];
        command.extend(question);
        self.kubectl(&command)
    }

    /// Declares a mirror whose upstream is the cluster's own registry.
    pub(super) fn declares_another_mirror(&self) {
        let mirror = format!(
            "  mirrors:\n    - host: quay.io\n      port: {}\n      upstream: http://{}-local-registry:5000\n",
            self.project.mirror_port("quay.io"),
            self.cluster
        );
        let file = self.project.read("ksail.yaml");
        assert!(file.contains("  mirrors:\n"), "{file}");
        self.project.write("ksail.yaml", &file.replace("  mirrors:\n", &mirror));
    }

    /// Puts an image into the cluster's registry, and declares a pod of it on a node under the mirror's host.
    #[track_caller]
    pub(super) fn declares_what_is_pulled(&self, node: &str) {
        let host = std::env::var("KSAIL_TEST_DOCKER_HOST").expect("the engine");
        let pushed = format!("localhost:{}/ksail-test/pulled:1", self.project.registry_port);
        for arguments in [vec!["tag", LOADED, &pushed], vec!["push", "--quiet", &pushed], vec!["image", "rm", &pushed]]
        {
            let run = Command::new("docker").args(&arguments).env("DOCKER_HOST", &host).output().expect("docker runs");
            assert!(run.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
        }
        self.project.write("k8s/pulled.yaml", &PULLED.replace("NODE", node));
        assert!(!self.catalog_of_mirror().contains("ksail-test/pulled"), "nobody has pulled it yet");
    }

    /// The pod runs, and the mirror has what it was pulled from.
    #[track_caller]
    pub(super) fn was_pulled_through_the_mirror(&self) {
        let phase = self.kubectl(&["get", "pod", "pulled", "-n", "shop", "-o", "jsonpath={.status.phase}"]);
        assert_eq!(phase.trim(), "Running");
        let catalog = self.catalog_of_mirror();
        assert!(catalog.contains("ksail-test/pulled"), "{catalog}");
    }

    fn catalog_of_mirror(&self) -> String {
        let (status, said) = http(self.project.mirror_port("quay.io"), "GET", "/v2/_catalog", "", b"");
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(status, 200, "{said}");
        said
    }

    /// A node that shall go stays, and takes pods, as long as a budget holds one of its pods; after that the same command goes on.
    #[track_caller]
    pub(super) fn goes_once_its_budget_lets_it(&self, workers: usize) {
        let going = self.nodes(workers).pop().expect("a worker");
        self.project.write("held.yaml", &HELD.replace("NODE", &going));
        let manifest = format!(
            "kubectl --kubeconfig=/etc/kubernetes/admin.conf apply -f - <<'END'\n{}END\n",
            self.project.read("held.yaml")
        );
        let (code, said) = self.engine.exec(&self.control_plane(), &["sh", "-c", &manifest]);
        assert_eq!(code, 0, "{said}");
        self.kubectl(&["rollout", "status", "deployment", "held", "-n", "shop", "--timeout=60s"]);
        // The one that left is told until the cluster has cleared it away.
        let path = r#"jsonpath={range .items[?(@.status.phase=="Running")]}{.spec.nodeName}{end}"#;
        let place = || self.kubectl(&["get", "pods", "-n", "shop", "-l", "app=held", "-o", path]);
        assert_eq!(place(), going);

        self.workers(workers - 1);
        self.project.run(&["plan"]).code(0).says("PodDisruptionBudget shop/held holds one of them");
        let failed = self.project.run(&["apply", "--auto-approve", "--timeout", "6s"]).code(3);
        failed
            .says("shop/held-")
            .says("The disruption budget held")
            .says("it takes pods again")
            .says("hint: let its PodDisruptionBudget");
        assert_eq!(self.ready_nodes(), self.nodes(workers), "none is cordoned");
        assert_eq!(place(), going);

        self.kubectl(&["delete", "poddisruptionbudget", "held", "-n", "shop"]);
        self.project.apply();
        self.project.is_settled();
        assert_eq!(self.ready_nodes(), self.nodes(workers - 1));
        wait_until("the pod on another node", || self.nodes(workers - 1).contains(&place()));
    }
}
