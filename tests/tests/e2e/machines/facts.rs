//! All that can be told of a cluster on Docker, as paths with values, so that two clusters can be compared field by field.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::support::engine::Engine;

/// A field's path, and its value.
pub(super) type Facts = BTreeMap<String, Value>;

/// What the cluster itself is asked for.
const OBJECTS: &str = "configmaps,daemonsets,deployments,services,storageclasses,serviceaccounts,roles,rolebindings";
/// Where static pods are, and where the kubelet is told what to do.
const FILES: [&str; 7] = [
    "/etc/kubernetes/manifests/etcd.yaml",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/etc/kubernetes/manifests/kube-controller-manager.yaml",
    "/etc/kubernetes/manifests/kube-scheduler.yaml",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
    "/etc/containerd/config.toml",
];
/// What of objects tells of the moment at which they were made.
const OF_THE_MOMENT: [&str; 8] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "clusterIP",
    "clusterIPs",
    "podCIDR",
];

/// All of a cluster whose first machine is `{cluster}-control-plane`.
pub(super) fn of(engine: &Engine, cluster: &str) -> Facts {
    let mut facts = Facts::new();
    let mut names = nodes(engine, cluster);
    names.sort();
    let balancer = format!("{cluster}-external-load-balancer");
    if names.contains(&balancer) {
        names.retain(|name| *name != balancer);
        put(&mut facts, "balancer", &of_balancer(&engine.inspect(&balancer)));
    }
    let mut addresses = Vec::new();
    for name in &names {
        let container = engine.inspect(name);
        let networks = container["NetworkSettings"]["Networks"].as_object().expect("networks");
        for (field, family) in [("IPAddress", "address"), ("GlobalIPv6Address", "IPv6 address")] {
            let of_networks = networks.values().map(|network| text(&network[field])).filter(|at| !at.is_empty());
            addresses.extend(of_networks.map(|at| (at, format!("<{family} of {name}>"))));
        }
        put(&mut facts, &format!("container/{name}"), &of_container(&container));
    }
    for name in &names {
        let (code, said) = engine.exec(name, &["cat", "/kind/kubeadm.conf"]);
        assert_eq!(code, 0, "{said}");
        for document in documents(&said) {
            let kind = text(&document["kind"]);
            put(&mut facts, &format!("kubeadm/{name}/{kind}"), &document);
        }
        for file in FILES {
            let (code, said) = engine.exec(name, &["cat", file]);
            let value = match file.rsplit('.').next() {
                _ if code != 0 => continue,
                Some("yaml") => documents(&said).remove(0),
                Some("toml") => toml::from_str(&said).expect("TOML"),
                Some("env") => said.replace('"', " ").split_whitespace().map(sorted).collect(),
                _ => Value::from(said),
            };
            put(&mut facts, &format!("file/{name}{file}"), &value);
        }
    }
    of_api(engine, &names, &mut facts);
    let named = facts.into_iter().map(|(path, value)| {
        let name = |text: &str| addresses.iter().fold(text.to_owned(), |text, (at, name)| replaced(&text, at, name));
        let value = value.as_str().map_or_else(|| value.clone(), |text| name(text).into());
        (members_in_order(&name(&path)), value)
    });
    named.collect()
}

/// A path with the members that etcd begins with in order: it lists them by their ids, which are of chance.
fn members_in_order(path: &str) -> String {
    const MEMBERS: &str = "--initial-cluster=";
    let Some((before, members)) = path.split_once(MEMBERS) else { return path.to_owned() };
    let members: BTreeSet<&str> = members.split(',').collect();
    format!("{before}{MEMBERS}{}", members.into_iter().collect::<Vec<_>>().join(","))
}

/// Nodes by kind's label.
fn nodes(engine: &Engine, cluster: &str) -> Vec<String> {
    let filter = format!("%7B%22label%22%3A%5B%22io.x-k8s.kind.cluster%3D{cluster}%22%5D%7D");
    let (_, listed) = engine.call("GET", &format!("/containers/json?all=1&filters={filter}"), &Value::Null);
    let named = |container: &Value| text(&container["Names"][0]).trim_start_matches('/').to_owned();
    listed.as_array().into_iter().flatten().map(named).collect()
}

/// What was asked of the engine, and what is published and mounted.
fn of_container(container: &Value) -> Value {
    let mounts: Map<String, Value> = container["Mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|mount| (text(&mount["Destination"]), mount.clone()))
        .collect();
    let networks = container["NetworkSettings"]["Networks"].as_object().expect("networks");
    let aliases: Vec<&Value> = networks
        .values()
        .flat_map(|network| network["Aliases"].as_array().into_iter().flatten())
        .filter(|alias| !text(&container["Id"]).starts_with(&text(alias)))
        .collect();
    json!({
        "Config": container["Config"], "HostConfig": container["HostConfig"], "Mounts": mounts,
        "Path": container["Path"], "Args": container["Args"], "Ports": container["NetworkSettings"]["Ports"],
        "Networks": networks.keys().collect::<Vec<_>>(), "Aliases": aliases,
    })
}

/// What others see of what leads to several control planes: what it runs is each program's own matter.
fn of_balancer(container: &Value) -> Value {
    json!({
        "Labels": container["Config"]["Labels"], "Ports": container["NetworkSettings"]["Ports"],
    })
}

fn of_api(engine: &Engine, names: &[String], facts: &mut Facts) {
    let first = names.iter().find(|name| name.ends_with("-control-plane")).expect("a control plane");
    let get = |what: &str| -> Vec<Value> {
        let command =
            ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "get", what, "--all-namespaces", "--output=json"];
        let (code, said) = engine.exec(first, &command);
        assert_eq!(code, 0, "{said}");
        let list: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        list["items"].as_array().cloned().unwrap_or_default()
    };
    for node in get("nodes") {
        let metadata = &node["metadata"];
        let mut spec = node["spec"].clone();
        // They are given in the order in which nodes join, and a node may have become ready or not yet.
        spec.as_object_mut().expect("a spec").retain(|key, _| !key.starts_with("podCIDR"));
        if let Some(taints) = spec["taints"].as_array_mut() {
            taints.retain(|taint| taint["key"] != "node.kubernetes.io/not-ready");
        }
        let told = json!({
            "labels": metadata["labels"], "annotations": metadata["annotations"], "spec": spec,
            "capacity": node["status"]["capacity"], "allocatable": node["status"]["allocatable"],
            "versions": {
                "kubelet": node["status"]["nodeInfo"]["kubeletVersion"],
                "runtime": node["status"]["nodeInfo"]["containerRuntimeVersion"],
            },
            "addresses": node["status"]["addresses"],
        });
        put(facts, &format!("node/{}", text(&metadata["name"])), &told);
    }
    for mut object in get(OBJECTS) {
        let (kind, metadata) = (text(&object["kind"]), object["metadata"].clone());
        let name = text(&metadata["name"]);
        // They hold certificates and signatures of this one cluster.
        let holds_keys =
            matches!(name.as_str(), "kube-root-ca.crt" | "extension-apiserver-authentication" | "cluster-info");
        let object = object.as_object_mut().expect("an object");
        object.retain(|key, _| key != "status" && !(holds_keys && key == "data"));
        parse_documents(object);
        let path = format!("object/{kind}/{}/{name}", metadata["namespace"].as_str().unwrap_or("_"));
        put(facts, &path, &Value::Object(object.clone()));
    }
}

/// Documents in texts of ConfigMaps are compared by their fields.
fn parse_documents(object: &mut Map<String, Value>) {
    for (_, value) in object.get_mut("data").and_then(Value::as_object_mut).into_iter().flatten() {
        if value.as_str().is_some_and(|text| text.contains("apiVersion:")) {
            *value = documents(&text(value)).remove(0);
        }
    }
}

/// The documents of a text of YAML.
pub(super) fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Puts a value's fields below a path. Lists of named things are known by their names, others are sets; what is empty is as if it
/// were not there, for clients write the same in several ways.
fn put(facts: &mut Facts, path: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| !OF_THE_MOMENT.contains(&key.as_str())) {
                put(facts, &format!("{path}/{key}"), value);
            }
        }
        Value::Array(list) => {
            for value in list {
                match (value, value["name"].as_str()) {
                    (Value::Object(_), Some(name)) => put(facts, &format!("{path}/{name}"), value),
                    (Value::String(text), _) => drop(facts.insert(format!("{path}/{text}"), Value::from(true))),
                    _ => drop(facts.insert(format!("{path}/{value}"), Value::from(true))),
                }
            }
        }
        Value::String(text) if path.contains("/node-labels/") => drop(facts.insert(path.to_owned(), sorted(text))),
        other => drop(facts.insert(path.to_owned(), other.clone())),
    }
}

/// A word with the labels in it in order: kind writes them in an order of chance.
fn sorted(word: &str) -> Value {
    let (head, labels) =
        word.rsplit_once("--node-labels=").map_or(("", word), |(_, labels)| ("--node-labels=", labels));
    if head.is_empty() && word.starts_with('-') {
        return word.into();
    }
    let labels: BTreeSet<&str> = labels.split(',').collect();
    format!("{head}{}", labels.into_iter().collect::<Vec<_>>().join(",")).into()
}

/// A text with another in place of an address, which is no beginning of a longer one.
fn replaced(text: &str, address: &str, name: &str) -> String {
    let mut parts = text.split(address).peekable();
    let mut whole = String::new();
    while let Some(part) = parts.next() {
        whole.push_str(part);
        if let Some(next) = parts.peek() {
            let is_v6 = address.contains(':');
            let goes_on = next.starts_with(|next: char| next.is_ascii_digit() || (is_v6 && next.is_ascii_hexdigit()));
            whole.push_str(if goes_on { address } else { name });
        }
    }
    whole
}
