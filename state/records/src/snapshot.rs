//! The snapshot: a checkpoint of the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use ksail_model::{ProviderConfig, Record, RecordKey, Value};
use serde::{Deserialize, Serialize};

use crate::{Intent, OperationHeader};

/// The version of everything that a backend stores. A newer one is read-only.
pub const FORMAT: u32 = 1;

/// An intent without an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIntent {
    /// The intent.
    pub intent: Intent,
    /// The operation that it belongs to.
    pub operation: String,
    /// The record before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Arc<Record>>,
}

/// A checkpoint of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`FORMAT`].
    pub format: u32,
    /// The identity of this state, made once; also written into marks.
    pub lineage: String,
    /// The stack (by default one cluster of one environment).
    pub stack: String,
    /// The environment, if one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Counts operations.
    pub serial: u64,
    /// The sequence number of the last journal entry that is taken in.
    pub sequence: u64,
    /// One record a resource.
    pub records: BTreeMap<RecordKey, Arc<Record>>,
    /// Calls whose outcome is not known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub open: BTreeMap<RecordKey, OpenIntent>,
    /// How to reach the providers that the records name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Outputs, with references.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Value>,
    /// The operation under way, or killed, with the records before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationHeader>,
    /// For the operation under way: each changed record as it was before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<RecordKey, Option<Arc<Record>>>,
    /// For the operation under way: the outputs as they were before, if it changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs_before: Option<BTreeMap<String, Value>>,
    /// The header of the last sealed operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<OperationHeader>,
}

impl Snapshot {
    /// The state before anything.
    pub fn empty(lineage: impl Into<String>, stack: impl Into<String>, environment: Option<String>) -> Self {
        Self {
            format: FORMAT,
            lineage: lineage.into(),
            stack: stack.into(),
            environment,
            serial: 0,
            sequence: 0,
            records: BTreeMap::new(),
            open: BTreeMap::new(),
            providers: BTreeMap::new(),
            outputs: BTreeMap::new(),
            operation: None,
            before: BTreeMap::new(),
            outputs_before: None,
            last: None,
        }
    }
}
