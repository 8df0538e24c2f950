//! Sensitive values are taken out before anything is shown.

use ksail_model::{KindSchema, Path, Secret, Step, Value};

/// What stands where a sensitive value was.
pub(crate) const fn hidden() -> Value {
    Value::Secret(Secret { parts: Vec::new(), fingerprint: None })
}

/// The value with everything hidden that the kind's schema calls sensitive. Secrets stay secrets, which print nothing.
pub(crate) fn masked(value: &Value, path: &Path, schema: Option<&KindSchema>) -> Value {
    let Some(schema) = schema else { return value.clone() };
    if !value.is_null() && schema.field(path).sensitive {
        return hidden();
    }
    match value {
        Value::Map(map) => Value::Map(
            map.iter()
                .map(|(key, child)| (key.clone(), masked(child, &path.child_key(key.clone()), Some(schema))))
                .collect(),
        ),
        Value::List(list) => Value::List(
            list.iter()
                .enumerate()
                .map(|(index, child)| masked(child, &path.child(Step::Index(index)), Some(schema)))
                .collect(),
        ),
        leaf => leaf.clone(),
    }
}
