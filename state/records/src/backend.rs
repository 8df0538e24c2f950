//! The contract of a state backend.
//!
//! A backend keeps, for one stack: a snapshot (a checkpoint), the journal's entries after it, the history of sealed
//! operations, and a lock that allows one writer. Group commit is the engine's: a backend makes one batch durable at a
//! time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Entry, Illegal, SealedOperation, Snapshot, State};

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOwner {
    /// An id made for this holding; `unlock` takes it.
    pub id: String,
    /// `user@host`.
    pub who: String,
    /// What is done (`apply`).
    pub doing: String,
    /// The process id, on that host.
    pub pid: u32,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: u64,
}

/// Why the state cannot be read or written. Nothing is lost in any of these.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another operation holds the lock.
    #[error("the state in {place} is locked by {} ({}, pid {})", owner.who, owner.doing, owner.pid)]
    Locked {
        /// Where the state is.
        place: String,
        /// Who holds it.
        owner: Box<LockOwner>,
    },
    /// It was written by a newer ksail.
    #[error("{place} has format {found}; this ksail reads up to {known}")]
    NewerFormat {
        /// Which file.
        place: String,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// It cannot be understood. A torn last line is not that: it is dropped with a warning.
    #[error("{place} is damaged: {why}")]
    Damaged {
        /// Which file, with the line.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The journal holds an entry that cannot follow.
    #[error("{place} is damaged")]
    Illegal {
        /// Which file.
        place: String,
        /// What cannot follow.
        source: Illegal,
    },
    /// There is no room.
    #[error("no space is left for {place}")]
    Full {
        /// Which file.
        place: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It may not be written.
    #[error("{place} may not be written")]
    ReadOnly {
        /// Which file or folder.
        place: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another writer has written since: this one may not go on.
    #[error("another writer has written to {place}; this one may not go on")]
    Fenced {
        /// Where.
        place: String,
    },
    /// A lock id does not match.
    #[error("the lock on {place} {why}")]
    LockMismatch {
        /// Where.
        place: String,
        /// What does not match.
        why: String,
    },
    /// It belongs to another stack or environment.
    #[error("the state in {place} is that of {found}, not of {wanted}")]
    OtherStack {
        /// Where.
        place: String,
        /// What was found.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The store cannot be reached, or fails; whatever was tried was tried several times.
    #[error("cannot {doing} {place}")]
    Unreachable {
        /// What was tried (`read`, `write`).
        doing: &'static str,
        /// Where.
        place: String,
        /// What the store said, without secrets.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store refuses our credentials, or has none of them.
    #[error("may not {doing} {place}")]
    Denied {
        /// What was tried (`read`, `write`).
        doing: &'static str,
        /// Where.
        place: String,
        /// What the store said, without secrets.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store is not set up for a state, or its address is wrong.
    #[error("{place} cannot hold a state: {why}")]
    Unfit {
        /// Where.
        place: String,
        /// Why.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// The lease was not renewed in time, or was taken from us: nothing more may be written.
    #[error("the lease on {place} is lost: {why}")]
    LeaseLost {
        /// Where.
        place: String,
        /// How.
        why: String,
    },
    /// The store could not be written. What could not be stored is kept in a file, and the next apply takes it up.
    #[error("what could not be stored in {place} is kept in {file}")]
    Rescued {
        /// Where it belongs.
        place: String,
        /// Where it is kept.
        file: String,
        /// Why it could not be stored.
        source: Box<StateError>,
    },
    /// The state was moved elsewhere.
    #[error("the state in {place} was moved to {to}")]
    Moved {
        /// Where it was.
        place: String,
        /// Where it is, without credentials.
        to: String,
    },
    /// Anything else of the system.
    #[error("cannot {doing} {place}")]
    Io {
        /// What was tried (`read`, `sync`).
        doing: &'static str,
        /// Which file.
        place: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A lock that is held, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// Who holds it.
    #[serde(flatten)]
    pub owner: LockOwner,
    /// The lease that keeps it, where it does not simply die with its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseSeen>,
}

/// A lease, as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSeen {
    /// How long it holds without being renewed, in milliseconds.
    pub ttl_ms: u64,
    /// When it was renewed last by its holder's clock, in milliseconds since the epoch.
    pub renewed_ms: u64,
}

/// The lease of a writer whose lock can be lost while it works.
#[async_trait]
pub trait Lease: Send + Sync {
    /// How long it still holds, by a clock that also runs while the machine sleeps. Zero: no call may be started any more.
    fn remaining(&self) -> Duration;

    /// Waits until it is lost. It then stays so.
    async fn lost(&self);
}

/// What is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The state, replayed; `None` if there is none yet.
    pub state: Option<State>,
    /// What was repaired or left out, as fragments (a torn last line).
    pub warnings: Vec<String>,
}

/// Keeps the state of one stack.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Where it is, for messages.
    fn place(&self) -> String;

    /// Reads without a lock and writes nothing. During an apply it answers a prefix of the journal.
    async fn read(&self) -> Result<Stored, StateError>;

    /// Who holds the lock, if anybody does.
    async fn lock_owner(&self) -> Result<Option<LockOwner>, StateError>;

    /// The lock as it is held, with its lease.
    async fn held_lock(&self) -> Result<Option<HeldLock>, StateError> {
        Ok(self.lock_owner().await?.map(|owner| HeldLock { owner, lease: None }))
    }

    /// Takes the lock, waiting up to `wait`. The writer holds it until it is released or dropped; a killed process loses
    /// it.
    async fn lock(&self, owner: &LockOwner, wait: Duration) -> Result<Box<dyn Writer>, StateError>;

    /// Breaks a lock by its id, where the backend's locks can outlive their holder.
    async fn unlock(&self, id: &str) -> Result<(), StateError>;

    /// Whether something is kept on this machine that could not be stored. The next writer's `load` stores it.
    async fn has_rescued(&self) -> Result<bool, StateError> {
        Ok(false)
    }

    /// Sealed operations, newest first, at most `limit`.
    async fn history(&self, limit: usize) -> Result<Vec<SealedOperation>, StateError>;

    /// Whether several machines use the same state, so that the vault must be where the state is.
    fn is_shared(&self) -> bool {
        false
    }

    /// Whether operations are to be archived with their plan.
    fn keeps_plans(&self) -> bool {
        false
    }

    /// The vault that belongs to the state, as it is sealed; `None` if there is none.
    async fn vault(&self) -> Result<Option<Vec<u8>>, StateError>;

    /// Stores the sealed vault if there is none. Answers the one that is there afterwards.
    async fn offer_vault(&self, sealed: &[u8]) -> Result<Vec<u8>, StateError>;
}

/// The one writer of a stack.
#[async_trait]
pub trait Writer: Send {
    /// Reads under the lock, and repairs what a kill left (a torn last line is cut off).
    async fn load(&mut self) -> Result<Stored, StateError>;

    /// Stores the first snapshot of a new state. It may have taken in entries already: the first one that is appended is the next
    /// by its sequence number.
    async fn create(&mut self, snapshot: &Snapshot) -> Result<(), StateError>;

    /// Makes entries durable, the first of which has this sequence number. When this returns an error the entries
    /// may or may not be there: the engine stops, and what is read next decides.
    async fn append(&mut self, first: u64, entries: &[Entry]) -> Result<(), StateError>;

    /// The same with operations that these entries seal, which are stored in the history too. History first, or at once: a kill in
    /// between leaves an operation unsealed, and sealing it again stores the same; or the next `load` completes the history.
    async fn append_sealing(
        &mut self,
        first: u64,
        entries: &[Entry],
        sealed: &[SealedOperation],
    ) -> Result<(), StateError> {
        for operation in sealed {
            self.archive(operation).await?;
        }
        self.append(first, entries).await
    }

    /// How many calls are to be announced before their turn at least, where a write is a round trip: while one is under way
    /// this many can go on.
    fn announces_ahead(&self) -> usize {
        0
    }

    /// How long a batch is to wait for more entries, where a write is a round trip.
    fn lingers(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether the log has outgrown the snapshot, so that a checkpoint is due.
    fn wants_checkpoint(&self) -> bool;

    /// Replaces the snapshot, and drops the entries that it has taken in.
    async fn checkpoint(&mut self, snapshot: &Snapshot) -> Result<(), StateError>;

    /// Stores a sealed operation in the history.
    async fn archive(&mut self, operation: &SealedOperation) -> Result<(), StateError>;

    /// Keeps entries that a failed write leaves over (outcomes of calls that were in flight), the first of which has this
    /// sequence number, on this machine, so that the next `load` can take them up. Answers where; `None` if this backend
    /// keeps nothing, because what it fails to write it cannot keep either.
    async fn rescue(&mut self, first: u64, entries: &[Entry]) -> Result<Option<String>, StateError> {
        let _ = (first, entries);
        Ok(None)
    }

    /// The lease that this writer holds its lock by; `None` where the lock dies with the process.
    fn lease(&self) -> Option<Arc<dyn Lease>> {
        None
    }

    /// Marks the state as moved: from now on every use of it is [`StateError::Moved`].
    async fn seal(&mut self, to: &str) -> Result<(), StateError> {
        let why = format!("it cannot be marked as moved to {to}");
        Err(StateError::Unfit { place: "this backend".to_owned(), why, hint: "use another one".to_owned() })
    }

    /// Puts the state aside, with its history, so that there is none any more. Answers where it is kept. After a kill in
    /// between there is a state still, or none.
    async fn set_aside(&mut self) -> Result<String, StateError> {
        Err(StateError::Unfit {
            place: "this backend".to_owned(),
            why: "its state cannot be put aside".to_owned(),
            hint: "recover into another place: --state, KSAIL_STATE or spec.state".to_owned(),
        })
    }

    /// Gives the lock back.
    async fn release(self: Box<Self>) -> Result<(), StateError>;
}
