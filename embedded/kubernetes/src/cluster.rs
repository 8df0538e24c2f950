//! A cluster: opened from its folder, served on a listener.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::identity::Identity;
use crate::settings::Settings;
use crate::store::{DiskError, Store};
use crate::tokens::Tokens;
use crate::{controllers, http};

/// Why a cluster cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder cannot be used.
    #[error("{path} cannot be used", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what this version writes.
    #[error("{path} is damaged: {what}; hint: restore it, or remove the folder to begin with an empty cluster", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        what: String,
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
    #[error("another process serves the cluster in {folder}", folder = folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// What the cluster needs at its beginning cannot be written.
    #[error("the cluster in {folder} cannot be begun: {what}", folder = folder.display())]
    Begin {
        /// The folder.
        folder: PathBuf,
        /// Why.
        what: String,
    },
}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::File { path, source } => Self::File { path, source },
            DiskError::Damaged { path, what } => Self::Damaged { path, what },
            DiskError::Newer { path, format } => Self::Newer { path, format },
        }
    }
}

/// Why a cluster is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificate cannot be used.
    #[error("the certificate of the cluster cannot be used: {0}; hint: remove identity.json from its folder")]
    Certificate(String),
    /// The listener failed.
    #[error("serving ended")]
    Listener(#[source] std::io::Error),
}

/// A cluster. Its folder is locked as long as it, or what serves it, is there.
#[derive(Clone)]
pub struct Cluster {
    api: Arc<Api>,
    identity: Arc<Identity>,
    _lock: Arc<File>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("folder", &self.api.folder).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Opens the cluster of a folder, which is made if it is not there. Blocks.
    ///
    /// # Errors
    /// A file that cannot be read or written, is damaged, or of a newer version; a folder that another process serves.
    pub fn open(folder: &Path, settings: Settings) -> Result<Self, OpenError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::File { path, source }
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file(folder))?;
        let folder = folder.canonicalize().map_err(file(folder))?;
        let lock_path = folder.join("lock");
        let lock = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(file(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { folder }),
            Err(TryLockError::Error(error)) => return Err(file(&lock_path)(error)),
        }
        let identity = Identity::open(&folder)?;
        let objects = folder.join("objects");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&objects).map_err(file(&objects))?;
        let store = Store::open(&objects)?;
        let tokens = Tokens::new(identity.token.clone(), identity.account_key());
        let api = Api::new(store, settings, tokens, identity.authority.clone(), folder.clone());
        api.allocation.load(&api.store);
        api.load_definitions();
        controllers::begin::begin(&api).map_err(|status| OpenError::Begin { folder, what: status.message })?;
        Ok(Self { api: Arc::new(api), identity: Arc::new(identity), _lock: Arc::new(lock) })
    }

    /// A kubeconfig for the administrator of the cluster served at an address; `name` names its cluster, user and context.
    /// It holds the token, so keep it private.
    #[must_use]
    pub fn kubeconfig(&self, address: SocketAddr, name: &str) -> String {
        self.identity.kubeconfig(address, name)
    }

    /// The version that the cluster states.
    #[must_use]
    pub fn version(&self) -> String {
        self.api.version()
    }

    /// Serves HTTPS on a listener until cancelled. What was answered is durable whenever it ends.
    ///
    /// # Errors
    /// A certificate that cannot be used, or a listener that fails.
    pub async fn serve(self, listener: TcpListener, cancel: CancellationToken) -> Result<(), ServeError> {
        let tls = self.identity.tls().map_err(ServeError::Certificate)?;
        let controllers = self
            .api
            .settings
            .controllers
            .then(|| tokio::spawn(controllers::run(Arc::clone(&self.api), cancel.clone())));
        let served = http::serve(Arc::clone(&self.api), listener, tls, cancel.clone()).await;
        cancel.cancel();
        if let Some(controllers) = controllers {
            let _ = controllers.await;
        }
        served.map_err(ServeError::Listener)
    }
}
