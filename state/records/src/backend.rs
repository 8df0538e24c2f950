//! The contract of a state backend.
//!
//! A backend keeps, for one stack: a snapshot (a checkpoint), the journal's entries after it, the history of sealed
//! operations, and a lock that allows one writer. Group commit is the engine's: a backend makes one batch durable at a
//! time.

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

    /// Takes the lock, waiting up to `wait`. The writer holds it until it is released or dropped; a killed process loses
    /// it.
    async fn lock(&self, owner: &LockOwner, wait: Duration) -> Result<Box<dyn Writer>, StateError>;

    /// Breaks a lock by its id, where the backend's locks can outlive their holder.
    async fn unlock(&self, id: &str) -> Result<(), StateError>;

    /// Sealed operations, newest first, at most `limit`.
    async fn history(&self, limit: usize) -> Result<Vec<SealedOperation>, StateError>;
}

/// The one writer of a stack.
#[async_trait]
pub trait Writer: Send {
    /// Reads under the lock, and repairs what a kill left (a torn last line is cut off).
    async fn load(&mut self) -> Result<Stored, StateError>;

    /// Stores the first snapshot of a new state.
    async fn create(&mut self, snapshot: &Snapshot) -> Result<(), StateError>;

    /// Makes entries durable, the first of which has this sequence number. When this returns an error the entries
    /// may or may not be there: the engine stops, and what is read next decides.
    async fn append(&mut self, first: u64, entries: &[Entry]) -> Result<(), StateError>;

    /// Whether the log has outgrown the snapshot, so that a checkpoint is due.
    fn wants_checkpoint(&self) -> bool;

    /// Replaces the snapshot, and drops the entries that it has taken in.
    async fn checkpoint(&mut self, snapshot: &Snapshot) -> Result<(), StateError>;

    /// Stores a sealed operation in the history.
    async fn archive(&mut self, operation: &SealedOperation) -> Result<(), StateError>;

    /// Gives the lock back.
    async fn release(self: Box<Self>) -> Result<(), StateError>;
}
