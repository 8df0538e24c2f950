//! The engine's life: lock, port, state, socket, and the ways to its end.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, Response, StatusCode, header};
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::folder::{Folder, file_error};
use crate::world::World;
use crate::{digests, interface, log};

/// How often the engine looks whether its folder is still there.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long requests under way may take to end when the engine stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How an engine is run.
#[derive(Clone)]
pub struct EngineOptions {
    /// Its folder. It must be there; what is missing in it is made.
    pub folder: PathBuf,
    /// The secret by which whoever started it recognises it. Its digest stands on the status page.
    pub nonce: String,
    /// The loopback port of the status page.
    pub port: u16,
    /// The version of the product, as `/version` names it.
    pub version: String,
}

impl std::fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineOptions")
            .field("folder", &self.folder)
            .field("port", &self.port)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Why an engine did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file or folder cannot be used.
    #[error("{path} cannot be used", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what this version writes.
    #[error("{path} cannot be read; hint: restore it, or remove the engine's folder and apply again", path = path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A newer version of ksail wrote the folder.
    #[error("{path} has format {format}, which is newer than this ksail knows; hint: use a newer ksail", path = path.display())]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// Another process serves the folder.
    #[error("another process runs the engine in {folder}", folder = folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder was made by another start with another nonce.
    #[error("the engine in {folder} has another nonce", folder = folder.display())]
    OtherNonce {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder for the socket is open to others or belongs to another user.
    #[error("{folder} is not private to this user, so no socket is put there", folder = folder.display())]
    NotPrivate {
        /// The folder.
        folder: PathBuf,
    },
    /// The port of the status page cannot be had.
    #[error("127.0.0.1:{port} cannot be listened on; hint: find what holds it, or choose another port for the engine")]
    Port {
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The socket cannot be had.
    #[error("the socket {path} cannot be listened on", path = path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A running engine.
pub(crate) struct Engine {
    pub(crate) folder: Folder,
    pub(crate) options: EngineOptions,
    pub(crate) world: Mutex<World>,
    /// Told of every change of a container.
    pub(crate) changes: watch::Sender<()>,
    pub(crate) shutdown: CancellationToken,
}

/// Runs an engine until it is cancelled, asked to end by `POST /ksail/shutdown` on its socket, or its folder is gone.
///
/// Containers that ran are started again; when the engine ends, they stop with it and are started by its next run.
/// Exactly one process runs a folder; a second one answers [`EngineError::Locked`]. No signal handler is installed.
pub async fn run(options: EngineOptions, cancel: CancellationToken) -> Result<(), EngineError> {
    let folder = Folder::open(&options.folder, &options.nonce)?;
    let port = options.port;
    let status = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .await
        .map_err(|source| EngineError::Port { port, source })?;
    let world = World::open(&folder.path)?;
    let socket_path = folder.socket()?;
    let socket = bind_socket(&socket_path)?;
    let shutdown = cancel.child_token();
    let engine =
        Arc::new(Engine { folder, options, world: Mutex::new(world), changes: watch::Sender::new(()), shutdown });
    engine.resume().await;
    engine.serve_clusters().await;
    tracing::info!(folder = %engine.folder.path.display(), port, "the embedded engine serves");
    let watcher = tokio::spawn(watch_folder(Arc::clone(&engine)));
    let mut served = std::pin::pin!(serve(&engine, status, socket));
    let stopping = async {
        engine.shutdown.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        () = &mut served => {}
        () = stopping => tracing::warn!("requests under way were cut off"),
    }
    engine.shutdown.cancel();
    engine.suspend().await;
    engine.end_clusters().await;
    let _ = watcher.await;
    let _ = std::fs::remove_file(&socket_path);
    tracing::info!("the embedded engine ended");
    Ok(())
}

fn bind_socket(path: &Path) -> Result<UnixListener, EngineError> {
    // The folder's lock is held: a socket that is there belongs to a process that is gone.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file_error(path)(error)),
        _ => {}
    }
    let socket = UnixListener::bind(path).map_err(|source| EngineError::Socket { path: path.to_owned(), source })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(file_error(path))?;
    Ok(socket)
}

async fn serve(engine: &Arc<Engine>, status: TcpListener, socket: UnixListener) {
    let for_status = Arc::clone(engine);
    let status_page = Router::new().fallback(move |request: Request| {
        let engine = Arc::clone(&for_status);
        let (parts, _) = request.into_parts();
        async move { engine.status(&parts.method, parts.uri.path()).await }
    });
    let for_interface = Arc::clone(engine);
    let interface =
        Router::new().fallback(move |request: Request| interface::handle(Arc::clone(&for_interface), request));
    let (ended, also) = (engine.shutdown.clone(), engine.shutdown.clone());
    let status = axum::serve(status, status_page).with_graceful_shutdown(ended.cancelled_owned());
    let interface = axum::serve(socket, interface).with_graceful_shutdown(also.cancelled_owned());
    let (status, interface) = tokio::join!(status, interface);
    for error in [status.err(), interface.err()].into_iter().flatten() {
        tracing::error!(%error, "serving ended");
    }
}

/// Ends the engine when its folder is gone (`rm -rf`, `git clean`), so that nothing is left running; keeps its log bounded.
async fn watch_folder(engine: Arc<Engine>) {
    let path = engine.folder.path.join("engine.json");
    let mut known = inode(&path);
    loop {
        tokio::select! {
            () = engine.shutdown.cancelled() => return,
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
        if let Err(error) = log::bound(&engine.folder.path) {
            tracing::warn!(%error, "engine.log could not be rotated");
        }
        let now = inode(&path);
        if now.is_some() && now == known {
            continue;
        }
        if !engine.folder.is_there(&engine.options.nonce) {
            tracing::warn!(folder = %engine.folder.path.display(), "the folder is gone");
            engine.shutdown.cancel();
            return;
        }
        known = now;
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Engine {
    /// The version that it states: the product's, and that it is a simulation.
    pub(crate) fn version(&self) -> String {
        format!("{}+ksail.embedded", self.options.version)
    }

    async fn status(&self, method: &Method, path: &str) -> Response<Body> {
        let mut reply = Response::new(Body::empty());
        if path != "/" {
            *reply.status_mut() = StatusCode::NOT_FOUND;
            return reply;
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            return reply;
        }
        let world = self.world.lock().await;
        let containers: Vec<_> = world
            .containers
            .values()
            .map(|container| {
                let running = world.running.get(&container.id);
                let ports = running.map(|running| &running.ports).into_iter().flatten();
                let ports: Vec<_> = ports.map(|port| port.address.to_string()).collect();
                json!({"name": container.name, "image": container.image, "running": running.is_some(), "ports": ports})
            })
            .collect();
        let clusters: Vec<_> = world.clusters.values().map(|cluster| cluster.shown(&world)).collect();
        let page = json!({
            "product": "ksail embedded engine",
            "version": self.options.version,
            "simulated": true,
            "id": self.folder.id,
            "nonce_digest": format!("sha256:{}", digests::sha256_hex(self.options.nonce.as_bytes())),
            // The nonce goes with a copy of the folder; the place does not.
            "folder_digest": format!("sha256:{}", digests::sha256_hex(self.folder.path.as_os_str().as_encoded_bytes())),
            "containers": containers,
            "clusters": clusters,
        });
        *reply.body_mut() = Body::from(page.to_string());
        reply.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        reply
    }
}
