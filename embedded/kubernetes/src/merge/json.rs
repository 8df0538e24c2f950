//! JSON patch (RFC 6902) and JSON merge patch (RFC 7386).

use serde_json::{Map, Value};

/// How many operations a JSON patch may have.
const MAX_OPERATIONS: usize = 10_000;

/// Applies a merge patch.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Why a JSON patch was not applied.
#[derive(Debug)]
pub(crate) enum PatchError {
    /// It is not a patch.
    Malformed(String),
    /// It does not fit the object.
    Unfit(String),
}

/// Applies a JSON patch.
pub(crate) fn patch(target: &mut Value, operations: &Value) -> Result<(), PatchError> {
    let malformed = |message: &str| PatchError::Malformed(message.to_owned());
    let operations = operations.as_array().ok_or_else(|| malformed("a JSON patch is a list of operations"))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::Malformed(format!("a JSON patch has at most {MAX_OPERATIONS} operations")));
    }
    for operation in operations {
        let text = |key: &str| operation.get(key).and_then(Value::as_str);
        let name = text("op").ok_or_else(|| malformed("an operation has no op"))?;
        let path = text("path").ok_or_else(|| malformed("an operation has no path"))?;
        let value = || operation.get("value").cloned().ok_or_else(|| malformed("an operation has no value"));
        let from = || text("from").ok_or_else(|| malformed("an operation has no from"));
        match name {
            "add" => add(target, path, value()?)?,
            "remove" => {
                take(target, path)?;
            }
            "replace" => {
                let place = find(target, path)?;
                *place = value()?;
            }
            "move" => {
                let moved = take(target, from()?)?;
                add(target, path, moved)?;
            }
            "copy" => {
                let copied = find(target, from()?)?.clone();
                add(target, path, copied)?;
            }
            "test" => {
                let wanted = operation.get("value").cloned().unwrap_or(Value::Null);
                let found = find(target, path).map(|found| found.clone());
                if found.unwrap_or(Value::Null) != wanted {
                    return Err(PatchError::Unfit(format!("testing value {path} failed: test failed")));
                }
            }
            other => return Err(PatchError::Unfit(format!("Unexpected kind: {other}"))),
        }
    }
    Ok(())
}

fn steps(path: &str) -> Result<Vec<String>, PatchError> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Err(PatchError::Malformed(format!("the path {path:?} does not begin with a slash")));
    };
    Ok(rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
}

fn missing(path: &str) -> PatchError {
    PatchError::Unfit(format!("the path {path:?} does not exist: missing value"))
}

fn index(step: &str, length: usize) -> Option<usize> {
    step.parse::<usize>().ok().filter(|index| *index < length)
}

fn walk<'a>(target: &'a mut Value, steps: &[String], path: &str) -> Result<&'a mut Value, PatchError> {
    let mut at = target;
    for step in steps {
        at = match at {
            Value::Object(map) => map.get_mut(step).ok_or_else(|| missing(path))?,
            Value::Array(list) => {
                let index = index(step, list.len()).ok_or_else(|| missing(path))?;
                &mut list[index]
            }
            _ => return Err(missing(path)),
        };
    }
    Ok(at)
}

fn find<'a>(target: &'a mut Value, path: &str) -> Result<&'a mut Value, PatchError> {
    walk(target, &steps(path)?, path)
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    let steps = steps(path)?;
    let Some((last, above)) = steps.split_last() else {
        *target = value;
        return Ok(());
    };
    match walk(target, above, path)? {
        Value::Object(map) => {
            map.insert(last.clone(), value);
        }
        Value::Array(list) if last == "-" => list.push(value),
        Value::Array(list) => {
            let index = index(last, list.len() + 1).ok_or_else(|| missing(path))?;
            list.insert(index, value);
        }
        _ => return Err(missing(path)),
    }
    Ok(())
}

fn take(target: &mut Value, path: &str) -> Result<Value, PatchError> {
    let steps = steps(path)?;
    let Some((last, above)) = steps.split_last() else { return Err(missing(path)) };
    match walk(target, above, path)? {
        Value::Object(map) => map.remove(last).ok_or_else(|| missing(path)),
        Value::Array(list) => {
            let index = index(last, list.len()).ok_or_else(|| missing(path))?;
            Ok(list.remove(index))
        }
        _ => Err(missing(path)),
    }
}
