//! The plan: immutable, and all that an apply needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use ksail_model::{
    Condition, Declaration, Digest, Edge, Others, Path, ProviderConfig, Record, RecordKey, Scope, UnknownReason, Value,
};
use ksail_records::Outcome;
use serde::{Deserialize, Serialize};

use crate::nodes::Nodes;

/// The version of the plan file.
pub const PLAN_FORMAT: u32 = 1;

/// What a plan is made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Mode {
    /// The declarations.
    Apply,
    /// The empty declaration.
    Destroy,
    /// What was seen is taken into the state; nothing outside changes.
    RefreshOnly,
    /// Declarations as they were before an operation.
    Undo {
        /// The operation.
        operation: String,
    },
    /// Records are rebuilt from marks found outside.
    Recover,
}

/// What a plan was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanHeader {
    /// The lineage of the state. For a state that does not exist yet: the lineage that it will get.
    pub lineage: String,
    /// Whether the state does not exist yet.
    pub new_state: bool,
    /// The stack.
    pub stack: String,
    /// The environment, if one was named.
    pub environment: Option<String>,
    /// The serial of the state.
    pub serial: u64,
    /// What it is made for.
    pub mode: Mode,
    /// The version of ksail that made it.
    pub version: String,
    /// The commit of the sources, if they are in a repository.
    pub commit: Option<String>,
    /// The file that was compiled, as the user named it, for the hints of an apply.
    pub source: String,
    /// When it was made, in milliseconds since the epoch; no part of any digest.
    pub made_ms: u64,
    /// Who held the lock of the state when it was made, as a clause: `apply of joe@laptop is under way (pid 7)`. What it shows of the
    /// calls of that operation is no more than how far they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_work: Option<String>,
}

/// What is done to a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Action {
    /// Nothing.
    NoOp,
    /// It is made.
    Create,
    /// It is changed in place.
    Update,
    /// It is made anew.
    Replace {
        /// Whether the new one is made first.
        create_first: bool,
    },
    /// It is deleted, or released where it is shared.
    Delete,
    /// It leaves the state and stays outside.
    Forget,
    /// It is there and not ready: it is waited for.
    Wait,
    /// It cannot be told what to do.
    Blocked {
        /// Why.
        why: Blocked,
    },
}

impl Action {
    /// Whether something is done outside or to what is managed.
    pub const fn is_change(&self) -> bool {
        !matches!(self, Self::NoOp | Self::Blocked { .. })
    }
}

/// Why a node is blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Blocked {
    /// It is unknown what is outside.
    Unknown {
        /// Why.
        reason: UnknownReason,
    },
    /// What it needs is blocked.
    Dependency {
        /// What it needs.
        on: RecordKey,
    },
    /// A thing of its identity exists and is not ours.
    NotOurs {
        /// Whose it is, where the thing tells.
        owner: Option<String>,
        /// The thing's name outside.
        name: String,
        /// Whether the state has a record of a thing of ours, in whose place this one is.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        recorded: bool,
    },
    /// There is no state yet, and a thing of this cluster belongs to another one: that was lost, or is elsewhere, and a second
    /// one is not begun beside it.
    OtherState {
        /// What belongs to the other state.
        of: RecordKey,
    },
    /// A thing of its identity exists and carries the mark of this state, which has no record of it (`state rm`, `state mv`).
    Unrecorded {
        /// The thing's name outside.
        name: String,
    },
    /// The outside would refuse the call.
    Refused {
        /// What it said.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// What shall be imported is not there.
    NothingToImport {
        /// The id that was given.
        id: String,
    },
}

/// Why a node changes: the first cause that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Reason {
    /// It does not change.
    None,
    /// It is declared and not in the state.
    Declared,
    /// Its declaration changed.
    DeclarationChanged,
    /// It was changed outside.
    Drifted,
    /// It was deleted outside.
    DeletedOutside,
    /// It is no longer declared.
    NoLongerDeclared,
    /// `spec.removed` says so.
    Removed,
    /// Everything is destroyed.
    Destroy,
    /// `--replace` asked for it.
    ReplaceRequested,
    /// What it lives in is made or made anew.
    HostReplaced {
        /// The host.
        host: RecordKey,
    },
    /// What it lives in is deleted with all that is in it.
    HostDeleted {
        /// The host.
        host: RecordKey,
    },
    /// What it needs is made anew, and it cannot outlive that.
    DependencyReplaced {
        /// What it needs.
        dependency: RecordKey,
    },
    /// A part of it changes that depends on another resource.
    DependencyChanged {
        /// The resource.
        dependency: RecordKey,
    },
    /// It is deposed and waits to be deleted.
    Deposed,
    /// It is not ready.
    NotReady {
        /// Why, as seen.
        why: String,
    },
    /// It exists and becomes ours.
    Imported,
    /// A killed operation left it half-done.
    Interrupted,
    /// The outside cannot make the change in place.
    OutsideForces {
        /// Why.
        why: String,
    },
}

/// What causes a field to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The declaration changed.
    Declared,
    /// It was changed outside.
    Drifted,
    /// It follows from another resource's change.
    Dependency,
}

/// A field that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Which; list elements by key where the kind's lists have keys.
    pub path: Path,
    /// The value before; `None` if it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The value after; `None` if it will not be there. [`Value::Unknown`] is known after apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// What causes it.
    pub cause: Cause,
    /// Whether it is why the resource is made anew.
    pub forces_replacement: bool,
    /// Whether its values are never shown.
    pub sensitive: bool,
}

/// What was seen when the plan was made; it is looked at again before the first call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum SeenAt {
    /// It was not there.
    Absent,
    /// It was there: the digest of our fields and its id.
    Present {
        /// The digest.
        digest: Digest,
    },
    /// It could not be looked at yet, because its host comes first; it is compared with the record once the host serves.
    Deferred,
    /// It was not looked at (`--refresh=false`, or outside the target).
    NotLooked,
}

/// One resource in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanNode {
    /// Which.
    pub key: RecordKey,
    /// What is done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The fields that change (update, replace), or that become ours with a difference (import).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<FieldChange>,
    /// Fields and attributes before, joined; `None` if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Fields and attributes after, joined, with unknowns; `None` if it will not be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// What is wanted; `None` for what is only deleted or forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration: Option<Arc<Declaration>>,
    /// What the state knew, with all that a deletion needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Arc<Record>>,
    /// What was seen.
    pub seen: SeenAt,
    /// The scope that it was seen in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The generation that it has afterwards.
    pub generation: u32,
    /// The id by which an existing thing becomes ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<String>,
    /// The address that it had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<ksail_model::Address>,
    /// Whether it goes with its host, without a call of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_host: bool,
    /// What is lost with it, as a fragment, if it is deleted or replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loses: Option<String>,
    /// What else its deletion does, as the outside foretells it, in fragments. Nothing is done by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forecast: Vec<String>,
    /// What others have of it, as it was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Others>,
    /// The record as it shall be after a refresh without a call (adopted, drifted and accepted, moved).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshed: Option<Arc<Record>>,
}

/// What drifted outside, told apart from what changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Which.
    pub key: RecordKey,
    /// Whether it is gone.
    pub deleted: bool,
    /// The fields: before is what was recorded, after is what was seen.
    pub changes: Vec<FieldChange>,
    /// What the plan does about it.
    pub response: DriftResponse,
}

/// What a plan does about drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftResponse {
    /// It is brought back to what is declared.
    Reverted,
    /// It is what is declared now.
    Agrees,
    /// It is left alone (`spec.lifecycle[].ignore`, or not a field of ours).
    Left,
    /// It is taken into the state (`--refresh-only`).
    Accepted,
}

/// What is done in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepDo {
    /// The create call, then the wait until ready.
    Create,
    /// The update call, then the wait until ready.
    Update,
    /// The delete call.
    Delete,
    /// Wait until ready.
    Wait,
    /// The record becomes a deposed one.
    Depose,
    /// The record is set without a call ([`PlanNode::refreshed`]).
    Put,
    /// The record is removed without a call.
    Forget,
}

/// One step, with what must be over before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// Whose.
    pub key: RecordKey,
    /// What.
    #[serde(rename = "do")]
    pub what: StepDo,
    /// Positions of the steps that it needs, and how far they must be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<(u32, Condition)>,
    /// How long it will take, in milliseconds: recorded, or the kind's estimate.
    pub estimate_ms: u64,
}

/// What a call of a killed operation turned out to be. Written to the journal when the plan is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// The operation that was killed.
    pub operation: String,
    /// What became of its call.
    pub outcome: Outcome,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_FORMAT`].
    pub format: u32,
    /// What it was made from.
    pub header: PlanHeader,
    /// Of the declarations, secrets by reference: equal on every machine.
    pub content_digest: Digest,
    /// Of all of the plan but the time that it was made at.
    pub digest: Digest,
    /// The resources.
    pub nodes: Nodes,
    /// The steps, each after all that it needs.
    pub steps: Vec<PlanStep>,
    /// What drifted.
    pub drift: Vec<Drift>,
    /// What calls of a killed operation turned out to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolutions: Vec<Resolution>,
    /// Soft edges that yielded in a cycle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub yielded: Vec<(RecordKey, Edge)>,
    /// How to reach the providers.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Outputs, with references.
    pub outputs: BTreeMap<String, Value>,
    /// The outputs of the state that it was made from, with references.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs_before: BTreeMap<String, Value>,
    /// What a reader should know (an operation under way, what `--target` leaves out), as sentences without a full stop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How many nodes do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// To be made.
    pub create: usize,
    /// To be changed in place.
    pub update: usize,
    /// To be made anew.
    pub replace: usize,
    /// To be deleted.
    pub delete: usize,
    /// To leave the state.
    pub forget: usize,
    /// To be imported.
    pub import: usize,
    /// To be waited for.
    pub wait: usize,
    /// To be recorded otherwise, without a change outside.
    #[serde(default)]
    pub record: usize,
    /// Blocked.
    pub blocked: usize,
    /// Without a change.
    pub unchanged: usize,
}

impl Plan {
    /// How many nodes do what.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for node in self.nodes.values() {
            if node.import.is_some() && !matches!(node.action, Action::Blocked { .. }) {
                counts.import += 1;
            }
            match &node.action {
                Action::NoOp if node.import.is_some() => {}
                Action::NoOp if !node.recorded_only().is_empty() => counts.record += 1,
                Action::NoOp => counts.unchanged += 1,
                Action::Create => counts.create += 1,
                Action::Update => counts.update += 1,
                Action::Replace { .. } => counts.replace += 1,
                Action::Delete => counts.delete += 1,
                Action::Forget => counts.forget += 1,
                Action::Wait => counts.wait += 1,
                Action::Blocked { .. } => counts.blocked += 1,
            }
        }
        counts
    }

    /// Whether an apply would do anything, or drift was seen (exit code 2 of `plan --detailed-exitcode`).
    pub fn has_changes(&self) -> bool {
        !self.drift.is_empty()
            || !self.resolutions.is_empty()
            || self
                .nodes
                .values()
                .any(|node| node.action.is_change() || node.import.is_some() || node.moved_from.is_some())
            || self.recorded_only().next().is_some()
            || self.changes_outputs()
    }

    /// Whether it changes what the outputs are made of. While something is blocked they are left for later.
    pub fn changes_outputs(&self) -> bool {
        self.outputs != self.outputs_before && self.is_complete()
    }

    /// Adds what a reader should know, and takes it into the digest.
    pub fn add_notes(&mut self, notes: impl IntoIterator<Item = String>) {
        self.notes.extend(notes);
        self.digest = crate::digest_of(self);
    }

    /// Adds what the outside foretells of deletions, and takes it into the digest.
    pub fn add_forecasts(&mut self, forecasts: impl IntoIterator<Item = (RecordKey, Vec<String>)>) {
        for (key, forecast) in forecasts {
            if let Some(node) = self.nodes.get_mut(&key) {
                node.forecast = forecast;
            }
        }
        self.digest = crate::digest_of(self);
    }

    /// Whether no node is blocked.
    pub fn is_complete(&self) -> bool {
        !self.nodes.values().any(|node| matches!(node.action, Action::Blocked { .. }))
    }
}
