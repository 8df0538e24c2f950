//! Volumes: folders of the engine's folder.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::query::{Query, read_json, texts};
use super::reply::{ApiError, Reply, empty, json_reply, ok};
use crate::durable;
use crate::engine::Engine;
use crate::world::{MountKind, Volume, World, new_id, now};

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct CreateVolume {
    name: Option<String>,
    driver: Option<String>,
    #[serde(deserialize_with = "texts")]
    driver_opts: BTreeMap<String, String>,
    #[serde(deserialize_with = "texts")]
    labels: BTreeMap<String, String>,
}

fn to_json(world: &World, volume: &Volume) -> Value {
    json!({
        "Name": volume.name, "Driver": "local", "Mountpoint": world.volume_data(volume).display().to_string(),
        "CreatedAt": volume.created, "Labels": volume.labels, "Scope": "local", "Options": volume.options,
    })
}

fn users<'a>(world: &'a World, name: &str) -> Vec<&'a str> {
    let uses = |mount: &crate::world::ContainerMount| mount.kind == MountKind::Volume && mount.source == name;
    world
        .containers
        .values()
        .filter(|container| container.mounts.iter().any(uses))
        .map(|container| container.id.as_str())
        .collect()
}

/// Whether a text is a volume's name, as the Docker Engine has it.
fn is_name(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// Makes a volume where it is not there: first its folder, then its record.
pub(crate) fn ensure(
    world: &mut World,
    name: Option<&str>,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
) -> Result<Volume, ApiError> {
    if let Some(volume) = name.and_then(|name| world.volumes.get(name)) {
        return Ok(volume.clone());
    }
    if let Some(name) = name.filter(|name| !is_name(name)) {
        return Err(ApiError::bad(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
        )));
    }
    let volume = Volume {
        name: name.map_or_else(new_id, str::to_owned),
        folder: uuid::Uuid::new_v4().to_string(),
        created: now(),
        anonymous: name.is_none(),
        options,
        labels,
    };
    let data = world.volume_data(&volume);
    durable::make_folder(&data)?;
    world.save(&volume)?;
    world.volumes.insert(volume.name.clone(), volume.clone());
    Ok(volume)
}

/// Removes a volume's record and then its data; what a kill leaves is swept at the next start.
pub(crate) fn remove(world: &mut World, name: &str) -> Result<(), ApiError> {
    if let Some(volume) = world.volumes.get(name).cloned() {
        world.erase(&volume)?;
        world.volumes.remove(name);
        if let Some(folder) = world.volume_data(&volume).parent() {
            std::fs::remove_dir_all(folder)?;
        }
    }
    Ok(())
}

impl Engine {
    pub(super) async fn list_volumes(&self, query: &Query) -> Reply {
        let filters = query.filters()?;
        filters.check(&["label", "name", "driver", "dangling"])?;
        let world = self.world.lock().await;
        let found: Vec<Value> = world
            .volumes
            .values()
            .filter(|volume| filters.labels(&volume.labels) && filters.name("name", &[&volume.name]))
            .filter(|_| filters.any("driver", |driver| driver == "local"))
            .filter(|volume| {
                filters
                    .any("dangling", |wanted| matches!(wanted, "true" | "1") == users(&world, &volume.name).is_empty())
            })
            .map(|volume| to_json(&world, volume))
            .collect();
        ok(&json!({"Volumes": found, "Warnings": []}))
    }

    pub(super) async fn inspect_volume(&self, name: &str) -> Reply {
        let world = self.world.lock().await;
        let volume = world.volumes.get(name).ok_or_else(|| no_such_volume(name))?;
        ok(&to_json(&world, volume))
    }

    pub(super) async fn create_volume(&self, body: Body) -> Reply {
        let wanted: CreateVolume = read_json(body).await?;
        if let Some(driver) = wanted.driver.filter(|driver| !driver.is_empty() && driver != "local") {
            return Err(ApiError::not_found(format!(
                "error looking up volume plugin {driver}: the embedded engine has volumes of driver local only"
            )));
        }
        let mut world = self.world.lock().await;
        let name = wanted.name.filter(|name| !name.is_empty());
        let volume = ensure(&mut world, name.as_deref(), wanted.labels, wanted.driver_opts)?;
        json_reply(StatusCode::CREATED, &to_json(&world, &volume))
    }

    pub(super) async fn delete_volume(&self, name: &str, query: &Query) -> Reply {
        let mut world = self.world.lock().await;
        if !world.volumes.contains_key(name) {
            return if query.flag("force") { empty(StatusCode::NO_CONTENT) } else { Err(no_such_volume(name)) };
        }
        let users = users(&world, name);
        if !users.is_empty() {
            return Err(ApiError::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        remove(&mut world, name)?;
        empty(StatusCode::NO_CONTENT)
    }
}

fn no_such_volume(name: &str) -> ApiError {
    ApiError::not_found(format!("get {name}: no such volume"))
}
