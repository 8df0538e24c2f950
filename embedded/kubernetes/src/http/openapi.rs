//! OpenAPI v3, built from the types.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use bytes::Bytes;
use ksail_kubernetes_schema::builtin_types_json;
use serde_json::{Map, Value, json};

use super::reply::{self, Reply};
use crate::api::Api;
use crate::registry::{Kind, Registry};
use crate::status::Status;

const REFERENCE: &str = "#/components/schemas/";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// `/openapi/v3` and the documents below it.
pub(crate) fn document(api: &Api, rest: &[&str]) -> Result<Reply, Status> {
    let registry = api.registry();
    if rest.is_empty() {
        return Ok(reply::json(200, &index(&registry)));
    }
    let path = rest.join("/");
    if let Some(known) = api.documents.read().unwrap_or_else(PoisonError::into_inner).get(&path) {
        return Ok(reply::bytes(200, known.clone()));
    }
    let (group, version) = match rest {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return Err(Status::no_such_path()),
    };
    let document = of_version(api, &registry, group, version)?;
    let bytes = Bytes::from(serde_json::to_vec(&document).expect("a JSON value can be written"));
    api.documents.write().unwrap_or_else(PoisonError::into_inner).insert(path, bytes.clone());
    Ok(reply::bytes(200, bytes))
}

fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, versions) in &registry.groups {
        for version in versions {
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            // The hash tells clients that a document changed: it is made of the resources that it is of.
            let hash = registry.of_version(group, version).into_iter().flatten().fold(0, |hash, (plural, kind)| {
                let schema = kind.custom.as_ref().map(|custom| custom.schema.to_string()).unwrap_or_default();
                crc32c::crc32c_append(hash, format!("{plural}{schema}").as_bytes())
            });
            let url = format!("/openapi/v3/{path}?hash={hash:08X}");
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

fn type_name(kind: &Kind, types: &Map<String, Value>) -> Option<String> {
    if let Some(object) = kind.types.object(kind.of())
        && kind.is_builtin()
        && !object.name.is_empty()
    {
        return Some(object.name.to_string());
    }
    let custom = format!("{}.{}.{}", reversed(kind.group()), kind.resource.version, kind.kind());
    types.contains_key(&custom).then_some(custom)
}

fn reversed(group: &str) -> String {
    group.split('.').rev().collect::<Vec<_>>().join(".")
}

fn of_version(api: &Api, registry: &Registry, group: &str, version: &str) -> Result<Value, Status> {
    let kinds = registry.of_version(group, version).ok_or_else(Status::no_such_path)?;
    let mut types = builtin_types_json();
    let mut needed = BTreeSet::new();
    for kind in kinds.values() {
        if let Some(custom) = &kind.custom {
            let name = format!("{}.{version}.{}", reversed(group), kind.kind());
            let mut schema = custom.schema.clone();
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": group, "version": version, "kind": kind.kind()}]);
            for (field, what) in [("apiVersion", json!({"type": "string"})), ("kind", json!({"type": "string"}))] {
                schema["properties"][field] = what;
            }
            schema["properties"]["metadata"] = json!({"allOf": [{"$ref": format!("{REFERENCE}{OBJECT_META}")}]});
            let list = json!({
                "type": "object", "required": ["items"],
                "properties": {
                    "apiVersion": {"type": "string"}, "kind": {"type": "string"},
                    "items": {"type": "array", "items": {"$ref": format!("{REFERENCE}{name}")}},
                    "metadata": {"allOf": [{"$ref": format!("{REFERENCE}io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")}]},
                },
                "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": format!("{}List", kind.kind())}],
            });
            types.insert(format!("{name}List"), list);
            types.insert(name.clone(), schema);
            needed.insert(format!("{name}List"));
        }
        let Some(name) = type_name(kind, &types) else { continue };
        let list = format!("{name}List");
        if types.contains_key(&list) {
            needed.insert(list);
        }
        needed.insert(name);
    }
    for name in ["Status", "DeleteOptions", "WatchEvent", "Patch"] {
        needed.insert(format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"));
    }
    let mut schemas = Map::new();
    let mut todo: Vec<String> = needed.into_iter().collect();
    while let Some(name) = todo.pop() {
        if schemas.contains_key(&name) {
            continue;
        }
        if let Some(schema) = types.get(&name) {
            references(schema, &mut todo);
            schemas.insert(name, schema.clone());
        }
    }
    let mut paths = Map::new();
    for kind in kinds.values() {
        add_paths(kind, &types, &mut paths);
    }
    Ok(json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": api.version()},
        "paths": paths, "components": {"schemas": schemas},
    }))
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().and_then(|text| text.strip_prefix(REFERENCE)) {
                    Some(name) if key == "$ref" => found.push(name.to_owned()),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn add_paths(kind: &Kind, types: &Map<String, Value>, paths: &mut Map<String, Value>) {
    let of = &kind.resource;
    let root =
        if of.group.is_empty() { format!("/api/{}", of.version) } else { format!("/apis/{}/{}", of.group, of.version) };
    let base = if of.namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", of.plural)
    } else {
        format!("{root}/{}", of.plural)
    };
    let gvk = json!({"group": of.group, "version": of.version, "kind": of.kind});
    let name = type_name(kind, types);
    let reference = name.as_ref().map_or_else(|| json!({}), |name| json!({"$ref": format!("{REFERENCE}{name}")}));
    let listed = name.map(|name| format!("{name}List")).filter(|name| types.contains_key(name));
    let listed = listed.map_or_else(|| json!({}), |name| json!({"$ref": format!("{REFERENCE}{name}")}));
    let has = |verb: &str| of.verbs.iter().any(|known| known == verb);
    let query = |names: &[&str]| -> Vec<Value> {
        names
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
            .collect()
    };
    let operation = |action: &str, schema: &Value, parameters: Vec<Value>, takes: Option<(&str, Value)>| {
        let mut body = json!({
            "operationId": format!("{action}{}{}", of.kind, of.version),
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
        });
        if !parameters.is_empty() {
            body["parameters"] = Value::Array(parameters);
        }
        if let Some((of, schema)) = takes {
            body["requestBody"] = json!({"content": {of: {"schema": schema}}, "required": true});
        }
        body
    };
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let select = [
        "continue",
        "fieldSelector",
        "labelSelector",
        "limit",
        "resourceVersion",
        "resourceVersionMatch",
        "sendInitialEvents",
        "timeoutSeconds",
        "watch",
    ];
    let mut collection = Map::new();
    if has("list") {
        collection.insert("get".to_owned(), operation("list", &listed, query(&select), None));
    }
    if has("create") {
        collection
            .insert("post".to_owned(), operation("post", &reference, query(&write), Some(("*/*", reference.clone()))));
    }
    if has("deletecollection") {
        collection.insert("delete".to_owned(), operation("deletecollection", &json!({}), query(&select), None));
    }
    if of.namespaced {
        collection.insert("parameters".to_owned(), json!([{"name": "namespace", "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}}]));
        if has("list") {
            let all = json!({"get": operation("list", &listed, query(&select), None)});
            paths.insert(format!("{root}/{}", of.plural), all);
        }
    }
    paths.insert(base.clone(), Value::Object(collection));
    let mut single = Map::new();
    if has("get") {
        single.insert("get".to_owned(), operation("get", &reference, Vec::new(), None));
    }
    if has("update") {
        single.insert("put".to_owned(), operation("put", &reference, query(&write), Some(("*/*", reference.clone()))));
    }
    if has("patch") {
        let with_force = ["dryRun", "fieldManager", "fieldValidation", "force"];
        let mut patch = operation("patch", &reference, query(&with_force), None);
        let schema = json!({"$ref": format!("{REFERENCE}io.k8s.apimachinery.pkg.apis.meta.v1.Patch")});
        for of in [
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ] {
            patch["requestBody"]["content"][of] = json!({"schema": schema});
        }
        single.insert("patch".to_owned(), patch);
    }
    if has("delete") {
        single.insert(
            "delete".to_owned(),
            operation("delete", &json!({}), query(&["dryRun", "gracePeriodSeconds", "propagationPolicy"]), None),
        );
    }
    if !single.is_empty() {
        paths.insert(format!("{base}/{{name}}"), Value::Object(single));
    }
}
