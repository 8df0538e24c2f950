//! Whether what is there is what a creation means to make: its fields that cannot be changed in place.

use ksail_kinds::BuiltinKinds;
use ksail_model::{ListShape, Path, Schemas as _, Value};
use ksail_provider::CallError;

/// Refuses where a field that forces replacement differs between the wanted spec and what is there.
pub(crate) fn same_where_fixed(what: &str, kind: &str, wanted: &Value, found: &Value) -> Result<(), CallError> {
    let Some(path) = differing(kind, wanted, found) else { return Ok(()) };
    Err(CallError::refused(format!("{what} is there already, made by us with another `{path}`"))
        .hint("plan again: it must be replaced"))
}

fn differing(kind: &str, wanted: &Value, found: &Value) -> Option<Path> {
    let schema = BuiltinKinds.schema(kind)?;
    schema
        .fields
        .iter()
        .filter(|field| field.forces_replacement)
        .find(|field| {
            let (wanted, found) = (wanted.get(&field.path), found.get(&field.path));
            if field.computed && wanted.is_none_or(Value::is_null) {
                return false;
            }
            let ordered = matches!(field.list, ListShape::Ordered);
            !same(wanted.unwrap_or(&Value::Null), found.unwrap_or(&Value::Null), ordered)
        })
        .map(|field| field.path.clone())
}

/// Whether two values mean the same: null and empty are left out, and a secret whose fingerprint one side does not
/// know tells nothing.
fn same(wanted: &Value, found: &Value, ordered: bool) -> bool {
    match (wanted, found) {
        (Value::Secret(wanted), Value::Secret(found)) => match (&wanted.fingerprint, &found.fingerprint) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => true,
        },
        (Value::List(wanted), Value::List(found)) if wanted.len() == found.len() => {
            let (mut wanted, mut found): (Vec<_>, Vec<_>) = (wanted.iter().collect(), found.iter().collect());
            if !ordered {
                wanted.sort_by_key(|value| value.to_string());
                found.sort_by_key(|value| value.to_string());
            }
            wanted.iter().zip(found).all(|(wanted, found)| same(wanted, found, true))
        }
        (Value::Map(wanted), Value::Map(found)) => {
            wanted.iter().all(|(key, value)| same(value, found.get(key).unwrap_or(&Value::Null), true))
                && found.iter().all(|(key, value)| wanted.contains_key(key) || is_empty(value))
        }
        (wanted, found) => wanted == found || (is_empty(wanted) && is_empty(found)),
    }
}

/// Whether a value says no more than one that is left out.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use ksail_model::{Fingerprint, Secret};

    use super::*;

    fn check(kind: &str, wanted: &Value, found: &Value, differs: Option<&str>) {
        assert_eq!(differing(kind, wanted, found).map(|path| path.to_string()).as_deref(), differs);
    }

    #[test]
    fn only_fixed_fields_count() {
        let network = |driver: &str, subnet: Option<&str>| {
            Value::map([
                ("driver", Value::from(driver)),
                ("subnet", subnet.map_or(Value::Null, Value::from)),
                ("internal", Value::from(false)),
            ])
        };
        check("network", &network("bridge", None), &network("bridge", Some("10.1.0.0/24")), None);
        check(
            "network",
            &network("bridge", Some("10.2.0.0/24")),
            &network("bridge", Some("10.1.0.0/24")),
            Some("subnet"),
        );
        check("network", &network("bridge", None), &network("macvlan", None), Some("driver"));
        let container = |running: bool, env: Value| Value::map([("running", Value::from(running)), ("env", env)]);
        check("container", &container(true, Value::Null), &container(false, Value::empty_map()), None);
        let secret = |fingerprint: &str| {
            let secret = Secret::observed(Fingerprint(fingerprint.to_owned()));
            container(true, Value::map([("TOKEN", Value::Secret(secret))]))
        };
        check("container", &secret("a"), &secret("a"), None);
        check("container", &secret("a"), &secret("b"), Some("env"));
    }
}
