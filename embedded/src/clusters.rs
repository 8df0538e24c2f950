//! Kubernetes clusters: their servers, which run in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ksail_embedded_kubernetes::{Cluster, Settings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::durable;
use crate::engine::Engine;
use crate::world::{KubernetesCluster, World};
use ksail_registry_client::causes;

/// The kubeconfig in a cluster's folder.
const KUBECONFIG: &str = "kubeconfig";
/// How long requests under way may take to end when a cluster stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A cluster that is served, in memory only.
pub(crate) struct Served {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    /// Stops serving. What was answered is durable.
    async fn end(self) {
        self.cancel.cancel();
        let stopped = self.task.abort_handle();
        if tokio::time::timeout(STOP_GRACE, self.task).await.is_err() {
            stopped.abort();
        }
    }
}

impl KubernetesCluster {
    /// As the interface and the status page show it.
    pub(crate) fn shown(&self, world: &World) -> Value {
        let error = match world.served.get(&self.id) {
            Some(Ok(served)) if !served.task.is_finished() => None,
            Some(Ok(_)) => Some("it ended; engine.log tells why"),
            Some(Err(why)) => Some(why.as_str()),
            None => Some("it is not served"),
        };
        json!({
            "Name": self.name, "Id": self.id, "Version": self.version, "Port": self.port, "Labels": self.labels,
            "Stages": self.stages, "Created": self.created, "Serving": error.is_none(), "Error": error.unwrap_or_default(),
            "Kubeconfig": world.cluster_data(&self.id).join(KUBECONFIG).display().to_string(),
        })
    }
}

impl Engine {
    /// Serves all clusters. One that cannot be served keeps no other from it; its state tells why.
    pub(crate) async fn serve_clusters(&self) {
        let mut world = self.world.lock().await;
        let clusters: Vec<KubernetesCluster> = world.clusters.values().cloned().collect();
        for cluster in clusters {
            if let Err(error) = self.serve_cluster(&mut world, &cluster).await {
                tracing::warn!(cluster = cluster.name, error, "cannot be served");
            }
        }
    }

    /// Stops serving all clusters.
    pub(crate) async fn end_clusters(&self) {
        let served: Vec<Served> =
            self.world.lock().await.served.drain().filter_map(|(_, served)| served.ok()).collect();
        futures::future::join_all(served.into_iter().map(Served::end)).await;
    }

    /// Serves a cluster. When this returns, its port is bound and its kubeconfig is there; else why not, as a fragment, which
    /// is kept for whoever asks.
    pub(crate) async fn serve_cluster(&self, world: &mut World, cluster: &KubernetesCluster) -> Result<(), String> {
        self.end_cluster(world, &cluster.id).await;
        let served = self.try_serve(world, cluster).await;
        let answer = served.as_ref().map(|_| ()).map_err(Clone::clone);
        world.served.insert(cluster.id.clone(), served);
        answer
    }

    /// Stops serving a cluster, if it is.
    pub(crate) async fn end_cluster(&self, world: &mut World, id: &str) {
        if let Some(Ok(served)) = world.served.remove(id) {
            served.end().await;
        }
    }

    async fn try_serve(&self, world: &World, cluster: &KubernetesCluster) -> Result<Served, String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port));
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => format!("port is already allocated: {address}"),
            _ => format!("{address} cannot be listened on: {error}"),
        })?;
        let folder = world.cluster_data(&cluster.id);
        let settings =
            Settings { version: cluster.version.clone(), stages: cluster.stages.clone(), ..Settings::default() };
        let name = cluster.name.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let opened = Cluster::open(&folder, settings).map_err(|error| causes(&error))?;
            let kubeconfig = opened.kubeconfig(address, &name);
            let path = folder.join(KUBECONFIG);
            durable::write(&path, kubeconfig.as_bytes())
                .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
            Ok::<_, String>(opened)
        });
        let opened = opened.await.map_err(|error| error.to_string())??;
        let cancel = CancellationToken::new();
        let name = cluster.name.clone();
        let serving = opened.serve(listener, cancel.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(cluster = name, error = causes(&error), "serving ended");
            }
        });
        tracing::info!(cluster = cluster.name, port = cluster.port, version = cluster.version, "the cluster is served");
        Ok(Served { cancel, task })
    }
}
