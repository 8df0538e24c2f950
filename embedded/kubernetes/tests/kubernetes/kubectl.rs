//! The real kubectl against the cluster, verb by verb.

use std::path::Path;
use std::process::Command;

use ksail_test_real::variable;

use crate::harness::Served;

const NODES: &str =
    "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n---\napiVersion: v1\nkind: Node\nmetadata: {name: n2}\n";

fn web(image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 3\n  selector: {{matchLabels: {{app: web}}}}\n  \
         template:\n    metadata: {{labels: {{app: web}}}}\n    spec: {{containers: [{{name: a, image: {image}}}]}}\n"
    )
}

struct Kubectl<'a> {
    program: String,
    folder: &'a Path,
}

impl Kubectl<'_> {
    /// Runs kubectl; answers what it said, and whether it succeeded.
    fn try_run(&self, arguments: &[&str]) -> (String, bool) {
        let output = Command::new(&self.program)
            .args(["--kubeconfig", "kubeconfig", "--cache-dir", "cache"])
            .args(arguments)
            .current_dir(self.folder)
            .env("EDITOR", "sed -i s/image:.two/image:\\ three/")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (said, output.status.success())
    }

    fn run(&self, arguments: &[&str]) -> String {
        let (said, good) = self.try_run(arguments);
        assert!(good, "kubectl {}: {said}", arguments.join(" "));
        said
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_verb_of_kubectl() {
    let Some(program) = variable("KSAIL_TEST_KUBECTL", "`testbed/kubernetes.sh env` sets it") else { return };
    each_verb(program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_verb_of_an_older_kubectl() {
    let Some(program) = variable("KSAIL_TEST_KUBECTL_OLDER", "`testbed/clients.sh env` sets it") else { return };
    each_verb(program).await;
}

async fn each_verb(program: String) {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(&folder.path().join("cluster")).await;
    let work = folder.path().join("work");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("kubeconfig"), &served.kubeconfig).unwrap();
    tokio::task::spawn_blocking(move || verbs(&Kubectl { program, folder: &work })).await.unwrap();
    served.stop().await;
}

fn verbs(kubectl: &Kubectl<'_>) {
    assert!(kubectl.run(&["version"]).contains("+ksail.embedded"));
    kubectl.file("nodes.yaml", NODES);
    kubectl.run(&["apply", "-f", "nodes.yaml"]);
    kubectl.run(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=20s"]);
    kubectl.file("web.yaml", &web("one"));
    assert!(kubectl.run(&["apply", "-f", "web.yaml"]).contains("web created"));
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=20s"]);
    let pods = kubectl.run(&["get", "pods", "-o", "wide"]);
    assert_eq!(pods.matches("Running").count(), 3, "{pods}");
    let (said, equal) = kubectl.try_run(&["diff", "-f", "web.yaml"]);
    assert!(equal, "{said}");
    kubectl.file("web.yaml", &web("two"));
    let (said, equal) = kubectl.try_run(&["diff", "-f", "web.yaml"]);
    assert!(!equal && said.contains("+      - image: two"), "{said}");
    assert!(kubectl.run(&["apply", "-f", "web.yaml"]).contains("web configured"));
    assert!(kubectl.run(&["apply", "-f", "web.yaml"]).contains("web unchanged"));
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=20s"]);
    let described = kubectl.run(&["describe", "deployment", "web"]);
    assert!(described.contains("NewReplicaSetAvailable"), "{described}");
    assert!(kubectl.run(&["explain", "deployment.spec.strategy.rollingUpdate"]).contains("maxSurge"));
    kubectl.run(&["edit", "deployment", "web"]);
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(kubectl.run(&["get", "deployment", "web", "-o", image]), "three");
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=20s"]);
    kubectl.run(&["rollout", "undo", "deployment/web"]);
    assert_eq!(kubectl.run(&["get", "deployment", "web", "-o", image]), "two");
    kubectl.run(&["scale", "deployment", "web", "--replicas=1"]);
    kubectl.run(&["wait", "--for=jsonpath={.status.replicas}=1", "deployment/web", "--timeout=20s"]);
    let conflict = kubectl.try_run(&["apply", "--server-side", "-f", "web.yaml"]);
    assert!(!conflict.1 && conflict.0.contains(".spec.replicas"), "{}", conflict.0);
    kubectl.run(&["apply", "--server-side", "--force-conflicts", "-f", "web.yaml"]);
    let unknown = web("two").replace("replicas", "replicsa");
    kubectl.file("unknown.yaml", &unknown);
    let (said, good) = kubectl.try_run(&["apply", "-f", "unknown.yaml"]);
    assert!(!good && said.contains("unknown field \"spec.replicsa\""), "{said}");
    kubectl.run(&["label", "deployment", "web", "tier=front"]);
    assert!(kubectl.run(&["get", "deployment", "-l", "tier=front"]).contains("web"));
    kubectl.run(&["drain", "n1", "--ignore-daemonsets", "--force", "--timeout=20s"]);
    assert!(kubectl.run(&["get", "node", "n1"]).contains("SchedulingDisabled"));
    kubectl.run(&["uncordon", "n1"]);
    kubectl.run(&["delete", "deployment", "web", "--timeout=20s"]);
    kubectl.run(&["wait", "--for=delete", "pod", "-l", "app=web", "--timeout=20s"]);
}
