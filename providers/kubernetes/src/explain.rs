//! Why a wait failed: the object's own pods, the last warnings about them, and what the failing container wrote last.

use std::collections::BTreeSet;

use ksail_model::Readiness;
use serde_json::Value as Json;

use crate::call::Call;
use crate::logs;
use crate::name::ObjectName;
use crate::readiness::readiness;
use crate::wire::{at, text};

/// How many pods and replica sets are looked at, how many warnings about each thing, and how many are told.
const MOST_PODS: usize = 50;
const MOST_EVENTS: usize = 50;
const MOST_WARNINGS: usize = 2;
/// How long a warning may be, in characters.
const WARNING_CHARACTERS: usize = 300;

/// What more there is to say of an object that is not ready: first on one line, then the lines of a container below it. What
/// cannot be looked at is left out.
pub(crate) async fn explain(call: &Call, name: &ObjectName, object: &Json) -> (Vec<String>, Vec<String>) {
    let Some(namespace) = &name.namespace else { return (Vec::new(), Vec::new()) };
    let mut told = Vec::new();
    let mut about: Vec<String> = uid(object).map(str::to_owned).into_iter().collect();
    let pods = Pods::of(call, name, namespace, object).await;
    about.extend(pods.newest_set);
    let failing = pods.failing.first();
    if let Some((pod, why)) = failing {
        about.extend(uid(pod).map(str::to_owned));
        if name.kind != "Pod" {
            let others = match pods.failing.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            told.push(format!("pod {}{others}: {why}", pod_name(pod)));
        }
    }
    let written = async {
        match failing {
            Some((pod, _)) => logs::of(call, namespace, pod).await,
            None => Vec::new(),
        }
    };
    let (warnings, lines) = futures::join!(warnings(call, namespace, &about), written);
    told.extend(warnings);
    (told, lines)
}

fn uid(object: &Json) -> Option<&str> {
    text(object, &["metadata", "uid"])
}

pub(crate) fn pod_name(pod: &Json) -> &str {
    text(pod, &["metadata", "name"]).unwrap_or_default()
}

/// The pods of an object.
#[derive(Default)]
struct Pods {
    /// Those that are not ready, and why; the most telling first.
    failing: Vec<(Json, String)>,
    /// The UID of the newest of its replica sets.
    newest_set: Option<String>,
}

impl Pods {
    async fn of(call: &Call, name: &ObjectName, namespace: &str, object: &Json) -> Self {
        if name.group.is_empty() && name.kind == "Pod" {
            return Self { failing: failing(vec![object.clone()]), newest_set: None };
        }
        // Without a selector no pods are its own. A ReplicationController's has no more to it than labels.
        let labels = at(object, &["spec", "selector", "matchLabels"])
            .or_else(|| at(object, &["spec", "selector"]).filter(|_| name.kind == "ReplicationController"))
            .and_then(Json::as_object);
        let selector: Vec<String> = labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some(format!("{key}%3D{}", value.as_str()?)))
            .collect();
        if selector.is_empty() {
            return Self::default();
        }
        let query = format!("?limit={MOST_PODS}&labelSelector={}", selector.join(","));
        let list = async |path: String| {
            let found = call.read("look at its pods", &path).await.ok().flatten();
            found.and_then(|mut list| list["items"].as_array_mut().map(std::mem::take)).unwrap_or_default()
        };
        let mut owners: BTreeSet<String> = uid(object).map(str::to_owned).into_iter().collect();
        let mut newest_set = None;
        if name.group == "apps" && name.kind == "Deployment" {
            let mut sets = list(format!("/apis/apps/v1/namespaces/{namespace}/replicasets{query}")).await;
            sets.retain(|set| is_owned(set, &owners));
            newest_set = newest(&sets).and_then(uid).map(str::to_owned);
            owners.extend(sets.iter().filter_map(uid).map(str::to_owned));
        }
        let mut pods = list(format!("/api/v1/namespaces/{namespace}/pods{query}")).await;
        pods.retain(|pod| is_owned(pod, &owners));
        // A pod of the change before says nothing about the last one.
        if let Some(set) = &newest_set
            && pods.iter().any(|pod| is_owned(pod, &BTreeSet::from([set.clone()])))
        {
            pods.retain(|pod| is_owned(pod, &BTreeSet::from([set.clone()])));
        }
        Self { failing: failing(pods), newest_set }
    }
}

fn is_owned(object: &Json, owners: &BTreeSet<String>) -> bool {
    let references = at(object, &["metadata", "ownerReferences"]).and_then(Json::as_array);
    references.into_iter().flatten().filter_map(|owner| owner["uid"].as_str()).any(|uid| owners.contains(uid))
}

fn newest(objects: &[Json]) -> Option<&Json> {
    objects.iter().max_by_key(|object| text(object, &["metadata", "creationTimestamp"]))
}

/// Pods that are not ready, those first of which a container has failed, and of these the newest.
fn failing(pods: Vec<Json>) -> Vec<(Json, String)> {
    let mut found: Vec<(Json, String)> = pods
        .into_iter()
        .filter_map(|pod| {
            let name = ObjectName {
                group: String::new(),
                kind: "Pod".to_owned(),
                namespace: None,
                name: pod_name(&pod).to_owned(),
            };
            match readiness(&name, &pod) {
                Readiness::NotReady(why) => Some((pod, why)),
                Readiness::Ready => None,
            }
        })
        .collect();
    let made = |pod: &Json| text(pod, &["metadata", "creationTimestamp"]).map(str::to_owned);
    found.sort_by_key(|(pod, _)| std::cmp::Reverse((logs::failing_container(pod).is_some(), made(pod))));
    found
}

/// The last warnings about these things, newest first.
async fn warnings(call: &Call, namespace: &str, about: &[String]) -> Vec<String> {
    let lists = about.iter().map(|uid| {
        let path = format!(
            "/api/v1/namespaces/{namespace}/events?limit={MOST_EVENTS}&fieldSelector=type%3DWarning,involvedObject.uid%3D{uid}"
        );
        async move { call.read("look at its events", &path).await.ok().flatten() }
    });
    let mut warnings: Vec<(String, String)> = futures::future::join_all(lists)
        .await
        .iter()
        .flatten()
        .filter_map(|list| list["items"].as_array())
        .flatten()
        .map(|event| {
            let series = text(event, &["series", "lastObservedTime"]);
            let when = series.or_else(|| text(event, &["lastTimestamp"])).or_else(|| text(event, &["eventTime"]));
            let reason = text(event, &["reason"]).unwrap_or_default();
            let message: String =
                text(event, &["message"]).unwrap_or_default().chars().take(WARNING_CHARACTERS).collect();
            (when.unwrap_or_default().to_owned(), format!("{reason}: {message}"))
        })
        .collect();
    warnings.sort();
    let mut known = BTreeSet::new();
    let newest_first = warnings.into_iter().rev().map(|(_, text)| text).filter(|text| known.insert(text.clone()));
    newest_first.take(MOST_WARNINGS).collect()
}
