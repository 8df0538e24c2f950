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
/// What is said of a pod that was told to end.
const ENDING: &str = "it takes its time to end";
/// How many pods a message names.
const MOST_NAMED: usize = 5;

/// Which pods leave a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// All that can be elsewhere: the node goes.
    All,
    /// Those that somebody makes anew elsewhere: the node comes back.
    MadeAnew,
}

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

/// Takes pods off a node. One that was cordoned before stays so, whatever this comes to.
///
/// `tell` is given what it waits for, whenever that may have changed.
pub(crate) async fn drain(
    call: &Call,
    what: &str,
    node: &str,
    leaves: Leaves,
    tell: &(dyn Fn(String) + Sync),
) -> Result<(), CallError> {
    let Some(live) = call.read(what, &format!("/api/v1/nodes/{node}")).await? else { return Ok(()) };
    let is_cordoned = at(&live, &["spec", "unschedulable"]) == Some(&Json::Bool(true));
    let is_ours = !is_cordoned || was_cut_off(&live);
    if is_ours {
        cordon(call, what, node, true).await?;
    }
    let last_look = call.deadline - LAST_LOOK.min(call.context.timeout / 4);
    let mut pause = FIRST_PAUSE;
    // By pod, why it may not go.
    let mut held: BTreeMap<String, String>;
    loop {
        held = BTreeMap::new();
        let pods = leaving(call, what, node, leaves).await?;
        for pod in &pods {
            let name = name_of(pod);
            if text(pod, &["metadata", "deletionTimestamp"]).is_some() {
                held.insert(name, ENDING.to_owned());
            } else if let Some(why) = evict(call, what, pod).await? {
                held.insert(name, why);
            }
        }
        // Nobody ends pods on a node that is lost: they go with its object.
        let only_end = held.len() == pods.len() && held.values().all(|why| why == ENDING);
        if pods.is_empty() || (only_end && is_lost(call, what, node).await?) {
            return Ok(());
        }
        tell(waited_for(&pods, &held));
        if Instant::now() >= last_look {
            break;
        }
        call.pause(what, pause.min(last_look.saturating_duration_since(Instant::now()))).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    if is_ours {
        cordon(call, what, node, false).await?;
    }
    let again = if is_ours { ", and it takes pods again" } else { "" };
    let named = named(held.iter().map(|(pod, why)| format!("{pod}: {why}")), held.len());
    Err(call
        .refused(what, &format!("pods did not leave it in time{again} ({named})"))
        .hint("let its PodDisruptionBudget allow it, or add a node for the pods first"))
}

/// Whether the cluster has given the node up: its kubelet has not reported for longer than it may.
async fn is_lost(call: &Call, what: &str, node: &str) -> Result<bool, CallError> {
    let Some(node) = call.read(what, &format!("/api/v1/nodes/{node}")).await? else { return Ok(true) };
    Ok(is_given_up(&node))
}

fn is_given_up(node: &Json) -> bool {
    let conditions = at(node, &["status", "conditions"]).and_then(Json::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    ready.is_some_and(|ready| ready["status"] == "Unknown")
}

/// The first of some texts, and how many more there are.
fn named(texts: impl Iterator<Item = String>, count: usize) -> String {
    let first: Vec<String> = texts.take(MOST_NAMED).collect();
    match count.saturating_sub(MOST_NAMED) {
        0 => first.join("; "),
        more => format!("{}; and {more} more", first.join("; ")),
    }
}

/// What a drain waits for. What is held comes before what only takes its time.
fn waited_for(pods: &[Json], held: &BTreeMap<String, String>) -> String {
    let mut waits: Vec<(bool, String)> = pods
        .iter()
        .map(name_of)
        .map(|pod| match held.get(&pod) {
            Some(why) => (why == ENDING, format!("{pod}: {why}")),
            None => (true, format!("{pod}: its eviction has begun")),
        })
        .collect();
    waits.sort();
    let count = waits.len();
    let plural = if count == 1 { "pod" } else { "pods" };
    format!("{count} {plural} must leave it: {}", named(waits.into_iter().map(|(_, text)| text), count))
}

/// What a drain does to pods, and which budgets may hold it.
pub(crate) async fn forecast(call: &Call, what: &str, node: &str, leaves: Leaves) -> Result<Vec<String>, CallError> {
    let pods = leaving(call, what, node, leaves).await?;
    if pods.is_empty() {
        return Ok(Vec::new());
    }
    let plural = if pods.len() == 1 { "pod" } else { "pods" };
    let names = named(pods.iter().map(name_of), pods.len());
    let mut told = vec![format!("evicts {} {plural}: {names}", pods.len())];
    // Without the right to list them, that is for the drain to find out.
    let budgets = call.read(what, "/apis/policy/v1/poddisruptionbudgets").await;
    let Ok(Some(mut budgets)) = budgets else { return Ok(told) };
    let budgets = match budgets["items"].take() {
        Json::Array(budgets) => budgets,
        _ => Vec::new(),
    };
    told.extend(budgets.iter().filter_map(|budget| may_hold(budget, &pods)));
    Ok(told)
}

/// What is said of a budget that is about some of the pods and allows fewer disruptions than there are.
fn may_hold(budget: &Json, pods: &[Json]) -> Option<String> {
    let namespace = text(budget, &["metadata", "namespace"]);
    let selector = at(budget, &["spec", "selector"])?;
    let is_about = |pod: &&Json| text(pod, &["metadata", "namespace"]) == namespace && selects(selector, pod);
    let count = pods.iter().filter(is_about).count() as u64;
    let allowed = at(budget, &["status", "disruptionsAllowed"]).and_then(Json::as_u64).unwrap_or(0);
    if count <= allowed {
        return None;
    }
    let healthy = |key| at(budget, &["status", key]).and_then(Json::as_u64).unwrap_or(0);
    let which = if count == 1 { "one of them".to_owned() } else { format!("{count} of them") };
    let may = if allowed == 0 { "holds" } else { "may hold" };
    Some(format!(
        "PodDisruptionBudget {} {may} {which}: {} of its pods must be healthy, {} are, so that {allowed} may go now",
        name_of(budget),
        healthy("desiredHealthy"),
        healthy("currentHealthy"),
    ))
}

/// Whether a label selector is about a pod.
fn selects(selector: &Json, pod: &Json) -> bool {
    let label = |key: &str| text(pod, &["metadata", "labels", key]);
    let labels = at(selector, &["matchLabels"]).and_then(Json::as_object);
    let expressions = at(selector, &["matchExpressions"]).and_then(Json::as_array);
    let holds = |expression: &Json| {
        let found = label(text(expression, &["key"]).unwrap_or_default());
        let values = at(expression, &["values"]).and_then(Json::as_array);
        let is_one = |found: &str| values.is_some_and(|values| values.iter().any(|value| value == found));
        match text(expression, &["operator"]) {
            Some("In") => found.is_some_and(is_one),
            Some("NotIn") => !found.is_some_and(is_one),
            Some("Exists") => found.is_some(),
            Some("DoesNotExist") => found.is_none(),
            _ => false,
        }
    };
    labels.into_iter().flatten().all(|(key, value)| label(key) == value.as_str())
        && expressions.into_iter().flatten().all(holds)
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
async fn leaving(call: &Call, what: &str, node: &str, leaves: Leaves) -> Result<Vec<Json>, CallError> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
    let Some(mut list) = call.read(what, &path).await? else { return Ok(Vec::new()) };
    let pods = match list["items"].take() {
        Json::Array(pods) => pods,
        _ => Vec::new(),
    };
    Ok(pods.into_iter().filter(|pod| must_leave(pod, leaves)).collect())
}

fn must_leave(pod: &Json, leaves: Leaves) -> bool {
    let owners = at(pod, &["metadata", "ownerReferences"]).and_then(Json::as_array);
    let controller = owners.into_iter().flatten().find(|owner| owner["controller"] == true);
    let is_of_daemon_set = || controller.is_some_and(|owner| owner["kind"] == "DaemonSet");
    let is_mirror = || at(pod, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some();
    let is_over = || matches!(text(pod, &["status", "phase"]), Some("Succeeded" | "Failed"));
    let is_made_anew = leaves == Leaves::All || controller.is_some();
    is_made_anew && !is_over() && !is_mirror() && !is_of_daemon_set()
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

    use super::{Leaves, may_hold, selects, waited_for, was_cut_off};

    fn pod(name: &str, app: &str) -> serde_json::Value {
        json!({"metadata": {"namespace": "shop", "name": name, "labels": {"app": app}}})
    }

    #[test]
    fn what_a_drain_waits_for_names_pods_and_what_holds_them() {
        let held = [("shop/b".to_owned(), "its budget".to_owned()), ("shop/a".to_owned(), super::ENDING.to_owned())];
        let told = waited_for(&[pod("a", "x"), pod("b", "x"), pod("c", "x")], &held.into());
        assert_eq!(
            told,
            "3 pods must leave it: shop/b: its budget; shop/a: it takes its time to end; shop/c: its eviction has begun"
        );
    }

    #[test]
    fn budgets_that_allow_less_are_told() {
        let budget = |allowed: u64| {
            json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}},
                   "status": {"disruptionsAllowed": allowed, "desiredHealthy": 2, "currentHealthy": 2 + allowed}})
        };
        let pods = [pod("a", "web"), pod("b", "web"), pod("c", "other")];
        assert_eq!(
            may_hold(&budget(0), &pods).as_deref(),
            Some(
                "PodDisruptionBudget shop/web holds 2 of them: 2 of its pods must be healthy, 2 are, so that 0 may go now"
            )
        );
        assert!(may_hold(&budget(1), &pods).unwrap().contains("may hold 2 of them"));
        assert_eq!(may_hold(&budget(2), &pods), None);
        assert_eq!(may_hold(&budget(0), &pods[2..]), None);
    }

    #[test]
    fn selectors_are_about_labels() {
        let check = |expression: serde_json::Value, wanted: bool| {
            assert_eq!(selects(&json!({"matchExpressions": [expression]}), &pod("a", "web")), wanted, "{expression}");
        };
        check(json!({"key": "app", "operator": "In", "values": ["web", "b"]}), true);
        check(json!({"key": "app", "operator": "NotIn", "values": ["web"]}), false);
        check(json!({"key": "app", "operator": "Exists"}), true);
        check(json!({"key": "tier", "operator": "DoesNotExist"}), true);
        check(json!({"key": "tier", "operator": "NotIn", "values": ["x"]}), true);
        check(json!({"key": "tier", "operator": "In", "values": ["x"]}), false);
        assert!(selects(&json!({}), &pod("a", "web")));
    }

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
    fn a_node_is_lost_once_the_cluster_says_so() {
        let node = |status: &str| json!({"status": {"conditions": [{"type": "DiskPressure", "status": "Unknown"}, {"type": "Ready", "status": status}]}});
        assert!(super::is_given_up(&node("Unknown")));
        assert!(!super::is_given_up(&node("False")) && !super::is_given_up(&json!({})));
    }

    #[test]
    fn what_goes_with_the_node_may_stay() {
        let must_leave = |pod: &serde_json::Value| super::must_leave(pod, Leaves::All);
        let owned = |kind: &str| json!({"metadata": {"ownerReferences": [{"kind": kind, "controller": true}]}});
        assert!(must_leave(&owned("ReplicaSet")));
        assert!(must_leave(&json!({"metadata": {}, "status": {"phase": "Running"}})));
        assert!(!must_leave(&owned("DaemonSet")));
        assert!(!must_leave(&json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}})));
        assert!(!must_leave(&json!({"status": {"phase": "Succeeded"}})));
    }

    #[test]
    fn what_nobody_makes_anew_stays_on_a_node_that_comes_back() {
        let must_leave = |pod: &serde_json::Value| super::must_leave(pod, Leaves::MadeAnew);
        let owned = |kind: &str| json!({"metadata": {"ownerReferences": [{"kind": kind, "controller": true}]}});
        assert!(must_leave(&owned("ReplicaSet")));
        assert!(!must_leave(&owned("DaemonSet")));
        assert!(!must_leave(&json!({"metadata": {}, "status": {"phase": "Running"}})));
    }
}
