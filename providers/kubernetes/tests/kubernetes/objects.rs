//! What users find: quiet looks, conflicts with their owners, imports that take fields over.

use ksail_model::{Observation, Path, Preview, Value};
use ksail_provider::{CallErrorKind, Deleted};
use serde_json::json;
use std::time::Duration;

use crate::cluster::{Cluster, spec};

fn at<'a>(fields: &'a Value, path: &str) -> Option<&'a Value> {
    fields.get(&Path::parse(path).unwrap())
}

fn deployment(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
                {"name": "a", "image": "example.com/a:1", "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
                 "ports": [{"containerPort": 80}, {"containerPort": 81, "protocol": "UDP"}],
                 "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                 "livenessProbe": {"httpGet": {"port": 80, "path": "/"}}},
                {"name": "b", "image": "example.com/b:1"},
            ]}},
        },
    })
}

#[tokio::test]
async fn what_a_call_returned_is_what_is_seen_and_a_preview_of_the_same_changes_nothing() {
    let Some(cluster) = Cluster::real().await else { return };
    let target = cluster.target(&deployment(&cluster.name("quiet")));
    let made = cluster.create(&target).await.unwrap().seen;
    let seen = cluster.seen(&target).await;
    assert_eq!(seen.fields, made.fields);
    // The server writes quantities its own way, and adds defaults that are not ours.
    assert_eq!(at(&seen.fields, "spec.template.spec.containers[0].resources.requests.cpu"), Some(&Value::from("1")));
    assert_eq!(at(&seen.fields, "spec.template.spec.containers[0].imagePullPolicy"), None);
    assert_eq!(at(&seen.fields, "spec.strategy"), None);
    match cluster.preview(&target, Some(&seen)).await {
        Preview::Accepted { fields } => assert_eq!(fields, seen.fields),
        other => panic!("{other:?}"),
    }
    assert_eq!(cluster.delete(&target, false).await.unwrap(), Deleted::Gone);
    assert_eq!(cluster.observe(&target).await, Observation::Absent);
}

#[tokio::test]
async fn a_field_that_is_left_out_later_goes() {
    let Some(cluster) = Cluster::real().await else { return };
    let name = cluster.name("shrinks");
    let of = |data| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data});
    let target = cluster.target(&of(json!({"a": "1", "b": "2"})));
    let made = cluster.create(&target).await.unwrap().seen;
    let mut smaller = cluster.target(&of(json!({"a": "1"})));
    smaller.spec = Some(spec(&of(json!({"a": "1"}))));
    let seen = cluster.update(&smaller, &made, &["data.b"]).await.unwrap().seen;
    assert_eq!((at(&seen.fields, "data.a"), at(&seen.fields, "data.b")), (Some(&Value::from("1")), None));
    cluster.delete(&smaller, false).await.unwrap();
}

#[tokio::test]
async fn a_conflict_names_the_owner_and_is_taken_only_when_told() {
    let Some(cluster) = Cluster::real().await else { return };
    let name = cluster.name("contested");
    let manifest = deployment(&name);
    let target = cluster.target(&manifest);
    cluster.create(&target).await.unwrap();
    let path = format!("/apis/apps/v1/namespaces/default/deployments/{name}");
    cluster.merge(&path, "kubectl-edit", &json!({"spec": {"paused": true, "replicas": 1}})).await;
    let seen = cluster.seen(&target).await;
    assert_eq!(at(&seen.fields, "spec.replicas"), Some(&Value::from(1_i64)), "what was declared is looked at");
    assert_eq!(at(&seen.fields, "spec.paused"), None, "what another set is not ours");
    match cluster.preview(&target, Some(&seen)).await {
        Preview::Refused { message, hint } => {
            assert_eq!(message, "spec.replicas is owned by kubectl-edit");
            assert!(hint.unwrap().contains("ksail.io/conflicts: take"));
        }
        other => panic!("{other:?}"),
    }
    let refused = cluster.update(&target, &seen, &["spec.replicas"]).await.unwrap_err();
    assert_eq!(refused.kind, CallErrorKind::Refused);
    assert!(refused.message.contains("spec.replicas is owned by kubectl-edit"), "{}", refused.message);
    let mut taking = manifest.clone();
    taking["metadata"]["annotations"] = json!({"ksail.io/conflicts": "take"});
    let taking = cluster.target(&taking);
    let seen = cluster.update(&taking, &seen, &["spec.replicas"]).await.unwrap().seen;
    assert_eq!(at(&seen.fields, "spec.replicas"), Some(&Value::from(0_i64)));
    cluster.delete(&taking, false).await.unwrap();
}

#[tokio::test]
async fn an_import_takes_over_what_kubectl_owns() {
    let Some(cluster) = Cluster::real().await else { return };
    let name = cluster.name("imported");
    let of = |data| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data});
    cluster
        .post("/api/v1/namespaces/default/configmaps", "kubectl-client-side-apply", &of(json!({"a": "1", "old": "x"})))
        .await;
    // kubectl notes the whole object in an annotation: values of Secrets would be told by it.
    let note =
        json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hush-hush-hush"}}});
    let path = format!("/api/v1/namespaces/default/configmaps/{name}");
    cluster.merge(&path, "kubectl-client-side-apply", &note).await;
    let mut target = cluster.target(&of(json!({"a": "1"})));
    let seen = cluster.seen(&target).await;
    assert!(seen.mark.is_none());
    assert!(!format!("{seen:?}").contains("hush-hush-hush"));
    // All that kubectl owns is shown, so that a plan tells what goes.
    assert_eq!(at(&seen.fields, "data.old"), Some(&Value::from("x")));
    assert_eq!(at(&seen.fields, "fieldManager"), Some(&Value::from("kubectl-client-side-apply")));
    assert_eq!(cluster.create(&target).await.unwrap_err().kind, CallErrorKind::NotOurs);
    match cluster.preview(&target, Some(&seen)).await {
        Preview::Accepted { fields } => {
            assert_eq!((at(&fields, "data.old"), at(&fields, "fieldManager")), (None, Some(&Value::from("ksail"))))
        }
        other => panic!("{other:?}"),
    }
    target.id.clone_from(&seen.id);
    let seen = cluster.update(&target, &seen, &["fieldManager"]).await.unwrap().seen;
    assert_eq!(seen.mark.as_ref().map(|mark| mark.lineage.clone()), Some(cluster.lineage.clone()));
    let live = cluster.get(&format!("/api/v1/namespaces/default/configmaps/{name}")).await.unwrap();
    assert_eq!(live["data"], json!({"a": "1"}), "what is not declared is gone");
    assert!(!live.to_string().contains("hush-hush-hush"), "and so is the note");
    cluster.delete(&target, true).await.unwrap();
}

#[tokio::test]
async fn an_immutable_field_forces_a_replacement_and_a_bad_one_is_refused() {
    let Some(cluster) = Cluster::real().await else { return };
    let name = cluster.name("immutable");
    let target = cluster.target(&deployment(&name));
    let seen = cluster.create(&target).await.unwrap().seen;
    let mut other = deployment(&name);
    other["spec"]["selector"]["matchLabels"]["more"] = "x".into();
    other["spec"]["template"]["metadata"]["labels"]["more"] = "x".into();
    match cluster.preview(&cluster.target(&other), Some(&seen)).await {
        Preview::ForcesReplacement { path, why } => {
            assert_eq!(path.to_string(), "spec.selector");
            assert!(why.contains("immutable"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    let mut wrong = deployment(&name);
    wrong["spec"]["replicsa"] = 1.into();
    match cluster.preview(&cluster.target(&wrong), Some(&seen)).await {
        Preview::Refused { message, .. } => assert!(message.contains("replicsa"), "{message}"),
        other => panic!("{other:?}"),
    }
    cluster.delete(&target, false).await.unwrap();
}

#[tokio::test]
async fn a_deletion_that_hangs_tells_who_holds_it() {
    let Some(cluster) = Cluster::real().await else { return };
    let name = cluster.name("held");
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "finalizers": ["example.com/holds"]}});
    let target = cluster.target(&manifest);
    cluster.create(&target).await.unwrap();
    let request = ksail_provider::DeleteRequest {
        target: target.clone(),
        mark: cluster.mark(&target),
        adopted: false,
        attributes: Value::empty_map(),
    };
    let context = ksail_provider::CallContext { timeout: std::time::Duration::from_secs(2), ..cluster.context() };
    let error = ksail_provider::Provider::delete(&cluster.provider, &context, &request).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Indeterminate);
    assert!(error.message.contains("it waits for example.com/holds"), "{}", error.message);
    let path = format!("/api/v1/namespaces/default/configmaps/{name}");
    cluster.merge(&path, "kubectl-edit", &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(cluster.observe(&target).await, Observation::Absent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_sees_a_late_change_at_once() {
    let Some(cluster) = Cluster::real().await else { return };
    let name = cluster.name("late");
    let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "a", "image": "example.com/a:1"}]}});
    let target = cluster.target(&manifest);
    cluster.create(&target).await.unwrap();
    let path = format!("/api/v1/namespaces/default/pods/{name}");
    let change = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        cluster.merge(&format!("{path}/status"), "kubelet", &status).await;
        std::time::Instant::now()
    };
    let wait = async {
        let waited = cluster.wait(&target, Duration::from_secs(60)).await.unwrap();
        (waited, std::time::Instant::now())
    };
    let ((waited, seen), changed) = futures::join!(wait, change);
    assert!(waited.seen.readiness.is_ready());
    // Looks alone would come seconds later.
    assert!(seen.saturating_duration_since(changed) < Duration::from_secs(1), "{:?}", seen - changed);
    cluster.delete(&target, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_fails_tells_what_it_waited_for() {
    let Some(cluster) = Cluster::real().await else { return };
    let name = cluster.name("waits");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let namespace = cluster.target(&namespace);
    cluster.create(&namespace).await.unwrap();
    let mut manifest = deployment(&name);
    manifest["metadata"]["namespace"] = name.as_str().into();
    manifest["spec"]["replicas"] = 1.into();
    // A pod that no ServiceAccount can be found for is not made.
    manifest["spec"]["template"]["spec"]["serviceAccountName"] = "not-there".into();
    let target = cluster.target(&manifest);
    cluster.create(&target).await.unwrap();
    let waited = cluster.wait(&target, Duration::from_secs(5)).await.unwrap();
    let ksail_model::Readiness::NotReady(why) = &waited.seen.readiness else { panic!("{waited:?}") };
    assert!(why.starts_with("0 of 1 pods"), "{why}");
    assert!(why.contains("FailedCreate") && why.contains("not-there"), "{why}");
    cluster.delete(&namespace, false).await.unwrap();
}
