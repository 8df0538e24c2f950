//! Strategic merge patch: lists are merged by the keys that their types name, `$patch`, `$retainKeys`, `$setElementOrder` and
//! `$deleteFromPrimitiveList` say the rest.

use ksail_kubernetes_schema::{PatchMerge, Shape, TypeId, Types};
use serde_json::{Map, Value};

/// Applies a patch.
pub(crate) fn merge(types: &Types, of: TypeId, target: &mut Value, patch: &Value) -> Result<(), String> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return Ok(()) };
    merge_map(types, of, map, patch)
}

const ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVE: &str = "$deleteFromPrimitiveList/";

fn merge_map(
    types: &Types,
    of: TypeId,
    map: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), String> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            map.clear();
            map.extend(
                patch.iter().filter(|(key, _)| *key != "$patch").map(|(key, value)| (key.clone(), value.clone())),
            );
            return Ok(());
        }
        Some("delete") => {
            map.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(format!("unknown patch type: {other}")),
    }
    if let Some(retained) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|key, _| retained.iter().any(|kept| kept == key));
    }
    let none = PatchMerge::default();
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_PRIMITIVE) {
            if let (Some(Value::Array(list)), Some(gone)) = (map.get_mut(field), value.as_array()) {
                list.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if key.starts_with('$') {
            continue;
        }
        if value.is_null() {
            map.remove(key);
            continue;
        }
        let inner = types.field(of, key);
        let how =
            types.object(of).and_then(|object| object.fields.get(key.as_str())).map_or(&none, |field| &field.patch);
        match value {
            Value::Object(part) if !how.replace => {
                let place = map.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                if let Value::Object(place) = place {
                    merge_map(types, inner, place, part)?;
                }
                if part.get("$patch").and_then(Value::as_str) == Some("delete") {
                    map.remove(key);
                }
            }
            Value::Array(part) if how.merge => {
                let items = match types.shape(inner) {
                    Shape::List { items, .. } => *items,
                    _ => TypeId::ANY,
                };
                let place = map.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new()));
                if !place.is_array() {
                    *place = Value::Array(Vec::new());
                }
                if let Value::Array(list) = place {
                    let before = list.clone();
                    match &how.key {
                        Some(by) => merge_list(types, items, list, part, by)?,
                        None => {
                            for item in part {
                                if !list.contains(item) {
                                    list.push(item.clone());
                                }
                            }
                        }
                    }
                    // Without an order of its own the patch is the order of its items.
                    let order = patch.get(&format!("{ORDER}{key}")).and_then(Value::as_array).unwrap_or(part);
                    put_in_order(list, &before, order, how.key.as_deref());
                }
            }
            other => {
                map.insert(key.clone(), without_directives(other));
            }
        }
    }
    for (key, order) in patch {
        if let (Some(field), Some(order)) = (key.strip_prefix(ORDER), order.as_array())
            && !patch.contains_key(field)
        {
            let by = types.object(of).and_then(|object| object.fields.get(field)?.patch.key.as_deref());
            if let Some(Value::Array(list)) = map.get_mut(field) {
                let before = list.clone();
                put_in_order(list, &before, order, by);
            }
        }
    }
    Ok(())
}

fn merge_list(types: &Types, items: TypeId, list: &mut Vec<Value>, patch: &[Value], by: &str) -> Result<(), String> {
    if patch.iter().any(|item| item.get("$patch").and_then(Value::as_str) == Some("replace")) {
        *list = patch.iter().filter(|item| item.get("$patch").is_none()).cloned().collect();
        return Ok(());
    }
    for item in patch {
        let Some(key) = item.get(by) else {
            return Err(format!("map: {item} does not contain declared merge key: {by}"));
        };
        let same = |other: &Value| other.get(by) == Some(key);
        if item.get("$patch").and_then(Value::as_str) == Some("delete") {
            list.retain(|other| !same(other));
            continue;
        }
        match list.iter_mut().find(|other| same(other)) {
            Some(found) => merge(types, items, found, item)?,
            None => {
                let mut new = Value::Object(Map::new());
                merge(types, items, &mut new, item)?;
                list.push(new);
            }
        }
    }
    Ok(())
}

/// Puts the items that are named in the named order. The others stay before those that they stood before; all that cannot be
/// compared goes behind.
fn put_in_order(list: &mut Vec<Value>, before: &[Value], order: &[Value], by: Option<&str>) {
    let key = |item: &Value| by.map_or_else(|| Some(item.clone()), |by| item.get(by).cloned());
    let find = |within: &[Value], item: &Value| {
        let own = key(item)?;
        within.iter().position(|named| key(named).as_ref() == Some(&own))
    };
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        std::mem::take(list).into_iter().partition(|item| find(order, item).is_some());
    named.sort_by_key(|item| find(order, item));
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let take_named = match (named.peek(), others.peek()) {
            (Some(named), Some(other)) => match (find(before, other), find(before, named)) {
                (Some(other), Some(named)) => other >= named,
                _ => true,
            },
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return,
        };
        let next = if take_named { named.next() } else { others.next() };
        list.extend(next);
    }
}

fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, value)| !key.starts_with('$') && !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_directives(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(without_directives).collect()),
        other => other.clone(),
    }
}
