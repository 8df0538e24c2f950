//! Sessions that providers of one process share: connected once, and never believed to lead to a cluster that is not there any more.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ksail_provider::{CallContext, CallErrorKind, Provider as _, Target};
use ksail_provider_kubernetes::{Kept, KubernetesProvider};
use serde_json::json;

use crate::cluster::{Cluster, connection};
use crate::front::behind;

/// What a front saw: how often the kinds were asked for, and how often which cluster it is.
#[derive(Default)]
struct Asked {
    kinds: AtomicUsize,
    cluster: AtomicUsize,
    /// The UID that is told in the place of the real one.
    uid: Mutex<Option<&'static str>>,
}

impl Asked {
    fn so_far(&self) -> (usize, usize) {
        (self.kinds.load(Ordering::SeqCst), self.cluster.load(Ordering::SeqCst))
    }
}

struct World {
    cluster: Cluster,
    asked: Arc<Asked>,
    kept: Arc<Kept>,
    kubeconfig: std::path::PathBuf,
    target: Target,
}

impl World {
    async fn real() -> Option<Self> {
        let cluster = Cluster::real().await?;
        let asked = Arc::new(Asked::default());
        let seen = Arc::clone(&asked);
        let answer = move |parts: &http::request::Parts| match parts.uri.path() {
            "/apis" => {
                seen.kinds.fetch_add(1, Ordering::SeqCst);
                None
            }
            "/api/v1/namespaces/kube-system" => {
                seen.cluster.fetch_add(1, Ordering::SeqCst);
                let uid = (*seen.uid.lock().unwrap())?;
                Some((200, json!({"metadata": {"uid": uid}}).to_string()))
            }
            _ => None,
        };
        let (_, kubeconfig) = behind(&cluster, Box::new(answer)).await;
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "none", "namespace": "default"}});
        let target = cluster.target(&manifest);
        Some(Self { cluster, asked, kept: Arc::default(), kubeconfig, target })
    }

    fn provider(&self) -> KubernetesProvider {
        KubernetesProvider::new(connection(&self.kubeconfig)).sharing(&self.kept)
    }

    /// The scope that a provider of its own sees.
    async fn scope(&self) -> String {
        let targets = std::slice::from_ref(&self.target);
        self.provider().observe(&self.cluster.context(), targets).await.unwrap().scope.0.to_string()
    }
}

#[tokio::test]
async fn a_session_is_taken_up_again_where_the_same_cluster_is_there() {
    let Some(world) = World::real().await else { return };
    let scope = world.scope().await;
    assert_eq!(world.asked.so_far(), (1, 1));
    assert_eq!(world.scope().await, scope);
    assert_eq!(world.asked.so_far(), (1, 2), "the kinds are known, and the cluster is asked for");
    // Without a place that is shared all is asked again.
    let alone = KubernetesProvider::new(connection(&world.kubeconfig));
    alone.observe(&world.cluster.context(), std::slice::from_ref(&world.target)).await.unwrap();
    assert_eq!(world.asked.so_far(), (2, 3));
}

#[tokio::test]
async fn another_cluster_at_the_same_place_is_seen() {
    let Some(world) = World::real().await else { return };
    world.scope().await;
    *world.asked.uid.lock().unwrap() = Some("another");
    assert_eq!(world.scope().await, "another");
    assert_eq!(world.asked.so_far(), (2, 3), "all of it was read anew");
}

#[tokio::test]
async fn a_kubeconfig_that_says_something_else_is_read_again() {
    let Some(world) = World::real().await else { return };
    world.scope().await;
    let elsewhere = std::fs::read_to_string(&world.kubeconfig).unwrap().replace("http://127.0.0.1", "http://127.0.0.2");
    std::fs::write(&world.kubeconfig, elsewhere).unwrap();
    let targets = std::slice::from_ref(&world.target);
    // Nobody listens there.
    let error = world.provider().observe(&world.cluster.context(), targets).await.unwrap_err();
    assert_eq!((error.kind, world.asked.so_far()), (CallErrorKind::Unreachable, (1, 1)));
}

#[tokio::test]
async fn what_was_connected_ahead_is_used_once_without_a_question() {
    let Some(world) = World::real().await else { return };
    world.provider().connect_ahead(&world.cluster.context()).await;
    assert_eq!(world.asked.so_far(), (1, 1));
    world.scope().await;
    assert_eq!(world.asked.so_far(), (1, 1));
    world.scope().await;
    assert_eq!(world.asked.so_far(), (1, 2));
}

#[tokio::test]
async fn what_kept_a_connection_from_being_made_ahead_is_told_once() {
    let kubeconfig = Path::new("/nowhere/at/all");
    let context = CallContext {
        lineage: "none".to_owned(),
        operation: None,
        timeout: Duration::from_secs(5),
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    let kept = Arc::new(Kept::default());
    let provider = || KubernetesProvider::new(connection(kubeconfig)).sharing(&kept);
    provider().connect_ahead(&context).await;
    for _ in 0..2 {
        let error = provider().observe(&context, &[]).await.unwrap_err();
        assert!(error.message.contains("there is no kubeconfig at /nowhere/at/all"), "{error}");
    }
}
