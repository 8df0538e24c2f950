//! The backend: reading without a lock, and the way to a writer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ksail_records::{Backend, HeldLock, LockOwner, SealedOperation, StateError, Stored, Writer};

use crate::cache::Cache;
use crate::clock::{WallClock, system_clock};
use crate::history::Retention;
use crate::keys::VAULT;
use crate::rescue::Fit;
use crate::retry::{Retries, Retrying};
use crate::store::{Listed, Store, StoreError, StoreErrorKind, Version};
use crate::writer::RemoteWriter;
use crate::{history, lease, log, rescue};

/// How long a lease holds without being renewed, where nothing else is asked for.
pub const LEASE: Duration = Duration::from_secs(30);
/// The shortest lease: a heartbeat must have time to fail and to be tried again.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// How a remote state is kept.
#[derive(Clone)]
pub struct RemoteOptions {
    /// This machine's folder for the stack: cache and rescue lie below it.
    pub folder: PathBuf,
    /// How long a lease holds without being renewed.
    pub lease: Duration,
    /// How much of the history is kept.
    pub retention: Retention,
    /// How often a failing request is tried.
    pub retries: Retries,
    /// Whether what was read before is believed by its version, or asked for again.
    pub cache: bool,
    /// The time of day.
    pub clock: WallClock,
}

impl RemoteOptions {
    /// The defaults, with this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            lease: LEASE,
            retention: Retention::default(),
            retries: Retries::default(),
            cache: true,
            clock: system_clock(),
        }
    }
}

/// A store with what belongs to it on this machine; errors are those of a state.
pub(crate) struct Remote {
    store: Retrying,
    pub(crate) options: RemoteOptions,
    pub(crate) cache: Cache,
}

fn state_error(doing: &'static str, place: String, error: StoreError) -> StateError {
    match error.kind {
        StoreErrorKind::Transient => StateError::Unreachable { doing, place, source: Box::new(error) },
        StoreErrorKind::Denied => StateError::Denied { doing, place, source: Box::new(error) },
        StoreErrorKind::Unfit => {
            let hint = error.hint.clone().unwrap_or_else(|| "check the address".to_owned());
            StateError::Unfit { place, why: error.message, hint }
        }
    }
}

impl Remote {
    pub(crate) fn place(&self) -> String {
        self.store.place()
    }

    pub(crate) fn place_of(&self, key: &str) -> String {
        format!("{}/{key}", self.store.place())
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.options.clock)()
    }

    /// How far the store's clock is ahead of ours, if it has told.
    pub(crate) fn ahead_ms(&self) -> Option<i64> {
        let store = i64::try_from(self.store.now_ms()?).ok()?;
        Some(store.saturating_sub(i64::try_from(self.now_ms()).ok()?))
    }

    pub(crate) fn rescue_folder(&self) -> PathBuf {
        self.options.folder.join("rescue")
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StateError> {
        self.store.get(key).await.map_err(|error| state_error("read", self.place_of(key), error))
    }

    pub(crate) async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<Listed>, StateError> {
        self.store.list(prefix, start_after).await.map_err(|error| state_error("list", self.place_of(prefix), error))
    }

    pub(crate) async fn delete(&self, keys: &[String]) -> Result<(), StateError> {
        self.store.delete(keys).await.map_err(|error| state_error("delete from", self.place(), error))
    }

    pub(crate) async fn put_if_absent(&self, key: &str, bytes: &Bytes) -> Result<Option<Version>, StateError> {
        self.store.put_if_absent(key, bytes).await.map_err(|error| state_error("write", self.place_of(key), error))
    }

    pub(crate) async fn put_if_version(
        &self,
        key: &str,
        bytes: &Bytes,
        version: &Version,
    ) -> Result<Option<Version>, StateError> {
        let put = self.store.put_if_version(key, bytes, version).await;
        put.map_err(|error| state_error("write", self.place_of(key), error))
    }
}

/// The state of one stack in a store.
pub struct RemoteBackend {
    remote: Arc<Remote>,
}

impl RemoteBackend {
    /// The state in this store. Nothing is asked or written yet.
    pub fn new(store: Arc<dyn Store>, options: RemoteOptions) -> Self {
        let cache = Cache::new(options.cache.then(|| options.folder.join("cache")), store.place());
        let options = RemoteOptions { lease: options.lease.max(SHORTEST_LEASE), ..options };
        let store = Retrying::new(store, options.retries.clone());
        Self { remote: Arc::new(Remote { store, options, cache }) }
    }
}

#[async_trait]
impl Backend for RemoteBackend {
    fn place(&self) -> String {
        self.remote.place()
    }

    async fn read(&self) -> Result<Stored, StateError> {
        let Some(mut log) = log::read(&self.remote).await? else {
            return Ok(Stored { state: None, warnings: Vec::new() });
        };
        let (waiting, mut warnings) = rescue::waiting(&self.remote.rescue_folder(), &self.remote.place())?;
        for kept in waiting {
            match kept.fit(&log) {
                Fit::Stored => {}
                Fit::Next(entries) => {
                    for entry in entries {
                        let place = kept.file();
                        log.state.apply(&entry).map_err(|source| StateError::Illegal { place, source })?;
                        log.entries.push(entry);
                    }
                    warnings.push(format!("{} holds what could not be stored; the next apply stores it", kept.file()));
                }
                Fit::Not(why) => warnings.push(format!("{} is left out: {why}", kept.file())),
            }
        }
        Ok(Stored { state: Some(log.state), warnings })
    }

    async fn lock_owner(&self) -> Result<Option<LockOwner>, StateError> {
        Ok(self.held_lock().await?.map(|held| held.owner))
    }

    async fn held_lock(&self) -> Result<Option<HeldLock>, StateError> {
        lease::held(&self.remote).await
    }

    async fn lock(&self, owner: &LockOwner, wait: Duration) -> Result<Box<dyn Writer>, StateError> {
        let held = lease::take(&self.remote, owner, wait).await?;
        Ok(Box::new(RemoteWriter::new(Arc::clone(&self.remote), held)))
    }

    async fn unlock(&self, id: &str) -> Result<(), StateError> {
        lease::unlock(&self.remote, id).await
    }

    async fn history(&self, limit: usize) -> Result<Vec<SealedOperation>, StateError> {
        history::read(&self.remote, limit).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn vault(&self) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.remote.get(VAULT).await?.map(|(sealed, _)| sealed.to_vec()))
    }

    async fn offer_vault(&self, sealed: &[u8]) -> Result<Vec<u8>, StateError> {
        // Every sealing has a nonce of its own: another one's bytes are never ours.
        if self.remote.put_if_absent(VAULT, &Bytes::copy_from_slice(sealed)).await?.is_some() {
            return Ok(sealed.to_vec());
        }
        let doing_without = || StateError::Unfit {
            place: self.remote.place_of(VAULT),
            why: "it was there and is gone".to_owned(),
            hint: "somebody deletes objects of the state: look who, and run the same command again".to_owned(),
        };
        self.vault().await?.ok_or_else(doing_without)
    }
}
