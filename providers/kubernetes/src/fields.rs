//! Which fields of an object are ours: those that were declared, and those that the server says that we own.
//!
//! The server keeps, for each manager, the set of fields that it owns (`fieldsV1`). That set also tells how lists are taken:
//! by key (`k:{…}`), as a set (`v:…`) or whole.

use serde_json::{Map, Value as Json};

use crate::FIELD_MANAGER;
use crate::mark;

/// A set of fields.
type Fields = Map<String, Json>;

/// How an object's fields are shared out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Managers {
    /// Owned by us.
    pub(crate) ours: Option<Fields>,
    /// Owned by tools that apply manifests, as people use them (kubectl, Helm): what an import takes over.
    pub(crate) tools: Fields,
    /// Names of these tools.
    pub(crate) tool_names: Vec<String>,
    /// Owned by anyone.
    pub(crate) all: Fields,
}

/// Whether a manager is a tool in a person's hands.
pub(crate) fn is_tool(manager: &str) -> bool {
    let name = manager.to_ascii_lowercase();
    ["kubectl", "helm", "terraform", "opentofu", "pulumi", "kustomize", "kapp", "before-first-apply"]
        .iter()
        .any(|tool| name.starts_with(tool))
}

impl Managers {
    /// Reads `metadata.managedFields`.
    pub(crate) fn of(object: &Json) -> Self {
        let mut managers = Self::default();
        let entries = object["metadata"]["managedFields"].as_array().map_or(&[][..], Vec::as_slice);
        for entry in entries {
            let (Some(name), Some(fields)) = (entry["manager"].as_str(), entry["fieldsV1"].as_object()) else {
                continue;
            };
            if !entry["subresource"].as_str().unwrap_or_default().is_empty() {
                // Status and scale are not declared; how their lists are taken is of no use.
                merge(&mut managers.all, fields);
                continue;
            }
            merge(&mut managers.all, fields);
            if name == FIELD_MANAGER && entry["operation"] == "Apply" {
                let mut fields = fields.clone();
                mark::leave_out(&mut fields);
                managers.ours = Some(fields);
            } else if is_tool(name) {
                merge(&mut managers.tools, fields);
                if !managers.tool_names.iter().any(|known| known == name) {
                    managers.tool_names.push(name.to_owned());
                }
            }
        }
        mark::leave_out(&mut managers.tools);
        managers.tool_names.sort();
        managers
    }

    /// Who manages the fields: us, or else the tools that made it.
    pub(crate) fn name(&self) -> String {
        match (&self.ours, self.tool_names.as_slice()) {
            (Some(_), _) => FIELD_MANAGER.to_owned(),
            (None, []) => "others".to_owned(),
            (None, names) => names.join(", "),
        }
    }
}

/// Adds one set to another.
pub(crate) fn merge(into: &mut Fields, from: &Fields) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Json::Object(old)), Json::Object(new)) => merge(old, new),
            (Some(_), _) => {}
            (None, value) => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

fn child<'a>(fields: Option<&'a Fields>, key: &str) -> Option<&'a Fields> {
    fields?.get(key)?.as_object()
}

/// Nothing below is listed: the field is owned as a whole.
fn is_leaf(fields: &Fields) -> bool {
    fields.is_empty()
}

/// The part of a live value that was declared or is owned. `None` if there is nothing of it.
pub(crate) fn project(spec: Option<&Json>, live: &Json, owned: Option<&Fields>, all: Option<&Fields>) -> Option<Json> {
    if spec.is_none() && owned.is_none() {
        return None;
    }
    match live {
        Json::Object(map) => {
            // An empty map that is declared is owned as a whole, too; what is in it by defaults or by others is not ours.
            let is_declared_empty = owned.is_some() && spec.and_then(Json::as_object).is_some_and(Map::is_empty);
            let is_whole = owned.is_some_and(is_leaf) || (all.is_some_and(is_leaf) && spec.is_some());
            let whole = is_whole && !is_declared_empty;
            if whole || spec.is_some_and(|spec| !spec.is_object()) {
                return Some(live.clone());
            }
            Some(Json::Object(project_map(spec.and_then(Json::as_object), map, owned, all)))
        }
        Json::Array(list) => Some(Json::Array(project_list(spec, list, owned, all))),
        scalar => Some(scalar.clone()),
    }
}

fn project_map(
    spec: Option<&Map<String, Json>>,
    live: &Map<String, Json>,
    owned: Option<&Fields>,
    all: Option<&Fields>,
) -> Map<String, Json> {
    live.iter()
        .filter_map(|(key, value)| {
            let field = format!("f:{key}");
            let part = project(spec.and_then(|spec| spec.get(key)), value, child(owned, &field), child(all, &field))?;
            Some((key.clone(), part))
        })
        .collect()
}

fn project_list(spec: Option<&Json>, live: &[Json], owned: Option<&Fields>, all: Option<&Fields>) -> Vec<Json> {
    let has = |prefix: &str| {
        [owned, all].into_iter().flatten().any(|fields| fields.keys().any(|key| key.starts_with(prefix)))
    };
    let declared = spec.and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    if has("k:") {
        return live
            .iter()
            .filter_map(|element| {
                let (owned, all) = (by_key(owned, element), by_key(all, element));
                let keys = owned.or(all).map(|(key, _)| key_of(key));
                let spec = keys.and_then(|keys| declared.iter().find(|spec| has_key(spec, element, &keys)));
                project(spec, element, owned.map(|(_, fields)| fields), all.map(|(_, fields)| fields))
            })
            .collect();
    }
    if has("v:") {
        let is_owned = |element: &Json| owned.is_some_and(|owned| owned.contains_key(&format!("v:{element}")));
        return live.iter().filter(|element| declared.contains(element) || is_owned(element)).cloned().collect();
    }
    live.to_vec()
}

/// The entry of a set for a list's element.
fn by_key<'a>(fields: Option<&'a Fields>, element: &Json) -> Option<(&'a str, &'a Fields)> {
    fields?.iter().find_map(|(text, below)| {
        let keys = text.strip_prefix("k:")?;
        let keys: Map<String, Json> = serde_json::from_str(keys).ok()?;
        let is_it = keys.iter().all(|(key, value)| element.get(key).unwrap_or(&Json::Null) == value);
        Some((text.as_str(), below.as_object()?)).filter(|_| is_it)
    })
}

fn key_of(text: &str) -> Map<String, Json> {
    text.strip_prefix("k:").and_then(|keys| serde_json::from_str(keys).ok()).unwrap_or_default()
}

/// Whether a declared element is the live one. A key that the declaration leaves out has its default.
fn has_key(spec: &Json, live: &Json, keys: &Map<String, Json>) -> bool {
    keys.keys().all(|key| match spec.get(key) {
        None | Some(Json::Null) => true,
        Some(declared) => Some(declared) == live.get(key),
    }) && keys.keys().any(|key| spec.get(key).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: Json, live: Json, owned: Json, all: Json, expected: Json) {
        let found = project(Some(&spec), &live, owned.as_object(), all.as_object());
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn defaults_and_fields_of_others_are_left_out() {
        check(
            json!({"spec": {"replicas": 1}}),
            json!({"spec": {"replicas": 2, "paused": false, "old": 1}, "status": {"x": 1}}),
            json!({"f:spec": {"f:old": {}}}),
            json!({"f:spec": {"f:old": {}, "f:replicas": {}, "f:paused": {}}}),
            json!({"spec": {"replicas": 2, "old": 1}}),
        );
    }

    #[test]
    fn an_empty_map_that_is_declared_is_not_what_is_in_it() {
        let live = json!({"strategy": {"type": "RollingUpdate"}, "data": {"theirs": "x"}});
        let owned = json!({"f:strategy": {}, "f:data": {}});
        let all = json!({"f:strategy": {}, "f:data": {"f:theirs": {}}});
        let declared = json!({"strategy": {}, "data": {}});
        check(declared.clone(), live, owned, all, declared);
        // Somebody else replaced a map that is owned as a whole.
        let live = json!({"atomic": {"theirs": "x"}});
        check(json!({"atomic": {}}), live.clone(), json!({"f:other": {}}), json!({"f:atomic": {}}), live);
    }

    #[test]
    fn lists_by_key_keep_what_is_ours() {
        let all = json!({
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}},
            "k:{\"containerPort\":80,\"protocol\":\"UDP\"}": {".": {}, "f:containerPort": {}},
            "k:{\"containerPort\":90,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}},
        });
        let live = json!([
            {"containerPort": 80, "protocol": "TCP"},
            {"containerPort": 80, "protocol": "UDP"},
            {"containerPort": 90, "protocol": "TCP", "name": "mine"},
        ]);
        let owned =
            json!({"k:{\"containerPort\":90,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}}});
        check(
            json!([{"containerPort": 80, "protocol": "UDP"}]),
            live,
            owned,
            all,
            json!([{"containerPort": 80, "protocol": "UDP"}, {"containerPort": 90, "name": "mine"}]),
        );
    }

    #[test]
    fn sets_and_whole_lists() {
        check(
            json!(["a", "gone"]),
            json!(["theirs", "a", "ours"]),
            json!({"v:\"ours\"": {}}),
            json!({"v:\"theirs\"": {}, "v:\"a\"": {}, "v:\"ours\"": {}}),
            json!(["a", "ours"]),
        );
        check(json!([1]), json!([1, 2]), json!({}), json!({}), json!([1, 2]));
        check(json!({"a": 1}), json!({"a": 1, "b": 2}), json!({}), json!({}), json!({"a": 1, "b": 2}));
    }
}
