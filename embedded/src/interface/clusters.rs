//! Kubernetes clusters: made, changed and deleted. The Docker Engine has no such thing, so that its words are ours.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::StatusCode;
use ksail_embedded_kubernetes::Stage;
use serde::Deserialize;
use serde_json::json;

use super::query::{read_json, texts};
use super::reply::{ApiError, Reply, empty, json_reply, ok};
use crate::durable;
use crate::engine::Engine;
use crate::world::{KubernetesCluster, World, now};

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct CreateCluster {
    name: String,
    version: String,
    port: u16,
    stages: Vec<Stage>,
    #[serde(deserialize_with = "texts")]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct UpdateCluster {
    version: String,
    port: u16,
    stages: Vec<Stage>,
    #[serde(deserialize_with = "texts")]
    labels: BTreeMap<String, String>,
}

fn no_such_cluster(name: &str) -> ApiError {
    ApiError::not_found(format!("no such cluster: {name}"))
}

fn found<'a>(world: &'a World, name: &str) -> Result<&'a KubernetesCluster, ApiError> {
    world.clusters.get(name).ok_or_else(|| no_such_cluster(name))
}

/// A version as Kubernetes states it: `v<major>.<minor>.<patch>`, of which the client may leave out the `v`.
fn version(text: &str) -> Result<String, ApiError> {
    let numbers: Vec<&str> = text.trim_start_matches('v').split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if numbers.len() != 3 || !numbers.iter().all(is_number) {
        return Err(ApiError::bad(format!("`{text}` is no version of Kubernetes, such as v1.36.3")));
    }
    Ok(format!("v{}", numbers.join(".")))
}

impl Engine {
    pub(super) async fn list_clusters(&self) -> Reply {
        let world = self.world.lock().await;
        ok(&json!(world.clusters.values().map(|cluster| cluster.shown(&world)).collect::<Vec<_>>()))
    }

    pub(super) async fn inspect_cluster(&self, name: &str) -> Reply {
        let world = self.world.lock().await;
        ok(&found(&world, name)?.shown(&world))
    }

    /// Makes a cluster: first its data, then its record, so that what a kill leaves is swept or whole.
    pub(super) async fn create_cluster(&self, body: Body) -> Reply {
        let wanted: CreateCluster = read_json(body).await?;
        if wanted.name.is_empty() {
            return Err(ApiError::bad("a cluster needs a name"));
        }
        let mut world = self.world.lock().await;
        if world.clusters.contains_key(&wanted.name) {
            return Err(ApiError::conflict(format!("cluster with name {} already exists", wanted.name)));
        }
        let cluster = KubernetesCluster {
            id: uuid::Uuid::new_v4().to_string(),
            name: wanted.name,
            created: now(),
            version: version(&wanted.version)?,
            port: wanted.port,
            stages: wanted.stages,
            labels: wanted.labels,
        };
        let made = match self.serve_cluster(&mut world, &cluster).await {
            Ok(()) => world.save(&cluster).map_err(ApiError::from),
            Err(why) => Err(ApiError::server(why)),
        };
        if let Err(error) = made {
            self.end_cluster(&mut world, &cluster.id).await;
            world.served.remove(&cluster.id);
            // What cannot be removed now is swept by the next start.
            let _ = std::fs::remove_dir_all(world.cluster_data(&cluster.id));
            return Err(error);
        }
        world.clusters.insert(cluster.name.clone(), cluster.clone());
        json_reply(StatusCode::CREATED, &cluster.shown(&world))
    }

    /// Serves a cluster in another version, on another port or with other stages, or again. A port that cannot be had leaves it as it was.
    pub(super) async fn update_cluster(&self, name: &str, body: Body) -> Reply {
        let wanted: UpdateCluster = read_json(body).await?;
        let mut world = self.world.lock().await;
        let old = found(&world, name)?.clone();
        let new = KubernetesCluster {
            version: version(&wanted.version)?,
            port: wanted.port,
            stages: wanted.stages,
            labels: wanted.labels,
            ..old.clone()
        };
        if let Err(why) = self.serve_cluster(&mut world, &new).await {
            // The old one was served; if it cannot be any more, its state tells.
            let _ = self.serve_cluster(&mut world, &old).await;
            return Err(ApiError::server(why));
        }
        if let Err(error) = world.save(&new) {
            let _ = self.serve_cluster(&mut world, &old).await;
            return Err(error.into());
        }
        world.clusters.insert(name.to_owned(), new.clone());
        ok(&new.shown(&world))
    }

    /// Deletes a cluster: first its record, then its data.
    pub(super) async fn delete_cluster(&self, name: &str) -> Reply {
        let mut world = self.world.lock().await;
        let cluster = found(&world, name)?.clone();
        self.end_cluster(&mut world, &cluster.id).await;
        world.erase(&cluster)?;
        world.clusters.remove(name);
        world.served.remove(&cluster.id);
        let data = world.cluster_data(&cluster.id);
        drop(world);
        // What cannot be removed now is swept by the next start.
        if let Err(error) = durable::blocking(move || std::fs::remove_dir_all(data)).await {
            tracing::warn!(cluster = cluster.name, %error, "its data could not be removed");
        }
        empty(StatusCode::NO_CONTENT)
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_of_three_numbers() {
        assert_eq!(version("1.36.3").unwrap(), "v1.36.3");
        assert_eq!(version("v1.36.3").unwrap(), "v1.36.3");
        for text in ["1.36", "v1.36.x", "", "latest", "1.36.3-rc.1"] {
            assert!(version(text).is_err(), "{text}");
        }
    }
}
