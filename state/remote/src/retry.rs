//! Tries again what may go well the next time, a bounded number of times, each within a bounded time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::store::{Listed, Put, Store, StoreError, StoreErrorKind, Version};

/// How many times as long as a small write a read may take.
const READ_TIMES: u32 = 6;
/// The slowest line that large writes are given time for.
const LEAST_BYTES_A_SECOND: u64 = 64 * 1024;

/// How often, and for how long, a request is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Tries, the first included.
    pub attempts: u32,
    /// The wait before the second try; it doubles, and each wait is a random part of it.
    pub backoff: Duration,
    /// The longest wait.
    pub longest_backoff: Duration,
    /// How long one try of a small write may take. Reads, whose size is not known before, have several times as long.
    pub timeout: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 6,
            backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(3),
            timeout: Duration::from_secs(10),
        }
    }
}

/// A store whose transient failures are tried again.
pub(crate) struct Retrying {
    store: Arc<dyn Store>,
    retries: Retries,
}

impl Retrying {
    pub(crate) fn new(store: Arc<dyn Store>, retries: Retries) -> Self {
        Self { store, retries }
    }

    pub(crate) fn place(&self) -> String {
        self.store.place()
    }

    pub(crate) fn now_ms(&self) -> Option<u64> {
        self.store.now_ms()
    }

    async fn tried<T, F>(&self, timeout: Duration, make: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut pause = self.retries.backoff;
        let mut tries = 1;
        loop {
            let result = match tokio::time::timeout(timeout, make()).await {
                Ok(result) => result,
                Err(_) => Err(StoreError::new(
                    StoreErrorKind::Transient,
                    format!("no answer within {} s", timeout.as_secs_f32()),
                )),
            };
            match result {
                Err(error) if error.kind == StoreErrorKind::Transient && tries < self.retries.attempts => {}
                Err(error) if tries > 1 => {
                    return Err(StoreError { message: format!("{} (tried {tries} times)", error.message), ..error });
                }
                result => return result,
            }
            tries += 1;
            tokio::time::sleep(pause.mul_f32(0.5 + 0.5 * fastrand::f32())).await;
            pause = (pause * 2).min(self.retries.longest_backoff);
        }
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        self.tried(self.retries.timeout * READ_TIMES, || self.store.get(key)).await
    }

    pub(crate) async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        self.tried(self.retries.timeout * READ_TIMES, || self.store.list(prefix, start_after)).await
    }

    pub(crate) async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        if keys.is_empty() { Ok(()) } else { self.tried(self.retries.timeout, || self.store.delete(keys)).await }
    }

    /// Stores an object if none is there. `None`: another one is there. The bytes must be ours alone (they hold a nonce), so
    /// that a write of ours whose answer was lost is known again.
    pub(crate) async fn put_if_absent(&self, key: &str, bytes: &Bytes) -> Result<Option<Version>, StoreError> {
        self.settled(key, bytes, || self.store.put_if_absent(key, bytes.clone())).await
    }

    /// Stores an object if its version is this one. `None`: it is not. The bytes must be ours alone.
    pub(crate) async fn put_if_version(
        &self,
        key: &str,
        bytes: &Bytes,
        version: &Version,
    ) -> Result<Option<Version>, StoreError> {
        self.settled(key, bytes, || self.store.put_if_version(key, bytes.clone(), version)).await
    }

    async fn settled<F>(&self, key: &str, bytes: &Bytes, put: impl Fn() -> F) -> Result<Option<Version>, StoreError>
    where
        F: Future<Output = Result<Put, StoreError>>,
    {
        let timeout = self.retries.timeout + Duration::from_secs(bytes.len() as u64 / LEAST_BYTES_A_SECOND);
        match self.tried(timeout, put).await? {
            Put::Stored(version) => Ok(Some(version)),
            Put::Conflict => Ok(self.get(key).await?.filter(|(found, _)| found == bytes).map(|(_, version)| version)),
        }
    }
}
