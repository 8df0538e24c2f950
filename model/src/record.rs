//! Records: what the state knows of one resource, enough to delete it when its declaration is gone.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Address, Declaration, Readiness, Scope, Value};

/// How far a resource is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Status {
    /// A create was started and its outcome is not known.
    Creating,
    /// It exists and was ready when last seen.
    Present,
    /// It exists and was not ready when last seen.
    NotReady {
        /// Why, as a fragment.
        why: String,
    },
    /// A delete was started and its outcome is not known.
    Deleting,
    /// It was replaced and waits to be deleted.
    Deposed,
    /// A call ended in a way that needs a person.
    Stuck {
        /// Why, and the command that resolves it.
        why: String,
    },
}

impl From<&Readiness> for Status {
    /// The status of what exists.
    fn from(readiness: &Readiness) -> Self {
        match readiness {
            Readiness::Ready => Self::Present,
            Readiness::NotReady(why) => Self::NotReady { why: why.clone() },
        }
    }
}

/// How long its calls took last, with waiting, in milliseconds; for priorities and the ETA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Durations {
    /// Creation until ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_ms: Option<u64>,
    /// Update until ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_ms: Option<u64>,
    /// Deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_ms: Option<u64>,
}

/// Which record: the address, and for a deposed resource its generation too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// The address.
    pub address: Address,
    /// The generation, for a deposed resource.
    pub deposed: Option<u32>,
}

impl RecordKey {
    /// The key of the current resource at an address.
    pub const fn current(address: Address) -> Self {
        Self { address, deposed: None }
    }
}

/// `dev/registry/local`, or `dev/registry/local#2` for the deposed generation 2.
impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.deposed {
            None => write!(f, "{}", self.address),
            Some(generation) => write!(f, "{}#{generation}", self.address),
        }
    }
}

impl Serialize for RecordKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RecordKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let (address, deposed) = match text.rsplit_once('#') {
            Some((address, generation)) => (address, Some(generation.parse().map_err(serde::de::Error::custom)?)),
            None => (text.as_ref(), None),
        };
        Ok(Self { address: Address::parse(address).map_err(serde::de::Error::custom)?, deposed })
    }
}

/// What the state knows of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The declaration that was applied, with references resolved and secrets as reference and
    /// fingerprint. It holds identity, edges, host, ownership and protection.
    pub declaration: Arc<Declaration>,
    /// The id that the outside gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Our fields as last returned by the outside; what differs from this later is drift.
    pub fields: Value,
    /// What only the outside can tell (a map).
    pub attributes: Value,
    /// Which outside it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Counts replacements, from 1.
    pub generation: u32,
    /// The generation of its host when it was made: with another generation of the host it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_generation: Option<u32>,
    /// Whether it became ours by import and may lack our mark outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// How far it is.
    pub status: Status,
    /// The operation that changed it last.
    pub operation: String,
    /// How long its calls took last.
    #[serde(default)]
    pub durations: Durations,
}

impl Record {
    /// Its address.
    pub fn address(&self) -> &Address {
        &self.declaration.address
    }
}
