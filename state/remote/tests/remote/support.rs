//! A store in memory that counts, waits and fails as a test asks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use ksail_records::{Backend, Entry, SealedOperation, State, Writer};
use ksail_state_remote::{
    Listed, Put, RemoteBackend, RemoteOptions, Retries, Store, StoreError, StoreErrorKind, Version,
};
use ksail_state_suite::samples;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing reaches the store, and the caller sees an error.
    Refused,
    /// The store does it, and the caller sees an error.
    AnswerLost,
    /// The store does it, and the caller never hears of it.
    Hangs,
    /// The credentials are not taken.
    Denied,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, (Bytes, u64, u64)>,
    faults: VecDeque<Option<Fault>>,
    always: Option<Fault>,
}

/// The objects of one stack, shared by all who open it.
#[derive(Default)]
pub(crate) struct Memory {
    inner: Mutex<Inner>,
    versions: AtomicU64,
    requests: AtomicU64,
    written: AtomicU64,
    latency: Mutex<Duration>,
}

impl Memory {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        *self.latency.lock().unwrap() = latency;
    }

    /// The next writes of the log meet these; then all goes well again.
    pub(crate) fn next_writes(&self, faults: &[Option<Fault>]) {
        self.inner.lock().unwrap().faults.extend(faults);
    }

    /// All requests meet this.
    pub(crate) fn always(&self, fault: Option<Fault>) {
        self.inner.lock().unwrap().always = fault;
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.inner.lock().unwrap().objects.keys().cloned().collect()
    }

    pub(crate) fn change(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.inner.lock().unwrap();
        let (bytes, version, _) = inner.objects.get_mut(key).unwrap();
        let mut changed = bytes.to_vec();
        change(&mut changed);
        *bytes = Bytes::from(changed);
        *version += 1_000_000;
    }

    async fn asked(&self, key: Option<&str>) -> Result<Option<Fault>, StoreError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let latency = *self.latency.lock().unwrap();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let fault = {
            let mut inner = self.inner.lock().unwrap();
            let next = key.filter(|key| key.starts_with("log/")).and_then(|_| inner.faults.pop_front());
            inner.always.or(next.flatten())
        };
        match fault {
            Some(Fault::Refused) => Err(transient()),
            Some(Fault::Denied) => Err(StoreError::new(StoreErrorKind::Denied, "the token has expired")),
            fault => Ok(fault),
        }
    }
}

fn transient() -> StoreError {
    StoreError::new(StoreErrorKind::Transient, "the connection was reset")
}

async fn answer<T>(fault: Option<Fault>, answer: T) -> Result<T, StoreError> {
    match fault {
        Some(Fault::AnswerLost) => Err(transient()),
        Some(Fault::Hangs) => std::future::pending().await,
        _ => Ok(answer),
    }
}

fn system_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[async_trait]
impl Store for Memory {
    fn place(&self) -> String {
        "memory://test".to_owned()
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let fault = self.asked(None).await?;
        let found = self.inner.lock().unwrap().objects.get(key).cloned();
        answer(fault, found.map(|(bytes, version, _)| (bytes, Version(version.to_string())))).await
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        let fault = self.asked(Some(key)).await?;
        let put = {
            let mut inner = self.inner.lock().unwrap();
            if inner.objects.contains_key(key) {
                Put::Conflict
            } else {
                let version = self.versions.fetch_add(1, Ordering::SeqCst);
                self.written.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                inner.objects.insert(key.to_owned(), (bytes, version, system_ms()));
                Put::Stored(Version(version.to_string()))
            }
        };
        answer(fault, put).await
    }

    async fn put_if_version(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Put, StoreError> {
        let fault = self.asked(Some(key)).await?;
        let put = {
            let mut inner = self.inner.lock().unwrap();
            match inner.objects.get_mut(key) {
                Some(object) if object.1.to_string() == version.0 => {
                    let version = self.versions.fetch_add(1, Ordering::SeqCst);
                    self.written.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                    *object = (bytes, version, system_ms());
                    Put::Stored(Version(version.to_string()))
                }
                _ => Put::Conflict,
            }
        };
        answer(fault, put).await
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        let fault = self.asked(None).await?;
        let listed = {
            let inner = self.inner.lock().unwrap();
            let wanted = inner
                .objects
                .iter()
                .filter(|(key, _)| key.starts_with(prefix) && start_after.is_none_or(|after| key.as_str() > after));
            wanted
                .map(|(key, (bytes, version, modified_ms))| Listed {
                    key: key.clone(),
                    version: Version(version.to_string()),
                    size: bytes.len() as u64,
                    modified_ms: *modified_ms,
                })
                .collect()
        };
        answer(fault, listed).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let fault = self.asked(None).await?;
        {
            let mut inner = self.inner.lock().unwrap();
            for key in keys {
                inner.objects.remove(key);
            }
        }
        answer(fault, ()).await
    }

    fn now_ms(&self) -> Option<u64> {
        Some(system_ms())
    }
}

/// A folder of one machine, and the options of one of its processes: a short lease, and quick retries.
pub(crate) struct Machine {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) options: RemoteOptions,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let retries = Retries {
            attempts: 3,
            backoff: Duration::from_millis(2),
            longest_backoff: Duration::from_millis(10),
            timeout: Duration::from_millis(300),
        };
        let lease = Duration::from_secs(2);
        let options = RemoteOptions { lease, retries, ..RemoteOptions::new(folder.path().to_owned()) };
        Self { folder, options }
    }

    /// Its clock is wrong by so much.
    pub(crate) fn ahead(mut self, ms: i64) -> Self {
        self.options.clock = Arc::new(move || system_ms().saturating_add_signed(ms));
        self
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.options.clock)()
    }

    pub(crate) fn open(&self, store: &Arc<Memory>) -> RemoteBackend {
        RemoteBackend::new(Arc::clone(store) as Arc<dyn Store>, self.options.clone())
    }
}

pub(crate) async fn append(writer: &mut dyn Writer, state: &mut State, entries: &[Entry]) -> Vec<SealedOperation> {
    writer.append(state.next_sequence(), entries).await.expect("entries that follow can be appended");
    entries.iter().filter_map(|entry| state.apply(entry).expect("the sample is legal")).collect()
}

/// A new state, created by one who then goes.
pub(crate) async fn create(backend: &dyn Backend) -> State {
    let mut writer = backend.lock(&samples::owner("creator"), Duration::ZERO).await.unwrap();
    assert!(writer.load().await.unwrap().state.is_none());
    writer.create(&samples::snapshot()).await.unwrap();
    writer.release().await.unwrap();
    State::new(samples::snapshot())
}

/// Waits for the lock.
pub(crate) async fn lock(backend: &dyn Backend, id: &str) -> Box<dyn Writer> {
    backend.lock(&samples::owner(id), Duration::from_secs(20)).await.unwrap()
}
