//! Structured merge of values by their types: which fields a value sets, what changed between two, their merge, and the removal
//! of fields.

use std::collections::HashMap;

use ksail_kubernetes_schema::{ListMerge, Shape, TypeId, Types};
use serde_json::{Map, Value};

use super::fields::{Set, Step, item_step};

/// How a value is walked.
enum Walk<'a> {
    /// As a whole.
    Leaf,
    List(TypeId, &'a ListMerge),
    Map,
}

fn walk<'a>(types: &'a Types, of: TypeId, one: Option<&Value>, other: Option<&Value>) -> Walk<'a> {
    match types.shape(of) {
        Shape::List { merge: ListMerge::Atomic, .. } => Walk::Leaf,
        Shape::List { items, merge } => Walk::List(*items, merge),
        Shape::Map { atomic, .. } => {
            if *atomic {
                Walk::Leaf
            } else {
                Walk::Map
            }
        }
        Shape::Object(object) => {
            if object.atomic {
                Walk::Leaf
            } else {
                Walk::Map
            }
        }
        // What is not known is judged by what is there: maps merge, all else is a whole.
        Shape::Any => {
            let is_map = |value: Option<&Value>| value.is_none_or(Value::is_object);
            if (one.is_some() || other.is_some()) && is_map(one) && is_map(other) { Walk::Map } else { Walk::Leaf }
        }
        _ => Walk::Leaf,
    }
}

/// Whether a field of a type is one of its known ones.
fn is_named(types: &Types, of: TypeId, name: &str) -> bool {
    types.object(of).is_some_and(|object| object.fields.contains_key(name))
}

/// Errors of a value that was applied.
pub(crate) type Errors = Vec<String>;

/// The fields that a value sets.
pub(crate) fn to_set(types: &Types, of: TypeId, value: &Value) -> Set {
    let mut set = Set::default();
    fill_set(types, of, value, &mut set);
    set
}

fn fill_set(types: &Types, of: TypeId, value: &Value, set: &mut Set) {
    match (walk(types, of, Some(value), None), value) {
        (Walk::List(items, merge), Value::Array(list)) => {
            for item in list {
                let Some(step) = item_step(types, items, merge, item) else { continue };
                let mut below = Set::default();
                fill_set(types, items, item, &mut below);
                below.own = true;
                set.put(step, below);
            }
        }
        (Walk::Map, Value::Object(map)) => {
            for (key, item) in map {
                let mut below = Set::default();
                fill_set(types, types.field(of, key), item, &mut below);
                let empty = item.is_null() || item.as_object().is_some_and(Map::is_empty);
                if empty || !is_named(types, of, key) {
                    below.own = true;
                }
                set.put(Step::Field(key.as_str().into()), below);
            }
        }
        (Walk::List(..) | Walk::Map, _) => {}
        (Walk::Leaf, _) => set.own = true,
    }
}

/// What differs between two values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Comparison {
    pub(crate) removed: Set,
    pub(crate) modified: Set,
    pub(crate) added: Set,
}

impl Comparison {
    fn below(&mut self, step: &Step, inner: Self) {
        self.removed.put(step.clone(), inner.removed);
        self.modified.put(step.clone(), inner.modified);
        self.added.put(step.clone(), inner.added);
    }

    fn leaf(&mut self, left: Option<&Value>, right: Option<&Value>) {
        match (left, right) {
            (None, Some(_)) => self.added.own = true,
            (Some(_), None) => self.removed.own = true,
            (Some(left), Some(right)) if left != right => self.modified.own = true,
            _ => {}
        }
    }
}

/// Compares two values; the first is what was.
pub(crate) fn compare(types: &Types, of: TypeId, left: Option<&Value>, right: Option<&Value>) -> Comparison {
    let mut comparison = Comparison::default();
    if left.is_some() && left == right {
        return comparison;
    }
    let empty = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    };
    match walk(types, of, left, right) {
        Walk::List(items, merge) if !(empty(left) && empty(right)) => {
            let left_items = items_by_step(types, items, merge, left);
            let right_items = items_by_step(types, items, merge, right);
            for (step, item) in &left_items.order {
                let other = right_items.by_step.get(step).copied();
                comparison.below(step, compare(types, items, Some(item), other));
            }
            for (step, item) in &right_items.order {
                if !left_items.by_step.contains_key(step) {
                    comparison.below(step, compare(types, items, None, Some(item)));
                }
            }
        }
        Walk::Map if !(empty(left) && empty(right)) => {
            let none = Map::new();
            let (left_map, right_map) = match (left, right) {
                (Some(Value::Object(left)), Some(Value::Object(right))) => (left, right),
                (Some(Value::Object(left)), _) => (left, &none),
                (_, Some(Value::Object(right))) => (&none, right),
                _ => (&none, &none),
            };
            for (key, item) in left_map {
                let step = Step::Field(key.as_str().into());
                comparison.below(&step, compare(types, types.field(of, key), Some(item), right_map.get(key)));
            }
            for (key, item) in right_map {
                if !left_map.contains_key(key) {
                    let step = Step::Field(key.as_str().into());
                    comparison.below(&step, compare(types, types.field(of, key), None, Some(item)));
                }
            }
        }
        _ => {
            comparison.leaf(left, right);
            return comparison;
        }
    }
    match (left, right) {
        (None, Some(_)) => comparison.added.own = true,
        (Some(_), None) => comparison.removed.own = true,
        _ => {}
    }
    comparison
}

struct Items<'a> {
    order: Vec<(Step, &'a Value)>,
    by_step: HashMap<Step, &'a Value>,
}

impl std::hash::Hash for Step {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Self::Field(text) | Self::Key(text) | Self::Value(text) => text.hash(state),
            Self::Index(index) => index.hash(state),
        }
    }
}

fn items_by_step<'a>(types: &Types, items: TypeId, merge: &ListMerge, list: Option<&'a Value>) -> Items<'a> {
    let mut order = Vec::new();
    let mut by_step = HashMap::new();
    for item in list.and_then(Value::as_array).into_iter().flatten() {
        if let Some(step) = item_step(types, items, merge, item) {
            // Of items with the same keys the first one counts.
            if !by_step.contains_key(&step) {
                by_step.insert(step.clone(), item);
                order.push((step, item));
            }
        }
    }
    Items { order, by_step }
}

/// Merges what is applied into what is there.
pub(crate) fn merge(types: &Types, of: TypeId, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let Some(applied) = applied else { return live.cloned() };
    let Some(live) = live else { return Some(applied.clone()) };
    match (walk(types, of, Some(live), Some(applied)), live, applied) {
        (Walk::List(items, merge_by), Value::Array(_), Value::Array(_)) => {
            Some(Value::Array(merge_lists(types, items, merge_by, live, applied)))
        }
        (Walk::Map, Value::Object(live), Value::Object(applied)) => {
            let mut out = live.clone();
            for (key, item) in applied {
                let merged = merge(types, types.field(of, key), live.get(key), Some(item));
                if let Some(merged) = merged {
                    out.insert(key.clone(), merged);
                }
            }
            Some(Value::Object(out))
        }
        _ => Some(applied.clone()),
    }
}

/// The items of both lists: those that are applied in their order, the others where they stood among them.
fn merge_lists(types: &Types, items: TypeId, merge_by: &ListMerge, live: &Value, applied: &Value) -> Vec<Value> {
    let left = items_by_step(types, items, merge_by, Some(live));
    let right = items_by_step(types, items, merge_by, Some(applied));
    let mut shared = right.order.iter().map(|(step, _)| step).filter(|step| left.by_step.contains_key(*step));
    let mut next_shared = shared.next();
    let mut out = Vec::with_capacity(left.order.len().max(right.order.len()));
    let mut merged: HashMap<&Step, ()> = HashMap::new();
    let both = |step: &Step| {
        merge(types, items, left.by_step.get(step).copied(), right.by_step.get(step).copied()).unwrap_or(Value::Null)
    };
    let (mut l, mut r) = (0, 0);
    while l < left.order.len() || r < right.order.len() {
        if l < left.order.len() && r < right.order.len() {
            let step = &left.order[l].0;
            if *step == right.order[r].0 {
                merged.insert(step, ());
                out.push(both(step));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            if right.by_step.contains_key(step) && next_shared.is_some_and(|next| next != step) {
                // It is in both, but it is not the turn of this one.
                l += 1;
                continue;
            }
        }
        if l < left.order.len() {
            let step = &left.order[l].0;
            if !right.by_step.contains_key(step) {
                out.push(left.order[l].1.clone());
                l += 1;
                continue;
            } else if merged.contains_key(step) {
                l += 1;
            }
        }
        if r < right.order.len() {
            let step = &right.order[r].0;
            merged.insert(step, ());
            out.push(both(step));
            r += 1;
            if next_shared == Some(step) {
                next_shared = shared.next();
            }
        }
    }
    out
}

/// The value without the fields of a set; `None` if nothing of it is left.
pub(crate) fn remove(types: &Types, of: TypeId, value: &Value, set: &Set) -> Option<Value> {
    match (walk(types, of, Some(value), None), value) {
        (Walk::List(items, merge_by), Value::Array(list)) if !list.is_empty() => {
            let mut kept = Vec::new();
            for item in list {
                let below = item_step(types, items, merge_by, item).and_then(|step| set.below.get(&step));
                match below {
                    Some(below) if below.own => {}
                    Some(below) => kept.push(remove(types, items, item, below).unwrap_or(Value::Null)),
                    None => kept.push(item.clone()),
                }
            }
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        (Walk::Map, Value::Object(map)) if !map.is_empty() => {
            let mut kept = Map::new();
            for (key, item) in map {
                match set.below.get(&Step::Field(key.as_str().into())) {
                    Some(below) if below.own => {}
                    Some(below) => {
                        // What has nothing left is null, not gone: so an empty map that is applied still is a member.
                        let left = remove(types, types.field(of, key), item, below);
                        kept.insert(key.clone(), left.unwrap_or(Value::Null));
                    }
                    None => {
                        kept.insert(key.clone(), item.clone());
                    }
                }
            }
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        _ => Some(value.clone()),
    }
}

/// Whether what is applied fits its type: unknown fields, wrong types, items without or with the same keys.
pub(crate) fn check(types: &Types, of: TypeId, value: &Value) -> Errors {
    let mut errors = Vec::new();
    check_at(types, of, value, &mut String::new(), &mut errors);
    errors
}

fn check_at(types: &Types, of: TypeId, value: &Value, path: &mut String, errors: &mut Errors) {
    if value.is_null() {
        return;
    }
    let got = match value {
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) | Value::Null => "map",
    };
    let mut wanted = |wanted: &str| errors.push(format!("{path}: expected {wanted}, got {}", shown(got, value)));
    match (types.shape(of), value) {
        (Shape::Any, _) => {}
        (Shape::Boolean, Value::Bool(_)) | (Shape::Text(_), Value::String(_)) => {}
        (Shape::Integer { .. } | Shape::Number, Value::Number(_)) => {}
        (Shape::Quantity | Shape::IntOrString, Value::Number(_) | Value::String(_)) => {}
        (Shape::Boolean, _) => wanted("boolean"),
        (Shape::Text(_), _) => wanted("string"),
        (Shape::Integer { .. } | Shape::Number, _) => wanted("numeric (int or float)"),
        (Shape::Quantity | Shape::IntOrString, _) => wanted("string"),
        (Shape::List { items, merge }, Value::Array(list)) => {
            let mut seen: HashMap<Step, ()> = HashMap::new();
            for (index, item) in list.iter().enumerate() {
                let step = item_step(types, *items, merge, item);
                if step.is_none() && *merge != ListMerge::Atomic {
                    let ListMerge::Map(keys) = merge else { continue };
                    if item.is_null() {
                        let what = "associative list with keys may not have a null element";
                        errors.push(format!("{path}: element {index}: {what}"));
                        continue;
                    }
                    let missing: Vec<String> =
                        keys.iter().filter(|key| item.get(&***key).is_none()).map(|key| format!("{key:?}")).collect();
                    errors.push(format!(
                        "{path}: element {index}: associative list with keys has an element that omits key field {} (and doesn't have default value)",
                        missing.join(", ")
                    ));
                    continue;
                }
                let length = path.len();
                match &step {
                    Some(step) => {
                        let mut set = Set::default();
                        set.put(step.clone(), Set::leaf());
                        path.push_str(&set.paths().pop().unwrap_or_default());
                        if seen.insert(step.clone(), ()).is_some() {
                            let shown = path[length..].trim_start_matches('[').trim_end_matches(']');
                            errors.push(format!("{}: duplicate entries for key [{shown}]", &path[..length]));
                        }
                    }
                    None => path.push_str(&format!("[{index}]")),
                }
                check_at(types, *items, item, path, errors);
                path.truncate(length);
            }
        }
        (Shape::List { .. }, _) => wanted("list"),
        (Shape::Map { values, .. }, Value::Object(map)) => {
            for (key, item) in map {
                let length = path.len();
                path.push('.');
                path.push_str(key);
                check_at(types, *values, item, path, errors);
                path.truncate(length);
            }
        }
        (Shape::Object(object), Value::Object(map)) => {
            for (key, item) in map {
                let length = path.len();
                path.push('.');
                path.push_str(key);
                match object.fields.get(key.as_str()) {
                    Some(field) => check_at(types, field.of, item, path, errors),
                    None if object.open => {}
                    None => errors.push(format!("{path}: field not declared in schema")),
                }
                path.truncate(length);
            }
        }
        (Shape::Map { .. } | Shape::Object(_), _) => wanted("map"),
    }
}

fn shown(got: &str, value: &Value) -> String {
    match value {
        Value::String(_) | Value::Bool(_) => got.to_owned(),
        other => format!("&value.valueUnstructured{{Value:{other}}}"),
    }
}
