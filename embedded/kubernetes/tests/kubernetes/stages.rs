//! Stages: what becomes of nodes and pods, and after which delay.

use ksail_embedded_kubernetes::{Settings, Stage};
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Served};

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
/// A delay that no test waits for.
const NEVER_MILLISECONDS: u64 = 3_600_000;

fn pod(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": "a", "image": "x"}]}})
}

fn stages(stages: Value) -> Settings {
    Settings { stages: serde_json::from_value::<Vec<Stage>>(stages).unwrap(), ..Settings::default() }
}

fn phase(wanted: &'static str) -> impl Fn(&Answer) -> bool {
    move |answer| answer.body["status"]["phase"] == wanted
}

fn find<'a>(answer: &'a Answer, of: &str) -> &'a Value {
    let conditions = answer.body["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == of).unwrap_or(&Value::Null)
}

fn is(of: &'static str, status: &'static str) -> impl Fn(&Answer) -> bool {
    move |answer| find(answer, of)["status"] == status
}

async fn node(client: &Client) {
    client.post(NODES, &json!({"metadata": {"name": "n"}})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_says_what_becomes_of_a_pod() {
    let folder = tempfile::tempdir().unwrap();
    let broken = json!([{"name": "broken", "kind": "Pod", "matchLabels": {"broken": "true"}, "delayMilliseconds": 50,
        "matchExpressions": [{"pointer": "/status/phase", "operator": "In", "values": ["Pending"]}],
        "status": {"phase": "Failed", "reason": "Evicted"}}]);
    let served = Served::with(folder.path(), stages(broken)).await;
    let client = &served.client;
    node(client).await;
    client.post(PODS, &pod("good", json!({}))).await;
    client.post(PODS, &pod("bad", json!({"broken": "true"}))).await;
    client.until(&format!("{PODS}/good"), phase("Running")).await;
    let bad = client.until(&format!("{PODS}/bad"), phase("Failed")).await;
    assert_eq!(bad.body["status"]["reason"], "Evicted");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_without_a_status_only_delays() {
    let folder = tempfile::tempdir().unwrap();
    let slow = json!([
        {"name": "slow", "kind": "Pod", "matchLabels": {"speed": "slow"}, "delayMilliseconds": 50},
        {"name": "fades", "kind": "Pod", "matchLabels": {"then": "fades"}, "matchExpressions": [{"pointer": "/status/phase", "operator": "In", "values": ["Running"]}],
         "status": {"phase": "Failed"}},
        {"name": "stopped", "kind": "Pod", "matchLabels": {"speed": "none"}, "delayMilliseconds": NEVER_MILLISECONDS},
    ]);
    let served = Served::with(folder.path(), stages(slow)).await;
    let client = &served.client;
    node(client).await;
    client.post(PODS, &pod("stopped", json!({"speed": "none"}))).await;
    client.post(PODS, &pod("slow", json!({"speed": "slow"}))).await;
    let slow = client.until(&format!("{PODS}/slow"), is("Ready", "True")).await;
    assert!(find(&slow, "embedded.ksail.io/stage").is_null(), "it lives by itself: {:?}", slow.body);
    client.post(PODS, &pod("fades", json!({"speed": "slow", "then": "fades"}))).await;
    let faded = client.until(&format!("{PODS}/fades"), phase("Failed")).await;
    assert!(faded.body["status"]["podIP"].is_string(), "it ran before: {:?}", faded.body);
    let stopped = client.get(&format!("{PODS}/stopped")).await;
    assert_eq!((&stopped.body["status"]["phase"], &stopped.body["spec"]["nodeName"]), (&"Pending".into(), &"n".into()));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_follow_each_other_and_conditions_are_merged_by_their_type() {
    let folder = tempfile::tempdir().unwrap();
    let steps = json!([
        {"name": "starts", "kind": "Pod", "matchExpressions": [{"pointer": "/status/phase", "operator": "In", "values": ["Pending"]}],
         "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False", "reason": "Starting"}]}},
        {"name": "serves", "kind": "Pod", "matchExpressions": [{"pointer": "/status/podIP", "operator": "DoesNotExist"}],
         "status": {"podIP": "10.9.8.7", "conditions": [{"type": "Ready", "status": "True", "reason": null}]}},
    ]);
    let served = Served::with(folder.path(), stages(steps)).await;
    let client = &served.client;
    node(client).await;
    client.post(PODS, &pod("p", json!({}))).await;
    let ready = client.until(&format!("{PODS}/p"), is("Ready", "True")).await;
    assert_eq!(
        (&ready.body["status"]["podIP"], &ready.body["status"]["phase"]),
        (&"10.9.8.7".into(), &"Running".into())
    );
    assert!(find(&ready, "Ready")["lastTransitionTime"].is_string());
    assert_eq!(find(&ready, "PodScheduled")["status"], "True", "what the stages do not name stays");
    assert_eq!(find(&ready, "embedded.ksail.io/stage")["reason"], "serves");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_a_stage_keeps_from_being_ready_takes_no_pods_until_the_stage_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let broken = json!([{"name": "broken", "kind": "Node",
        "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "no network"}]}}]);
    let served = Served::with(folder.path(), stages(broken.clone())).await;
    node(&served.client).await;
    served.client.until(&format!("{NODES}/n"), is("Ready", "False")).await;
    served.client.post(PODS, &pod("p", json!({}))).await;
    served.client.until(&format!("{PODS}/p"), is("PodScheduled", "False")).await;
    served.stop().await;
    // The same stages: it stays as it was.
    let served = Served::with(folder.path(), stages(broken)).await;
    assert_eq!(find(&served.client.get(&format!("{NODES}/n")).await, "Ready")["message"], "no network");
    served.stop().await;
    let served = Served::open(folder.path()).await;
    let node = served.client.until(&format!("{NODES}/n"), is("Ready", "True")).await;
    assert!(find(&node, "embedded.ksail.io/stage").is_null(), "{:?}", node.body);
    served.client.until(&format!("{PODS}/p"), phase("Running")).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_a_stage_stops_misses_its_deadline_and_goes_on_without_the_stage() {
    let folder = tempfile::tempdir().unwrap();
    let crash = json!([{"name": "crash", "kind": "Pod", "matchLabels": {"app": "web"}, "status": {"phase": "Running",
        "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        "containerStatuses": [{"name": "a", "image": "x", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}]);
    let served = Served::with(folder.path(), stages(crash)).await;
    node(&served.client).await;
    let web = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "progressDeadlineSeconds": 1, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}}});
    served.client.post(DEPLOYMENTS, &web).await;
    let stuck = served.client.until(&format!("{DEPLOYMENTS}/web"), is("Progressing", "False")).await;
    assert_eq!(find(&stuck, "Progressing")["reason"], "ProgressDeadlineExceeded");
    assert_eq!(stuck.body["status"]["unavailableReplicas"], 2);
    served.stop().await;
    let served = Served::open(folder.path()).await;
    let first = served.client.get(&format!("{DEPLOYMENTS}/web")).await;
    assert_ne!(find(&first, "Progressing")["status"], "False", "nobody finds it stuck any more: {:?}", first.body);
    let is_done = |answer: &Answer| find(answer, "Progressing")["reason"] == "NewReplicaSetAvailable";
    let done = served.client.until(&format!("{DEPLOYMENTS}/web"), is_done).await;
    assert_eq!(done.body["status"]["readyReplicas"], 2);
    assert_eq!(find(&done, "Available")["status"], "True");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_and_services_wait_for_their_stages_and_pods_for_their_claims() {
    const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
    const SERVICES: &str = "/api/v1/namespaces/default/services";
    let folder = tempfile::tempdir().unwrap();
    let held = json!([
        {"name": "no-storage", "kind": "PersistentVolumeClaim", "matchLabels": {"disk": "none"}, "status": {"phase": "Pending",
            "conditions": [{"type": "Provisioning", "status": "False", "message": "no disk is left"}]}},
        {"name": "slow-storage", "kind": "PersistentVolumeClaim", "matchLabels": {"disk": "slow"}, "delayMilliseconds": 50},
        {"name": "no-balancer", "kind": "Service", "delayMilliseconds": NEVER_MILLISECONDS},
    ]);
    let served = Served::with(folder.path(), stages(held)).await;
    let client = &served.client;
    node(client).await;
    for disk in ["none", "slow"] {
        let claim = json!({"metadata": {"name": disk, "labels": {"disk": disk}}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        client.post(CLAIMS, &claim).await;
        let mut pod = pod(disk, json!({"app": disk}));
        pod["spec"]["volumes"] = json!([{"name": "d", "persistentVolumeClaim": {"claimName": disk}}]);
        client.post(PODS, &pod).await;
        let service = json!({"metadata": {"name": disk}, "spec": {"type": "LoadBalancer", "selector": {"app": disk}, "ports": [{"port": 80}]}});
        client.post(SERVICES, &service).await;
    }
    client.until(&format!("{CLAIMS}/slow"), phase("Bound")).await;
    client.until(&format!("{PODS}/slow"), phase("Running")).await;
    let claim = client.until(&format!("{CLAIMS}/none"), is("embedded.ksail.io/stage", "True")).await;
    assert_eq!(
        (&claim.body["status"]["phase"], find(&claim, "Provisioning")["message"].as_str()),
        (&"Pending".into(), Some("no disk is left"))
    );
    let waits = client.until(&format!("{PODS}/none"), is("PodScheduled", "False")).await;
    assert_eq!(find(&waits, "PodScheduled")["message"], "pod has unbound immediate PersistentVolumeClaims");
    // What needs no address works: the endpoints are there.
    let endpoints = |answer: &Answer| answer.body["subsets"][0]["addresses"].is_array();
    client.until("/api/v1/namespaces/default/endpoints/slow", endpoints).await;
    assert_eq!(client.get(&format!("{SERVICES}/slow")).await.body["status"], json!({"loadBalancer": {}}));
    served.stop().await;
    // Without the stages all comes to life.
    let served = Served::open(folder.path()).await;
    served.client.until(&format!("{PODS}/none"), phase("Running")).await;
    let addressed = |answer: &Answer| answer.body["status"]["loadBalancer"]["ingress"][0]["ip"].is_string();
    served.client.until(&format!("{SERVICES}/none"), addressed).await;
    let claim = served.client.get(&format!("{CLAIMS}/none")).await;
    assert!(find(&claim, "embedded.ksail.io/stage").is_null(), "{claim:?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_pods_do_not_end_or_fail_fails_and_is_cleaned_up() {
    const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
    let folder = tempfile::tempdir().unwrap();
    let failing = json!([
        {"name": "hangs", "kind": "Pod", "matchLabels": {"job": "hangs"}, "delayMilliseconds": NEVER_MILLISECONDS},
        {"name": "fails", "kind": "Pod", "matchLabels": {"job": "fails"}, "status": {"phase": "Failed"}},
    ]);
    let served = Served::with(folder.path(), stages(failing)).await;
    let client = &served.client;
    node(client).await;
    let job = |name: &str, more: Value| {
        let template = json!({"metadata": {"labels": {"job": name}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]}});
        let mut job = json!({"metadata": {"name": name}, "spec": {"template": template}});
        job["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        job
    };
    client.post(JOBS, &job("hangs", json!({"activeDeadlineSeconds": 1}))).await;
    client.post(JOBS, &job("fails", json!({"backoffLimit": 1}))).await;
    client.post(JOBS, &job("passing", json!({"ttlSecondsAfterFinished": 1}))).await;
    for (name, reason) in [("hangs", "DeadlineExceeded"), ("fails", "BackoffLimitExceeded")] {
        let failed = client.until(&format!("{JOBS}/{name}"), is("Failed", "True")).await;
        assert_eq!(find(&failed, "Failed")["reason"], reason);
        assert!(failed.body["status"]["active"].is_null(), "{failed:?}");
    }
    assert_eq!(client.get(&format!("{PODS}?labelSelector=job%3Dhangs")).await.body["items"], json!([]));
    client.until(&format!("{JOBS}/passing"), |answer| answer.code == 404).await;
    client.until(&format!("{PODS}?labelSelector=job%3Dpassing"), |answer| answer.body["items"] == json!([])).await;
    served.stop().await;
}
