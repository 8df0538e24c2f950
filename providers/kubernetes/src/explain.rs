//! Why a wait failed: the pod behind an object, and the last warnings about them.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::call::Call;
use crate::name::ObjectName;
use crate::readiness::readiness;
use crate::wire::{at, text};

/// How many pods are looked at, and how many warnings are told.
const MOST_PODS: usize = 50;
const MOST_WARNINGS: usize = 2;
/// How long a warning may be, in characters.
const WARNING_CHARACTERS: usize = 300;

/// What more there is to say of an object that is not ready. What cannot be looked at is left out.
pub(crate) async fn explain(call: &Call, name: &ObjectName, object: &Json) -> Vec<String> {
    let Some(namespace) = &name.namespace else { return Vec::new() };
    let mut told = Vec::new();
    let mut about = BTreeSet::from([name.name.clone()]);
    let labels = at(object, &["spec", "selector", "matchLabels"]).and_then(Json::as_object);
    let selector: Vec<String> =
        labels.into_iter().flatten().filter_map(|(key, value)| Some(format!("{key}%3D{}", value.as_str()?))).collect();
    let root = format!("/api/v1/namespaces/{namespace}");
    if !selector.is_empty() {
        let path = format!("{root}/pods?limit={MOST_PODS}&labelSelector={}", selector.join(","));
        let pods = call.read("look at its pods", &path).await.ok().flatten();
        for pod in pods.as_ref().and_then(|list| list["items"].as_array()).into_iter().flatten() {
            let pod_name = text(pod, &["metadata", "name"]).unwrap_or_default();
            about.insert(pod_name.to_owned());
            let as_pod = ObjectName {
                group: String::new(),
                kind: "Pod".to_owned(),
                namespace: Some(namespace.clone()),
                name: pod_name.to_owned(),
            };
            if let (ksail_model::Readiness::NotReady(why), true) = (readiness(&as_pod, pod), told.is_empty()) {
                told.push(format!("pod {pod_name}: {why}"));
            }
        }
        let path = format!(
            "/apis/apps/v1/namespaces/{namespace}/replicasets?limit={MOST_PODS}&labelSelector={}",
            selector.join(",")
        );
        let sets = call.read("look at its replica sets", &path).await.ok().flatten();
        let names = sets.as_ref().and_then(|list| list["items"].as_array()).into_iter().flatten();
        about.extend(names.filter_map(|set| text(set, &["metadata", "name"]).map(str::to_owned)));
    }
    let path = format!("{root}/events?limit=500&fieldSelector=type%3DWarning");
    let events = call.read("look at its events", &path).await.ok().flatten();
    let mut warnings: Vec<(&str, String)> = events
        .as_ref()
        .and_then(|list| list["items"].as_array())
        .into_iter()
        .flatten()
        .filter(|event| text(event, &["involvedObject", "name"]).is_some_and(|name| about.contains(name)))
        .map(|event| {
            let when = text(event, &["lastTimestamp"]).or_else(|| text(event, &["eventTime"])).unwrap_or_default();
            let reason = text(event, &["reason"]).unwrap_or_default();
            let message: String =
                text(event, &["message"]).unwrap_or_default().chars().take(WARNING_CHARACTERS).collect();
            (when, format!("{reason}: {message}"))
        })
        .collect();
    warnings.sort();
    warnings.dedup_by(|one, other| one.1 == other.1);
    told.extend(warnings.into_iter().rev().take(MOST_WARNINGS).map(|(_, text)| text));
    told
}
