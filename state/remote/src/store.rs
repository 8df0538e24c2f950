//! What a store must do: keep small objects by key, with conditional writes. Nothing else is asked of it.

use async_trait::async_trait;
use bytes::Bytes;

/// Which content of an object: it changes with every write, and never comes back. Opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its content's version.
    pub version: Version,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written by the store's clock, in milliseconds since the epoch.
    pub modified_ms: u64,
}

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is stored, and durable.
    Stored(Version),
    /// The condition does not hold: nothing was written.
    Conflict,
}

/// How a store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// It may go well at the next try; a write may have happened.
    Transient,
    /// The credentials are missing, expired or not enough.
    Denied,
    /// The address is wrong, or the store cannot do what is needed.
    Unfit,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// How.
    pub kind: StoreErrorKind,
    /// What the store said, without secrets.
    pub message: String,
    /// What to do about it, where the store's crate knows.
    pub hint: Option<String>,
}

impl StoreError {
    /// An error of this kind.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Keeps the objects of one stack. Reads see every write that was answered before they began.
#[async_trait]
pub trait Store: Send + Sync {
    /// Where it is, for messages: without credentials.
    fn place(&self) -> String;

    /// An object with its version.
    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError>;

    /// Stores an object if none of that key is there.
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError>;

    /// Stores an object if the one of that key still has this version.
    async fn put_if_version(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Put, StoreError>;

    /// All objects whose key begins with `prefix`, and comes after `start_after`, sorted by key.
    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<Listed>, StoreError>;

    /// Deletes objects; those that are not there are no error.
    async fn delete(&self, keys: &[String]) -> Result<(), StoreError>;

    /// The time of day by the store's clock, in milliseconds since the epoch, as the last answer told it and as much time
    /// as has passed since; `None` before the first answer, and where the store does not tell.
    fn now_ms(&self) -> Option<u64>;
}
