//! Secrets in objects: texts on their way to the server, fingerprints on the way back.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ksail_model::{Fingerprint, Path, Secret, Step, Value};
use ksail_provider::SecretText;
use serde_json::{Map, Value as Json};

use crate::fields::Managers;
use crate::mark::FINGERPRINTS;
use crate::name::ObjectName;
use crate::wire::{map_at, set_text, text};

/// Where a Secret keeps its values, and where they may be given as plain texts.
const DATA: &str = "data";
const PLAIN_DATA: &str = "stringData";

/// Stands for a value that somebody else wrote.
const CHANGED_OUTSIDE: &str = "changed-outside";

/// Whether all data of the object are secret.
pub(crate) fn is_secret(name: &ObjectName) -> bool {
    name.group.is_empty() && name.kind == "Secret"
}

/// The fingerprints of a spec's secrets by their paths, as they stand on the object. `None` if there are no secrets.
pub(crate) fn fingerprints(spec: &Value) -> Option<String> {
    let found: BTreeMap<String, String> = spec
        .secrets()
        .into_iter()
        .map(|(path, secret)| {
            (path.to_string(), secret.fingerprint.as_ref().map(|print| print.0.clone()).unwrap_or_default())
        })
        .collect();
    if found.is_empty() { None } else { serde_json::to_string(&found).ok() }
}

/// Puts the texts into an object that is to be applied. Plain texts of a Secret become data, as the server would make of
/// them: it owns the fields of what it was sent, and a plain text that is left out later would stay.
pub(crate) fn fill_in(
    object: &mut Json,
    name: &ObjectName,
    texts: &BTreeMap<Path, SecretText>,
    left_alone: &[Path],
) -> Result<(), String> {
    for (path, text) in texts.iter().filter(|(path, _)| !left_alone.contains(path)) {
        if !set_text(object, path, text.expose().to_owned()) {
            return Err(format!("there is no place for the secret at {path}"));
        }
    }
    if is_secret(name)
        && let Some(map) = object.as_object_mut()
        && let Some(Json::Object(plain)) = map.remove(PLAIN_DATA)
    {
        let data = map_at(map, DATA);
        for (key, value) in plain {
            let text = value.as_str().unwrap_or_default();
            data.insert(key, STANDARD.encode(text).into());
        }
    }
    Ok(())
}

/// The text of a secret on the server, as it would be sent there. `None` if there is none.
pub(crate) fn text_of(live: &Json, name: &ObjectName, path: &Path) -> Option<String> {
    if !is_secret(name) {
        return Value::from(live.clone()).get(path).and_then(Value::as_str).map(str::to_owned);
    }
    let (Step::Key(part), [Step::Key(key)]) = path.steps().split_first()? else { return None };
    let encoded = text(live, &[DATA, key])?;
    if part == DATA {
        return Some(encoded.to_owned());
    }
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

/// A spec without the data of a Secret, as it is compared with what is there.
pub(crate) fn without_data(spec: &mut Map<String, Json>, name: &ObjectName) {
    if is_secret(name) {
        spec.remove(DATA);
        spec.remove(PLAIN_DATA);
    }
}

/// The fingerprints that stand on an object.
fn written(object: &Json) -> BTreeMap<String, String> {
    text(object, &["metadata", "annotations", FINGERPRINTS])
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

fn seen_as(fingerprint: Option<&String>) -> Value {
    let fingerprint = fingerprint.filter(|text| !text.is_empty()).map(|text| Fingerprint(text.clone()));
    Value::Secret(Secret { parts: Vec::new(), fingerprint })
}

/// Puts what is known of the secrets of an object into its fields: the fingerprint that was written with each, unless somebody
/// else owns it since; never a text.
pub(crate) fn report(fields: &mut Value, live: &Json, spec: Option<&Value>, name: &ObjectName, managers: &Managers) {
    let written = written(live);
    let declared: Vec<Path> =
        spec.map(|spec| spec.secrets().into_iter().map(|(path, _)| path).collect()).unwrap_or_default();
    if !is_secret(name) {
        let paths = declared.into_iter().chain(written.keys().filter_map(|path| Path::parse(path).ok()));
        for path in paths {
            if fields.get(&path).is_some() {
                fields.set(&path, seen_as(written.get(&path.to_string())));
            }
        }
        return;
    }
    let owned = managers.ours.as_ref().and_then(|ours| ours.get("f:data")).and_then(Json::as_object);
    let tools = managers.tools.get("f:data").and_then(Json::as_object).filter(|_| managers.ours.is_none());
    let Some(data) = live["data"].as_object() else { return };
    for key in data.keys() {
        let field = format!("f:{key}");
        let is_owned = owned.is_some_and(|owned| owned.contains_key(&field));
        let is_tools = tools.is_some_and(|tools| tools.contains_key(&field));
        let places = [Path::key(PLAIN_DATA).child_key(key.clone()), Path::key(DATA).child_key(key.clone())];
        let place = places.iter().find(|place| declared.contains(place));
        if place.is_none() && !is_owned && !is_tools {
            continue;
        }
        let place = place
            .or_else(|| places.iter().find(|place| written.contains_key(&place.to_string())))
            .unwrap_or(&places[1]);
        let changed = CHANGED_OUTSIDE.to_owned();
        let fingerprint = if is_owned { written.get(&place.to_string()) } else { Some(&changed) };
        fields.set(place, seen_as(fingerprint));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_texts_become_data() {
        let name = ObjectName::parse("Secret/a/b").unwrap();
        let mut object = json!({"kind": "Secret", "stringData": {"plain": "x"}});
        let texts = BTreeMap::from([(Path::parse("stringData.password").unwrap(), SecretText::new("hush".to_owned()))]);
        fill_in(&mut object, &name, &texts, &[]).unwrap();
        assert_eq!(object, json!({"kind": "Secret", "data": {"plain": "eA==", "password": "aHVzaA=="}}));
    }

    #[test]
    fn what_is_seen_is_a_fingerprint_and_only_while_it_is_ours() {
        let name = ObjectName::parse("Secret/a/b").unwrap();
        let live = json!({
            "metadata": {"annotations": {"ksail.io/fingerprints": "{\"stringData.a\":\"f1\",\"stringData.b\":\"f2\"}"},
                "managedFields": [{"manager": "ksail", "operation": "Apply", "fieldsV1": {"f:data": {"f:a": {}}}}]},
            "data": {"a": "eA==", "b": "eQ==", "theirs": "eg=="},
        });
        let spec = Value::map([(
            "stringData",
            Value::map([("a", Value::Secret(Secret::env("A"))), ("b", Value::Secret(Secret::env("B")))]),
        )]);
        let mut fields = Value::empty_map();
        report(&mut fields, &live, Some(&spec), &name, &Managers::of(&live));
        let print = |path: &str| match fields.get(&Path::parse(path).unwrap()) {
            Some(Value::Secret(secret)) => secret.fingerprint.clone().map(|print| print.0),
            _ => None,
        };
        assert_eq!(print("stringData.a").as_deref(), Some("f1"));
        assert_eq!(print("stringData.b").as_deref(), Some(CHANGED_OUTSIDE));
        assert_eq!(fields.get(&Path::parse("data.theirs").unwrap()), None);
    }
}
