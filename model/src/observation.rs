//! What was seen outside.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Address, Path, Value};

/// Which outside it is: an engine's id, the UID of `kube-system`, a cloud account. An observation
/// counts only in the scope that was recorded. All that is in it names it, so it is shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(pub Arc<str>);

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose a thing is, as written on the thing itself (labels).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The lineage of the state that made it.
    pub lineage: String,
    /// The address there.
    pub address: Address,
    /// The operation that made it.
    pub operation: String,
    /// The generation.
    pub generation: u32,
}

impl Mark {
    /// Whether it is that of this very resource, of whatever operation.
    pub fn is_of(&self, lineage: &str, address: &Address, generation: u32) -> bool {
        self.lineage == lineage && self.address == *address && self.generation == generation
    }
}

/// Whether a thing can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "why")]
pub enum Readiness {
    /// It can be used.
    Ready,
    /// It exists and cannot be used; why, as a fragment.
    NotReady(String),
}

impl Readiness {
    /// Whether it can be used.
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// What somebody else has of a thing that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Others {
    /// Who, as a person would name them.
    pub owner: String,
    /// Fields that are theirs and are left to them; whole parts where there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Path>,
    /// Whether they have a declaration of the thing themselves and bring it back to that, so that two would write it in turn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reconciles: bool,
}

/// A thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The id that the outside gave it, if it gives ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The fields of the kind's spec, as they are outside, in the spec's shape. Secrets appear as
    /// fingerprints, never as text. Fields that no kind knows are left out.
    pub fields: Value,
    /// What only the outside can tell, a map: ids, addresses, endpoints. Never status, versions that move by
    /// themselves, or times.
    pub attributes: Value,
    /// Whose it is; `None` if it carries no mark of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// Whether it can be used.
    pub readiness: Readiness,
    /// What others have of it. It is told, and never compared or recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Others>,
}

/// Why something is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum UnknownReason {
    /// The outside did not answer; what it said, if anything.
    Unreachable {
        /// What failed, with the address that was tried.
        message: String,
    },
    /// Another outside answers behind the same name.
    OtherScope {
        /// The scope that was recorded.
        recorded: Scope,
        /// The scope that answers now.
        found: Scope,
    },
    /// What hosts it is unknown.
    HostUnknown {
        /// The host.
        host: Address,
    },
    /// What hosts it is there but does not serve yet; it will be looked at once it does.
    HostNotServing {
        /// The host.
        host: Address,
    },
    /// A call may still be under way, or its outcome was never learnt.
    OpenIntent {
        /// The operation that opened it.
        operation: String,
        /// When the call's deadline is past, in milliseconds since the epoch.
        deadline_ms: u64,
    },
    /// It was not looked at (`--refresh=false`).
    NotRefreshed,
    /// Only part of the answer was readable, or rights are missing.
    Denied {
        /// What was refused.
        message: String,
    },
}

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { message } => write!(f, "cannot be reached: {message}"),
            Self::OtherScope { recorded, found } => {
                write!(f, "another outside answers: recorded in {recorded}, found {found}")
            }
            Self::HostUnknown { host } => write!(f, "its host {host} is unknown"),
            Self::HostNotServing { host } => write!(f, "its host {host} is not serving yet"),
            Self::OpenIntent { operation, .. } => {
                write!(f, "a call of operation {operation} may still be under way")
            }
            Self::NotRefreshed => f.write_str("not looked at"),
            Self::Denied { message } => write!(f, "may not be looked at: {message}"),
        }
    }
}

/// What looking at one resource gave. Unknown is never absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "what")]
pub enum Observation {
    /// It is there.
    Present(Box<Seen>),
    /// It is certainly not there.
    Absent,
    /// It cannot be told.
    Unknown(UnknownReason),
}

impl Observation {
    /// What was seen, if it is there.
    pub fn seen(&self) -> Option<&Seen> {
        match self {
            Self::Present(seen) => Some(seen),
            _ => None,
        }
    }
}

/// What the outside says a call would give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "what")]
pub enum Preview {
    /// The outside cannot preview this, or was not asked.
    Unavailable,
    /// The call would be accepted, and the fields would then be these.
    Accepted {
        /// The spec's fields after the call.
        fields: Value,
    },
    /// The change cannot be made in place.
    ForcesReplacement {
        /// Which field.
        path: crate::Path,
        /// Why, as a fragment.
        why: String,
    },
    /// The call would be refused.
    Refused {
        /// Why.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}
