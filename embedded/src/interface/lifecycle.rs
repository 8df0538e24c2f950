//! Starting and stopping: a container of the built-in image is a registry in this process.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::containers::find;
use super::networks;
use super::query::Query;
use super::reply::{ApiError, Reply, empty, typed};
use crate::durable;
use crate::engine::Engine;
use crate::registry::{Registry, RegistryOptions};
use crate::world::{
    BUILTIN_IMAGE, BoundPort, Container, MountKind, REGISTRY_PORT, REGISTRY_ROOT, Running, World, builtin_id, now,
};
use ksail_registry_client::{Credentials, causes};

/// The exit code of a container that was killed.
pub(super) const KILLED: i64 = 137;
/// How long requests under way may take to end when a container stops.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How often it is tried whether a registry answers, and how long it is waited in between.
const HEALTH_TRIES: u32 = 100;
/// The wait between two tries.
const HEALTH_INTERVAL: Duration = Duration::from_millis(20);

/// A binding of a port that a client asked for.
struct Binding {
    container: String,
    number: u16,
    address: SocketAddr,
}

/// Whether bindings of a port can be read.
pub(super) fn check_bindings(port: &str, bindings: &[Value]) -> Result<(), ApiError> {
    read_bindings(port, bindings).map(|_| ())
}

fn read_bindings(port: &str, bindings: &[Value]) -> Result<Vec<Binding>, ApiError> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let number: u16 = number.parse().map_err(|_| ApiError::bad(format!("invalid port specification: \"{port}\"")))?;
    if protocol != "tcp" {
        return Err(ApiError::bad(format!("the embedded engine publishes tcp only, not {port}")));
    }
    let mut found = Vec::new();
    for binding in bindings {
        let text = |key: &str| binding.get(key).and_then(Value::as_str).unwrap_or_default();
        let host: u16 = match text("HostPort") {
            "" => 0,
            text => text.parse().map_err(|_| ApiError::bad(format!("invalid port specification: \"{text}\"")))?,
        };
        let address: IpAddr = match text("HostIp") {
            // The engine serves this machine only; every address means its loopback.
            "" | "0.0.0.0" | "::" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            text => text.parse().map_err(|_| ApiError::bad(format!("invalid IP address: {text}")))?,
        };
        if !address.is_loopback() {
            return Err(ApiError::bad(format!(
                "the embedded engine publishes on loopback addresses only, not on {address}"
            )));
        }
        found.push(Binding { container: format!("{number}/tcp"), number, address: SocketAddr::new(address, host) });
    }
    Ok(found)
}

fn environment(container: &Container) -> BTreeMap<String, String> {
    let list = container.config.get("Env").and_then(Value::as_array);
    let pairs = list.into_iter().flatten().filter_map(|text| text.as_str()?.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Where a registry's content lies: in the volume or folder that is mounted there, else with the container.
fn data_folder(world: &World, container: &Container, root: &str) -> Result<PathBuf, ApiError> {
    if !root.starts_with('/') || root.split('/').any(|part| part == "..") {
        return Err(ApiError::bad(format!("the registry's root `{root}` is not an absolute path")));
    }
    let covers = |target: &str| {
        let target = target.trim_end_matches('/');
        root.strip_prefix(target).filter(|rest| rest.is_empty() || rest.starts_with('/')).map(str::to_owned)
    };
    let mount =
        container.mounts.iter().filter(|mount| covers(&mount.target).is_some()).max_by_key(|mount| mount.target.len());
    let Some(mount) = mount else { return Ok(world.container_data(&container.id).join(root.trim_start_matches('/'))) };
    let base = match mount.kind {
        MountKind::Bind => PathBuf::from(&mount.source),
        MountKind::Volume => {
            let volume = world.volumes.get(&mount.source);
            world.volume_data(
                volume.ok_or_else(|| ApiError::not_found(format!("get {}: no such volume", mount.source)))?,
            )
        }
    };
    let rest = covers(&mount.target).unwrap_or_default();
    Ok(base.join(rest.trim_start_matches('/')))
}

fn open_registry(world: &World, container: &Container, cancel: &CancellationToken) -> Result<Registry, ApiError> {
    let env = environment(container);
    let get = |key: &str| env.get(key).filter(|value| !value.is_empty()).cloned();
    let root = get("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY").unwrap_or_else(|| REGISTRY_ROOT.to_owned());
    let credentials = get("REGISTRY_PROXY_USERNAME").map(|username| Credentials::Password {
        username,
        password: get("REGISTRY_PROXY_PASSWORD").unwrap_or_default(),
    });
    let options = RegistryOptions {
        upstream: get("REGISTRY_PROXY_REMOTEURL").map(|address| (address, credentials)),
        neighbourhood: world.neighbours.of(&container.id),
        delete: get("REGISTRY_STORAGE_DELETE_ENABLED").is_some_and(|value| value == "true"),
    };
    let folder = data_folder(world, container, &root)?;
    durable::make_folder(&folder)?;
    Registry::open(&folder, options, cancel.clone()).map_err(|error| ApiError::server(causes(&error)))
}

/// The port on which the registry listens, as the container sees it.
fn listening_port(container: &Container) -> u16 {
    let address = environment(container).remove("REGISTRY_HTTP_ADDR");
    address.and_then(|address| address.rsplit_once(':')?.1.parse().ok()).unwrap_or(REGISTRY_PORT)
}

async fn bind(binding: &Binding, container: &Container) -> Result<TcpListener, ApiError> {
    TcpListener::bind(binding.address).await.map_err(|error| {
        let (address, name) = (binding.address, &container.name);
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => format!("Bind for {address} failed: port is already allocated"),
            _ => format!("Bind for {address} failed: {error}"),
        };
        ApiError::server(format!("driver failed programming external connectivity on endpoint {name}: {why}"))
    })
}

impl Engine {
    /// Starts again what ran when the engine ended, as each restart policy has it.
    pub(crate) async fn resume(&self) {
        let mut world = self.world.lock().await;
        let ids: Vec<String> = world.containers.keys().cloned().collect();
        for id in ids {
            let Some(container) = world.containers.get(&id).cloned() else { continue };
            let restarts = match container.host_config["RestartPolicy"]["Name"].as_str() {
                Some("always") => container.started.is_some(),
                Some("unless-stopped") => container.wanted,
                _ => false,
            };
            if restarts {
                if let Err(error) = self.launch(&mut world, &id).await {
                    tracing::warn!(container = container.name, %error, "could not be started again");
                }
            } else if container.wanted {
                // It ran without a policy that starts it again: it ended with the engine.
                let ended = Container { wanted: false, finished: Some(now()), exit_code: KILLED, ..container };
                if let Err(error) = world.save(&ended) {
                    tracing::warn!(container = ended.name, %error, "its end could not be kept");
                }
                world.containers.insert(id, ended);
            }
        }
    }

    /// Stops serving, and leaves in the records that the containers are wanted.
    pub(crate) async fn suspend(&self) {
        let mut world = self.world.lock().await;
        let running: Vec<Running> = world.running.drain().map(|(_, running)| running).collect();
        for running in &running {
            running.cancel.cancel();
            running.served.close();
        }
        let all = async {
            for running in &running {
                running.served.wait().await;
            }
        };
        let _ = tokio::time::timeout(STOP_GRACE, all).await;
    }

    /// Starts a container. When this returns, its ports are bound and its record says that it runs.
    async fn launch(&self, world: &mut World, id: &str) -> Result<(), ApiError> {
        let Some(container) = world.containers.get(id).cloned() else {
            return Err(ApiError::not_found(format!("No such container: {id}")));
        };
        let started = self.try_launch(world, &container).await;
        let record = match &started {
            Ok(_) => Container {
                wanted: true,
                started: Some(now()),
                finished: None,
                exit_code: 0,
                error: String::new(),
                ..container
            },
            Err(error) => Container { error: error.message.clone(), exit_code: 128, ..container },
        };
        if let Err(error) = world.save(&record) {
            if let Ok(running) = &started {
                running.cancel.cancel();
            }
            return Err(error.into());
        }
        world.containers.insert(id.to_owned(), record);
        world.running.insert(id.to_owned(), started?);
        world.publish_names();
        self.changes.send_replace(());
        Ok(())
    }

    async fn try_launch(&self, world: &World, container: &Container) -> Result<Running, ApiError> {
        if container.image_id != builtin_id() {
            return Err(ApiError::bad(format!(
                "the embedded engine runs only {BUILTIN_IMAGE}, not {}; use a Docker Engine to run other images",
                container.image
            )));
        }
        let mut addresses = BTreeMap::new();
        for attachment in &container.attachments {
            let network = networks::find(world, &attachment.network)?;
            if let Some(address) = networks::allocate(world, network, attachment.address)? {
                addresses.insert(network.id.clone(), address);
            }
        }
        let cancel = CancellationToken::new();
        let registry = Arc::new(open_registry(world, container, &cancel)?);
        let mut listeners = Vec::new();
        let bindings = container.host_config.get("PortBindings").and_then(Value::as_object);
        for (port, wanted) in bindings.into_iter().flatten() {
            for binding in read_bindings(port, wanted.as_array().map_or(&[], Vec::as_slice))? {
                listeners.push((bind(&binding, container).await?, binding));
            }
        }
        let (served, mut ports, healthy) = (TaskTracker::new(), Vec::new(), Arc::new(AtomicBool::new(false)));
        let mut probed = None;
        let paused = watch::Sender::new(false);
        for (listener, binding) in listeners {
            let address = listener.local_addr()?;
            ports.push(BoundPort { container: binding.container, address });
            if binding.number == listening_port(container) {
                served.spawn(serve_registry(listener, Arc::clone(&registry), paused.subscribe(), cancel.clone()));
                probed.get_or_insert(address);
            } else {
                served.spawn(refuse_connections(listener, cancel.clone()));
            }
        }
        served.spawn(probe(probed, Arc::clone(&healthy), cancel.clone()));
        Ok(Running { cancel, served, ports, healthy, addresses, paused })
    }

    /// Stops a container. When this returns, its ports are free and its record says that it does not run.
    pub(super) async fn halt(&self, world: &mut World, id: &str, exit_code: i64) -> Result<(), ApiError> {
        let Some(container) = world.containers.get(id).cloned() else { return Ok(()) };
        let record = Container { wanted: false, finished: Some(now()), exit_code, ..container };
        world.save(&record)?;
        world.containers.insert(id.to_owned(), record);
        let ended = world.running.remove(id);
        world.publish_names();
        if let Some(running) = ended {
            running.cancel.cancel();
            running.served.close();
            if tokio::time::timeout(STOP_GRACE, running.served.wait()).await.is_err() {
                tracing::warn!(id, "connections were left behind when the container stopped");
            }
        }
        self.changes.send_replace(());
        Ok(())
    }

    pub(super) async fn start_container(&self, name: &str) -> Reply {
        let mut world = self.world.lock().await;
        let id = find(&world, name)?.id.clone();
        match world.running.get(&id) {
            Some(running) if *running.paused.borrow() => {
                return Err(ApiError::conflict("cannot start a paused container, try unpause instead"));
            }
            Some(_) => return empty(StatusCode::NOT_MODIFIED),
            None => {}
        }
        self.launch(&mut world, &id).await?;
        empty(StatusCode::NO_CONTENT)
    }

    pub(super) async fn stop_container(&self, name: &str, exit_code: i64) -> Reply {
        let mut world = self.world.lock().await;
        let id = find(&world, name)?.id.clone();
        if !world.running.contains_key(&id) {
            return empty(StatusCode::NOT_MODIFIED);
        }
        self.halt(&mut world, &id, exit_code).await?;
        empty(StatusCode::NO_CONTENT)
    }

    pub(super) async fn kill_container(&self, name: &str) -> Reply {
        let mut world = self.world.lock().await;
        let id = find(&world, name)?.id.clone();
        if !world.running.contains_key(&id) {
            return Err(ApiError::conflict(format!("cannot kill container: {name}: container {id} is not running")));
        }
        self.halt(&mut world, &id, KILLED).await?;
        empty(StatusCode::NO_CONTENT)
    }

    /// Lets a container go on taking connections and answering nothing, or answer again.
    pub(super) async fn pause_container(&self, name: &str, pause: bool) -> Reply {
        let world = self.world.lock().await;
        let id = &find(&world, name)?.id;
        let Some(running) = world.running.get(id) else {
            return Err(ApiError::conflict(format!("Container {id} is not running")));
        };
        if running.paused.send_replace(pause) == pause {
            let state = if pause { "already" } else { "not" };
            return Err(ApiError::conflict(format!("Container {id} is {state} paused")));
        }
        empty(StatusCode::NO_CONTENT)
    }

    pub(super) async fn restart_container(&self, name: &str) -> Reply {
        let mut world = self.world.lock().await;
        let id = find(&world, name)?.id.clone();
        if world.running.contains_key(&id) {
            self.halt(&mut world, &id, 0).await?;
        }
        self.launch(&mut world, &id).await?;
        empty(StatusCode::NO_CONTENT)
    }

    /// Waits until a container does not run (by default), ends the next time, or is gone. The head of the reply is sent at
    /// once, as the `docker` client needs it: it waits before it starts a container.
    pub(super) async fn wait_container(self: &Arc<Self>, name: &str, query: &Query) -> Reply {
        let changes = self.changes.subscribe();
        let condition = query.get("condition").unwrap_or("not-running").to_owned();
        let id = find(&*self.world.lock().await, name)?.id.clone();
        let engine = Arc::clone(self);
        let line = futures::stream::once(async move { engine.await_condition(&id, &condition, changes).await });
        typed(StatusCode::OK, "application/json", axum::body::Body::from_stream(line))
    }

    async fn await_condition(
        &self,
        id: &str,
        condition: &str,
        mut changes: tokio::sync::watch::Receiver<()>,
    ) -> std::io::Result<String> {
        let (mut ran, mut exit_code) = (false, 0);
        loop {
            {
                let world = self.world.lock().await;
                let running = world.running.contains_key(id);
                let container = world.containers.get(id);
                let done = match condition {
                    "removed" => container.is_none(),
                    "next-exit" => (ran && !running) || container.is_none(),
                    _ => !running,
                };
                ran |= running;
                exit_code = container.map_or(exit_code, |container| container.exit_code);
                if done {
                    return Ok(json!({"StatusCode": exit_code}).to_string());
                }
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(std::io::Error::other)?,
                () = self.shutdown.cancelled() => return Err(std::io::Error::other("the engine is stopping")),
            }
        }
    }
}

async fn serve_registry(
    listener: TcpListener,
    registry: Arc<Registry>,
    paused: watch::Receiver<bool>,
    cancel: CancellationToken,
) {
    let stopped = cancel.clone();
    let router = Router::new().fallback(move |request: Request| {
        let (registry, mut paused, stopped) = (Arc::clone(&registry), paused.clone(), stopped.clone());
        async move {
            tokio::select! {
                _ = paused.wait_for(|paused| !paused) => {}
                // The registry answers that it is stopping.
                () = stopped.cancelled() => {}
            }
            registry.serve(request).await
        }
    });
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(cancel.cancelled_owned()).await {
        tracing::warn!(%error, "a registry stopped serving");
    }
}

/// Holds a published port behind which nothing listens.
async fn refuse_connections(listener: TcpListener, cancel: CancellationToken) {
    loop {
        tokio::select! {
            accepted = listener.accept() => drop(accepted),
            () = cancel.cancelled() => return,
        }
    }
}

/// Says that a registry is healthy once it answers on its port.
async fn probe(address: Option<SocketAddr>, healthy: Arc<AtomicBool>, cancel: CancellationToken) {
    for _ in 0..HEALTH_TRIES {
        let answered = match address {
            Some(address) => answers(address).await,
            // Without a published port nothing can reach it, and nothing more can be asked.
            None => true,
        };
        if answered {
            healthy.store(true, Ordering::Relaxed);
            return;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(HEALTH_INTERVAL) => {}
        }
    }
}

async fn answers(address: SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.ok()?;
        (start == *b"HTTP/1.1 200").then_some(())
    };
    tokio::time::timeout(Duration::from_secs(1), ask).await.ok().flatten().is_some()
}
