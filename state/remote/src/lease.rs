//! The lease: one object that names its holder, renewed by a heartbeat, taken by a conditional write.
//!
//! Nobody compares the clocks of two machines. A holder trusts its lease for its length from *before* it asked for the
//! renewal, by its own clock that also runs while the machine sleeps. Another one takes it over only after it has seen the
//! same version of the object for that length, and a margin, by its own. What a stopped holder still writes after that
//! fails, because the new one has put a fence where it would write.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ksail_records::{FORMAT, HeldLock, Lease, LeaseSeen, LockOwner, StateError};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::clock::uptime;
use crate::keys::{LEASE, LOG};
use crate::machine::Process;
use crate::remote::Remote;
use crate::store::{Listed, Version};

/// How many heartbeats fall into the length of a lease.
const BEATS: u32 = 4;
/// What part of a lease's length a waiter adds, for clocks that do not run equally fast: one part in so many.
const MARGIN: u32 = 10;
/// The longest lease that is believed in what somebody else wrote.
const LONGEST: Duration = Duration::from_secs(3600);
/// The first pause between two looks at a lease that is held; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The lease as this process saw it last, where nobody held it.
#[derive(Debug, Clone)]
pub(crate) enum LastLease {
    /// There was none.
    None,
    /// It was free: its bytes and their version.
    Free(Bytes, Version),
}

/// How often a lease is given back when a heartbeat comes in between.
const RELEASE_TRIES: u32 = 3;

/// The object.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// `None`: it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
    /// Of a free one: whether its last holder gave it back in order, after its last write was answered.
    #[serde(default)]
    clean: bool,
    /// Makes the bytes of every write its own.
    nonce: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Holder {
    owner: LockOwner,
    /// The writer's nonce, as in the objects of the log.
    writer: String,
    ttl_ms: u64,
    renewed_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

fn parse(remote: &Remote, bytes: &[u8]) -> Result<Record, StateError> {
    let place = remote.place_of(LEASE);
    match serde_json::from_slice(bytes) {
        Ok(FormatOnly { format }) if format > FORMAT => {
            return Err(StateError::NewerFormat { place, found: format, known: FORMAT });
        }
        _ => {}
    }
    serde_json::from_slice(bytes).map_err(|error| StateError::Damaged { place, why: error.to_string() })
}

fn bytes(record: &Record) -> Bytes {
    Bytes::from(serde_json::to_vec(record).unwrap_or_default())
}

fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

impl Holder {
    fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms).min(LONGEST)
    }

    fn is_dead(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_dead)
    }
}

/// What the heartbeat, the writer and the engine share.
struct Shared {
    remote: Arc<Remote>,
    owner: LockOwner,
    writer: String,
    ttl: Duration,
    /// Until when, by [`uptime`].
    valid_until: Mutex<Duration>,
    /// The version of the object as we wrote it last.
    version: Mutex<Option<Version>>,
    /// Why it is lost.
    lost: watch::Sender<Option<String>>,
}

impl Shared {
    fn record(&self) -> Record {
        let holder = Holder {
            owner: self.owner.clone(),
            writer: self.writer.clone(),
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            renewed_ms: self.remote.now_ms(),
            process: Process::this(),
        };
        Record { format: FORMAT, holder: Some(holder), clean: false, nonce: nonce() }
    }

    fn renewed(&self, asked: Duration, version: &Version) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.clone());
        *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner) = asked + self.ttl;
    }

    fn lose(&self, why: &str) {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            lost.get_or_insert_with(|| why.to_owned());
            first
        });
    }
}

#[async_trait]
impl Lease for Shared {
    fn remaining(&self) -> Duration {
        if self.lost.borrow().is_some() {
            return Duration::ZERO;
        }
        let until = *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let remaining = until.saturating_sub(uptime());
        if remaining.is_zero() {
            self.lose("it was not renewed in time");
        }
        remaining
    }

    async fn lost(&self) {
        let mut lost = self.lost.subscribe();
        while lost.borrow_and_update().is_none() {
            if lost.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The lease, held. A dropped one is given back in the background where a runtime is there, and expires otherwise.
pub(crate) struct Held {
    shared: Arc<Shared>,
    heartbeat: JoinHandle<()>,
    /// Whether the one before gave it back in order, so that nobody can still be writing.
    pub(crate) after_clean: bool,
    /// The log's objects, where they were listed beside the taking: the holder before gave the lease back in order, and nobody has
    /// held it in between, so that nothing can have been written since.
    pub(crate) listed: Option<Vec<Listed>>,
    released: bool,
}

impl Held {
    pub(crate) fn lease(&self) -> Arc<dyn Lease> {
        Arc::clone(&self.shared) as Arc<dyn Lease>
    }

    pub(crate) fn writer(&self) -> &str {
        &self.shared.writer
    }

    /// An error if it may no longer be trusted.
    pub(crate) fn check(&self) -> Result<(), StateError> {
        if self.shared.remaining().is_zero() {
            let why = self.shared.lost.borrow().clone().unwrap_or_default();
            return Err(StateError::LeaseLost { place: self.shared.remote.place(), why });
        }
        Ok(())
    }

    /// Gives it back. `clean`: nothing of this holder can still be on its way.
    pub(crate) async fn release(mut self, clean: bool) -> Result<(), StateError> {
        self.released = true;
        self.heartbeat.abort();
        give_back(&self.shared, clean).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.heartbeat.abort();
        if !self.released
            && let Ok(runtime) = Handle::try_current()
        {
            let shared = Arc::clone(&self.shared);
            runtime.spawn(async move {
                let _ = give_back(&shared, false).await;
            });
        }
    }
}

async fn give_back(shared: &Shared, clean: bool) -> Result<(), StateError> {
    let remote = &shared.remote;
    let mut known = shared.version.lock().unwrap_or_else(PoisonError::into_inner).take();
    for _ in 0..RELEASE_TRIES {
        // Asked for only where a heartbeat that was cut off may have come in between.
        let version = match known.take() {
            Some(version) => version,
            None => {
                let Some((found, version)) = remote.get(LEASE).await? else { return Ok(()) };
                if parse(remote, &found)?.holder.is_none_or(|holder| holder.writer != shared.writer) {
                    // Somebody else has it: there is nothing to give back.
                    return Ok(());
                }
                version
            }
        };
        let free = Record { format: FORMAT, holder: None, clean, nonce: nonce() };
        if remote.put_if_version(LEASE, &bytes(&free), &version).await?.is_some() {
            shared.lose("it was given back");
            return Ok(());
        }
    }
    Ok(())
}

/// Renews the lease until it is lost.
async fn beat(shared: Arc<Shared>, mut version: Version) {
    let mut pause = shared.ttl / BEATS;
    loop {
        // A stop of the whole process is not noticed before this is over: whoever asks, asks the clock again.
        sleep(pause.min(shared.remaining())).await;
        let remaining = shared.remaining();
        if remaining.is_zero() {
            return;
        }
        let asked = uptime();
        let record = bytes(&shared.record());
        pause = match timeout(remaining, shared.remote.put_if_version(LEASE, &record, &version)).await {
            Ok(Ok(Some(renewed))) => {
                version = renewed;
                shared.renewed(asked, &version);
                shared.ttl / BEATS
            }
            Ok(Ok(None)) => {
                shared.lose("another one has taken it");
                return;
            }
            // It may be renewed or not: the next try tells.
            Ok(Err(_)) | Err(_) => shared.ttl / (BEATS * 2),
        };
    }
}

/// Takes the lease, waiting up to `wait`.
pub(crate) async fn take(remote: &Arc<Remote>, owner: &LockOwner, wait: Duration) -> Result<Held, StateError> {
    let until = uptime() + wait;
    let mut seen: Option<(Version, Duration)> = None;
    let mut pause = PAUSE_FIRST;
    let shared = Shared {
        remote: Arc::clone(remote),
        owner: owner.clone(),
        writer: nonce(),
        ttl: remote.options.lease,
        valid_until: Mutex::new(Duration::ZERO),
        version: Mutex::default(),
        lost: watch::Sender::new(None),
    };
    let mut guess = remote.last_lease().take();
    loop {
        let mut asked = uptime();
        // What a plan saw a moment ago saves a look. Where that is over, the write fails, and the next round looks.
        let found = match guess.take() {
            Some(LastLease::None) => None,
            Some(LastLease::Free(bytes, version)) => Some((bytes, version)),
            None => remote.get(LEASE).await?,
        };
        let (taken, after_clean, listed) = match found {
            None => {
                let record = bytes(&shared.record());
                let (taken, listed) = tokio::join!(remote.put_if_absent(LEASE, &record), remote.list(LOG, None));
                (taken?, true, listed.ok())
            }
            Some((found, version)) => {
                let found = parse(remote, &found)?;
                asked = uptime();
                let clean = found.holder.is_none() && found.clean;
                let free = match &found.holder {
                    None => true,
                    Some(holder) if holder.is_dead() => true,
                    Some(holder) => {
                        let since = match &seen {
                            Some((same, since)) if *same == version => *since,
                            _ => asked,
                        };
                        seen = Some((version.clone(), since));
                        asked.saturating_sub(since) >= holder.ttl() + holder.ttl() / MARGIN
                    }
                };
                if let (false, Some(holder)) = (free, &found.holder) {
                    if asked >= until {
                        let owner = Box::new(holder.owner.clone());
                        return Err(StateError::Locked { place: remote.place(), owner });
                    }
                    sleep(pause.min(until.saturating_sub(asked)).max(Duration::from_millis(1))).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    continue;
                }
                let record = bytes(&shared.record());
                let put = remote.put_if_version(LEASE, &record, &version);
                if clean {
                    let (taken, listed) = tokio::join!(put, remote.list(LOG, None));
                    (taken?, true, listed.ok())
                } else {
                    (put.await?, false, None)
                }
            }
        };
        if let Some(version) = taken {
            shared.renewed(asked, &version);
            let shared = Arc::new(shared);
            let heartbeat = tokio::spawn(beat(Arc::clone(&shared), version));
            return Ok(Held { shared, heartbeat, after_clean, listed, released: false });
        }
        // Another one was faster: look at what it wrote.
    }
}

/// The lease as it is held. A holder that is provably dead holds nothing.
pub(crate) async fn held(remote: &Remote) -> Result<Option<HeldLock>, StateError> {
    let Some((found, version)) = remote.get(LEASE).await? else {
        remote.saw_lease(LastLease::None);
        return Ok(None);
    };
    let record = parse(remote, &found)?;
    if record.holder.is_none() {
        remote.saw_lease(LastLease::Free(found, version));
    }
    Ok(record.holder.filter(|holder| !holder.is_dead()).map(|holder| HeldLock {
        lease: Some(LeaseSeen { ttl_ms: holder.ttl_ms, renewed_ms: holder.renewed_ms }),
        owner: holder.owner,
    }))
}

/// Takes the lease from the holder with this id. Its next write, and its next heartbeat, fail.
pub(crate) async fn unlock(remote: &Remote, id: &str) -> Result<(), StateError> {
    let mismatch = |why: String| StateError::LockMismatch { place: remote.place(), why };
    for _ in 0..RELEASE_TRIES {
        let Some((found, version)) = remote.get(LEASE).await? else { return Ok(()) };
        let Some(holder) = parse(remote, &found)?.holder else { return Ok(()) };
        if holder.owner.id != id {
            let LockOwner { id: found, who, doing, pid, .. } = holder.owner;
            return Err(mismatch(format!("has the id {found}, not {id} ({who}, {doing}, pid {pid})")));
        }
        let free = Record { format: FORMAT, holder: None, clean: false, nonce: nonce() };
        // A heartbeat may come in between.
        if remote.put_if_version(LEASE, &bytes(&free), &version).await?.is_some() {
            return Ok(());
        }
    }
    Err(mismatch("is renewed again and again while it is to be broken".to_owned()))
}
