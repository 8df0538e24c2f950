//! What is done with fields before and after they are compared: ignored ones, secrets, unknown references.

use ksail_model::{Declaration, KindSchema, Path, Value};

use crate::diff::Difference;
use crate::joined;

pub(crate) fn is_secret(difference: &Difference) -> bool {
    let secret = |value: &Option<Value>| value.as_ref().is_some_and(|value| value.has_secret());
    secret(&difference.before) || secret(&difference.after)
}

/// Whether no fingerprint would be lost or gained by taking the new declaration into the record.
pub(crate) fn fingerprints_kept(old: &Value, new: &Value) -> bool {
    let prints = |value: &Value| -> Vec<_> {
        value.secrets().into_iter().map(|(path, secret)| (path, secret.fingerprint.clone())).collect()
    };
    let (old, new) = (prints(old), prints(new));
    old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| old == new || new.1.is_none())
}

pub(crate) fn is_ignored(wanted: &Declaration, path: &Path) -> bool {
    wanted.lifecycle.ignore.iter().any(|ignored| ignored.covers(path))
}

pub(crate) fn is_declared(wanted: &Declaration, path: &Path) -> bool {
    let mut found = false;
    wanted.spec.walk(&mut |declared, _| found |= declared.covers(path) || path.covers(declared));
    found
}

/// The fields after an update: as declared, with what only the provider decides as it is.
pub(crate) fn after_update(current: &Value, spec: &Value, attributes: &Value, schema: &KindSchema) -> Value {
    let mut after = spec.clone();
    for field in schema.fields.iter().filter(|field| field.computed) {
        if after.get(&field.path).is_none_or(Value::is_null)
            && let Some(value) = current.get(&field.path)
        {
            after.set(&field.path, value.clone());
        }
    }
    joined(&after, attributes)
}

/// Where the resolved value is unknown, the reference as it was written.
pub(crate) fn keep_unknown_references(written: &Value, resolved: &Value) -> Value {
    match (written, resolved) {
        (Value::Map(written), Value::Map(resolved)) => Value::Map(
            resolved
                .iter()
                .map(|(key, value)| {
                    let kept = written
                        .get(key)
                        .map_or_else(|| value.clone(), |written| keep_unknown_references(written, value));
                    (key.clone(), kept)
                })
                .collect(),
        ),
        (Value::List(written), Value::List(resolved)) if written.len() == resolved.len() => Value::List(
            written
                .iter()
                .zip(resolved)
                .map(|(written, resolved)| keep_unknown_references(written, resolved))
                .collect(),
        ),
        (Value::Ref(_), Value::Unknown) => written.clone(),
        (_, resolved) => resolved.clone(),
    }
}
