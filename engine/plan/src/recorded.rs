//! What a plan changes in the state alone, without a call.

use std::sync::Arc;

use ksail_model::{Address, Declaration, Lifecycle, Path, Record, Value};
use serde::Serialize;

use crate::joined;
use crate::plan::{Action, Plan, PlanNode};

/// Something that only the state says of a resource, and that will be another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum RecordChange {
    /// Whether it may be deleted or replaced.
    Protection {
        /// Before.
        before: bool,
        /// From now on.
        after: bool,
    },
    /// Whether a new one is made before the old one is deleted.
    CreateBeforeDestroy {
        /// Before.
        before: bool,
        /// From now on.
        after: bool,
    },
    /// Which fields are left alone.
    Ignored {
        /// Before.
        before: Vec<Path>,
        /// From now on.
        after: Vec<Path>,
    },
    /// What it needs.
    Needs {
        /// Before.
        before: Vec<Address>,
        /// From now on.
        after: Vec<Address>,
    },
    /// What only the outside can tell of it is another than when it was recorded.
    Seen {
        /// The attributes.
        attributes: Vec<String>,
    },
    /// It is as it shall be, and was recorded as being on the way.
    Ready,
}

impl PlanNode {
    /// What is said of its life from now on that was not before, whatever else is done to it.
    pub fn lifecycle_changes(&self) -> Vec<RecordChange> {
        let (Some(record), Some(after)) = (&self.record, self.declaration_after()) else { return Vec::new() };
        lifecycle_changes(&record.declaration.lifecycle, &after.lifecycle)
    }

    fn declaration_after(&self) -> Option<&Arc<Declaration>> {
        self.refreshed.as_ref().map(|record| &record.declaration).or(self.declaration.as_ref())
    }

    /// What is recorded of it without a call or a change outside. Empty where something else is done to it, or where what is
    /// recorded means the same.
    pub fn recorded_only(&self) -> Vec<RecordChange> {
        let is_other = self.action != Action::NoOp || self.import.is_some() || self.moved_from.is_some();
        match (&self.record, &self.refreshed) {
            (Some(before), Some(after)) if !is_other => record_changes(before, after),
            _ => Vec::new(),
        }
    }
}

impl Plan {
    /// What is recorded without a call, by node.
    pub fn recorded_only(&self) -> impl Iterator<Item = (&PlanNode, Vec<RecordChange>)> {
        let each = self.nodes.values().map(|node| (node, node.recorded_only()));
        each.filter(|(_, changes)| !changes.is_empty())
    }
}

fn lifecycle_changes(before: &Lifecycle, after: &Lifecycle) -> Vec<RecordChange> {
    let mut changes = Vec::new();
    if before.is_protected() != after.is_protected() {
        changes.push(RecordChange::Protection { before: before.is_protected(), after: after.is_protected() });
    }
    let (first, then) = (before.create_before_destroy, after.create_before_destroy);
    if first != then {
        changes.push(RecordChange::CreateBeforeDestroy { before: first, after: then });
    }
    if before.ignore != after.ignore {
        changes.push(RecordChange::Ignored { before: before.ignore.clone(), after: after.ignore.clone() });
    }
    changes
}

fn record_changes(before: &Record, after: &Record) -> Vec<RecordChange> {
    let mut changes = lifecycle_changes(&before.declaration.lifecycle, &after.declaration.lifecycle);
    let needs = |record: &Record| -> Vec<Address> {
        let mut needs: Vec<Address> =
            record.declaration.edges.iter().filter(|edge| edge.is_need()).map(|edge| edge.to.clone()).collect();
        needs.sort();
        needs
    };
    let (needed, needed_now) = (needs(before), needs(after));
    if needed != needed_now {
        changes.push(RecordChange::Needs { before: needed, after: needed_now });
    }
    let attributes = attributes_that_differ(before, after);
    if !attributes.is_empty() {
        changes.push(RecordChange::Seen { attributes });
    }
    if before.status != after.status {
        changes.push(RecordChange::Ready);
    }
    changes
}

/// By name. Fields are not among them: what differs there is drift, or the same to its kind.
fn attributes_that_differ(before: &Record, after: &Record) -> Vec<String> {
    let of = |record: &Record| joined(&Value::empty_map(), &record.attributes);
    let (old, new) = (of(before), of(after));
    let names =
        |value: &Value| -> Vec<String> { value.as_map().into_iter().flat_map(|map| map.keys().cloned()).collect() };
    let mut all = names(&old);
    all.extend(names(&new));
    all.sort();
    all.dedup();
    all.retain(|name| old.field(name) != new.field(name));
    if before.id != after.id && !all.iter().any(|name| name == "id") {
        all.push("id".to_owned());
    }
    all
}
