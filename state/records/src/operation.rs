//! Operations: one apply, with what it changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use ksail_model::{Digest, Record, RecordKey, Value};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// A plan of the declarations.
    Apply,
    /// The plan of the empty declaration.
    Destroy,
    /// Observations taken into the state; nothing outside changes.
    Refresh,
    /// The plan of earlier declarations.
    Undo,
    /// Records rebuilt from marks found outside.
    Recover,
    /// An edit of the state by hand (`state mv`, `state rm`, `state push`).
    Edit,
}

/// What is known of an operation when it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationHeader {
    /// Its id; also written into the marks of what it makes.
    pub id: String,
    /// What it is.
    pub kind: OperationKind,
    /// The serial of the state that its plan was made from.
    pub parent_serial: u64,
    /// The digest of its plan.
    pub plan_digest: Digest,
    /// Who runs it (`user@host`).
    pub who: String,
    /// When it began, in milliseconds since the epoch.
    pub began_ms: u64,
    /// Whether the state began with it: the history may hold older operations, of a state that was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begins: bool,
    /// The commit of the sources, if they are in a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationResult {
    /// All that was planned is done.
    Complete,
    /// Some nodes failed or were blocked.
    Partial,
    /// It was killed or interrupted, and another plan took over.
    Superseded,
}

/// What an operation did to one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which record.
    pub key: RecordKey,
    /// The record before; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Arc<Record>>,
    /// The record after; `None` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Arc<Record>>,
}

/// A plan as the history keeps it: its JSON as it was written, which nobody but a reader has to understand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeptPlan(Arc<RawValue>);

impl KeptPlan {
    /// Writes a plan.
    pub fn of(plan: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self(serde_json::value::to_raw_value(plan)?.into()))
    }

    /// Its JSON.
    pub fn json(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for KeptPlan {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Eq for KeptPlan {}

/// A sealed operation, as history keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedOperation {
    /// The format of this file ([`crate::FORMAT`]).
    pub format: u32,
    /// The lineage of the state.
    pub lineage: String,
    /// The serial that the state had with it.
    pub serial: u64,
    /// What was known when it began.
    pub header: OperationHeader,
    /// How it ended.
    pub result: OperationResult,
    /// When it was sealed, in milliseconds since the epoch.
    pub sealed_ms: u64,
    /// What it did.
    pub changes: Vec<Change>,
    /// The outputs before it, if it changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs_before: Option<BTreeMap<String, Value>>,
    /// What its plan would change, where the backend keeps plans. Only for people: nothing is computed from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<KeptPlan>,
}
