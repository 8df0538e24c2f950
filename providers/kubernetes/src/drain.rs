//! Emptying a node before it goes: cordon, then eviction of its pods, which respects PodDisruptionBudgets.
//!
//! Pods of DaemonSets, mirror pods and pods that are over stay: they go with the node. Where not all others leave before the
//! deadline, the node is given back to the scheduler and the message names what holds it. A kill leaves the node cordoned and some
//! pods evicted: the next deletion goes on, and a node that shall stay is not ready until a wait has given it back.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, StatusCode};
use ksail_provider::CallError;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::call::Call;
use crate::refusal;
use crate::wire::{at, text};

/// Who cordons: not the manager of what is declared, so that it is no field of ours.
const MANAGER: &str = "ksail-drain";
/// What is kept of the deadline to give the node back.
const LAST_LOOK: Duration = Duration::from_secs(2);
/// The first and the longest pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How many pods a message names.
const MOST_NAMED: usize = 5;

/// Whether a drain that was cut off has left the node cordoned.
pub(crate) fn was_cut_off(node: &Json) -> bool {
    let managers = at(node, &["metadata", "managedFields"]).and_then(Json::as_array);
    let is_ours =
        |entry: &Json| entry["manager"] == MANAGER && at(entry, &["fieldsV1", "f:spec", "f:unschedulable"]).is_some();
    at(node, &["spec", "unschedulable"]) == Some(&Json::Bool(true))
        && managers.is_some_and(|managers| managers.iter().any(is_ours))
}

/// Gives a node back to the scheduler.
pub(crate) async fn give_back(call: &Call, what: &str, node: &str) -> Result<(), CallError> {
    cordon(call, what, node, false).await
}

/// Takes all pods off a node that can be elsewhere.
pub(crate) async fn drain(call: &Call, what: &str, node: &str) -> Result<(), CallError> {
    cordon(call, what, node, true).await?;
    let last_look = call.deadline - LAST_LOOK.min(call.context.timeout / 4);
    let mut pause = FIRST_PAUSE;
    // By pod, why it may not go.
    let mut held: BTreeMap<String, String>;
    loop {
        held = BTreeMap::new();
        let pods = leaving(call, what, node).await?;
        for pod in &pods {
            let name = name_of(pod);
            if text(pod, &["metadata", "deletionTimestamp"]).is_some() {
                held.insert(name, "it takes its time to end".to_owned());
            } else if let Some(why) = evict(call, what, pod).await? {
                held.insert(name, why);
            }
        }
        if pods.is_empty() {
            return Ok(());
        }
        if Instant::now() >= last_look {
            break;
        }
        call.pause(what, pause.min(last_look.saturating_duration_since(Instant::now()))).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    cordon(call, what, node, false).await?;
    let named: Vec<String> = held.iter().take(MOST_NAMED).map(|(pod, why)| format!("{pod}: {why}")).collect();
    let more = match held.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Err(call
        .refused(what, &format!("pods did not leave it in time, and it takes pods again ({}{more})", named.join("; ")))
        .hint("let its PodDisruptionBudget allow it, or add a node for the pods first"))
}

fn name_of(pod: &Json) -> String {
    let part = |name| text(pod, &["metadata", name]).unwrap_or_default();
    format!("{}/{}", part("namespace"), part("name"))
}

/// Whether the scheduler may use the node.
async fn cordon(call: &Call, what: &str, node: &str, is_cordoned: bool) -> Result<(), CallError> {
    let path = format!("/api/v1/nodes/{node}?fieldManager={MANAGER}");
    let patch = json!({"spec": {"unschedulable": is_cordoned.then_some(true)}}).to_string().into_bytes();
    let reply = call.change(what, Method::PATCH, &path, "application/merge-patch+json", patch).await?;
    if reply.status.is_success() || refusal::is_absent(&reply) {
        return Ok(());
    }
    Err(call.redact(refusal::of_change(&call.session.place, what, &reply)))
}

/// The pods on a node that must go elsewhere.
async fn leaving(call: &Call, what: &str, node: &str) -> Result<Vec<Json>, CallError> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
    let Some(mut list) = call.read(what, &path).await? else { return Ok(Vec::new()) };
    let pods = match list["items"].take() {
        Json::Array(pods) => pods,
        _ => Vec::new(),
    };
    Ok(pods.into_iter().filter(must_leave).collect())
}

fn must_leave(pod: &Json) -> bool {
    let is_of_daemon_set = || {
        let owners = at(pod, &["metadata", "ownerReferences"]).and_then(Json::as_array);
        owners.is_some_and(|owners| {
            owners.iter().any(|owner| owner["kind"] == "DaemonSet" && owner["controller"] == true)
        })
    };
    let is_mirror = || at(pod, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some();
    let is_over = || matches!(text(pod, &["status", "phase"]), Some("Succeeded" | "Failed"));
    !is_over() && !is_mirror() && !is_of_daemon_set()
}

/// Asks for the eviction of a pod. Answers why it may not go yet.
async fn evict(call: &Call, what: &str, pod: &Json) -> Result<Option<String>, CallError> {
    let part = |name| text(pod, &["metadata", name]).unwrap_or_default();
    let (namespace, name) = (part("namespace"), part("name"));
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"namespace": namespace, "name": name},
        "deleteOptions": {"preconditions": {"uid": part("uid")}},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    let body = eviction.to_string().into_bytes();
    let reply = call.change(what, Method::POST, &path, "application/json", body).await?;
    match reply.status {
        status if status.is_success() || refusal::is_absent(&reply) => Ok(None),
        // Another pod of its name has taken its place.
        StatusCode::CONFLICT => Ok(None),
        StatusCode::TOO_MANY_REQUESTS => {
            let causes = at(&reply.body, &["details", "causes"]).and_then(Json::as_array);
            let cause = causes.and_then(|causes| text(causes.first()?, &["message"]));
            let why = cause.or_else(|| text(&reply.body, &["message"])).unwrap_or("it may not be disrupted now");
            Ok(Some(why.to_owned()))
        }
        _ => Err(call.redact(refusal::of_change(&call.session.place, what, &reply))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{must_leave, was_cut_off};

    #[test]
    fn a_node_that_a_drain_left_cordoned_is_told_from_one_that_a_person_cordoned() {
        let node = |manager: &str, unschedulable: bool| {
            json!({"metadata": {"managedFields": [{"manager": manager, "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}]},
                   "spec": {"unschedulable": unschedulable}})
        };
        assert!(was_cut_off(&node("ksail-drain", true)));
        assert!(!was_cut_off(&node("kubectl-cordon", true)));
        assert!(!was_cut_off(&node("ksail-drain", false)));
        assert!(!was_cut_off(&json!({"metadata": {}})));
    }

    #[test]
    fn what_goes_with_the_node_may_stay() {
        let owned = |kind: &str| json!({"metadata": {"ownerReferences": [{"kind": kind, "controller": true}]}});
        assert!(must_leave(&owned("ReplicaSet")));
        assert!(must_leave(&json!({"metadata": {}, "status": {"phase": "Running"}})));
        assert!(!must_leave(&owned("DaemonSet")));
        assert!(!must_leave(&json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}})));
        assert!(!must_leave(&json!({"status": {"phase": "Succeeded"}})));
    }
}
