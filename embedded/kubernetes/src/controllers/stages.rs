//! Stages that a project set: which objects, after which delay, what becomes of their status.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Again, Controllers, KUBELET, Key, hash};
use crate::api::{self, Api};
use crate::merge::strategic;
use crate::settings::{Stage, StageKind};
use crate::status::Status;

/// The condition of what a stage has set the status of. Its reason is the stage's name, its message tells the stage from
/// another one of that name.
const TAKEN: &str = "embedded.ksail.io/stage";

/// Objects whose stage waits for its delay, by the stage's name and the version that they were seen in.
#[derive(Debug, Default)]
pub(crate) struct Waiting(HashMap<Key, (String, String, Instant)>);

fn matches(stage: &Stage, kind: StageKind, key: &Key, object: &Value) -> bool {
    stage.kind == kind
        && stage.namespace.as_deref().is_none_or(|namespace| namespace == &*key.1.0)
        && stage.match_labels.iter().all(|(name, value)| object["metadata"]["labels"][name] == value.as_str())
        && stage.match_expressions.iter().all(|requirement| requirement.holds(object))
        // There is nothing left to delay of what has come to life by itself.
        && (stage.status.is_some() || !has_begun(kind, object))
}

/// What tells a stage from another one of its name.
fn digest(stage: &Stage) -> String {
    hash(&json!(stage))
}

fn conditions(status: &Value) -> impl Iterator<Item = &Value> {
    status["conditions"].as_array().into_iter().flatten()
}

/// The condition of what a stage has taken.
fn taken(object: &Value) -> Option<&Value> {
    conditions(&object["status"]).find(|condition| condition["type"] == TAKEN)
}

/// Whether an object has come to life.
fn has_begun(kind: StageKind, object: &Value) -> bool {
    match kind {
        StageKind::Node => conditions(&object["status"]).next().is_some(),
        StageKind::Pod => object["status"]["phase"].as_str().is_some_and(|phase| phase != "Pending"),
        StageKind::PersistentVolumeClaim => object["status"]["phase"] == "Bound",
        StageKind::Service => object["status"]["loadBalancer"]["ingress"].as_array().is_some_and(|all| !all.is_empty()),
    }
}

/// The status that a stage sets: its conditions have times, and one more says which stage it was.
fn patch(stage: &Stage, status: &Map<String, Value>, before: &Value) -> Value {
    let mut status = Value::Object(status.clone());
    let mut list = status["conditions"].as_array().cloned().unwrap_or_default();
    list.push(json!({"type": TAKEN, "status": "True", "reason": stage.name, "message": digest(stage)}));
    for one in list.iter_mut().filter(|one| one.is_object() && one["lastTransitionTime"].is_null()) {
        let had = conditions(before).find(|had| had["type"] == one["type"] && had["status"] == one["status"]);
        let since = had.and_then(|had| had["lastTransitionTime"].as_str()).map(str::to_owned);
        one["lastTransitionTime"] = since.unwrap_or_else(api::now).into();
    }
    status["conditions"] = list.into();
    status
}

impl Controllers {
    /// Does what the first stage that matches asks. `None` if the object lives as it does by default.
    pub(crate) fn stage(&mut self, kind: StageKind, key: &Key, object: &Value) -> Result<Option<Again>, Status> {
        let stage = self.api.settings.stages.iter().find(|stage| matches(stage, kind, key, object)).cloned();
        let Some(stage) = stage else {
            self.stages.0.remove(key);
            return Ok(taken(object).map(|_| None));
        };
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let now = Instant::now();
        let due = match self.stages.0.get(key) {
            Some((name, seen, due)) if *name == stage.name && *seen == version => *due,
            _ => {
                let due = now + stage.delay();
                self.stages.0.insert(key.clone(), (stage.name.clone(), version, due));
                due
            }
        };
        let left = due.saturating_duration_since(now);
        if left > Duration::ZERO {
            return Ok(Some(Some(left)));
        }
        self.stages.0.remove(key);
        let Some(status) = &stage.status else { return Ok(None) };
        let place = self.place(&key.0, &key.1.0, &key.1.1)?;
        let (types, of) = (&place.kind.types, place.kind.types.field(place.kind.of(), "status"));
        let status = patch(&stage, status, &object["status"]);
        let mut next = object["status"].clone();
        strategic::merge(types, of, &mut next, &status).map_err(Status::bad_request)?;
        self.api.set_status(&place, KUBELET, &next)?;
        Ok(Some(None))
    }
}

/// Whether the condition is that of a stage as it is.
fn is_by(taken: &Value, stage: &Stage) -> bool {
    taken["reason"] == stage.name.as_str() && taken["message"] == digest(stage).as_str()
}

/// Whether an object was taken by a stage that is not there any more as it was. What has ended stays so.
fn is_left(api: &Api, object: &Value) -> bool {
    let has_ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    taken(object).is_some_and(|taken| !has_ended && !api.settings.stages.iter().any(|stage| is_by(taken, stage)))
}

/// Takes back what stages set that are not there any more as they were, so that life begins anew.
pub(crate) fn take_back(api: &Api) -> Result<(), Status> {
    for (name, entry) in api.store.list("/nodes", None).1 {
        if is_left(api, &entry.object()) {
            let place = api.place("/nodes", "", &name.1)?;
            api.edit(&place, "status", KUBELET, &mut |node| node["status"]["conditions"] = json!([]))?;
        }
    }
    let beginnings =
        [("/persistentvolumeclaims", json!({"phase": "Pending"})), ("/services", json!({"loadBalancer": {}}))];
    for (store, beginning) in beginnings {
        for (name, entry) in api.store.list(store, None).1 {
            if is_left(api, &entry.object()) {
                api.set_status(&api.place(store, &name.0, &name.1)?, super::MANAGER, &beginning)?;
            }
        }
    }
    let mut deployments = BTreeSet::new();
    for (name, entry) in api.store.list("/pods", None).1 {
        let pod = entry.object();
        if !is_left(api, &pod) {
            continue;
        }
        let before = &pod["status"];
        let scheduled: Vec<&Value> = conditions(before).filter(|one| one["type"] == "PodScheduled").collect();
        let mut status = json!({"phase": "Pending", "conditions": scheduled});
        if before["qosClass"].is_string() {
            status["qosClass"] = before["qosClass"].clone();
        }
        api.set_status(&api.place("/pods", &name.0, &name.1)?, KUBELET, &status)?;
        let set = owner(&pod, "ReplicaSet").and_then(|set| api.object("apps/replicasets", &name.0, set));
        if let Some(deployment) = set.as_ref().and_then(|set| owner(set, "Deployment")) {
            deployments.insert((name.0.clone(), deployment.to_owned()));
        }
    }
    // Their rollouts have another chance, before anybody looks.
    for (namespace, name) in deployments {
        let place = api.place("apps/deployments", &namespace, &name)?;
        if api.object("apps/deployments", &namespace, &name).is_some() {
            api.edit(&place, "status", super::MANAGER, &mut |deployment| {
                if let Some(list) = deployment["status"]["conditions"].as_array_mut() {
                    list.retain(|one| one["type"] != "Progressing" || one["status"] == "True");
                }
            })?;
        }
    }
    Ok(())
}

/// The name of the owner of a kind.
fn owner<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["kind"] == kind)?["name"].as_str()
}
