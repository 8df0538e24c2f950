//! Containers as the interface shows them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::networks;
use crate::world::{BoundPort, Container, MountKind, World};

/// The time that stands for never.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn labels(container: &Container) -> BTreeMap<String, String> {
    container.config.get("Labels").and_then(|labels| serde_json::from_value(labels.clone()).ok()).unwrap_or_default()
}

/// Whether it is paused.
fn is_paused(world: &World, container: &Container) -> bool {
    world.running.get(&container.id).is_some_and(|running| *running.paused.borrow())
}

/// `created`, `running`, `paused` or `exited`.
pub(super) fn status(world: &World, container: &Container) -> &'static str {
    if is_paused(world, container) {
        "paused"
    } else if world.running.contains_key(&container.id) {
        "running"
    } else if container.started.is_some() {
        "exited"
    } else {
        "created"
    }
}

/// `starting` or `healthy`, for a running container that has a health check. The check's command is not run: the
/// container is healthy when the registry answers.
pub(super) fn health(world: &World, container: &Container) -> Option<&'static str> {
    let test = container.config.get("Healthcheck")?.get("Test")?.as_array()?;
    if test.is_empty() || test.first().is_some_and(|first| first == "NONE") {
        return None;
    }
    match world.running.get(&container.id) {
        Some(running) if running.healthy.load(Ordering::Relaxed) => Some("healthy"),
        Some(_) => Some("starting"),
        None => Some("unhealthy"),
    }
}

fn command(container: &Container) -> Vec<String> {
    let list = |key: &str| container.config.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    list("Entrypoint").into_iter().chain(list("Cmd")).filter_map(|part| part.as_str().map(str::to_owned)).collect()
}

fn network_settings(world: &World, container: &Container) -> Map<String, Value> {
    let running = world.running.get(&container.id);
    let mut settings = Map::new();
    for attachment in &container.attachments {
        let network = networks::find(world, &attachment.network).ok();
        let address = network.and_then(|network| running?.addresses.get(&network.id).copied());
        let prefix = network
            .and_then(|network| networks::Subnet::parse(network.subnet.as_deref()?))
            .map_or(0, |subnet| subnet.prefix);
        let ipam = attachment.address.map(|address| json!({"IPv4Address": address.to_string()}));
        let name = network.map_or(attachment.network.as_str(), |network| &network.name);
        let gateway = address.and(network).and_then(|network| network.gateway.clone()).unwrap_or_default();
        let short = container.id.get(..12).unwrap_or_default();
        let mut names = vec![container.name.as_str()];
        names.extend(attachment.aliases.iter().map(String::as_str).filter(|alias| *alias != container.name));
        names.push(short);
        let endpoint = json!({
            "IPAMConfig": ipam, "Links": null, "Aliases": attachment.aliases, "DriverOpts": null,
            "NetworkID": network.map_or("", |network| &network.id),
            "EndpointID": address.and(network).map_or_else(String::new, |network| networks::endpoint_id(&container.id, &network.id)),
            "Gateway": gateway, "IPAddress": address.map_or_else(String::new, |address| address.to_string()),
            "IPPrefixLen": if address.is_some() { prefix } else { 0 },
            "MacAddress": address.map_or_else(String::new, networks::link_address),
            "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": names,
        });
        settings.insert(name.to_owned(), endpoint);
    }
    settings
}

fn ports(world: &World, container: &Container) -> Vec<BoundPort> {
    world.running.get(&container.id).map(|running| running.ports.clone()).unwrap_or_default()
}

fn mounts(world: &World, container: &Container) -> Vec<Value> {
    container
        .mounts
        .iter()
        .map(|mount| {
            let mode = if mount.read_only { "ro" } else { "" };
            match mount.kind {
                MountKind::Bind => json!({
                    "Type": "bind", "Source": mount.source, "Destination": mount.target, "Mode": mode,
                    "RW": !mount.read_only, "Propagation": "rprivate",
                }),
                MountKind::Volume => {
                    let source = world.volumes.get(&mount.source).map(|volume| world.volume_data(volume).display().to_string());
                    json!({
                        "Type": "volume", "Name": mount.source, "Source": source.unwrap_or_default(),
                        "Destination": mount.target, "Driver": "local", "Mode": mode, "RW": !mount.read_only, "Propagation": "",
                    })
                }
            }
        })
        .collect()
}

/// An element of the list of containers.
pub(super) fn summary(world: &World, container: &Container) -> Value {
    let state = status(world, container);
    let mut text = match state {
        "running" => "Up".to_owned(),
        "paused" => "Up (Paused)".to_owned(),
        "exited" => format!("Exited ({})", container.exit_code),
        _ => "Created".to_owned(),
    };
    if let (Some(health), "running") = (health(world, container), state) {
        text = format!("{text} ({})", if health == "starting" { "health: starting" } else { health });
    }
    let seconds = container.created.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
    let ports: Vec<Value> = ports(world, container)
        .iter()
        .map(|port| {
            let (private, kind) = port.container.split_once('/').unwrap_or((&port.container, "tcp"));
            json!({
                "IP": port.address.ip().to_string(), "PrivatePort": private.parse::<u16>().unwrap_or_default(),
                "PublicPort": port.address.port(), "Type": kind,
            })
        })
        .collect();
    json!({
        "Id": container.id, "Names": [format!("/{}", container.name)], "Image": container.image, "ImageID": container.image_id,
        "Command": command(container).join(" "), "Created": seconds, "Ports": ports, "Labels": labels(container),
        "State": state, "Status": text, "HostConfig": {"NetworkMode": container.host_config["NetworkMode"]},
        "NetworkSettings": {"Networks": network_settings(world, container)}, "Mounts": mounts(world, container),
    })
}

/// All that is told of one container.
pub(super) fn inspection(world: &World, container: &Container) -> Value {
    let running = world.running.contains_key(&container.id);
    let mut state = json!({
        "Status": status(world, container), "Running": running, "Paused": is_paused(world, container), "Restarting": false, "OOMKilled": false,
        "Dead": false, "Pid": if running { std::process::id() } else { 0 }, "ExitCode": container.exit_code,
        "Error": container.error, "StartedAt": container.started.as_deref().unwrap_or(NEVER),
        "FinishedAt": container.finished.as_deref().unwrap_or(NEVER),
    });
    if let Some(health) = health(world, container) {
        state["Health"] = json!({"Status": health, "FailingStreak": 0, "Log": []});
    }
    let mut published = Map::new();
    for port in container
        .config
        .get("ExposedPorts")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(port, _)| port)
        .filter(|_| running)
    {
        published.insert(port.clone(), Value::Null);
    }
    for port in ports(world, container) {
        let binding = json!({"HostIp": port.address.ip().to_string(), "HostPort": port.address.port().to_string()});
        match published.get_mut(&port.container) {
            Some(Value::Array(bindings)) => bindings.push(binding),
            _ => drop(published.insert(port.container, json!([binding]))),
        }
    }
    let mut command = command(container).into_iter();
    let data = world.container_data(&container.id).display().to_string();
    json!({
        "Id": container.id, "Created": container.created, "Path": command.next().unwrap_or_default(),
        "Args": command.collect::<Vec<_>>(), "State": state, "Image": container.image_id, "Name": format!("/{}", container.name),
        "RestartCount": 0, "Driver": "ksail-embedded", "Platform": "linux", "MountLabel": "", "ProcessLabel": "",
        "AppArmorProfile": "", "ExecIDs": null, "ResolvConfPath": "", "HostnamePath": "", "HostsPath": "", "LogPath": "",
        "HostConfig": container.host_config, "GraphDriver": {"Name": "ksail-embedded", "Data": {"UpperDir": data}},
        "Mounts": mounts(world, container), "Config": container.config,
        "NetworkSettings": {
            "Bridge": "", "SandboxID": "", "SandboxKey": "", "HairpinMode": false, "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0, "Ports": published, "Networks": network_settings(world, container),
        },
    })
}
