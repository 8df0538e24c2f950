//! What is said of things in a machine that cannot be labelled: whose they are and what was asked for, as one line of JSON.

use ksail_model::{Address, Mark, Value};
use ksail_provider::{CallError, DeleteRequest};
use serde::{Deserialize, Serialize};

use crate::ownership::{Found, may_complete, may_delete};

/// Whose a thing in a machine is, and what was asked for. The operation is left out: one that goes on with the work of another
/// asks for the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    lineage: String,
    address: Address,
    generation: u32,
    pub(crate) spec: Value,
    /// What was found out when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<String>,
}

impl Written {
    pub(crate) fn new(mark: &Mark, spec: &Value, found: Option<String>) -> Self {
        Self {
            lineage: mark.lineage.clone(),
            address: mark.address.clone(),
            generation: mark.generation,
            spec: spec.clone(),
            found,
        }
    }

    /// As one line. Secrets are in no spec of this kind.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    pub(crate) fn mark(&self, operation: &str) -> Mark {
        Mark {
            lineage: self.lineage.clone(),
            address: self.address.clone(),
            operation: operation.to_owned(),
            generation: self.generation,
        }
    }

    /// Whether a creation may go on with it.
    pub(crate) fn may_complete(&self, what: &str, mark: &Mark) -> Result<(), CallError> {
        may_complete(what, &Found { id: what, mark: Some(&self.mark("")) }, mark)
    }

    /// Whether a deletion means it.
    pub(crate) fn may_delete(&self, what: &str, request: &DeleteRequest) -> Result<bool, CallError> {
        may_delete(what, &Found { id: what, mark: Some(&self.mark("")) }, request)
    }
}
