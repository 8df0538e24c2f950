//! Diff at field level: maps by key, lists by the schema's shape, structured texts by structure, secrets by
//! fingerprint.

use ksail_model::{KindSchema, ListShape, Map, Path, Secret, Step, Value};

/// A difference between two values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub path: Path,
    /// The value before.
    pub before: Option<Value>,
    /// The value after; [`Value::Unknown`] where it is known after apply.
    pub after: Option<Value>,
}

/// What differs between the fields as they are and the fields as they are wanted.
///
/// What the declaration leaves out is no difference where the schema says that the provider decides it (`computed`).
/// Null, an empty list and an empty map are the same as a field left out.
pub fn diff(current: &Value, wanted: &Value, schema: &KindSchema) -> Vec<Difference> {
    let mut found = Vec::new();
    Differ { schema, found: &mut found }.compare(&Path::root(), Some(current), Some(wanted));
    found
}

struct Differ<'a> {
    schema: &'a KindSchema,
    found: &'a mut Vec<Difference>,
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    }
}

impl Differ<'_> {
    fn note(&mut self, path: &Path, before: Option<&Value>, after: Option<&Value>) {
        self.found.push(Difference { path: path.clone(), before: before.cloned(), after: after.cloned() });
    }

    fn compare(&mut self, path: &Path, current: Option<&Value>, wanted: Option<&Value>) {
        let current = current.filter(|value| !is_nothing(value));
        let wanted = wanted.filter(|value| !is_nothing(value));
        match (current, wanted) {
            (None, None) => {}
            (Some(current), None) => self.left_out(path, current),
            (_, Some(Value::Unknown | Value::Ref(_))) => self.note(path, current, Some(&Value::Unknown)),
            (None, Some(Value::Map(map))) if !path.is_root() || !map.is_empty() => {
                for (key, value) in map {
                    self.compare(&path.child_key(key.clone()), None, Some(value));
                }
            }
            (None, Some(wanted)) => self.note(path, None, Some(wanted)),
            (Some(Value::Map(old)), Some(Value::Map(new))) => self.maps(path, old, new),
            (Some(Value::List(old)), Some(Value::List(new))) => self.lists(path, old, new),
            (Some(Value::Secret(old)), Some(Value::Secret(new))) => {
                if !same_secret(old, new) {
                    self.note(path, current, wanted);
                }
            }
            (Some(Value::String(old)), Some(Value::String(new))) => self.texts(path, old, new),
            (Some(old), Some(new)) => {
                if !same_scalar(old, new) {
                    self.note(path, Some(old), Some(new));
                }
            }
        }
    }

    /// A field that is there and not declared.
    fn left_out(&mut self, path: &Path, current: &Value) {
        if self.schema.field(path).computed {
            return;
        }
        match current {
            // Below a map there may be computed fields that stay.
            Value::Map(map) => {
                for (key, value) in map {
                    self.compare(&path.child_key(key.clone()), Some(value), None);
                }
            }
            other => self.note(path, Some(other), None),
        }
    }

    fn maps(&mut self, path: &Path, old: &Map, new: &Map) {
        for (key, value) in old {
            self.compare(&path.child_key(key.clone()), Some(value), new.get(key));
        }
        for (key, value) in new {
            if !old.contains_key(key) {
                self.compare(&path.child_key(key.clone()), None, Some(value));
            }
        }
    }

    fn lists(&mut self, path: &Path, old: &[Value], new: &[Value]) {
        match self.schema.field(path).list {
            ListShape::Ordered => {
                for index in 0..old.len().max(new.len()) {
                    self.compare(&path.child(Step::Index(index)), old.get(index), new.get(index));
                }
            }
            ListShape::Set => {
                for gone in old.iter().filter(|value| !new.contains(value)) {
                    self.note(&path.child(Step::Element(plain_text(gone))), Some(gone), None);
                }
                let mut added: Vec<&Value> = Vec::new();
                for value in new.iter().filter(|value| !old.contains(value)) {
                    if !added.contains(&value) {
                        added.push(value);
                        self.note(&path.child(Step::Element(plain_text(value))), None, Some(value));
                    }
                }
            }
            ListShape::ByKey(key) => {
                let index = |list: &[Value]| -> Map {
                    list.iter()
                        .map(|value| (value.field(key).map(plain_text).unwrap_or_default(), value.clone()))
                        .collect()
                };
                let (old, new) = (index(old), index(new));
                for (name, value) in &old {
                    match new.get(name) {
                        Some(wanted) => {
                            self.compare(&path.child(Step::Element(name.clone())), Some(value), Some(wanted))
                        }
                        None => self.note(&path.child(Step::Element(name.clone())), Some(value), None),
                    }
                }
                for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                    self.note(&path.child(Step::Element(name.clone())), None, Some(value));
                }
            }
        }
    }

    fn texts(&mut self, path: &Path, old: &str, new: &str) {
        if old == new {
            return;
        }
        if self.schema.field(path).structured_text
            && let (Some(old_tree), Some(new_tree)) = (structure(old), structure(new))
        {
            // Equal trees differ in layout or comments only, which is no difference.
            self.compare(path, Some(&old_tree), Some(&new_tree));
            return;
        }
        self.note(path, Some(&Value::from(old)), Some(&Value::from(new)));
    }
}

/// The tree of a JSON or YAML text that is a map or a list; scalars are plain texts.
pub(crate) fn structure(text: &str) -> Option<Value> {
    let json: serde_json::Value = serde_json::from_str(text).ok().or_else(|| serde_saphyr::from_str(text).ok())?;
    (json.is_object() || json.is_array()).then(|| json.into())
}

/// The text of a value as a list key.
pub(crate) fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Two secrets are the same if their fingerprints are; where one has none, if their references are.
fn same_secret(old: &Secret, new: &Secret) -> bool {
    match (&old.fingerprint, &new.fingerprint) {
        (Some(old), Some(new)) => old == new,
        _ => old.parts == new.parts,
    }
}

fn same_scalar(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Number(old), Value::Number(new)) => old == new || old.as_f64() == new.as_f64(),
        _ => old == new,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ksail_model::{FieldSchema, Fingerprint, SecretPart};

    use super::*;

    fn schema() -> KindSchema {
        KindSchema {
            kind: "test",
            version: 1,
            fields: vec![
                FieldSchema::new("set").list(ListShape::Set),
                FieldSchema::new("ports").list(ListShape::ByKey("container")),
                FieldSchema::new("subnet").computed(),
                FieldSchema::new("config").structured_text(),
            ],
            may_coexist: Ok(()),
            is_host: false,
            holds_data: None,
            repeat_safe: true,
            lands_within: std::time::Duration::ZERO,
            normalises: false,
            estimate: Duration::ZERO,
            keeps: &[],
            follows: None,
        }
    }

    fn check(old: serde_json::Value, new: serde_json::Value, expected: &[&str]) {
        let found: Vec<String> = diff(&old.into(), &new.into(), &schema())
            .iter()
            .map(|difference| {
                let side = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
                format!("{}: {} → {}", difference.path, side(&difference.before), side(&difference.after))
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn maps_and_scalars() {
        use serde_json::json;
        check(json!({"a": 1, "b": {"c": "x"}}), json!({"a": 1.0, "b": {"c": "y"}}), &["b.c: \"x\" → \"y\""]);
        check(json!({"a": null, "l": []}), json!({"m": {}}), &[]);
        check(json!({"a": 1}), json!({}), &["a: 1 → -"]);
        check(json!({"subnet": "10.0.0.0/24"}), json!({}), &[]);
        check(
            json!({"subnet": "10.0.0.0/24"}),
            json!({"subnet": "10.1.0.0/24"}),
            &["subnet: \"10.0.0.0/24\" → \"10.1.0.0/24\""],
        );
        check(json!({}), json!({"e": {"A": "1"}}), &["e.A: - → \"1\""]);
    }

    #[test]
    fn lists_by_shape() {
        use serde_json::json;
        check(json!({"set": ["a", "b"]}), json!({"set": ["b", "a", "a"]}), &[]);
        check(json!({"set": ["a"]}), json!({"set": ["b", "b"]}), &["set[\"a\"]: \"a\" → -", "set[\"b\"]: - → \"b\""]);
        check(
            json!({"ports": [{"container": 1, "host": 1}, {"container": 2, "host": 2}]}),
            json!({"ports": [{"container": 2, "host": 3}, {"container": 1, "host": 1}]}),
            &["ports[\"2\"].host: 2 → 3"],
        );
        check(json!({"args": ["a", "b"]}), json!({"args": ["b"]}), &["args[0]: \"a\" → \"b\"", "args[1]: \"b\" → -"]);
    }

    #[test]
    fn structured_texts_compare_by_structure() {
        use serde_json::json;
        check(json!({"config": "a: 1\nb: [1, 2]\n"}), json!({"config": "# same\nb:\n- 1\n- 2\na: 1\n"}), &[]);
        check(json!({"config": "{\"a\": 1}"}), json!({"config": "a: 2"}), &["config.a: 1 → 2"]);
        check(json!({"plain": "a: 1"}), json!({"plain": "a:  1"}), &["plain: \"a: 1\" → \"a:  1\""]);
    }

    #[test]
    fn unknown_and_secret() {
        let secret = |name: &str, print: Option<&str>| {
            Value::map([(
                "s",
                Value::Secret(Secret {
                    parts: vec![SecretPart::Env(name.to_owned())],
                    fingerprint: print.map(|text| Fingerprint(text.to_owned())),
                }),
            )])
        };
        let changed = |old: &Value, new: &Value| !diff(old, new, &schema()).is_empty();
        assert!(!changed(&secret("A", Some("1")), &secret("B", Some("1"))), "another name, the same value");
        assert!(changed(&secret("A", Some("1")), &secret("A", Some("2"))), "rotated");
        assert!(!changed(&secret("A", Some("1")), &secret("A", None)), "cannot tell, same reference");
        assert!(changed(&secret("A", None), &secret("B", Some("1"))), "cannot tell, another reference");
        assert!(changed(&Value::map([("s", Value::from("open"))]), &secret("A", Some("1"))));
        let unknown = diff(&Value::map([("a", 1_i64)]), &Value::map([("a", Value::Unknown)]), &schema());
        assert_eq!(unknown[0].after, Some(Value::Unknown));
    }
}
