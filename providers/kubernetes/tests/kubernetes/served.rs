//! Versions, kinds and groups that come and go: another version is the same object, what is not known is not absent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ksail_model::{Observation, Preview, UnknownReason, Value};
use ksail_provider::{CallErrorKind, DeleteRequest, Deleted, Provider as _, Target};
use ksail_provider_kubernetes::KubernetesProvider;
use serde_json::{Value as Json, json};

use crate::cluster::{Cluster, connection};
use crate::front::behind;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A group of this test alone.
fn group(cluster: &Cluster, name: &str) -> String {
    format!("{}.example.com", cluster.name(name))
}

/// A kind `Widget` in two versions.
async fn define(cluster: &Cluster, group: &str) {
    let version = |name: &str, is_stored: bool| {
        json!({"name": name, "served": true, "storage": is_stored, "schema": {"openAPIV3Schema":
            {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [version("v1", true), version("v1beta1", false)]}});
    cluster.post(DEFINITIONS, "test", &definition).await;
    is_served(cluster, group, "v1beta1", true).await;
}

async fn unserve(cluster: &Cluster, group: &str) {
    let patch = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
    let path = format!("{DEFINITIONS}/widgets.{group}");
    cluster.ask("PATCH", &path, "application/json-patch+json", &patch).await.unwrap();
    is_served(cluster, group, "v1beta1", false).await;
}

/// Waits until a version is served, or not any more.
async fn is_served(cluster: &Cluster, group: &str, version: &str, wanted: bool) {
    let path = format!("/apis/{group}/{version}/namespaces/default/widgets");
    for _ in 0..200 {
        if cluster.ask("GET", &path, "application/json", &Json::Null).await.is_ok() == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} does not come to be served: {wanted}");
}

fn widget(cluster: &Cluster, group: &str, version: &str) -> Target {
    cluster.target(&json!({"apiVersion": format!("{group}/{version}"), "kind": "Widget",
        "metadata": {"name": "one", "namespace": "default"}, "spec": {"size": 1}}))
}

fn deletion(cluster: &Cluster, target: &Target) -> DeleteRequest {
    DeleteRequest { target: target.clone(), mark: cluster.mark(target), adopted: false, attributes: Value::empty_map() }
}

fn config_map(cluster: &Cluster) -> Target {
    let name = cluster.name("beside");
    cluster
        .target(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_a_version_that_is_no_longer_served_is_the_same_in_another() {
    let Some(cluster) = Cluster::real().await else { return };
    let group = group(&cluster, "versions");
    define(&cluster, &group).await;
    let old = widget(&cluster, &group, "v1beta1");
    cluster.create(&old).await.unwrap();
    // One session knows the version from before, one deletes with what it knows from before, and one is new.
    let (deleting, new) = (
        KubernetesProvider::new(connection(&cluster.kubeconfig)),
        KubernetesProvider::new(connection(&cluster.kubeconfig)),
    );
    deleting.observe(&cluster.context(), std::slice::from_ref(&old)).await.unwrap();
    unserve(&cluster, &group).await;
    for provider in [&cluster.provider, &new] {
        let seen =
            provider.observe(&cluster.context(), std::slice::from_ref(&old)).await.unwrap().observations.remove(0);
        let Observation::Present(seen) = seen else { panic!("{seen:?}") };
        assert_eq!(seen.fields.field("apiVersion").and_then(Value::as_str), Some(format!("{group}/v1").as_str()));
    }
    let mut deleted = deleting.delete(&cluster.context(), &deletion(&cluster, &old)).await;
    if let Err(error) = &deleted {
        // What the session knew of the kind was out of date: it says so and is asked again.
        assert_eq!(error.kind, CallErrorKind::Transient, "{error:?}");
        deleted = deleting.delete(&cluster.context(), &deletion(&cluster, &old)).await;
    }
    assert_eq!(deleted.unwrap(), Deleted::Gone);
    assert_eq!(cluster.get(&format!("/apis/{group}/v1/namespaces/default/widgets/one")).await, None);
    // With its definition the kind is gone, and its objects with it.
    let current = widget(&cluster, &group, "v1");
    cluster.create(&current).await.unwrap();
    cluster.ask("DELETE", &format!("{DEFINITIONS}/widgets.{group}"), "application/json", &Json::Null).await.unwrap();
    is_served(&cluster, &group, "v1", false).await;
    assert_eq!(cluster.observe(&current).await, Observation::Absent);
    assert_eq!(cluster.delete(&current, false).await.unwrap(), Deleted::WasAbsent);
}

#[tokio::test]
async fn a_version_that_kubernetes_does_not_serve_is_refused_when_planning() {
    let Some(cluster) = Cluster::real().await else { return };
    let name = cluster.name("old");
    let deployment = |version: &str| {
        cluster.target(&json!({"apiVersion": version, "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "a", "image": "a"}]}}}}))
    };
    cluster.create(&deployment("apps/v1")).await.unwrap();
    let old = deployment("apps/v1beta9");
    let seen = cluster.seen(&old).await;
    match cluster.preview(&old, Some(&seen)).await {
        Preview::Refused { message, hint } => {
            assert_eq!(message, "the server serves Deployment in apps/v1, not in v1beta9");
            assert_eq!(hint.as_deref(), Some("write apiVersion: apps/v1"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(cluster.delete(&old, false).await.unwrap(), Deleted::Gone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_server_is_down_is_unknown_and_never_absent() {
    let Some(cluster) = Cluster::real().await else { return };
    let group = group(&cluster, "down");
    let target = widget(&cluster, &group, "v1");
    let beside = config_map(&cluster);
    cluster.create(&beside).await.unwrap();
    // As the server tells it of an APIService that nobody answers for. A real one would keep it from deleting namespaces, those of
    // the other tests among them.
    let stale = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [
        {"metadata": {"name": group, "creationTimestamp": null}, "versions": [{"version": "v1", "freshness": "Stale"}]}]});
    let answer = move |parts: &http::request::Parts| (parts.uri.path() == "/apis").then(|| (200, stale.to_string()));
    let (provider, path) = behind(&cluster, Box::new(answer)).await;
    let seen = provider.observe(&cluster.context(), &[target.clone(), beside.clone()]).await.unwrap().observations;
    let Observation::Unknown(UnknownReason::Unreachable { message }) = &seen[0] else { panic!("{seen:?}") };
    assert!(message.contains(&group), "{message}");
    assert!(matches!(seen[1], Observation::Present(_)));
    let error = provider.delete(&cluster.context(), &deletion(&cluster, &target)).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unreachable, "{error:?}");
    cluster.delete(&beside, false).await.unwrap();
    let _ = std::fs::remove_file(path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_fails_leaves_the_other_kinds_known() {
    let Some(cluster) = Cluster::real().await else { return };
    let group = group(&cluster, "fails");
    define(&cluster, &group).await;
    let (target, beside) = (widget(&cluster, &group, "v1"), config_map(&cluster));
    cluster.create(&beside).await.unwrap();
    let is_down = Arc::new(AtomicBool::new(true));
    let (lists, down) = (format!("/apis/{group}/v1/"), Arc::clone(&is_down));
    let answer = move |parts: &http::request::Parts| {
        let is_it = parts.uri.path().starts_with(&lists) && down.load(Ordering::Relaxed);
        is_it.then(|| (503, "service unavailable".to_owned()))
    };
    let (provider, path) = behind(&cluster, Box::new(answer)).await;
    let look =
        async || provider.observe(&cluster.context(), &[target.clone(), beside.clone()]).await.unwrap().observations;
    let seen = look().await;
    assert!(
        matches!(&seen[0], Observation::Unknown(UnknownReason::Unreachable { message }) if message.contains("503")),
        "{seen:?}"
    );
    assert!(matches!(seen[1], Observation::Present(_)), "{seen:?}");
    is_down.store(false, Ordering::Relaxed);
    assert_eq!(look().await[0], Observation::Absent);
    cluster.delete(&beside, false).await.unwrap();
    cluster.ask("DELETE", &format!("{DEFINITIONS}/widgets.{group}"), "application/json", &Json::Null).await.unwrap();
    let _ = std::fs::remove_file(path);
}
