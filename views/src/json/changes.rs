//! What changes, and what drifted.

use std::collections::BTreeMap;

use ksail_model::{Path, Schemas, Step, Value};
use ksail_plan::{Action, Drift, Plan, PlanNode, Reason};
use serde_json::{Map, Value as Json};

use super::own;
use super::resources::{declared, naming};
use super::values::{is_sensitive, is_unknown, marks, marks_or_false, object, plain, plain_or_null, set};
use crate::mask::Mask;
use crate::words::is_read;

/// Every node but the blocked ones, in the order of addresses.
pub(super) fn resource_changes(plan: &Plan, schemas: &dyn Schemas) -> Json {
    let nodes = plan.nodes.values().filter(|node| !matches!(node.action, Action::Blocked { .. }));
    Json::Array(nodes.map(|node| resource_change(plan, schemas, node)).collect())
}

fn resource_change(plan: &Plan, schemas: &dyn Schemas, node: &PlanNode) -> Json {
    let mask = Mask::new(schemas.schema(node.key.address.kind()), &node.changes);
    let side = |value: &Option<Value>| value.as_ref().map(|value| mask.apply(value, &Path::root()));
    let before = side(&node.before);
    // What leaves the state has nothing after, whatever stays outside.
    let after = if matches!(node.action, Action::Delete | Action::Forget) { None } else { side(&node.after) };
    let mut change = change(actions(node), before.as_ref(), after.as_ref());
    let forced: Vec<Json> = node
        .changes
        .iter()
        .filter(|change| change.forces_replacement)
        .map(|change| attribute_path(&change.path))
        .collect();
    super::insert_list(&mut change, "replace_paths", forced);
    let importing = node.import.as_ref().map(|id| Json::Object(object([("id", id.as_str().into())])));
    set(&mut change, "importing", importing);

    let mut out = naming(plan, &node.key.address, declared(node));
    out.insert("change".to_owned(), Json::Object(change));
    set(&mut out, "action_reason", action_reason(node).map(Into::into));
    set(&mut out, "previous_address", node.moved_from.as_ref().map(|from| from.as_str().into()));
    set(&mut out, "deposed", node.key.deposed.map(|generation| generation.to_string().into()));
    out.insert("ksail".to_owned(), own::about_node(node));
    Json::Object(out)
}

fn change(actions: &[&str], before: Option<&Value>, after: Option<&Value>) -> Map<String, Json> {
    let unknown = after.map_or_else(|| Json::Object(Map::new()), |after| marks(after, is_unknown));
    object([
        ("actions", actions.into()),
        ("before", plain_or_null(before)),
        ("after", plain_or_null(after)),
        ("after_unknown", unknown),
        ("before_sensitive", marks_or_false(before, is_sensitive)),
        ("after_sensitive", marks_or_false(after, is_sensitive)),
    ])
}

const fn plain_actions(action: &Action) -> &'static [&'static str] {
    match action {
        // Waiting changes nothing outside; `ksail.action` tells it apart.
        Action::NoOp | Action::Wait | Action::Blocked { .. } => &["no-op"],
        Action::Create => &["create"],
        Action::Update => &["update"],
        Action::Replace { create_first: false } => &["delete", "create"],
        Action::Replace { create_first: true } => &["create", "delete"],
        Action::Delete => &["delete"],
        Action::Forget => &["forget"],
    }
}

fn actions(node: &PlanNode) -> &'static [&'static str] {
    match node.action {
        Action::Create | Action::Update if is_read(node) => &["read"],
        _ => plain_actions(&node.action),
    }
}

/// The nearest of Terraform's reasons; ours stands in `ksail.reason`.
fn action_reason(node: &PlanNode) -> Option<&'static str> {
    Some(match (&node.action, &node.reason) {
        (Action::Create | Action::Update, _) if is_read(node) => "read_because_dependency_pending",
        (Action::Replace { .. }, Reason::ReplaceRequested) => "replace_by_request",
        (Action::Replace { .. }, Reason::Interrupted | Reason::NotReady { .. }) => "replace_because_tainted",
        (Action::Replace { .. }, Reason::HostReplaced { .. } | Reason::DependencyReplaced { .. }) => {
            "replace_by_triggers"
        }
        (Action::Replace { .. }, _) => "replace_because_cannot_update",
        (Action::Delete | Action::Forget, Reason::NoLongerDeclared | Reason::Removed) => {
            "delete_because_no_resource_config"
        }
        _ => return None,
    })
}

/// The attribute that holds a path: Terraform's replacement paths end where a list begins.
fn attribute_path(path: &Path) -> Json {
    let keys = path.steps().iter().map_while(|step| match step {
        Step::Key(key) => Some(Json::from(key.as_str())),
        Step::Index(_) | Step::Element(_) | Step::Any => None,
    });
    Json::Array(keys.collect())
}

/// What drifted: before is what was recorded, after is what was seen.
pub(super) fn resource_drift(plan: &Plan, schemas: &dyn Schemas) -> Vec<Json> {
    plan.drift.iter().map(|drift| one_drift(plan, schemas, drift)).collect()
}

fn one_drift(plan: &Plan, schemas: &dyn Schemas, drift: &Drift) -> Json {
    let node = plan.nodes.get(&drift.key);
    let mask = {
        let planned = node.map(|node| node.changes.as_slice()).unwrap_or_default();
        Mask::new(schemas.schema(drift.key.address.kind()), drift.changes.iter().chain(planned))
    };
    let recorded = match node.and_then(|node| node.record.as_ref()) {
        Some(record) => joined(&record.fields, &record.attributes),
        None => from_changes(drift, true),
    };
    let seen = match (node.and_then(|node| node.before.as_ref()), drift.deleted) {
        (_, true) => None,
        (Some(before), false) => Some(before.clone()),
        (None, false) => Some(from_changes(drift, false)),
    };
    let recorded = mask.apply(&recorded, &Path::root());
    let seen = seen.map(|seen| mask.apply(&seen, &Path::root()));
    let actions: &[&str] = if drift.deleted { &["delete"] } else { &["update"] };
    let mut out = naming(plan, &drift.key.address, node.and_then(declared));
    out.insert("change".to_owned(), Json::Object(change(actions, Some(&recorded), seen.as_ref())));
    set(&mut out, "deposed", drift.key.deposed.map(|generation| generation.to_string().into()));
    out.insert("ksail".to_owned(), own::about_drift(drift));
    Json::Object(out)
}

/// Fields and attributes in one map; fields win.
fn joined(fields: &Value, attributes: &Value) -> Value {
    let maps = [attributes, fields].into_iter().filter_map(Value::as_map);
    Value::Map(maps.flatten().map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// The attributes that drifted, where nothing else is known.
fn from_changes(drift: &Drift, before: bool) -> Value {
    let mut out = Value::empty_map();
    for change in &drift.changes {
        let side = if before { &change.before } else { &change.after };
        if let Some(value) = side {
            out.set(&change.path, value.clone());
        }
    }
    out
}

/// The outputs; a sensitive one is hidden as a whole.
pub(super) fn output_changes(plan: &Plan, schemas: &dyn Schemas) -> Json {
    let changes: BTreeMap<_, _> = crate::outputs::output_changes(plan, schemas);
    let mut out = Map::new();
    for (name, change) in changes {
        let action = match (&change.before, &change.after) {
            (before, after) if before == after => "no-op",
            (None, _) => "create",
            (_, None) => "delete",
            _ => "update",
        };
        let is_hidden = |value: &Option<Value>| value.as_ref().is_some_and(|value| value.any_leaf(&is_sensitive));
        let side = |value: &Option<Value>| {
            value.as_ref().filter(|_| !is_hidden(&change.before) && !is_hidden(&change.after)).cloned()
        };
        let after = side(&change.after);
        let unknown = after.as_ref().is_some_and(|after| after.any_leaf(&is_unknown));
        let mut entry = object([
            ("actions", Json::Array(vec![action.into()])),
            ("before", side(&change.before).as_ref().map_or(Json::Null, plain)),
            ("after_unknown", unknown.into()),
            ("before_sensitive", is_hidden(&change.before).into()),
            ("after_sensitive", is_hidden(&change.after).into()),
        ]);
        if !unknown {
            entry.insert("after".to_owned(), plain_or_null(after.as_ref()));
        }
        out.insert(name, Json::Object(entry));
    }
    Json::Object(out)
}
