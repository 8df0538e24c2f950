//! Journal entries. An intent is durable before the call that it announces, its outcome after.

use std::collections::BTreeMap;
use std::sync::Arc;

use ksail_model::{Address, Declaration, ProviderConfig, Readiness, Record, RecordKey, Scope, Value};
use serde::{Deserialize, Serialize};

use crate::{OperationHeader, OperationResult};

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// An operation begins.
    Begin(OperationHeader),
    /// A call is about to be made.
    Intent(Box<Intent>),
    /// A call's outcome is known, or known to be unknown.
    Outcome(Box<Outcome>),
    /// Records change without a call.
    Edit(Box<Edit>),
    /// The operation is over.
    Seal {
        /// The operation.
        operation: String,
        /// How it ended.
        result: OperationResult,
        /// When, in milliseconds since the epoch.
        at_ms: u64,
    },
}

/// Which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Make it.
    Create,
    /// Change it in place.
    Update,
    /// Delete or release it.
    Delete,
}

/// A call that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Whose.
    pub key: RecordKey,
    /// Which call.
    pub call: Call,
    /// What is wanted (create, update): references resolved, secrets as reference and fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration: Option<Arc<Declaration>>,
    /// The generation that the call makes or removes.
    pub generation: u32,
    /// The scope that the call goes to, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// When the call's deadline is past, in milliseconds since the epoch. Until then an absent thing may still appear.
    pub deadline_ms: u64,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whose.
    pub key: RecordKey,
    /// What.
    pub kind: OutcomeKind,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// It is as wanted (create, update).
    Applied {
        /// The id that the outside gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Our fields as returned.
        fields: Value,
        /// What only the outside can tell.
        attributes: Value,
        /// Where.
        scope: Scope,
        /// Whether it can be used already.
        readiness: Readiness,
    },
    /// It is gone, or released.
    Deleted,
    /// It certainly did not happen: the record is again what it was before the intent.
    NotDone {
        /// Why, without secrets.
        message: String,
    },
    /// It is not known; the intent stays open and the next plan looks.
    Indeterminate {
        /// What was seen, without secrets.
        message: String,
    },
}

/// A change of records without a call outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// A record is set: adopted, refreshed, or ready at last.
    Put {
        /// Which.
        key: RecordKey,
        /// What.
        record: Arc<Record>,
    },
    /// A record is removed; what it stood for is left alone outside, or is known to be gone.
    Forget {
        /// Which.
        key: RecordKey,
    },
    /// The current record becomes a deposed one, so that its successor can be made first.
    Depose {
        /// Whose.
        address: Address,
    },
    /// A record gets another address, and all records that name the old one in their edges or as their host name the new
    /// one.
    Move {
        /// From.
        from: Address,
        /// To.
        to: Address,
    },
    /// The providers' configuration that deletions will need, and the outputs.
    Context {
        /// Provider configurations by name.
        providers: BTreeMap<String, ProviderConfig>,
        /// Outputs by name; references stay references.
        outputs: BTreeMap<String, Value>,
    },
}
