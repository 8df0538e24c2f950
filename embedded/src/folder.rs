//! The engine's folder: what lies where, its identity, its lock and its socket.
//!
//! ```text
//! engine.json   format, id (for the folder's life), nonce; whoever starts the engine may keep more in it
//! lock          an OS lock: one process a folder
//! socket        the path of the Unix socket
//! docker.sock   the socket, unless the path is too long for one
//! engine.log    what the process said; engine.log.1 what it said before, once that became too long
//! state/        networks, volumes, images, containers, clusters: a small file each
//! content/      blobs of images
//! volumes/      data of volumes
//! containers/   data of containers without a volume
//! clusters/     data of Kubernetes clusters, each with a kubeconfig
//! ```

use std::fs::{File, TryLockError};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{EngineError, digests, durable};

/// The format of `engine.json` that this version writes; a newer one is refused.
pub const ENGINE_FORMAT: u32 = 1;
/// How often the lock is tried: whoever asks whether an engine runs holds it for a moment.
const LOCK_TRIES: u32 = 20;
/// The wait between two tries.
const LOCK_INTERVAL: Duration = Duration::from_millis(25);
/// The longest path of a Unix socket that every system takes, in bytes.
const MAX_SOCKET_PATH: usize = 100;

/// What the engine reads of `engine.json`; other keys belong to whoever starts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EngineFile {
    pub(crate) format: u32,
    pub(crate) id: uuid::Uuid,
    pub(crate) nonce: String,
}

/// An engine's folder, locked.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) id: uuid::Uuid,
    _lock: File,
}

/// Names an error by its file.
pub(crate) fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> EngineError + '_ {
    move |source| EngineError::File { path: path.to_owned(), source }
}

impl Folder {
    /// Opens and locks a folder, which must be there; makes what is missing in it. It is never made here: a process that
    /// starts while its folder is deleted must not bring it back.
    pub(crate) fn open(path: &Path, nonce: &str) -> Result<Self, EngineError> {
        let path = path.canonicalize().map_err(file_error(path))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).map_err(file_error(&path))?;
        let lock_path = path.join("lock");
        let lock = durable::create_file(&lock_path).map_err(file_error(&lock_path))?;
        let mut tries = 0;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => std::thread::sleep(LOCK_INTERVAL),
                Err(TryLockError::WouldBlock) => return Err(EngineError::Locked { folder: path }),
                Err(TryLockError::Error(error)) => return Err(file_error(&lock_path)(error)),
            }
            tries += 1;
        }
        let file = match read_engine_file(&path)? {
            Some(file) if file.nonce != nonce => return Err(EngineError::OtherNonce { folder: path }),
            Some(file) => file,
            None => {
                let file = EngineFile { format: ENGINE_FORMAT, id: uuid::Uuid::new_v4(), nonce: nonce.to_owned() };
                let json = serde_json::to_vec_pretty(&file).map_err(|error| file_error(&path)(error.into()))?;
                durable::write(&path.join("engine.json"), &json).map_err(file_error(&path))?;
                file
            }
        };
        for part in ["state", "content", "volumes", "containers", "clusters"] {
            let part = path.join(part);
            durable::make_folder(&part).map_err(file_error(&part))?;
        }
        Ok(Self { path, id: file.id, _lock: lock })
    }

    /// Whether the folder is still the one that was opened: there, with the same identity in it.
    pub(crate) fn is_there(&self, nonce: &str) -> bool {
        match read_engine_file(&self.path) {
            Ok(Some(file)) => file.id == self.id && file.nonce == nonce,
            Ok(None) => false,
            // A moment's trouble with reading (too many open files) is no reason to end.
            Err(_) => true,
        }
    }

    /// Where the socket is, and a file that says so.
    pub(crate) fn socket(&self) -> Result<PathBuf, EngineError> {
        let note = self.path.join("socket");
        let socket = self.path.join("docker.sock");
        let socket = if socket.as_os_str().len() <= MAX_SOCKET_PATH { socket } else { self.short_socket()? };
        durable::write(&note, socket.as_os_str().as_encoded_bytes()).map_err(file_error(&note))?;
        Ok(socket)
    }

    fn short_socket(&self) -> Result<PathBuf, EngineError> {
        let own = rustix::process::geteuid().as_raw();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| is_private(folder, own));
        let folder = match runtime {
            Some(folder) => folder.join("ksail"),
            None => PathBuf::from(format!("/tmp/ksail-{own}")),
        };
        durable::make_folder(&folder).map_err(file_error(&folder))?;
        if !is_private(&folder, own) {
            return Err(EngineError::NotPrivate { folder });
        }
        let name = &digests::sha256_hex(self.path.as_os_str().as_encoded_bytes())[..16];
        Ok(folder.join(format!("{name}.sock")))
    }
}

/// Whether a folder is ours, closed to others, and no link to elsewhere.
fn is_private(folder: &Path, own: u32) -> bool {
    std::fs::symlink_metadata(folder)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own && metadata.mode() & 0o077 == 0)
}

fn read_engine_file(folder: &Path) -> Result<Option<EngineFile>, EngineError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let path = folder.join("engine.json");
    let Some(bytes) = durable::read(&path).map_err(file_error(&path))? else { return Ok(None) };
    let broken = |source: serde_json::Error| EngineError::Broken { path: path.clone(), source };
    let format: Format = serde_json::from_slice(&bytes).map_err(broken)?;
    if format.format > ENGINE_FORMAT {
        return Err(EngineError::Newer { path, format: format.format });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(broken)
}
