//! Objects as JSON, and specs as objects.

use ksail_model::{Path, Value};
use serde_json::{Map, Value as Json};

/// The field of a spec that is not of the object: who manages its fields.
pub(crate) const MANAGER_FIELD: &str = "fieldManager";

/// The text at a path of keys.
pub(crate) fn text<'a>(object: &'a Json, path: &[&str]) -> Option<&'a str> {
    at(object, path).and_then(Json::as_str)
}

/// The value at a path of keys.
pub(crate) fn at<'a>(object: &'a Json, path: &[&str]) -> Option<&'a Json> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// The number at a path of keys.
pub(crate) fn number(object: &Json, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Json::as_i64)
}

/// The map at a key, made where it is not there.
pub(crate) fn map_at<'a>(object: &'a mut Map<String, Json>, key: &str) -> &'a mut Map<String, Json> {
    let value = object.entry(key).or_insert_with(|| Json::Object(Map::new()));
    if !value.is_object() {
        *value = Json::Object(Map::new());
    }
    match value {
        Json::Object(map) => map,
        _ => unreachable!("it was just made a map"),
    }
}

/// The object of a spec, without what is ours and without secrets. `None` if it is not a map.
pub(crate) fn object(spec: &Value) -> Option<Map<String, Json>> {
    match without_secrets(spec)? {
        Json::Object(mut map) => {
            map.remove(MANAGER_FIELD);
            Some(map)
        }
        _ => None,
    }
}

/// Plain JSON; secrets, nulls in maps, and what is not known are left out. (To the server, null is the same as nothing.) In a
/// list they are nulls, so that what comes after them keeps its place.
fn without_secrets(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Null | Value::Ref(_) | Value::Unknown | Value::Secret(_) => return None,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(number) => Json::Number(number.clone()),
        Value::String(text) => Json::String(text.clone()),
        Value::List(list) => {
            Json::Array(list.iter().map(|element| without_secrets(element).unwrap_or(Json::Null)).collect())
        }
        Value::Map(map) => {
            Json::Object(map.iter().filter_map(|(key, value)| Some((key.clone(), without_secrets(value)?))).collect())
        }
    })
}

/// Sets a text at a path of keys and positions, making maps on the way.
pub(crate) fn set_text(object: &mut Json, path: &Path, text: String) -> bool {
    let mut at = object;
    for step in path.steps() {
        at = match step {
            ksail_model::Step::Key(key) | ksail_model::Step::Element(key) => match at {
                Json::Object(map) => map.entry(key.clone()).or_insert_with(|| Json::Object(Map::new())),
                _ => return false,
            },
            ksail_model::Step::Index(index) => match at.get_mut(index) {
                Some(element) => element,
                None => return false,
            },
            ksail_model::Step::Any => return false,
        };
    }
    *at = Json::String(text);
    true
}

/// The version of an `apiVersion`.
pub(crate) fn version_of(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or(api_version, |(_, version)| version)
}

#[cfg(test)]
mod tests {
    use ksail_model::Secret;
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_go_from_maps_and_stay_in_lists() {
        let mut spec =
            Value::from(json!({"fieldManager": "ksail", "gone": null, "list": [1, null, {"gone": null}, "x", "y"]}));
        spec.set(&Path::parse("list[3]").unwrap(), Value::Secret(Secret::env("X")));
        let mut found = Json::Object(object(&spec).unwrap());
        assert_eq!(found, json!({"list": [1, null, {}, null, "y"]}));
        assert!(set_text(&mut found, &Path::parse("list[3]").unwrap(), "text".to_owned()));
        assert_eq!(found, json!({"list": [1, null, {}, "text", "y"]}));
    }
}
