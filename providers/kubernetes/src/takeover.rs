//! Fields that tools own, taken over at an import, so that what is removed from the declaration later really goes.
//!
//! A tool that sent whole objects (kubectl, Helm) owns the fields of each. As long as it does, our leaving a field out would
//! leave it there. So its entries are joined into ours first, and the apply that follows lets go of what is not declared.

use ksail_model::Value;
use serde_json::{Map, Value as Json, json};

use crate::FIELD_MANAGER;
use crate::fields::{is_tool, merge};

/// The JSON patch that joins what tools own into what we own. `None` if there is nothing to join.
///
/// Maps that are declared as empty are emptied by the same patch: of one from which an apply takes all that its manager owns,
/// the server makes null, and refuses that in custom kinds.
pub(crate) fn patch(object: &Json, api_version: &str, declared: &Value) -> Option<Json> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    let is_theirs = |entry: &Json| {
        entry["subresource"].as_str().unwrap_or_default().is_empty()
            && (entry["manager"].as_str().is_some_and(is_tool)
                || (entry["manager"] == FIELD_MANAGER && entry["operation"] != "Apply"))
    };
    let is_ours = |entry: &Json| entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply";
    // Fields of another version of the kind may have other names.
    let theirs: Vec<&Json> =
        entries.iter().filter(|entry| is_theirs(entry) && entry["apiVersion"] == api_version).collect();
    if theirs.is_empty() {
        return None;
    }
    let mut fields = Map::new();
    for entry in entries.iter().filter(|entry| is_ours(entry)).chain(theirs.iter().copied()) {
        if let Some(owned) = entry["fieldsV1"].as_object() {
            merge(&mut fields, owned);
        }
    }
    let mut emptied = Vec::new();
    empty_maps(declared, object, "", &mut fields, &mut emptied);
    let mut kept: Vec<Json> =
        entries.iter().filter(|entry| !is_ours(entry) && !theirs.contains(entry)).cloned().collect();
    kept.push(json!({
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        "apiVersion": api_version,
        "time": theirs[0]["time"],
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }));
    let version = &object["metadata"]["resourceVersion"];
    let mut operations = vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
    operations.extend(emptied.into_iter().map(|path| json!({"op": "replace", "path": path, "value": {}})));
    operations.push(json!({"op": "replace", "path": "/metadata/managedFields", "value": kept}));
    Some(Json::Array(operations))
}

/// Finds maps that are declared as empty and are not, and lets go of what is owned in them.
fn empty_maps(declared: &Value, live: &Json, path: &str, fields: &mut Map<String, Json>, found: &mut Vec<String>) {
    let (Value::Map(declared), Json::Object(live)) = (declared, live) else { return };
    for (key, value) in declared {
        let below = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
        let Some(live) = live.get(key) else { continue };
        let is_empty = value.as_map().is_some_and(|map| map.iter().all(|(_, value)| value.is_null()));
        let owned = fields.get_mut(&format!("f:{key}")).and_then(Json::as_object_mut);
        match owned {
            Some(owned) if is_empty && live.as_object().is_some_and(|live| !live.is_empty()) => {
                owned.clear();
                found.push(below);
            }
            Some(owned) => empty_maps(value, live, &below, owned, found),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tool_owns_becomes_ours_and_controllers_keep_theirs() {
        let object = json!({"metadata": {"resourceVersion": "7", "managedFields": [
            {"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "apps/v1", "time": "t", "fieldsV1": {"f:spec": {"f:a": {}}}},
            {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "apps/v1", "fieldsV1": {"f:spec": {"f:b": {}}}},
            {"manager": "kubectl", "operation": "Update", "subresource": "scale", "apiVersion": "apps/v1", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        ]}});
        let patch = patch(&object, "apps/v1", &Value::empty_map()).unwrap();
        let managers: Vec<&str> =
            patch[1]["value"].as_array().unwrap().iter().filter_map(|entry| entry["manager"].as_str()).collect();
        assert_eq!(managers, ["kube-controller-manager", "kubectl", "ksail"]);
        assert_eq!(patch[1]["value"][2]["fieldsV1"], json!({"f:spec": {"f:a": {}}}));
        assert!(super::patch(&object, "apps/v2", &Value::empty_map()).is_none());
    }

    #[test]
    fn a_map_that_is_declared_as_empty_is_emptied() {
        let object = json!({
            "metadata": {"resourceVersion": "7", "managedFields": [{
                "manager": "kubectl-create", "operation": "Update", "apiVersion": "v1",
                "fieldsV1": {"f:spec": {"f:a/b": {"f:c": {}}, "f:d": {"f:e": {}}}},
            }]},
            "spec": {"a/b": {"c": 1}, "d": {"e": 1}},
        });
        let declared = Value::from(json!({"spec": {"a/b": {}, "d": {"e": 1}, "f": {}}}));
        let patch = patch(&object, "v1", &declared).unwrap();
        assert_eq!(patch[1], json!({"op": "replace", "path": "/spec/a~1b", "value": {}}));
        assert_eq!(patch[2]["value"][0]["fieldsV1"], json!({"f:spec": {"f:a/b": {}, "f:d": {"f:e": {}}}}));
    }
}
