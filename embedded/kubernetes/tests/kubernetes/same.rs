//! The same requests to this server and to a real one: the answers are equal but for what is chosen anew each time.

use std::collections::BTreeSet;

use ksail_test_real::variable;
use serde_json::Value;

use crate::harness::{Client, Served};

const REQUESTS: &str = include_str!("same.json");
/// The definition of the custom resources among them.
const DEFINITION: &str = include_str!("definition.json");
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Fields whose values are chosen anew by each server.
const CHOSEN: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "time",
    "clusterIP",
    "clusterIPs",
    "lastTransitionTime",
    "lastUpdateTime",
    "lastPhaseTransitionTime",
    "nodePort",
    "healthCheckNodePort",
    // Of columns: nobody needs them, and they are long.
    "description",
];

/// An answer without what is chosen, and without what controllers did meanwhile.
fn comparable(value: &Value, key: &str) -> Value {
    match value {
        _ if CHOSEN.contains(&key) || key.ends_with("controller-uid") => Value::from("chosen"),
        // Of how a real server stores it.
        _ if key == "storageVersionHash" => Value::Null,
        // What is of the group and version of its resource need not say so.
        Value::Object(map) if key == "responseKind" => map["kind"].clone(),
        // How long ago something was.
        Value::String(text)
            if key == "cells" && text.ends_with('s') && text[..text.len() - 1].parse::<u64>().is_ok() =>
        {
            Value::from("chosen")
        }
        // The uid of the record stands in the message.
        Value::String(text) if text.contains("does not match the UID in record") => Value::from("chosen"),
        Value::String(text) if text.starts_with("kube-api-access-") => Value::from("chosen"),
        // All that is wrong is named, in any order, and some of it twice.
        Value::Array(list) if key == "causes" => {
            let causes: BTreeSet<String> = list.iter().map(Value::to_string).collect();
            causes.into_iter().collect()
        }
        Value::String(text) if key == "message" && text.contains(" is invalid: [") => Value::from("several causes"),
        Value::Object(map) => {
            let of = |(key, value): (&String, &Value)| (key.clone(), comparable(value, key));
            Value::Object(map.iter().map(of).collect())
        }
        Value::Array(list) if key == "managedFields" => {
            // Controllers write when they come to it, and the order is one of times.
            let mut entries: Vec<Value> = list
                .iter()
                .filter(|entry| entry["manager"] != "kube-controller-manager")
                .map(|entry| comparable(entry, ""))
                .collect();
            entries.sort_by_key(Value::to_string);
            Value::Array(entries)
        }
        Value::Array(list) if key == "cells" => Value::Array(list.iter().map(|item| comparable(item, key)).collect()),
        Value::Array(list) => Value::Array(list.iter().map(|item| comparable(item, "")).collect()),
        other => other.clone(),
    }
}

fn without_controllers(mut answer: Value) -> Value {
    if let Some(annotations) = answer["metadata"]["annotations"].as_object_mut() {
        annotations.retain(|key, _| !key.starts_with("deployment.kubernetes.io/"));
        if annotations.is_empty()
            && let Some(metadata) = answer["metadata"].as_object_mut()
        {
            metadata.remove("annotations");
        }
    } else if let Some(metadata) = answer["metadata"].as_object_mut() {
        metadata.remove("annotations");
    }
    // A new node has no taint of its own here: see `docs/embedded.md`.
    if answer["kind"] == "Node"
        && let Some(spec) = answer["spec"].as_object_mut()
    {
        if let Some(taints) = spec.get_mut("taints").and_then(Value::as_array_mut) {
            taints.retain(|taint| taint["key"] != "node.kubernetes.io/not-ready");
        }
        spec.retain(|key, value| key != "taints" || value.as_array().is_some_and(|taints| !taints.is_empty()));
    }
    if answer["kind"] == "Deployment" {
        answer["status"] = Value::Null;
    }
    answer
}

fn differences(path: &str, real: &Value, ours: &Value, found: &mut Vec<String>) {
    match (real, ours) {
        (Value::Object(real), Value::Object(ours)) => {
            let keys: BTreeSet<&String> = real.keys().chain(ours.keys()).collect();
            for key in keys {
                let (one, other) = (real.get(key).unwrap_or(&Value::Null), ours.get(key).unwrap_or(&Value::Null));
                differences(&format!("{path}.{key}"), one, other, found);
            }
        }
        (Value::Array(real), Value::Array(ours)) if real.len() == ours.len() => {
            for (index, (one, other)) in real.iter().zip(ours).enumerate() {
                differences(&format!("{path}[{index}]"), one, other, found);
            }
        }
        (one, other) if one != other => found.push(format!("  {path}: real {one}, ours {other}")),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_a_real_server() {
    let Some(kubeconfig) = variable("KSAIL_TEST_KUBECONFIG", "`testbed/kubernetes.sh env` sets it") else { return };
    let real = Client::of(&std::fs::read_to_string(kubeconfig).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let namespace = format!("same-{}", std::process::id());
    let group = format!("{namespace}.example.com");
    let definition: Value = serde_json::from_str(&DEFINITION.replace("GROUP", &group)).unwrap();
    let both = [&real, &served.client];
    for client in both {
        let made = client.post("/api/v1/namespaces", &serde_json::json!({"metadata": {"name": namespace}})).await;
        assert_eq!(made.code, 201, "{:?}", made.body);
        client
            .until(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/default"), |answer| answer.code == 200)
            .await;
    }
    for client in both {
        let made = client.post(DEFINITIONS, &definition).await;
        assert_eq!(made.code, 201, "{:?}", made.body);
        client.until(&format!("/apis/{group}/v1/gs"), |answer| answer.code == 200).await;
    }
    let text = REQUESTS.replace("NAMESPACE", &namespace).replace("GROUP", &group);
    let requests: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut found = Vec::new();
    for request in &requests {
        let text = |key: &str| request[key].as_str().unwrap_or("application/json");
        let mut answers = Vec::new();
        for client in both {
            let body = request.get("body");
            let types = (text("type"), text("accept"));
            let answer = client.try_ask_as(text("method"), text("path"), types, body).await.unwrap();
            answers.push((answer.code, comparable(&without_controllers(answer.body), "")));
        }
        let mut here = Vec::new();
        if answers[0].0 != answers[1].0 {
            here.push(format!("  code: real {}, ours {}", answers[0].0, answers[1].0));
        }
        differences("", &answers[0].1, &answers[1].1, &mut here);
        if !here.is_empty() {
            found.push(format!("{}\n{}", text("what"), here.join("\n")));
        }
    }
    for client in both {
        client.delete(&format!("{DEFINITIONS}/gs.{group}")).await;
        client.delete(&format!("/api/v1/namespaces/{namespace}")).await;
    }
    assert!(requests.len() > 100, "{} requests", requests.len());
    assert!(found.is_empty(), "{} of {} differ:\n{}", found.len(), requests.len(), found.join("\n"));
}
