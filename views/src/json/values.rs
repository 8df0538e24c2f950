//! Values as Terraform writes them: a value, and beside it which parts are unknown and which are sensitive.

use ksail_model::Value;
use serde_json::{Map, Value as Json};

/// Plain JSON: sensitive values are null, fields known after apply are left out (null in lists).
pub(super) fn plain(value: &Value) -> Json {
    match value {
        Value::Map(map) => Json::Object(
            map.iter()
                .filter(|(_, child)| !is_unknown(child))
                .map(|(key, child)| (key.clone(), plain(child)))
                .collect(),
        ),
        Value::List(list) => Json::Array(list.iter().map(plain).collect()),
        leaf => leaf.to_plain_json(),
    }
}

/// [`plain`], and null where there is nothing.
pub(super) fn plain_or_null(value: Option<&Value>) -> Json {
    value.map_or(Json::Null, plain)
}

/// Whether it is known after apply.
pub(super) const fn is_unknown(value: &Value) -> bool {
    matches!(value, Value::Unknown | Value::Ref(_))
}

/// Whether it is sensitive.
pub(super) const fn is_sensitive(value: &Value) -> bool {
    matches!(value, Value::Secret(_))
}

/// The shape of a value, with true where a leaf satisfies `test`: maps without the other leaves, lists with false for them.
pub(super) fn marks(value: &Value, test: fn(&Value) -> bool) -> Json {
    match value {
        Value::Map(map) => {
            let marked = |child: &Value| child.any_leaf(&test);
            let kept = map.iter().filter(|(_, child)| marked(child));
            Json::Object(kept.map(|(key, child)| (key.clone(), marks(child, test))).collect())
        }
        Value::List(list) => Json::Array(list.iter().map(|child| marks(child, test)).collect()),
        leaf => Json::Bool(test(leaf)),
    }
}

/// [`marks`] of a whole resource: an empty object where nothing is marked, false where there is no resource.
pub(super) fn marks_or_false(value: Option<&Value>, test: fn(&Value) -> bool) -> Json {
    value.map_or(Json::Bool(false), |value| marks(value, test))
}

/// An object from its entries.
pub(super) fn object<const N: usize>(entries: [(&str, Json); N]) -> Map<String, Json> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Sets a key where there is something to set.
pub(super) fn set(map: &mut Map<String, Json>, key: &str, value: Option<Json>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::hidden;

    #[test]
    fn unknown_and_sensitive_parts_are_flagged_beside_the_value() {
        let value = Value::map([
            ("id", Value::Unknown),
            ("token", hidden()),
            ("list", Value::List(vec![Value::from(1_i64), Value::Unknown])),
            ("map", Value::map([("plain", Value::from("x"))])),
        ]);
        assert_eq!(plain(&value), serde_json::json!({"token": null, "list": [1, null], "map": {"plain": "x"}}));
        assert_eq!(marks(&value, is_unknown), serde_json::json!({"id": true, "list": [false, true]}));
        assert_eq!(marks(&value, is_sensitive), serde_json::json!({"token": true}));
        assert_eq!(marks_or_false(None, is_sensitive), serde_json::json!(false));
    }
}
