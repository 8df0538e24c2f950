//! Deployments: a replica set a revision, rolled out as the strategy says.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Again, Controllers, condition, controller_reference, hash, is_deleted, name_of};
use crate::api;
use crate::status::Status;

const REVISION: &str = "deployment.kubernetes.io/revision";
const HASH: &str = "pod-template-hash";

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// A number or a share of all, rounded up or down.
fn share(value: &Value, all: i64, up: bool) -> i64 {
    match value {
        Value::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or_default();
            let hundredths = percent * all;
            if up { (hundredths + 99) / 100 } else { hundredths / 100 }
        }
        other => count(other),
    }
}

/// The template of a replica set without the label that tells it apart.
fn plain_template(set: &Value) -> Value {
    let mut template = set["spec"]["template"].clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH);
    }
    template
}

fn revision(object: &Value) -> i64 {
    object["metadata"]["annotations"][REVISION].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

impl Controllers {
    pub(crate) fn deployment(&mut self, namespace: &str, name: &str, deployment: &Value) -> Result<Again, Status> {
        if is_deleted(deployment) {
            return Ok(None);
        }
        let mut sets = self.controlled("apps/replicasets", namespace, deployment);
        let template = &deployment["spec"]["template"];
        let mut current = sets.iter().position(|set| plain_template(set) == *template);
        let latest = sets.iter().map(revision).max().unwrap_or_default();
        let paused = deployment["spec"]["paused"] == true;
        if current.is_none() && !paused {
            if let Some(made) = self.new_set(namespace, deployment, latest + 1)? {
                sets.push(made);
                current = Some(sets.len() - 1);
            }
        } else if let Some(index) = current
            && revision(&sets[index]) < latest
        {
            // An older template came back: it is the newest revision now.
            let place = self.place("apps/replicasets", namespace, name_of(&sets[index]))?;
            sets[index] = self.api.edit(&place, "", super::MANAGER, &mut |set| {
                set["metadata"]["annotations"][REVISION] = (latest + 1).to_string().into();
            })?;
        }
        if let Some(index) = current {
            let wanted = sets[index]["metadata"]["annotations"][REVISION].clone();
            if deployment["metadata"]["annotations"][REVISION] != wanted {
                let place = self.place("apps/deployments", namespace, name)?;
                // Written with the status, so that it is no new generation.
                self.api.edit(&place, "status", super::MANAGER, &mut |object| {
                    if !object["metadata"]["annotations"].is_object() {
                        object["metadata"]["annotations"] = json!({});
                    }
                    object["metadata"]["annotations"][REVISION] = wanted.clone();
                })?;
            }
            self.roll(namespace, deployment, &mut sets, index)?;
        }
        let again = self.deployment_status(namespace, name, &sets, current)?;
        self.forget_revisions(namespace, deployment, &sets, current)?;
        Ok(again)
    }

    fn new_set(&mut self, namespace: &str, deployment: &Value, revision: i64) -> Result<Option<Value>, Status> {
        let mut template = deployment["spec"]["template"].clone();
        let hash = hash(&template);
        template["metadata"]["labels"][HASH] = hash.as_str().into();
        let mut selector = deployment["spec"]["selector"].clone();
        selector["matchLabels"][HASH] = hash.as_str().into();
        let mut annotations = deployment["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        annotations.insert(REVISION.to_owned(), revision.to_string().into());
        annotations.insert(
            "deployment.kubernetes.io/desired-replicas".to_owned(),
            deployment["spec"]["replicas"].to_string().into(),
        );
        let set = json!({
            "metadata": {
                "name": format!("{}-{hash}", name_of(deployment)), "labels": template["metadata"]["labels"],
                "annotations": annotations, "ownerReferences": controller_reference(deployment),
            },
            "spec": {"replicas": 0, "selector": selector, "template": template, "minReadySeconds": deployment["spec"]["minReadySeconds"]},
        });
        self.make("apps/replicasets", namespace, set)
    }

    /// Sets the numbers of the replica sets a step nearer to what is wanted.
    fn roll(&mut self, namespace: &str, deployment: &Value, sets: &mut [Value], current: usize) -> Result<(), Status> {
        let spec = &deployment["spec"];
        let wanted = count(&spec["replicas"]);
        let total: i64 = sets.iter().map(|set| count(&set["spec"]["replicas"])).sum();
        let others: i64 = total - count(&sets[current]["spec"]["replicas"]);
        let mut numbers: Vec<i64> = sets.iter().map(|set| count(&set["spec"]["replicas"])).collect();
        if spec["paused"] == true && others > 0 {
            return Ok(());
        }
        if spec["strategy"]["type"] == "Recreate" {
            let running: i64 = sets
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != current)
                .map(|(_, set)| count(&set["status"]["replicas"]))
                .sum();
            for (index, number) in numbers.iter_mut().enumerate() {
                *number = if index != current {
                    0
                } else if others == 0 && running == 0 {
                    wanted
                } else {
                    *number
                };
            }
        } else {
            let rolling = &spec["strategy"]["rollingUpdate"];
            let surge = share(&rolling["maxSurge"], wanted, true);
            let mut unavailable = share(&rolling["maxUnavailable"], wanted, false);
            if surge == 0 && unavailable == 0 {
                unavailable = 1;
            }
            if others == 0 || numbers[current] > wanted {
                numbers[current] = wanted;
            } else {
                let room = (wanted + surge - total).max(0);
                numbers[current] = (numbers[current] + room).min(wanted);
            }
            let available: i64 = sets.iter().map(|set| count(&set["status"]["availableReplicas"])).sum();
            // Pods of old sets that are not available go first, and cost nothing.
            let mut spare = (available - (wanted - unavailable)).max(0);
            for (index, set) in sets.iter().enumerate().filter(|(index, _)| *index != current) {
                let dead = (numbers[index] - count(&set["status"]["availableReplicas"])).max(0);
                let live = (numbers[index] - dead).min(spare);
                spare -= live;
                numbers[index] -= dead + live;
            }
        }
        for (set, number) in sets.iter_mut().zip(numbers) {
            if count(&set["spec"]["replicas"]) != number {
                let place = self.place("apps/replicasets", namespace, name_of(set))?;
                *set = self.api.edit(&place, "", super::MANAGER, &mut |set| {
                    set["spec"]["replicas"] = number.into();
                    set["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"] =
                        wanted.to_string().into();
                })?;
            }
        }
        Ok(())
    }

    fn deployment_status(
        &mut self,
        namespace: &str,
        name: &str,
        sets: &[Value],
        current: Option<usize>,
    ) -> Result<Again, Status> {
        let Some(deployment) = self.api.object("apps/deployments", namespace, name) else { return Ok(None) };
        let wanted = count(&deployment["spec"]["replicas"]);
        let sum = |field: &str| -> i64 { sets.iter().map(|set| count(&set["status"][field])).sum() };
        let (replicas, ready, available) = (sum("replicas"), sum("readyReplicas"), sum("availableReplicas"));
        let updated = current.map_or(0, |index| count(&sets[index]["status"]["replicas"]));
        let mut status = json!({"observedGeneration": deployment["metadata"]["generation"], "terminatingReplicas": sum("terminatingReplicas")});
        let numbers = [
            ("replicas", replicas),
            ("updatedReplicas", updated),
            ("readyReplicas", ready),
            ("availableReplicas", available),
            ("unavailableReplicas", (wanted - available).max(0)),
        ];
        for (field, number) in numbers {
            if number > 0 {
                status[field] = number.into();
            }
        }
        let time = api::now();
        let before = &deployment["status"];
        let rolling = &deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"];
        let least = wanted - share(rolling, wanted, false);
        let enough = if available >= least {
            condition(
                before,
                "Available",
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
                &time,
            )
        } else {
            condition(
                before,
                "Available",
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
                &time,
            )
        };
        let set = current.map_or("", |index| name_of(&sets[index]));
        let new = Counts { replicas, updated, ready, available };
        let (progress, again) = progress(&deployment, set, &new, wanted);
        let mut conditions = vec![enough, progress];
        let refused = current.and_then(|index| {
            let known = sets[index]["status"]["conditions"].as_array()?;
            known.iter().find(|condition| condition["type"] == "ReplicaFailure").cloned()
        });
        conditions.extend(refused);
        for one in conditions.iter_mut().filter(|one| one["lastUpdateTime"].is_null()) {
            let had = before["conditions"].as_array().into_iter().flatten().find(|had| had["type"] == one["type"]);
            let same = had.filter(|had| had["reason"] == one["reason"] && had["message"] == one["message"]);
            one["lastUpdateTime"] = same.map_or_else(|| time.as_str().into(), |had| had["lastUpdateTime"].clone());
        }
        status["conditions"] = json!(conditions);
        if status != *before {
            let place = self.place("apps/deployments", namespace, name)?;
            self.api.set_status(&place, super::MANAGER, &status)?;
        }
        Ok(again)
    }

    /// Deletes old replica sets beyond the limit.
    fn forget_revisions(
        &mut self,
        namespace: &str,
        deployment: &Value,
        sets: &[Value],
        current: Option<usize>,
    ) -> Result<(), Status> {
        let limit =
            usize::try_from(deployment["spec"]["revisionHistoryLimit"].as_i64().unwrap_or(10)).unwrap_or_default();
        let mut old: Vec<&Value> = sets
            .iter()
            .enumerate()
            .filter(|(index, set)| {
                Some(*index) != current
                    && count(&set["spec"]["replicas"]) == 0
                    && count(&set["status"]["replicas"]) == 0
            })
            .map(|(_, set)| set)
            .collect();
        old.sort_by_key(|set| revision(set));
        let over = old.len().saturating_sub(limit);
        for set in old.into_iter().take(over) {
            self.remove("apps/replicasets", namespace, name_of(set))?;
        }
        Ok(())
    }
}

/// The numbers of a Deployment's pods.
struct Counts {
    replicas: i64,
    updated: i64,
    ready: i64,
    available: i64,
}

impl Counts {
    fn of(status: &Value) -> Self {
        Self {
            replicas: count(&status["replicas"]),
            updated: count(&status["updatedReplicas"]),
            ready: count(&status["readyReplicas"]),
            available: count(&status["availableReplicas"]),
        }
    }

    /// Whether a rollout has come further.
    fn is_after(&self, before: &Self) -> bool {
        self.updated > before.updated
            || self.replicas - self.updated < before.replicas - before.updated
            || self.ready > before.ready
            || self.available > before.available
    }
}

/// How the rollout to a replica set goes, and when its deadline passes. One that was done stays so, whatever becomes of its pods.
fn progress(deployment: &Value, set: &str, new: &Counts, wanted: i64) -> (Value, Again) {
    let before = &deployment["status"];
    let time = api::now();
    let had = before["conditions"].as_array().into_iter().flatten().find(|had| had["type"] == "Progressing");
    let had = had.filter(|had| had["message"].as_str().is_some_and(|text| text.contains(&format!("\"{set}\""))));
    let was = |reason: &str| had.is_some_and(|had| had["reason"] == reason);
    let is_done = new.updated == wanted && new.available == wanted && new.replicas == wanted;
    if is_done || was("NewReplicaSetAvailable") && new.replicas == new.updated {
        let message = format!("ReplicaSet \"{set}\" has successfully progressed.");
        return (condition(before, "Progressing", "True", "NewReplicaSetAvailable", &message, &time), None);
    }
    let message = format!("ReplicaSet \"{set}\" is progressing.");
    let mut progressing = condition(before, "Progressing", "True", "ReplicaSetUpdated", &message, &time);
    let deadline = deployment["spec"]["progressDeadlineSeconds"].as_u64().map(Duration::from_secs);
    let Some(deadline) = deadline.filter(|_| deployment["spec"]["paused"] != true) else { return (progressing, None) };
    let since = had.and_then(|had| had["lastUpdateTime"].as_str()?.parse::<jiff::Timestamp>().ok());
    let Some(since) = since.filter(|_| !new.is_after(&Counts::of(before))) else {
        progressing["lastUpdateTime"] = time.as_str().into();
        return (progressing, Some(deadline));
    };
    let now = jiff::Timestamp::now();
    let left = deadline.saturating_sub(now.duration_since(since).unsigned_abs());
    if left > Duration::ZERO && !was("ProgressDeadlineExceeded") {
        return (progressing, Some(left));
    }
    let message = format!("ReplicaSet \"{set}\" has timed out progressing.");
    (condition(before, "Progressing", "False", "ProgressDeadlineExceeded", &message, &time), None)
}
