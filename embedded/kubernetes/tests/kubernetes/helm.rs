//! The real helm against the cluster: a chart is installed, upgraded, rolled back and uninstalled.

use std::path::Path;
use std::process::Command;

use ksail_test_real::variable;
use serde_json::Value;

use crate::harness::Served;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart");
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
const CONFIG: &str = "/api/v1/namespaces/shop/configmaps/web";
const THING: &str = "/apis/example.com/v1/namespaces/shop/things/web";

struct Helm {
    program: String,
    folder: std::path::PathBuf,
}

impl Helm {
    /// Runs helm; answers what it said, and whether it succeeded.
    async fn try_run(&self, arguments: &[&str]) -> (String, bool) {
        let mut command = Command::new(&self.program);
        command.args(["--kubeconfig", "kubeconfig", "--namespace", "shop"]).args(arguments).current_dir(&self.folder);
        for (name, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(name, self.folder.join(folder));
        }
        // Reads the same folder as kubectl otherwise.
        command.env("HOME", &self.folder);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (said, output.status.success())
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let (said, good) = self.try_run(arguments).await;
        assert!(good, "helm {}: {said}", arguments.join(" "));
        said
    }

    /// Revision and status of the only release.
    async fn listed(&self) -> (String, String) {
        let list: Value = serde_json::from_str(&self.run(&["list", "-o", "json"]).await).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
        let text = |name: &str| list[0][name].as_str().unwrap().to_owned();
        assert_eq!((text("name"), text("chart")), ("web".to_owned(), "shop-0.1.0".to_owned()));
        (text("revision"), text("status"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chart_is_installed_upgraded_rolled_back_and_uninstalled() {
    let Some(program) = variable("KSAIL_TEST_HELM", "`testbed/clients.sh env` sets it") else { return };
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(&folder.path().join("cluster")).await;
    let client = &served.client;
    client.post("/api/v1/nodes", &serde_json::json!({"metadata": {"name": "n"}})).await;
    std::fs::write(folder.path().join("kubeconfig"), &served.kubeconfig).unwrap();
    assert!(Path::new(CHART).is_dir());
    let helm = Helm { program, folder: folder.path().to_owned() };
    let deployed = |revision: &str| (revision.to_owned(), "deployed".to_owned());
    let wait = ["--wait", "--timeout", "60s"];

    let said = helm.run(&[&["install", "web", CHART, "--create-namespace"], &wait[..]].concat()).await;
    assert!(said.contains("STATUS: deployed") && said.contains("web is red."), "{said}");
    assert_eq!(client.get(DEPLOYMENT).await.body["status"]["readyReplicas"], 1, "it waits");
    assert_eq!(client.get(CONFIG).await.body["data"]["kubernetes"], "v1.36.3+ksail.embedded");
    assert_eq!(client.get(THING).await.body["spec"]["color"], "red");
    let job = client.get("/apis/batch/v1/namespaces/shop/jobs/web-migrate").await;
    assert_eq!(job.body["status"]["succeeded"], 1, "hooks are waited for: {:?}", job.body);
    assert_eq!(helm.listed().await, deployed("1"));
    assert!(helm.run(&["get", "manifest", "web"]).await.contains("kind: Deployment"));

    let upgrade = ["upgrade", "web", CHART, "--set", "replicas=2,color=blue"];
    helm.run(&[&upgrade[..], &wait[..]].concat()).await;
    assert_eq!(helm.listed().await, deployed("2"));
    assert_eq!(client.get(DEPLOYMENT).await.body["status"]["readyReplicas"], 2);
    assert_eq!(client.get(THING).await.body["spec"]["color"], "blue");
    // What the server refuses is a failed revision.
    let (said, good) = helm.try_run(&["upgrade", "web", CHART, "--set", "color=green"]).await;
    assert!(!good && said.contains("spec.color: Unsupported value: \"green\""), "{said}");

    helm.run(&[&["rollback", "web", "1"], &wait[..]].concat()).await;
    assert_eq!(client.get(CONFIG).await.body["data"]["color"], "red");
    assert_eq!(client.get(DEPLOYMENT).await.body["spec"]["replicas"], 1);
    assert_eq!(helm.listed().await, deployed("4"));
    let history = helm.run(&["history", "web"]).await;
    assert_eq!(history.matches("superseded").count(), 2, "{history}");

    helm.run(&[&["uninstall", "web"], &wait[..]].concat()).await;
    for path in [DEPLOYMENT, CONFIG, THING] {
        assert_eq!(client.get(path).await.code, 404, "{path}");
    }
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com";
    assert_eq!(client.get(definition).await.code, 200, "helm leaves definitions");
    assert_eq!(helm.run(&["list", "-o", "json"]).await.trim(), "[]");
    served.stop().await;
}
