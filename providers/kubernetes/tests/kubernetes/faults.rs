//! Through a proxy before the real API server that resets, delays, answers 429 and 500, loses replies, and ends watches.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ksail_model::{Observation, Readiness, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CallErrorKind, CreateRequest, DeleteRequest, Deleted, Provider as _, Target,
    WaitRequest,
};
use ksail_provider_kubernetes::KubernetesProvider;
use ksail_test_proxy::{Asked, Fault, Proxy};
use serde_json::{Value as Json, json};

use crate::cluster::{Cluster, connection};

const ALL: [Fault; 6] = [
    Fault::Reset,
    Fault::LostReply,
    Fault::TooMany,
    Fault::Down,
    Fault::Internal,
    Fault::Delay(Duration::from_millis(200)),
];

/// A provider that reaches the cluster through a proxy.
async fn through_proxy(cluster: &Cluster) -> (Proxy, KubernetesProvider, PathBuf) {
    let proxy = Proxy::before(&cluster.kubeconfig).await.unwrap();
    let path = proxy.kubeconfig(&std::env::temp_dir()).unwrap();
    let provider = KubernetesProvider::new(connection(&path));
    (proxy, provider, path)
}

/// The next change meets this fault.
fn next_change(proxy: &Proxy, fault: Fault) {
    let mut next = Some(fault);
    proxy.choose(move |asked| if asked.is_change() { next.take() } else { None }.unwrap_or(Fault::None));
}

fn config_map(cluster: &Cluster, name: &str) -> Target {
    let name = cluster.name(name);
    cluster.target(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"a": "1"}}))
}

fn create(cluster: &Cluster, target: &Target) -> CreateRequest {
    CreateRequest { target: target.clone(), mark: cluster.mark(target), secrets: BTreeMap::new() }
}

fn delete(cluster: &Cluster, target: &Target) -> DeleteRequest {
    DeleteRequest { target: target.clone(), mark: cluster.mark(target), adopted: false, attributes: Value::empty_map() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_means_what_it_is() {
    let Some(cluster) = Cluster::real().await else { return };
    let (proxy, provider, path) = through_proxy(&cluster).await;
    let target = config_map(&cluster, "fault");
    let mut told: Vec<(Fault, CallError)> = Vec::new();
    for fault in [Fault::Reset, Fault::TooMany, Fault::Down, Fault::Internal] {
        next_change(&proxy, fault);
        told.push((fault, provider.create(&cluster.context(), &create(&cluster, &target)).await.unwrap_err()));
        assert_eq!(cluster.observe(&target).await, Observation::Absent, "{fault:?} made nothing");
    }
    let kinds: Vec<_> = told.iter().map(|(fault, error)| (*fault, error.kind, error.retry_after_ms)).collect();
    assert_eq!(
        kinds,
        [
            (Fault::Reset, CallErrorKind::Indeterminate, None),
            (Fault::TooMany, CallErrorKind::Transient, Some(1000)),
            (Fault::Down, CallErrorKind::Transient, None),
            (Fault::Internal, CallErrorKind::Indeterminate, None),
        ],
        "{told:?}"
    );
    next_change(&proxy, Fault::LostReply);
    let lost = provider.create(&cluster.context(), &create(&cluster, &target)).await.unwrap_err();
    assert_eq!(lost.kind, CallErrorKind::Indeterminate);
    assert!(matches!(cluster.observe(&target).await, Observation::Present(_)), "it was made all the same");
    let again = provider.create(&cluster.context(), &create(&cluster, &target)).await.unwrap();
    assert_eq!(again.seen.fields, cluster.seen(&target).await.fields);
    next_change(&proxy, Fault::LostReply);
    let lost = provider.delete(&cluster.context(), &delete(&cluster, &target)).await.unwrap_err();
    assert_eq!(lost.kind, CallErrorKind::Indeterminate);
    let gone = provider.delete(&cluster.context(), &delete(&cluster, &target)).await.unwrap();
    assert_eq!(gone, Deleted::WasAbsent);
    let _ = std::fs::remove_file(path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_calls_converge_through_all_faults() {
    let Some(cluster) = Cluster::real().await else { return };
    let (proxy, provider, path) = through_proxy(&cluster).await;
    let mut count = 0;
    proxy.choose(move |_| {
        count += 1;
        if count % 3 == 0 { ALL[count / 3 % ALL.len()] } else { Fault::None }
    });
    let targets: Vec<Target> = (0..30).map(|index| config_map(&cluster, &format!("f{index}"))).collect();
    for target in &targets {
        let mut made = Err(CallError::transient("not tried"));
        for _ in 0..12 {
            made = provider.create(&cluster.context(), &create(&cluster, target)).await;
            match &made {
                Ok(_) => break,
                Err(error) => assert!(
                    matches!(
                        error.kind,
                        CallErrorKind::Indeterminate | CallErrorKind::Transient | CallErrorKind::Unreachable
                    ),
                    "{error:?}"
                ),
            }
        }
        made.unwrap();
    }
    let mut reply = provider.observe(&cluster.context(), &targets).await;
    for _ in 0..12 {
        if reply.is_ok() {
            break;
        }
        reply = provider.observe(&cluster.context(), &targets).await;
    }
    let observations = reply.unwrap().observations;
    assert!(observations.iter().all(|seen| matches!(seen, Observation::Present(seen) if seen.mark.is_some())));
    for target in &targets {
        let mut gone = Err(CallError::transient("not tried"));
        for _ in 0..12 {
            gone = provider.delete(&cluster.context(), &delete(&cluster, target)).await;
            if gone.is_ok() {
                break;
            }
        }
        gone.unwrap();
    }
    let list = cluster
        .get(&format!("/api/v1/namespaces/default/configmaps?labelSelector=ksail.io/lineage={}", cluster.lineage))
        .await;
    assert_eq!(list.unwrap_or(Json::Null)["items"].as_array().map(Vec::len), Some(0));
    let _ = std::fs::remove_file(path);
}

/// A pod that is not ready before its status says so. There are no nodes.
fn pod(cluster: &Cluster, name: &str) -> (Target, String) {
    let name = cluster.name(name);
    let target = cluster.target(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "a", "image": "example.com/a:1"}]},
    }));
    (target, format!("/api/v1/namespaces/default/pods/{name}"))
}

/// Waits for a pod of which every watch meets the fault, as long as `faults` says so. It becomes ready when the fault was met
/// so many times; the answer is what the wait ended with, and the watches that were asked for.
async fn wait_through(name: &str, faults: usize, fault: Fault) -> Option<(Applied, Vec<Asked>)> {
    let cluster = Cluster::real().await?;
    let (proxy, provider, path) = through_proxy(&cluster).await;
    let (target, pod) = pod(&cluster, name);
    cluster.create(&target).await.unwrap();
    let met = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&met);
    proxy.choose(move |asked| {
        let mut met = counted.lock().unwrap();
        if asked.is_watch() && *met < faults {
            *met += 1;
            return fault;
        }
        Fault::None
    });
    let change = async {
        while *met.lock().unwrap() < faults {
            // The watch has something to tell.
            let note = json!({"metadata": {"annotations": {"noise": format!("{}", proxy.asked().len())}}});
            cluster.merge(&pod, "noise", &note).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        cluster.merge(&format!("{pod}/status"), "kubelet", &status).await;
    };
    let context = CallContext { timeout: Duration::from_secs(60), ..cluster.context() };
    let request = WaitRequest { target: target.clone() };
    let wait = provider.wait(&context, &request);
    let (waited, ()) = futures::join!(wait, change);
    cluster.delete(&target, false).await.unwrap();
    let _ = std::fs::remove_file(path);
    let watches = proxy.asked().into_iter().filter(Asked::is_watch).collect();
    Some((waited.unwrap(), watches))
}

fn is_ready(waited: &Applied) {
    assert_eq!(waited.seen.readiness, Readiness::Ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_cut_at_its_start_is_asked_for_again() {
    let Some((waited, watches)) = wait_through("cut-at-start", 3, Fault::Cut(0)).await else { return };
    is_ready(&waited);
    assert!(watches.len() >= 3, "{watches:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_cut_in_the_middle_goes_on_where_it_was() {
    let Some((waited, watches)) = wait_through("cut-in-the-middle", 2, Fault::Cut(1)).await else { return };
    is_ready(&waited);
    let versions: Vec<_> = watches.iter().filter_map(|watch| watch.parameter("resourceVersion")).collect();
    assert!(versions.len() >= 2 && versions[0] != versions[1], "it does not begin anew: {versions:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_place_of_a_watch_and_a_busy_server_are_got_over() {
    for (name, fault) in [("reset", Fault::Reset), ("busy", Fault::TooMany), ("down", Fault::Down)] {
        let Some((waited, _)) = wait_through(name, 2, fault).await else { return };
        is_ready(&waited);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_too_old_is_listed_anew() {
    for (name, fault) in [("gone", Fault::Gone), ("expired", Fault::Expired(1))] {
        let Some((waited, watches)) = wait_through(name, 2, fault).await else { return };
        is_ready(&waited);
        assert!(watches.len() >= 2, "{watches:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bookmark_is_where_a_watch_goes_on() {
    let Some((waited, watches)) = wait_through("bookmarked", 2, Fault::Bookmarked(1)).await else { return };
    is_ready(&waited);
    let versions: Vec<_> = watches.iter().filter_map(|watch| watch.parameter("resourceVersion")).collect();
    assert!(versions.len() >= 2 && versions[0] != versions[1], "no event was told, only a bookmark: {versions:?}");
    assert!(watches.iter().all(|watch| watch.parameter("allowWatchBookmarks") == Some("true")), "{watches:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_falls_silent_does_not_hold_up_a_wait() {
    let Some((waited, _)) = wait_through("silent", 1, Fault::Silent(1)).await else { return };
    is_ready(&waited);
}
