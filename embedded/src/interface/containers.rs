//! Containers: creation, listing, removal, and the routes to the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::networks::EndpointConfig;
use super::query::{Query, read_json, texts};
use super::reply::{ApiError, Reply, empty, json_reply, ok, typed};
use super::{container_json, images, volumes};
use crate::durable;
use crate::engine::Engine;
use crate::world::{Attachment, Container, ContainerMount, Image, MountKind, World, new_id, now};

/// Answers what lies below `/containers`.
pub(super) async fn route(engine: &Arc<Engine>, method: &Method, rest: &[&str], query: &Query, body: Body) -> Reply {
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    match rest {
        ["json"] if *method == get => engine.list_containers(query).await,
        ["create"] if *method == post => engine.create_container(query, body).await,
        [name, "json"] if *method == get => engine.inspect_container(name).await,
        [name, "logs"] if *method == get => engine.container_logs(name, query).await,
        [name, "start"] if *method == post => engine.start_container(name).await,
        [name, "stop"] if *method == post => engine.stop_container(name, 0).await,
        [name, "kill"] if *method == post => engine.kill_container(name).await,
        [name, "restart"] if *method == post => engine.restart_container(name).await,
        [name, "pause"] if *method == post => engine.pause_container(name, true).await,
        [name, "unpause"] if *method == post => engine.pause_container(name, false).await,
        [name, "update"] if *method == post => engine.update_container(name, body).await,
        [name, "wait"] if *method == post => engine.wait_container(name, query).await,
        [name, "rename"] if *method == post => engine.rename_container(name, query).await,
        [name] if *method == delete => engine.delete_container(name, query).await,
        _ => Err(ApiError::not_found(
            "page not found: the embedded engine answers a part of the Docker Engine interface only",
        )),
    }
}

/// Finds a container by id, name, or the beginning of its id.
pub(crate) fn find<'a>(world: &'a World, name: &str) -> Result<&'a Container, ApiError> {
    let bare = name.trim_start_matches('/');
    let by_name = || world.containers.values().find(|container| container.name == bare);
    let by_start = || {
        let mut found =
            world.containers.values().filter(|container| !bare.is_empty() && container.id.starts_with(bare));
        found.next().filter(|_| found.next().is_none())
    };
    let found = world.containers.get(bare).or_else(by_name).or_else(by_start);
    found.ok_or_else(|| ApiError::not_found(format!("No such container: {name}")))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct CreateContainer {
    image: String,
    env: Option<Vec<String>>,
    #[serde(deserialize_with = "texts")]
    labels: BTreeMap<String, String>,
    host_config: Option<HostConfig>,
    networking_config: Option<NetworkingConfig>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    binds: Option<Vec<String>>,
    mounts: Option<Vec<Mount>>,
    network_mode: Option<String>,
    port_bindings: Option<BTreeMap<String, Option<Vec<Value>>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Mount {
    #[serde(rename = "Type")]
    kind: String,
    source: Option<String>,
    target: String,
    read_only: Option<bool>,
    volume_options: Option<VolumeOptions>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct VolumeOptions {
    #[serde(deserialize_with = "texts")]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkingConfig {
    endpoints_config: Option<BTreeMap<String, Option<EndpointConfig>>>,
}

/// Whether a text is a container's name, as the Docker Engine has it.
fn is_name(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn check_name(world: &World, name: &str) -> Result<(), ApiError> {
    if !is_name(name) {
        return Err(ApiError::bad(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    match world.containers.values().find(|container| container.name == name) {
        Some(container) => Err(ApiError::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            container.id
        ))),
        None => Ok(()),
    }
}

/// The configuration as inspection shows it: what the client gave, laid over the image's.
fn merged_config(given: &Value, image: &Image, id: &str) -> Value {
    let base = image.config.get("config").cloned().unwrap_or_else(|| json!({}));
    let mut config = json!({
        "Hostname": id.get(..12), "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": [], "Cmd": null,
        "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "Labels": {},
    });
    for source in [&base, given] {
        for (key, value) in source.as_object().into_iter().flatten() {
            let is_config = !matches!(key.as_str(), "HostConfig" | "NetworkingConfig");
            let is_given = !value.is_null() && value != "" && value.as_array().is_none_or(|list| !list.is_empty());
            if is_config && is_given {
                config[key.as_str()] = value.clone();
            }
        }
    }
    let key_of = |text: &Value| text.as_str().and_then(|text| text.split('=').next()).map(str::to_owned);
    let mut env: Vec<Value> = given.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let keys: Vec<_> = env.iter().map(key_of).collect();
    let inherited = base.get("Env").and_then(Value::as_array).into_iter().flatten();
    env.extend(inherited.filter(|text| !keys.contains(&key_of(text))).cloned());
    config["Env"] = Value::Array(env);
    for key in ["Labels", "ExposedPorts"] {
        let mut merged = base.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        merged.extend(given.get(key).and_then(Value::as_object).cloned().unwrap_or_default());
        config[key] = Value::Object(merged);
    }
    config
}

fn merged_host_config(given: Option<&Value>, network_mode: &str) -> Value {
    let mut config = json!({
        "Binds": null, "NetworkMode": network_mode, "PortBindings": {}, "Privileged": false, "PublishAllPorts": false,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": false, "Mounts": [],
        "LogConfig": {"Type": "json-file", "Config": {}},
    });
    for (key, value) in given.and_then(Value::as_object).into_iter().flatten() {
        if !value.is_null() && key != "NetworkMode" {
            config[key.as_str()] = value.clone();
        }
    }
    if config["RestartPolicy"]["Name"] == "" {
        config["RestartPolicy"] = json!({"Name": "no", "MaximumRetryCount": 0});
    }
    config
}

fn check_policy(policy: &Value) -> Result<(), ApiError> {
    match policy["Name"].as_str().unwrap_or_default() {
        "" | "no" | "always" | "unless-stopped" | "on-failure" => Ok(()),
        other => Err(ApiError::bad(format!("invalid restart policy '{other}'"))),
    }
}

fn mounts_of(world: &mut World, host: &HostConfig) -> Result<Vec<ContainerMount>, ApiError> {
    let mut mounts = Vec::new();
    for bind in host.binds.iter().flatten() {
        let parts: Vec<&str> = bind.split(':').collect();
        let (source, target, mode) = match parts.as_slice() {
            [source, target] => (*source, *target, ""),
            [source, target, mode] => (*source, *target, *mode),
            _ => return Err(ApiError::bad(format!("invalid volume specification: '{bind}'"))),
        };
        let kind = if source.starts_with('/') { MountKind::Bind } else { MountKind::Volume };
        match kind {
            MountKind::Bind => durable::make_folder(std::path::Path::new(source))?,
            MountKind::Volume => drop(volumes::ensure(world, Some(source), BTreeMap::new(), BTreeMap::new())?),
        }
        let read_only = mode.split(',').any(|mode| mode == "ro");
        mounts.push(ContainerMount { kind, source: source.to_owned(), target: target.to_owned(), read_only });
    }
    for mount in host.mounts.iter().flatten() {
        let source = mount.source.clone().filter(|source| !source.is_empty());
        let (kind, source) = match mount.kind.as_str() {
            "bind" => {
                let source = source.unwrap_or_default();
                if !std::path::Path::new(&source).is_absolute() || !std::path::Path::new(&source).exists() {
                    return Err(ApiError::bad(format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {source}"
                    )));
                }
                (MountKind::Bind, source)
            }
            "volume" => {
                let labels = mount.volume_options.as_ref().map(|options| options.labels.clone()).unwrap_or_default();
                (MountKind::Volume, volumes::ensure(world, source.as_deref(), labels, BTreeMap::new())?.name)
            }
            other => {
                return Err(ApiError::bad(format!(
                    "the embedded engine has mounts of type bind and volume, not {other}"
                )));
            }
        };
        let read_only = mount.read_only.unwrap_or_default();
        mounts.push(ContainerMount { kind, source, target: mount.target.clone(), read_only });
    }
    if let Some(mount) = mounts.iter().find(|mount| !mount.target.starts_with('/')) {
        return Err(ApiError::bad(format!("invalid mount path: '{}' mount path must be absolute", mount.target)));
    }
    Ok(mounts)
}

fn attachments_of(mode: &str, networking: Option<NetworkingConfig>) -> Result<Vec<Attachment>, ApiError> {
    let endpoints = networking.and_then(|networking| networking.endpoints_config).unwrap_or_default();
    let mut attachments = Vec::new();
    for (network, config) in endpoints {
        let network = if network == "default" { "bridge" } else { &network };
        attachments.push(config.unwrap_or_default().attachment(network)?);
    }
    let is_default = mode == "bridge" && !attachments.is_empty();
    if !is_default && !attachments.iter().any(|attachment| attachment.network == mode) {
        attachments.push(Attachment { network: mode.to_owned(), ..Attachment::default() });
    }
    Ok(attachments)
}

impl Engine {
    pub(super) async fn create_container(&self, query: &Query, body: Body) -> Reply {
        let given: Value = read_json(body).await?;
        let wanted: CreateContainer = serde_json::from_value(given.clone())
            .map_err(|error| ApiError::bad(format!("the body cannot be read: {error}")))?;
        let host = wanted.host_config.unwrap_or_default();
        for (port, bindings) in host.port_bindings.iter().flatten() {
            super::lifecycle::check_bindings(port, bindings.as_deref().unwrap_or_default())?;
        }
        let mut world = self.world.lock().await;
        let id = new_id();
        let name = query
            .get("name")
            .map_or_else(|| format!("embedded-{}", &id[..12]), |name| name.trim_start_matches('/').to_owned());
        check_name(&world, &name)?;
        let image = images::find(&world, &wanted.image)?.clone();
        let mode = host
            .network_mode
            .clone()
            .filter(|mode| !mode.is_empty() && mode != "default")
            .unwrap_or_else(|| "bridge".to_owned());
        let attachments = attachments_of(&mode, wanted.networking_config)?;
        let mounts = mounts_of(&mut world, &host)?;
        let mut config = merged_config(&given, &image, &id);
        config["Image"] = Value::String(wanted.image.clone());
        let container = Container {
            name,
            created: now(),
            image: wanted.image,
            image_id: image.id,
            config,
            host_config: merged_host_config(given.get("HostConfig"), &mode),
            mounts,
            attachments,
            wanted: false,
            started: None,
            finished: None,
            exit_code: 0,
            error: String::new(),
            id,
        };
        world.save(&container)?;
        let reply = json!({"Id": container.id, "Warnings": []});
        world.containers.insert(container.id.clone(), container);
        json_reply(StatusCode::CREATED, &reply)
    }

    pub(super) async fn list_containers(&self, query: &Query) -> Reply {
        let filters = query.filters()?;
        filters.check(&[
            "label", "name", "id", "status", "network", "volume", "ancestor", "health", "exited", "publish", "expose",
        ])?;
        // As with the Docker Engine, a filter by state looks at all.
        let all = query.flag("all") || filters.has("status");
        let limit = query.get("limit").and_then(|text| text.parse::<usize>().ok()).filter(|limit| *limit > 0);
        let world = self.world.lock().await;
        let mut found: Vec<&Container> = Vec::new();
        for container in world.containers.values() {
            let labels: BTreeMap<String, String> = container_json::labels(container);
            let names = [format!("/{}", container.name), container.name.clone()];
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let image = |wanted: &str| images::find(&world, wanted).is_ok_and(|image| image.id == container.image_id);
            let network = |wanted: &str| {
                let full = super::networks::find(&world, wanted);
                full.is_ok_and(|network| container.attachments.iter().any(|at| super::networks::is_of(at, network)))
            };
            let volume =
                |wanted: &str| container.mounts.iter().any(|mount| mount.source == wanted || mount.target == wanted);
            if (all || limit.is_some() || world.running.contains_key(&container.id))
                && filters.labels(&labels)
                && filters.name("name", &names)
                && filters.any("id", |id| container.id.starts_with(id))
                && filters.any("status", |status| container_json::status(&world, container) == status)
                && filters.any("health", |health| container_json::health(&world, container).unwrap_or("none") == health)
                && filters.any("exited", |code| container.exit_code.to_string() == code && container.finished.is_some())
                && filters.any("ancestor", image)
                && filters.any("network", network)
                && filters.any("volume", volume)
            {
                found.push(container);
            }
        }
        found.sort_by(|a, b| b.created.cmp(&a.created));
        found.truncate(limit.unwrap_or(usize::MAX));
        ok(&Value::Array(found.iter().map(|container| container_json::summary(&world, container)).collect()))
    }

    pub(super) async fn inspect_container(&self, name: &str) -> Reply {
        let world = self.world.lock().await;
        ok(&container_json::inspection(&world, find(&world, name)?))
    }

    pub(super) async fn rename_container(&self, name: &str, query: &Query) -> Reply {
        let new = query.get("name").unwrap_or_default().trim_start_matches('/').to_owned();
        let mut world = self.world.lock().await;
        let mut container = find(&world, name)?.clone();
        check_name(&world, &new)?;
        container.name = new;
        world.save(&container)?;
        world.containers.insert(container.id.clone(), container);
        world.publish_names();
        empty(StatusCode::NO_CONTENT)
    }

    /// Changes the restart policy, which is all that a container here can be changed in.
    pub(super) async fn update_container(&self, name: &str, body: Body) -> Reply {
        let given: Value = read_json(body).await?;
        // Clients send the whole of it, with zeros where nothing shall change.
        let asks = |value: &Value| match value {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
        };
        let other = given.as_object().into_iter().flatten().find(|(key, value)| *key != "RestartPolicy" && asks(value));
        if let Some((key, _)) = other {
            return Err(ApiError::bad(format!("the embedded engine changes the restart policy only, not {key}")));
        }
        let mut world = self.world.lock().await;
        let mut container = find(&world, name)?.clone();
        let policy =
            given.get("RestartPolicy").filter(|policy| policy["Name"].as_str().is_some_and(|name| !name.is_empty()));
        if let Some(policy) = policy {
            check_policy(policy)?;
            container.host_config["RestartPolicy"] = policy.clone();
            world.save(&container)?;
            world.containers.insert(container.id.clone(), container);
        }
        ok(&json!({"Warnings": []}))
    }

    /// Removes a container: first its record, then its data and, where asked, its anonymous volumes.
    pub(super) async fn delete_container(&self, name: &str, query: &Query) -> Reply {
        let mut world = self.world.lock().await;
        let id = find(&world, name)?.id.clone();
        if world.running.contains_key(&id) {
            if !query.flag("force") {
                return Err(ApiError::conflict(format!(
                    "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
                    find(&world, &id)?.name
                )));
            }
            self.halt(&mut world, &id, super::lifecycle::KILLED).await?;
        }
        let Some(container) = world.containers.get(&id).cloned() else { return empty(StatusCode::NO_CONTENT) };
        world.erase(&container)?;
        world.containers.remove(&id);
        match std::fs::remove_dir_all(world.container_data(&id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        if query.flag("v") {
            for mount in container.mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
                let in_use =
                    world.containers.values().any(|other| other.mounts.iter().any(|at| at.source == mount.source));
                if !in_use && world.volumes.get(&mount.source).is_some_and(|volume| volume.anonymous) {
                    volumes::remove(&mut world, &mount.source)?;
                }
            }
        }
        self.changes.send_replace(());
        empty(StatusCode::NO_CONTENT)
    }

    /// What a container said: when it started to serve and where, or why it did not.
    pub(super) async fn container_logs(&self, name: &str, query: &Query) -> Reply {
        let world = self.world.lock().await;
        let container = find(&world, name)?;
        let mut lines = Vec::new();
        if let Some(running) = world.running.get(&container.id) {
            let since = container.started.as_deref().unwrap_or_default();
            let ports: Vec<_> = running.ports.iter().map(|port| port.address.to_string()).collect();
            let at = if ports.is_empty() { "no published port".to_owned() } else { ports.join(", ") };
            lines.push(format!("{since} registry serves on {at}\n"));
        }
        if !container.error.is_empty() {
            lines.push(format!("{} {}\n", container.finished.as_deref().unwrap_or_default(), container.error));
        }
        if !query.flag("stdout") && !query.flag("stderr") {
            return Err(ApiError::bad("you must choose at least one stream"));
        }
        let mut body = Vec::new();
        for line in lines.iter().filter(|_| query.flag("stdout")) {
            let length = u32::try_from(line.len()).unwrap_or_default();
            body.extend_from_slice(&[1, 0, 0, 0]);
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(line.as_bytes());
        }
        typed(StatusCode::OK, "application/vnd.docker.multiplexed-stream", body)
    }
}
