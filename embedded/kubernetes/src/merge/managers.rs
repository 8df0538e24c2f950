//! `managedFields`: who manages which field, kept as a real server keeps it on updates and server-side applies.

use std::collections::BTreeMap;

use ksail_kubernetes_schema::{TypeId, Types};
use serde_json::{Value, json};

use super::fields::{Set, Step};
use super::typed;
use crate::status::{Cause, Status};

/// More managers by update than these share one entry.
const MAX_UPDATE_MANAGERS: usize = 10;
/// The entry that they share.
const ANCIENT: &str = "ancient-changes";

/// One manager: entries are told apart by all of these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Manager {
    operation: Box<str>,
    name: Box<str>,
    api_version: Box<str>,
    subresource: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Managed {
    set: Set,
    /// When it last changed something of what it manages; empty if it never did.
    time: String,
}

/// All managers of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Managers(BTreeMap<Manager, Managed>);

/// Who writes, and how.
#[derive(Debug, Clone)]
pub(crate) struct Writer<'a> {
    pub(crate) manager: &'a str,
    pub(crate) api_version: &'a str,
    pub(crate) subresource: &'a str,
    /// Now, in whole seconds.
    pub(crate) time: &'a str,
    /// Whether the resource keeps its status apart.
    pub(crate) has_status: bool,
}

impl Managers {
    /// Reads the entries of an object; what cannot be read is dropped.
    pub(crate) fn of(object: &Value) -> Self {
        let mut managers = BTreeMap::new();
        for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
            let text = |key: &str| entry[key].as_str().unwrap_or_default();
            let Some(set) = Set::parse(&entry["fieldsV1"]) else { continue };
            let manager = Manager {
                operation: text("operation").into(),
                name: text("manager").into(),
                api_version: text("apiVersion").into(),
                subresource: text("subresource").into(),
            };
            managers.insert(manager, Managed { set, time: text("time").to_owned() });
        }
        Self(managers)
    }

    /// Writes the entries into an object.
    pub(crate) fn write(&self, object: &mut Value) {
        let mut entries: Vec<(&Manager, &Managed)> =
            self.0.iter().filter(|(_, managed)| !managed.set.is_empty()).collect();
        entries.sort_by(|(left, left_managed), (right, right_managed)| {
            (&left.operation, &left_managed.time, &left.name, &left.api_version, &left.subresource).cmp(&(
                &right.operation,
                &right_managed.time,
                &right.name,
                &right.api_version,
                &right.subresource,
            ))
        });
        let entries: Vec<Value> = entries
            .into_iter()
            .map(|(manager, managed)| {
                let mut entry = json!({
                    "manager": &*manager.name, "operation": &*manager.operation, "apiVersion": &*manager.api_version,
                    "fieldsType": "FieldsV1", "fieldsV1": managed.set.json(),
                });
                if !managed.time.is_empty() {
                    entry["time"] = managed.time.as_str().into();
                }
                if !manager.subresource.is_empty() {
                    entry["subresource"] = (&*manager.subresource).into();
                }
                entry
            })
            .collect();
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        if entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".to_owned(), Value::Array(entries));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the times of what was, if nothing else changed.
    pub(crate) fn keep_times(&mut self, before: Self) {
        let same = self.0.len() == before.0.len()
            && self.0.iter().all(|(manager, managed)| before.0.get(manager).is_some_and(|old| old.set == managed.set));
        if same {
            *self = before;
        }
    }

    /// Takes what the other managers have of what changed away, or answers what they have of it.
    fn yield_to(
        &mut self,
        workflow: &Manager,
        comparison: &typed::Comparison,
        force: bool,
    ) -> Result<(), Vec<(Manager, Set)>> {
        let mut changed = comparison.modified.clone();
        changed.union(&comparison.added);
        let others = || self.0.iter().filter(|(manager, _)| *manager != workflow);
        let conflicts: Vec<(Manager, Set)> = others()
            .map(|(manager, managed)| (manager.clone(), managed.set.intersection(&changed)))
            .filter(|(_, set)| !set.is_empty())
            .collect();
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        for (manager, managed) in &mut self.0 {
            if manager == workflow {
                continue;
            }
            if let Some((_, set)) = conflicts.iter().find(|(conflicting, _)| conflicting == manager) {
                managed.set = managed.set.difference(set);
            }
            if !comparison.removed.is_empty() {
                managed.set = managed.set.difference(&comparison.removed);
            }
        }
        self.0.retain(|_, managed| !managed.set.is_empty());
        Ok(())
    }

    /// Records an update: what differs belongs to the writer from now on.
    pub(crate) fn update(&mut self, types: &Types, of: TypeId, before: &Value, after: &Value, writer: &Writer<'_>) {
        let comparison = writer.tracked_of(typed::compare(types, of, Some(before), Some(after)));
        let workflow = writer.workflow("Update");
        // Forced: an update never conflicts.
        let _ = self.yield_to(&workflow, &comparison, true);
        let old = self.0.get(&workflow).cloned();
        let mut set = old.as_ref().map(|managed| managed.set.clone()).unwrap_or_default();
        set = set.difference(&comparison.removed);
        let mut taken = comparison.modified;
        taken.union(&comparison.added);
        set.union(&taken);
        let set = writer.tracked(&set);
        self.place(workflow, set, old, writer, !taken.is_empty());
        self.cap(writer);
    }

    /// Puts what a manager has. Its time is that of its last change of the object, not of its set.
    fn place(&mut self, workflow: Manager, set: Set, old: Option<Managed>, writer: &Writer<'_>, changed: bool) {
        if set.is_empty() {
            self.0.remove(&workflow);
            return;
        }
        let time = if changed { writer.time.to_owned() } else { old.map(|old| old.time).unwrap_or_default() };
        self.0.insert(workflow, Managed { set, time });
    }

    /// Joins the oldest managers by update when there are too many.
    fn cap(&mut self, writer: &Writer<'_>) {
        loop {
            let updates: Vec<(&Manager, &Managed)> =
                self.0.iter().filter(|(manager, _)| &*manager.operation == "Update").collect();
            if updates.len() <= MAX_UPDATE_MANAGERS {
                return;
            }
            let oldest = updates
                .iter()
                .filter(|(manager, _)| &*manager.name != ANCIENT)
                .min_by(|(_, left), (_, right)| left.time.cmp(&right.time))
                .map(|(manager, _)| (*manager).clone());
            let Some(oldest) = oldest else { return };
            let Some(managed) = self.0.remove(&oldest) else { return };
            let bucket = Manager {
                operation: "Update".into(),
                name: ANCIENT.into(),
                api_version: writer.api_version.into(),
                subresource: "".into(),
            };
            match self.0.get_mut(&bucket) {
                Some(ancient) => ancient.set.union(&managed.set),
                None => {
                    self.0.insert(bucket, managed);
                }
            }
        }
    }

    /// Applies a configuration to what is live; answers the new object, or the conflict.
    pub(crate) fn apply(
        &mut self,
        types: &Types,
        of: TypeId,
        live: &Value,
        applied: &Value,
        writer: &Writer<'_>,
        force: bool,
    ) -> Result<Value, Status> {
        let workflow = writer.workflow("Apply");
        let merged = typed::merge(types, of, Some(live), Some(applied)).unwrap_or(Value::Null);
        let set = writer.tracked(&typed::to_set(types, of, applied));
        let old = self.0.get(&workflow).cloned();
        self.0.insert(workflow.clone(), Managed { set: set.clone(), time: writer.time.to_owned() });
        let merged = match &old {
            Some(last) if !last.set.is_empty() => self.prune(types, of, merged, &last.set),
            _ => merged,
        };
        let comparison = typed::compare(types, of, Some(live), Some(&merged));
        self.yield_to(&workflow, &comparison, force).map_err(|conflicts| conflict(&conflicts))?;
        let changed = [&comparison.removed, &comparison.modified, &comparison.added].iter().any(|set| !set.is_empty());
        self.place(workflow, set, old, writer, changed);
        Ok(merged)
    }

    /// Removes what this manager applied before and does not apply any more, unless another manages it.
    fn prune(&self, types: &Types, of: TypeId, merged: Value, last: &Set) -> Value {
        let last = last.with_named_fields(types, of);
        let pruned = typed::remove(types, of, &merged, &last).unwrap_or(json!({}));
        let merged_set = typed::to_set(types, of, &merged).with_named_fields(types, of);
        let mut managed = Set::default();
        for entry in self.0.values() {
            managed.union(&entry.set);
        }
        // What others manage comes back.
        let mut kept = typed::to_set(types, of, &pruned).with_named_fields(types, of);
        kept.union(&managed.with_named_fields(types, of));
        let pruned = typed::remove(types, of, &merged, &merged_set.difference(&kept)).unwrap_or(json!({}));
        // What fell with it though it was never applied comes back too.
        let pruned_set = typed::to_set(types, of, &pruned).with_named_fields(types, of);
        let gone = merged_set.difference(&pruned_set).intersection(&last);
        typed::remove(types, of, &merged, &gone).unwrap_or(json!({}))
    }

    /// What an object had before it was first managed belongs to a manager of its own, so that an apply takes nothing silently.
    pub(crate) fn before_first_apply(&mut self, types: &Types, of: TypeId, live: &Value, writer: &Writer<'_>) {
        let named = Writer { manager: "before-first-apply", ..writer.clone() };
        let set = named.tracked(&typed::to_set(types, of, live));
        let workflow = named.workflow("Update");
        self.place(workflow, set, None, &named, true);
    }

    /// The entries that a client sent with an object, if it sent any.
    pub(crate) fn sent(object: &Value) -> Option<Self> {
        object["metadata"].get("managedFields").filter(|entries| !entries.is_null())?;
        Some(Self::of(object))
    }
}

impl Writer<'_> {
    fn workflow(&self, operation: &str) -> Manager {
        Manager {
            operation: operation.into(),
            name: self.manager.into(),
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
        }
    }

    /// What differs of what this endpoint writes.
    fn tracked_of(&self, comparison: typed::Comparison) -> typed::Comparison {
        typed::Comparison {
            removed: self.tracked(&comparison.removed),
            modified: self.tracked(&comparison.modified),
            added: self.tracked(&comparison.added),
        }
    }

    /// The set without what is never tracked, and without what this endpoint does not write.
    fn tracked(&self, set: &Set) -> Set {
        let mut set = set.clone();
        let field = |name: &str| Step::Field(name.into());
        for name in ["apiVersion", "kind"] {
            set.below.remove(&field(name));
        }
        if self.subresource == "status" {
            set.below
                .retain(|step, _| matches!(step, Step::Field(name) if &**name == "status" || &**name == "metadata"));
            if let Some(metadata) = set.below.get_mut(&field("metadata")) {
                metadata.below.retain(|step, _| matches!(step, Step::Field(name) if &**name == "annotations"));
            }
        } else if self.has_status {
            set.below.remove(&field("status"));
        }
        if let Some(metadata) = set.below.get_mut(&field("metadata")) {
            metadata.own = false;
            for name in [
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "clusterName",
                "generation",
                "managedFields",
                "resourceVersion",
            ] {
                metadata.below.remove(&field(name));
            }
        }
        set.below.retain(|_, set| !set.is_empty());
        set
    }
}

/// The refusal that names the managers and fields in the way.
fn conflict(conflicts: &[(Manager, Set)]) -> Status {
    let mut causes = Vec::new();
    let mut by_manager = Vec::new();
    for (manager, set) in conflicts {
        let using = match (&*manager.operation, &*manager.subresource) {
            ("Update", "") => format!(" using {}", manager.api_version),
            ("Update", subresource) => format!(" with subresource {subresource:?} using {}", manager.api_version),
            (_, "") => String::new(),
            (_, subresource) => format!(" with subresource {subresource:?}"),
        };
        let who = format!("conflict with {:?}{using}", manager.name);
        let paths = set.paths();
        for path in &paths {
            causes.push(Cause { reason: "FieldManagerConflict", field: path.clone(), message: who.clone() });
        }
        by_manager.push((who, paths));
    }
    let count = causes.len();
    let plural = if count == 1 { "" } else { "s" };
    let said: Vec<String> = by_manager
        .iter()
        .map(|(who, paths)| match paths.as_slice() {
            [one] => format!("{who}: {one}"),
            many => format!("{}:\n- {}", who.replacen("conflict with", "conflicts with", 1), many.join("\n- ")),
        })
        .collect();
    let message = format!("Apply failed with {count} conflict{plural}: {}", said.join("\n"));
    Status::apply_conflict(causes, message)
}
