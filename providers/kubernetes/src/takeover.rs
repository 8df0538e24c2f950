//! Fields that tools own, taken over at an import, so that what is removed from the declaration later really goes.
//!
//! A tool that sent whole objects (kubectl, Helm) owns the fields of each. As long as it does, our leaving a field out would
//! leave it there. So its entries are joined into ours first, and the apply that follows lets go of what is not declared.

use serde_json::{Map, Value as Json, json};

use crate::FIELD_MANAGER;
use crate::fields::{is_tool, merge};

/// The JSON patch that joins what tools own into what we own. `None` if there is nothing to join.
pub(crate) fn patch(object: &Json, api_version: &str) -> Option<Json> {
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
    Some(json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": object["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/metadata/managedFields", "value": kept},
    ]))
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
        let patch = patch(&object, "apps/v1").unwrap();
        let managers: Vec<&str> =
            patch[1]["value"].as_array().unwrap().iter().filter_map(|entry| entry["manager"].as_str()).collect();
        assert_eq!(managers, ["kube-controller-manager", "kubectl", "ksail"]);
        assert_eq!(patch[1]["value"][2]["fieldsV1"], json!({"f:spec": {"f:a": {}}}));
        assert!(super::patch(&object, "apps/v2").is_none());
    }
}
