//! What is waited for, and what a wait that fails tells.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ksail_model::Readiness;
use ksail_provider::{CallContext, Provider as _, Target, WaitRequest};
use ksail_provider_kubernetes::KubernetesProvider;
use serde_json::{Value as Json, json};

use crate::cluster::Cluster;
use crate::front::behind;

/// The queries for logs that a kubelet was asked.
type Asked = Arc<Mutex<Vec<String>>>;

/// A provider that reaches a kubelet, which there is none of without nodes: a server in front has the logs.
async fn with_kubelet(cluster: &Cluster) -> (Asked, KubernetesProvider, PathBuf) {
    let asked = Asked::default();
    let told = Arc::clone(&asked);
    let answer = move |parts: &http::request::Parts| {
        let query = parts.uri.query().unwrap_or_default();
        parts.uri.path().ends_with("/log").then(|| {
            let which = if query.contains("previous=true") { "before" } else { "now" };
            told.lock().unwrap().push(query.to_owned());
            let text = (0..30).map(|line| format!("\u{1b}[31m{which} {line}\u{1b}[0m\n")).collect::<String>();
            (200, text + "panic: no database\n")
        })
    };
    let (provider, path) = behind(cluster, Box::new(answer)).await;
    (asked, provider, path)
}

async fn why_not(cluster: &Cluster, provider: &KubernetesProvider, target: &Target, seconds: u64) -> String {
    let context = CallContext { timeout: Duration::from_secs(seconds), ..cluster.context() };
    let waited = provider.wait(&context, &WaitRequest { target: target.clone() }).await.unwrap();
    match waited.seen.readiness {
        Readiness::NotReady(why) => why,
        Readiness::Ready => panic!("{} is ready", target.address),
    }
}

fn deployment(name: &str) -> Json {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "automountServiceAccountToken": false, "containers": [{"name": "app", "image": "example.com/a:1"}]}}}})
}

/// The pods with a label, once there are some.
async fn pods(cluster: &Cluster, label: &str) -> Vec<Json> {
    for _ in 0..200 {
        let list = cluster.get(&format!("/api/v1/namespaces/default/pods?labelSelector=app={label}")).await.unwrap();
        let pods = list["items"].as_array().unwrap().clone();
        if !pods.is_empty() {
            return pods;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("there are no pods with the label {label}")
}

fn crashed() -> Json {
    json!({"status": {"phase": "Running",
        "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        "containerStatuses": [{"name": "app", "image": "a", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}},
            "lastState": {"terminated": {"exitCode": 7, "reason": "Error"}}}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_fails_tells_of_its_own_pod_its_events_and_the_containers_last_lines() {
    let Some(cluster) = Cluster::real().await else { return };
    let (kubelet, provider, path) = with_kubelet(&cluster).await;
    let name = cluster.name("crashes");
    let target = cluster.target(&deployment(&name));
    cluster.create(&target).await.unwrap();
    let pod = pods(&cluster, &name).await.remove(0);
    let pod_name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    cluster.merge(&format!("/api/v1/namespaces/default/pods/{pod_name}/status"), "kubelet", &crashed()).await;
    // Another pod with the same labels, and a warning about another thing of the same name, are not its own.
    let stray = cluster.name("stray");
    let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": stray, "labels": {"app": name}},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "other", "image": "example.com/a:1"}]}});
    cluster.post("/api/v1/namespaces/default/pods", "test", &body).await;
    for (uid, message) in [(pod["metadata"]["uid"].as_str().unwrap(), "its own"), ("0-0-0", "of another")] {
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": name}, "type": "Warning",
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": pod_name, "namespace": "default", "uid": uid},
            "reason": "BackOff", "message": message, "lastTimestamp": "2026-01-01T00:00:00Z"});
        cluster.post("/api/v1/namespaces/default/events", "kubelet", &event).await;
    }
    let why = why_not(&cluster, &provider, &target, 6).await;
    let (first, lines) = why.split_once('\n').unwrap();
    assert!(first.starts_with("0 of 1 pods are available; pod "), "{first}");
    assert!(first.contains(&format!("pod {pod_name}: container app waits: CrashLoopBackOff")), "{first}");
    assert!(first.contains("BackOff: its own") && !first.contains("of another") && !first.contains(&stray), "{first}");
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines[0], "the last lines of container app, which ended with exit code 7, before it was started again:");
    assert_eq!((lines.len(), lines[1], lines[10]), (11, "  before 21", "  panic: no database"));
    assert_eq!(kubelet.lock().unwrap().len(), 1);
    assert!(kubelet.lock().unwrap()[0].contains("container=app&tailLines=10"));
    // One that runs again and is not ready tells both.
    let mut running = crashed();
    running["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
    cluster.merge(&format!("/api/v1/namespaces/default/pods/{pod_name}/status"), "kubelet", &running).await;
    let why = why_not(&cluster, &provider, &target, 6).await;
    let lines: Vec<&str> = why.lines().collect();
    assert_eq!((lines.len(), lines[12], lines[13]), (23, "the last lines of container app:", "  now 21"), "{why}");
    let pod_path = format!("/api/v1/namespaces/default/pods/{stray}");
    cluster.ask("DELETE", &pod_path, "application/json", &Json::Null).await.unwrap();
    cluster.delete(&target, false).await.unwrap();
    let _ = std::fs::remove_file(path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingress_is_waited_for_where_its_controller_is_seen_to_give_addresses() {
    let Some(cluster) = Cluster::real().await else { return };
    let (tells, silent) = (cluster.name("tells"), cluster.name("silent"));
    let ingress = |name: &str, class: &str| {
        cluster.target(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": cluster.name(name), "namespace": "default"},
            "spec": {"ingressClassName": class, "defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}}))
    };
    let path =
        |name: &str| format!("/apis/networking.k8s.io/v1/namespaces/default/ingresses/{}/status", cluster.name(name));
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    // Nobody gives addresses to a class: it does not hang.
    let alone = ingress("alone", &silent);
    cluster.create(&alone).await.unwrap();
    assert!(cluster.wait(&alone, Duration::from_secs(20)).await.unwrap().seen.readiness.is_ready());
    assert!(cluster.seen(&alone).await.readiness.is_ready());
    // Another one of the class has an address: this one will.
    let first = ingress("first", &tells);
    cluster.create(&first).await.unwrap();
    cluster.merge(&path("first"), "controller", &address).await;
    let second = ingress("second", &tells);
    cluster.create(&second).await.unwrap();
    let why = why_not(&cluster, &cluster.provider, &second, 2).await;
    assert_eq!(why, "its load balancer has no address yet");
    assert!(!cluster.seen(&second).await.readiness.is_ready());
    cluster.merge(&path("second"), "controller", &address).await;
    assert!(cluster.wait(&second, Duration::from_secs(20)).await.unwrap().seen.readiness.is_ready());
    for target in [alone, first, second] {
        cluster.delete(&target, false).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expression_says_when_an_object_is_ready() {
    let Some(cluster) = Cluster::real().await else { return };
    let name = cluster.name("said");
    let map = |value: &str| {
        cluster.target(&json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"phase": value},
            "metadata": {"name": name, "namespace": "default",
                "annotations": {"ksail.io/ready": "self.data.phase in ['Done', 'Ready'] && self.metadata.name.endsWith('said')"}}}))
    };
    let target = map("Waiting");
    let made = cluster.create(&target).await.unwrap().seen;
    let why = why_not(&cluster, &cluster.provider, &target, 2).await;
    assert!(why.starts_with("`self.data.phase in") && why.ends_with("is not true yet"), "{why}");
    let done = map("Done");
    assert!(cluster.update(&done, &made, &["data.phase"]).await.unwrap().seen.readiness.is_ready());
    assert!(cluster.wait(&done, Duration::from_secs(20)).await.unwrap().seen.readiness.is_ready());
    cluster.delete(&done, false).await.unwrap();
}

/// A cluster-wide or namespaced kind of the Gateway API, with conditions that its definition gives as defaults.
fn gateway_definition(kind: &str, plural: &str, scope: &str) -> Json {
    let never = "1970-01-01T00:00:00Z";
    let pending = json!({"type": "Programmed", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller", "lastTransitionTime": never});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.gateway.networking.k8s.io"), "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
        "spec": {"group": "gateway.networking.k8s.io", "scope": scope, "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "default": {"conditions": [pending]}}}}}}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_waited_for_where_a_controller_has_accepted_its_class() {
    let Some(cluster) = Cluster::real().await else { return };
    let definitions = [("GatewayClass", "gatewayclasses", "Cluster"), ("Gateway", "gateways", "Namespaced")]
        .map(|(kind, plural, scope)| cluster.target(&gateway_definition(kind, plural, scope)));
    for definition in &definitions {
        cluster.create(definition).await.unwrap();
        assert!(cluster.wait(definition, Duration::from_secs(30)).await.unwrap().seen.readiness.is_ready());
    }
    let group = "/apis/gateway.networking.k8s.io/v1";
    let class = cluster.target(&json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "some"}, "spec": {"controllerName": "example.com/controller"}}));
    let gateway = cluster.target(&json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": "default"}, "spec": {"gatewayClassName": "some"}}));
    cluster.create(&class).await.unwrap();
    let made = cluster.create(&gateway).await.unwrap().seen;
    assert!(!made.readiness.is_ready(), "its condition is a default");
    assert!(
        cluster.wait(&gateway, Duration::from_secs(20)).await.unwrap().seen.readiness.is_ready(),
        "nobody has taken its class"
    );
    let conditions = |name: &str| json!({"status": {"conditions": [{"type": name, "status": "True", "reason": "Done", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    cluster.merge(&format!("{group}/gatewayclasses/some/status"), "controller", &conditions("Accepted")).await;
    assert!(why_not(&cluster, &cluster.provider, &gateway, 2).await.starts_with("Programmed is Unknown"));
    cluster
        .merge(&format!("{group}/namespaces/default/gateways/edge/status"), "controller", &conditions("Programmed"))
        .await;
    assert!(cluster.wait(&gateway, Duration::from_secs(20)).await.unwrap().seen.readiness.is_ready());
    for target in [&gateway, &class].into_iter().chain(&definitions) {
        cluster.delete(target, false).await.unwrap();
    }
}
