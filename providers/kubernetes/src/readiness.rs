//! Whether an object can be used, by its kind.

use ksail_expressions::Expression;
use ksail_model::Readiness;
use serde_json::Value as Json;

use crate::name::ObjectName;
use crate::secrets::is_secret;
use crate::wire::{at, number, text};

/// The annotation that says that nobody waits for an object: `false`.
const WAIT: &str = "ksail.io/wait";
/// The annotation whose expression says whether an object can be used.
const READY: &str = "ksail.io/ready";
/// The taint of a node that is not ready.
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Set on a claim that a provisioner is asked to fill.
const PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];

/// Whether the object can be used.
pub(crate) fn readiness(name: &ObjectName, object: &Json) -> Readiness {
    match why_not(name, object) {
        None => Readiness::Ready,
        Some(why) => Readiness::NotReady(why),
    }
}

fn why_not(name: &ObjectName, object: &Json) -> Option<String> {
    if text(object, &["metadata", "deletionTimestamp"]).is_some() {
        let finalizers = finalizers(object);
        return Some(match finalizers.as_slice() {
            [] => "it is being deleted".to_owned(),
            some => format!("it is being deleted, held by {}", some.join(", ")),
        });
    }
    if text(object, &["metadata", "annotations", WAIT]) == Some("false") {
        return None;
    }
    if let Some(expression) = text(object, &["metadata", "annotations", READY]) {
        return unseen(object).or_else(|| said(name, object, expression));
    }
    match (name.group.as_str(), name.kind.as_str()) {
        ("apps", "Deployment") => unseen(object).or_else(|| deployment(object)),
        ("apps", "StatefulSet") => unseen(object).or_else(|| stateful_set(object)),
        ("apps", "DaemonSet") => unseen(object).or_else(|| daemon_set(object)),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => unseen(object).or_else(|| replica_set(object)),
        ("batch", "Job") => job(object),
        ("", "Pod") => pod(object),
        // One that is only an object may have no kubelet that ever says so.
        ("", "Node") if is_node(object) => {
            let upgraded = || crate::upgrade::pending(object);
            condition(object, "Ready", true).or_else(upgraded).or_else(|| tainted(object)).or_else(|| cordoned(object))
        }
        ("", "Namespace") => match text(object, &["status", "phase"]) {
            Some("Active") => None,
            phase => Some(format!("its phase is {}", phase.unwrap_or("not set"))),
        },
        ("", "PersistentVolumeClaim") => claim(object),
        ("", "Service") => service(object),
        ("networking.k8s.io", "Ingress") => address(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => condition(object, "Established", true),
        ("apiregistration.k8s.io", "APIService") => condition(object, "Available", true),
        ("gateway.networking.k8s.io", "Gateway") => condition(object, "Programmed", true),
        (group, _) if is_builtin(group) => None,
        _ => {
            unseen(object).or_else(|| condition(object, "Ready", false)).or_else(|| condition(object, "Stalled", false))
        }
    }
}

/// Whether an object is a node that was declared as such.
fn is_node(object: &Json) -> bool {
    crate::mark::read(object).is_some_and(|mark| mark.address.kind() == ksail_kinds::NODE)
}

/// A node that has just become ready takes no pods until the taint that says otherwise is gone.
fn tainted(node: &Json) -> Option<String> {
    let taints = at(node, &["spec", "taints"]).and_then(Json::as_array)?;
    let is_there = taints.iter().any(|taint| taint["key"] == NOT_READY);
    is_there.then(|| format!("it still carries the taint {NOT_READY}"))
}

/// A drain that was cut off is no person's will.
fn cordoned(node: &Json) -> Option<String> {
    crate::drain::was_cut_off(node).then(|| "a drain that was cut off has left it cordoned".to_owned())
}

/// What an expression says of the object.
fn said(name: &ObjectName, object: &Json, expression: &str) -> Option<String> {
    let told = match Expression::parse(expression) {
        Ok(expression) if is_secret(name) => {
            let mut object = object.clone();
            object.as_object_mut().map(|map| map.remove("data"));
            expression.holds(&object)
        }
        Ok(expression) => expression.holds(object),
        Err(error) => Err(error.to_string()),
    };
    match told {
        Ok(true) => None,
        Ok(false) => Some(format!("`{expression}` is not true yet")),
        Err(why) => Some(format!("`{expression}` is not true yet: {why}")),
    }
}

/// Whether an object that is not ready cannot become so without a change: waiting longer is of no use.
pub(crate) fn hopeless(name: &ObjectName, object: &Json) -> bool {
    if text(object, &["metadata", "annotations", READY]).is_some() {
        return false;
    }
    let failed = || find_condition(object, "Failed").is_some_and(|condition| condition["status"] == "True");
    match (name.group.as_str(), name.kind.as_str()) {
        ("batch", "Job") => failed(),
        ("", "Pod") => text(object, &["status", "phase"]) == Some("Failed"),
        ("", "PersistentVolumeClaim") => text(object, &["status", "phase"]) == Some("Lost"),
        ("apps", "Deployment") => find_condition(object, "Progressing")
            .is_some_and(|condition| condition["reason"] == "ProgressDeadlineExceeded" && unseen(object).is_none()),
        _ => false,
    }
}

/// Whether what is said of it now may be of before: a rollout goes on once what held it up is mended, and says so only then.
pub(crate) fn is_rollout(name: &ObjectName) -> bool {
    (name.group.as_str(), name.kind.as_str()) == ("apps", "Deployment")
}

/// Groups that Kubernetes brings along: their kinds are known, and what is not named above is ready once it exists.
fn is_builtin(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

/// Who holds up the deletion of an object.
pub(crate) fn finalizers(object: &Json) -> Vec<String> {
    let list = at(object, &["metadata", "finalizers"]).and_then(Json::as_array);
    list.map_or(&[][..], Vec::as_slice).iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Its controller has not seen the last change.
fn unseen(object: &Json) -> Option<String> {
    let generation = number(object, &["metadata", "generation"])?;
    let Some(observed) = number(object, &["status", "observedGeneration"]) else {
        // Only kinds of which a controller tells what it has seen.
        return is_watched(object).then(|| "its controller has not seen it yet".to_owned());
    };
    (observed < generation).then(|| "its controller has not seen the last change yet".to_owned())
}

fn is_watched(object: &Json) -> bool {
    text(object, &["apiVersion"]).is_some_and(|version| version.starts_with("apps/"))
}

/// A condition that must be true; where it is not `required`, one that nobody has set is no hindrance. `Stalled` must not
/// be true.
fn condition(object: &Json, wanted: &str, required: bool) -> Option<String> {
    let Some(condition) = find_condition(object, wanted) else {
        return required.then(|| format!("it is not {wanted} yet"));
    };
    let good = if wanted == "Stalled" { "False" } else { "True" };
    let status = condition["status"].as_str().unwrap_or("Unknown");
    (status != good).then(|| format!("{wanted} is {status}{}", reason(condition)))
}

fn find_condition<'a>(object: &'a Json, wanted: &str) -> Option<&'a Json> {
    at(object, &["status", "conditions"])?.as_array()?.iter().find(|condition| condition["type"] == wanted)
}

fn reason(condition: &Json) -> String {
    let told: Vec<&str> = ["reason", "message"]
        .iter()
        .filter_map(|key| condition[key].as_str())
        .filter(|text| !text.is_empty())
        .collect();
    if told.is_empty() { String::new() } else { format!(": {}", told.join(": ")) }
}

fn count(object: &Json, key: &str) -> i64 {
    number(object, &["status", key]).unwrap_or(0)
}

fn wanted_replicas(object: &Json) -> i64 {
    number(object, &["spec", "replicas"]).unwrap_or(1)
}

fn deployment(object: &Json) -> Option<String> {
    let wanted = wanted_replicas(object);
    let (updated, replicas, available) =
        (count(object, "updatedReplicas"), count(object, "replicas"), count(object, "availableReplicas"));
    let stuck = find_condition(object, "Progressing")
        .filter(|condition| condition["reason"] == "ProgressDeadlineExceeded")
        .map(|condition| format!("its rollout is stuck{}", reason(condition)));
    let failed = find_condition(object, "ReplicaFailure")
        .filter(|condition| condition["status"] == "True")
        .map(|condition| format!("its pods cannot be made{}", reason(condition)));
    let why = if updated < wanted {
        format!("{updated} of {wanted} pods are of the last change")
    } else if replicas > updated {
        format!("{} pods of before are still there", replicas - updated)
    } else if available < wanted {
        format!("{available} of {wanted} pods are available")
    } else {
        return None;
    };
    Some(failed.or(stuck).map_or_else(|| why.clone(), |told| format!("{why}; {told}")))
}

fn stateful_set(object: &Json) -> Option<String> {
    let wanted = wanted_replicas(object);
    let ready = count(object, "readyReplicas");
    if ready < wanted {
        return Some(format!("{ready} of {wanted} pods are ready"));
    }
    if text(object, &["spec", "updateStrategy", "type"]) == Some("OnDelete") {
        return None;
    }
    let partition = number(object, &["spec", "updateStrategy", "rollingUpdate", "partition"]).unwrap_or(0);
    let (updated, due) = (count(object, "updatedReplicas"), (wanted - partition).max(0));
    if updated < due {
        return Some(format!("{updated} of {due} pods are of the last change"));
    }
    None
}

fn daemon_set(object: &Json) -> Option<String> {
    let wanted = count(object, "desiredNumberScheduled");
    let (updated, available) = (count(object, "updatedNumberScheduled"), count(object, "numberAvailable"));
    if updated < wanted && text(object, &["spec", "updateStrategy", "type"]) != Some("OnDelete") {
        return Some(format!("{updated} of {wanted} pods are of the last change"));
    }
    (available < wanted).then(|| format!("{available} of {wanted} pods are available"))
}

fn replica_set(object: &Json) -> Option<String> {
    let (wanted, available) = (wanted_replicas(object), count(object, "availableReplicas"));
    (available < wanted).then(|| format!("{available} of {wanted} pods are available"))
}

fn job(object: &Json) -> Option<String> {
    if let Some(failed) = find_condition(object, "Failed").filter(|condition| condition["status"] == "True") {
        return Some(format!("it failed{}", reason(failed)));
    }
    let done = find_condition(object, "Complete").is_some_and(|condition| condition["status"] == "True");
    if done || at(object, &["spec", "suspend"]) == Some(&Json::Bool(true)) {
        return None;
    }
    Some(format!("{} pods have succeeded, {} run", count(object, "succeeded"), count(object, "active")))
}

fn pod(object: &Json) -> Option<String> {
    match text(object, &["status", "phase"]) {
        Some("Succeeded") => return None,
        Some("Failed") => return Some(format!("it failed{}", reason(&object["status"]))),
        _ => {}
    }
    let waiting = at(object, &["status", "containerStatuses"]).and_then(Json::as_array).and_then(|statuses| {
        statuses.iter().find_map(|status| {
            let waiting = status["state"].get("waiting")?;
            Some(format!("container {} waits{}", status["name"].as_str().unwrap_or_default(), reason(waiting)))
        })
    });
    let ready = condition(object, "Ready", true)?;
    Some(waiting.or_else(|| condition(object, "PodScheduled", false)).unwrap_or(ready))
}

/// A claim that nothing works on (its class binds it when a pod first uses it) is as ready as it can be.
fn claim(object: &Json) -> Option<String> {
    match text(object, &["status", "phase"]) {
        Some("Bound") => None,
        Some("Lost") => Some("its volume is lost".to_owned()),
        _ => PROVISIONER
            .iter()
            .find_map(|key| text(object, &["metadata", "annotations", key]))
            .map(|provisioner| format!("{provisioner} has not made its volume yet")),
    }
}

fn service(object: &Json) -> Option<String> {
    if text(object, &["spec", "type"]) != Some("LoadBalancer") {
        return None;
    }
    address(object)
}

fn address(object: &Json) -> Option<String> {
    let addresses = at(object, &["status", "loadBalancer", "ingress"]).and_then(Json::as_array).map_or(0, Vec::len);
    (addresses == 0).then(|| "its load balancer has no address yet".to_owned())
}

/// The class of an Ingress or a Gateway.
pub(crate) fn text_of_class(object: &Json) -> Option<&str> {
    [
        &["spec", "ingressClassName"][..],
        &["spec", "gatewayClassName"],
        &["metadata", "annotations", "kubernetes.io/ingress.class"],
    ]
    .iter()
    .find_map(|path| text(object, path))
}

/// Whether a condition has been set to this.
pub(crate) fn condition_is(object: &Json, condition: &str, status: &str) -> bool {
    find_condition(object, condition).is_some_and(|condition| condition["status"] == status)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: &str, object: Json, expected: Option<&str>) {
        let name = ObjectName::parse(&format!("{kind}/a/b")).unwrap();
        assert_eq!(why_not(&name, &object).as_deref(), expected, "{kind}");
    }

    #[test]
    fn a_node_is_ready_once_pods_may_go_there() {
        let node = |status: &str, taint: &str| {
            json!({"metadata": {"labels": {"ksail.io/lineage": "l"}, "annotations": {"ksail.io/address": "dev/node/worker-0",
                       "ksail.io/operation": "op", "ksail.io/generation": "1"}},
                   "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]}, "status": {"conditions": [{"type": "Ready", "status": status}]}})
        };
        check("Node", node("True", "gpu"), None);
        check("Node", node("False", "gpu"), Some("Ready is False"));
        let told = "it still carries the taint node.kubernetes.io/not-ready";
        check("Node", node("True", "node.kubernetes.io/not-ready"), Some(told));
        check("Node", json!({"metadata": {}}), None);
    }

    #[test]
    fn workloads_follow_their_rollout() {
        let deployment = |generation: i64, updated: i64, replicas: i64, available: i64| {
            json!({"apiVersion": "apps/v1", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {
                "observedGeneration": generation, "updatedReplicas": updated, "replicas": replicas, "availableReplicas": available}})
        };
        check("apps.Deployment", deployment(2, 2, 2, 2), None);
        check("apps.Deployment", deployment(1, 2, 2, 2), Some("its controller has not seen the last change yet"));
        check("apps.Deployment", deployment(2, 1, 2, 2), Some("1 of 2 pods are of the last change"));
        check("apps.Deployment", deployment(2, 2, 3, 2), Some("1 pods of before are still there"));
        check("apps.Deployment", deployment(2, 2, 2, 1), Some("1 of 2 pods are available"));
        check(
            "apps.DaemonSet",
            json!({"apiVersion": "apps/v1", "metadata": {"generation": 1}}),
            Some("its controller has not seen it yet"),
        );
    }

    #[test]
    fn other_kinds_by_what_they_tell() {
        check("ConfigMap", json!({}), None);
        check(
            "ConfigMap",
            json!({"metadata": {"deletionTimestamp": "x", "finalizers": ["a/b"]}}),
            Some("it is being deleted, held by a/b"),
        );
        check("batch.Job", json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}), None);
        check(
            "batch.Job",
            json!({"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}}),
            Some("it failed: BackoffLimitExceeded"),
        );
        check("apiextensions.k8s.io.CustomResourceDefinition", json!({}), Some("it is not Established yet"));
        check("Service", json!({"spec": {"type": "LoadBalancer"}}), Some("its load balancer has no address yet"));
        check(
            "example.com.Widget",
            json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "No", "message": "not yet"}]}}),
            Some("Ready is False: No: not yet"),
        );
        check(
            "example.com.Widget",
            json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 1}}),
            Some("its controller has not seen the last change yet"),
        );
        check("example.com.Widget", json!({}), None);
        check("networking.k8s.io.Ingress", json!({}), Some("its load balancer has no address yet"));
        check(
            "networking.k8s.io.Ingress",
            json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}}),
            None,
        );
        check("PersistentVolumeClaim", json!({"status": {"phase": "Pending"}}), None);
        check("apps.Deployment", json!({"metadata": {"annotations": {"ksail.io/wait": "false"}}}), None);
    }

    #[test]
    fn an_expression_takes_the_place_of_the_kinds_measure() {
        let of = |kind: &str, expression: &str, status: Json, expected: Option<&str>| {
            let object = json!({"apiVersion": "apps/v1", "status": status,
                "metadata": {"generation": 2, "annotations": {"ksail.io/ready": expression}}, "data": {"password": "aHVzaA=="}});
            check(kind, object, expected);
        };
        let one = "self.status.readyReplicas >= 1";
        of("apps.Deployment", one, json!({"observedGeneration": 2, "readyReplicas": 1}), None);
        let behind = json!({"observedGeneration": 1, "readyReplicas": 1});
        of("apps.Deployment", one, behind, Some("its controller has not seen the last change yet"));
        let less = "`self.status.readyReplicas >= 1` is not true yet";
        of("apps.Deployment", one, json!({"observedGeneration": 2, "readyReplicas": 0}), Some(less));
        let none = "`self.status.readyReplicas >= 1` is not true yet: there is no field `readyReplicas` yet";
        of("apps.Deployment", one, json!({"observedGeneration": 2}), Some(none));
        // The data of a Secret are not told of.
        let data = "`has(self.data)` is not true yet";
        of("Secret", "has(self.data)", json!({"observedGeneration": 2}), Some(data));
    }
}
