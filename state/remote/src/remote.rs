//! A store with what belongs to it on this machine: retries, cache, clock, and errors as those of a state.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ksail_records::StateError;

use crate::cache::Cache;
use crate::clock::{WallClock, system_clock};
use crate::lease::LastLease;
use crate::retention::Retention;
use crate::retry::{Retries, Retrying};
use crate::store::{Listed, StoreError, StoreErrorKind, Version};

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
    pub(crate) store: Retrying,
    pub(crate) options: RemoteOptions,
    pub(crate) cache: Cache,
    /// Taken by the next try to take the lease.
    last_lease: Mutex<Option<LastLease>>,
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
    pub(crate) fn new(store: Retrying, options: RemoteOptions, cache: Cache) -> Self {
        Self { store, options, cache, last_lease: Mutex::default() }
    }

    pub(crate) fn saw_lease(&self, seen: LastLease) {
        *self.last_lease() = Some(seen);
    }

    pub(crate) fn last_lease(&self) -> MutexGuard<'_, Option<LastLease>> {
        self.last_lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
