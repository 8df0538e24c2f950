//! The documents that kubeadm reads, so that what means the same is the same.

use std::collections::{BTreeMap, BTreeSet};

use ksail_model::Value;
use serde_json::Value as Json;

pub(crate) fn steady_of(document: &Value) -> Json {
    steady(document.to_plain_json())
}

/// A document without what is left out by some, written in some order or another, or a matter of where the machine is.
pub(crate) fn steady(document: Json) -> Json {
    let mut document = shaped(with_maps(document));
    for place in ["/nodeRegistration/kubeletExtraArgs", "/localAPIEndpoint", "/controlPlane/localAPIEndpoint"] {
        let Some(fields) = document.pointer_mut(place).and_then(Json::as_object_mut) else { continue };
        fields.remove("node-ip");
        fields.remove("advertiseAddress");
        if let Some(labels) = fields.get_mut("node-labels") {
            let text = labels.as_str().unwrap_or_default().to_owned();
            let mut all: Vec<&str> = text.split(',').collect();
            all.sort_unstable();
            *labels = all.join(",").into();
        }
    }
    if let Some(fields) = document.as_object_mut() {
        fields.remove("metadata");
    }
    shaped(document)
}

/// Without what is empty, and lists of texts in order.
fn shaped(value: Json) -> Json {
    let is_nothing = |value: &Json| match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(list) => list.is_empty(),
        Json::Object(map) => map.is_empty(),
        _ => false,
    };
    match value {
        Json::Object(map) => {
            let fields = map.into_iter().map(|(key, value)| (key, shaped(value)));
            Json::Object(fields.filter(|(_, value)| !is_nothing(value)).collect())
        }
        Json::Array(list) => {
            let mut list: Vec<Json> = list.into_iter().map(shaped).collect();
            if list.iter().all(Json::is_string) {
                list.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            }
            Json::Array(list)
        }
        other => other,
    }
}

/// All fields of documents by their paths (`ClusterConfiguration.networking.podSubnet`), without what follows from the version of Kubernetes.
pub(crate) fn fields(documents: &[Value]) -> BTreeMap<String, Json> {
    let mut all = BTreeMap::new();
    for document in documents {
        let mut document = steady_of(document);
        let is_kubeadm = document["apiVersion"].as_str().is_some_and(|version| version.starts_with("kubeadm.k8s.io/"));
        if is_kubeadm && let Some(fields) = document.as_object_mut() {
            for field in ["apiVersion", "kubernetesVersion", "encryptionAlgorithm"] {
                fields.remove(field);
            }
        }
        let kind = document["kind"].as_str().unwrap_or_default().to_owned();
        leaves(&document, &kind, &mut all);
    }
    all
}

fn leaves(value: &Json, path: &str, all: &mut BTreeMap<String, Json>) {
    match value {
        Json::Object(map) => map.iter().for_each(|(key, value)| leaves(value, &format!("{path}.{key}"), all)),
        other => drop(all.insert(path.to_owned(), other.clone())),
    }
}

/// Arguments of programs, which became lists, in the shape that they had before. A list with one name twice stays what it is.
fn with_maps(value: Json) -> Json {
    let is_argument = |item: &Json| {
        item.as_object().is_some_and(|map| map.len() == 2 && map.contains_key("name") && map.contains_key("value"))
    };
    match value {
        Json::Array(items) if !items.is_empty() && items.iter().all(is_argument) && are_unique(&items) => {
            let argument = |item: Json| (item["name"].as_str().unwrap_or_default().to_owned(), item["value"].clone());
            Json::Object(items.into_iter().map(argument).collect())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(with_maps).collect()),
        Json::Object(map) => Json::Object(map.into_iter().map(|(key, value)| (key, with_maps(value))).collect()),
        other => other,
    }
}

fn are_unique(arguments: &[Json]) -> bool {
    let names: BTreeSet<Option<&str>> = arguments.iter().map(|argument| argument["name"].as_str()).collect();
    names.len() == arguments.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_means_something_else_differs() {
        let told = Value::from(json!({
            "kind": "InitConfiguration", "metadata": {"name": "config"}, "skipPhases": ["preflight", "a"], "empty": [],
            "localAPIEndpoint": {"advertiseAddress": "172.18.0.2", "bindPort": 6443},
            "nodeRegistration": {"kubeletExtraArgs": [
                {"name": "node-ip", "value": "172.18.0.2"}, {"name": "node-labels", "value": "b=2,a=1"},
            ]},
        }));
        let declared = |port: u16| {
            Value::from(json!({
                "kind": "InitConfiguration", "skipPhases": ["a", "preflight"], "localAPIEndpoint": {"bindPort": port},
                "nodeRegistration": {"kubeletExtraArgs": {"node-labels": "a=1,b=2"}},
            }))
        };
        let told = fields(&[told]);
        assert_eq!(told, fields(&[declared(6443)]));
        let differs: Vec<(String, Json)> =
            fields(&[declared(7443)]).into_iter().filter(|(path, value)| told.get(path) != Some(value)).collect();
        assert_eq!(differs, [("InitConfiguration.localAPIEndpoint.bindPort".to_owned(), json!(7443))]);
        assert_eq!(told["InitConfiguration.localAPIEndpoint.bindPort"], 6443);
    }
}
