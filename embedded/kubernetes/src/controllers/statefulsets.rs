//! Stateful sets: numbered pods, one after the other, each with its claims.

use serde_json::{Value, json};

use super::replicasets::pod_of;
use super::{Again, Controllers, is_deleted, is_pod_ready, name_of};
use crate::status::Status;

const REVISION: &str = "controller-revision-hash";

fn ordinal(set: &str, pod: &Value) -> Option<i64> {
    name_of(pod).strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

impl Controllers {
    pub(crate) fn stateful_set(&mut self, namespace: &str, name: &str, set: &Value) -> Result<Again, Status> {
        if is_deleted(set) {
            return Ok(None);
        }
        let hash = self.keep_revision(namespace, set)?;
        let revision = format!("{name}-{hash}");
        let wanted = set["spec"]["replicas"].as_i64().unwrap_or(1);
        let start = set["spec"]["ordinals"]["start"].as_i64().unwrap_or_default();
        let parallel = set["spec"]["podManagementPolicy"] == "Parallel";
        let mut pods: Vec<(i64, Value)> = self
            .controlled("/pods", namespace, set)
            .into_iter()
            .filter_map(|pod| Some((ordinal(name, &pod)?, pod)))
            .collect();
        pods.sort_by_key(|(ordinal, _)| *ordinal);
        let mut settled = true;
        for at in start..start + wanted {
            match pods.iter().find(|(ordinal, _)| *ordinal == at) {
                None => {
                    self.make_numbered(namespace, set, at, &revision)?;
                    settled = false;
                }
                Some((_, pod)) => settled &= is_pod_ready(pod),
            }
            if !settled && !parallel {
                break;
            }
        }
        // The highest goes first, and the next when it is gone.
        let over = pods.iter().rev().find(|(ordinal, _)| *ordinal >= start + wanted || *ordinal < start);
        if let Some((_, pod)) = over {
            self.remove("/pods", namespace, name_of(pod))?;
        } else if settled && set["spec"]["updateStrategy"]["type"] == "RollingUpdate" {
            let partition = set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or_default();
            let old = pods.iter().rev().find(|(ordinal, pod)| {
                *ordinal >= partition && pod["metadata"]["labels"][REVISION] != revision.as_str()
            });
            if let Some((_, pod)) = old {
                self.remove("/pods", namespace, name_of(pod))?;
            }
        }
        let pods = self.controlled("/pods", namespace, set);
        let ready = pods.iter().filter(|pod| is_pod_ready(pod)).count();
        let updated = pods.iter().filter(|pod| pod["metadata"]["labels"][REVISION] == revision.as_str()).count();
        let all_new = updated == pods.len() && i64::try_from(ready).is_ok_and(|ready| ready >= wanted);
        let before = set["status"]["currentRevision"].as_str().filter(|_| !all_new).unwrap_or(&revision).to_owned();
        let mut status = json!({
            "replicas": pods.len(), "observedGeneration": set["metadata"]["generation"], "availableReplicas": ready,
            "collisionCount": 0, "currentRevision": before, "updateRevision": revision,
        });
        let current = if before == revision { updated } else { pods.len() - updated };
        for (field, count) in [("readyReplicas", ready), ("currentReplicas", current), ("updatedReplicas", updated)] {
            if count > 0 {
                status[field] = count.into();
            }
        }
        if status != set["status"] {
            let place = self.place("apps/statefulsets", namespace, name)?;
            self.api.set_status(&place, super::MANAGER, &status)?;
        }
        Ok(None)
    }

    fn make_numbered(&mut self, namespace: &str, set: &Value, at: i64, revision: &str) -> Result<(), Status> {
        let pod_name = format!("{}-{at}", name_of(set));
        let mut pod = pod_of(set, &set["spec"]["template"]);
        let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        for claim in set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
            let claim_name = format!("{}-{pod_name}", name_of(claim));
            let mut made = json!({"metadata": {"name": claim_name, "labels": set["spec"]["selector"]["matchLabels"]}, "spec": claim["spec"]});
            for (key, value) in claim["metadata"]["labels"].as_object().into_iter().flatten() {
                made["metadata"]["labels"][key] = value.clone();
            }
            self.make("/persistentvolumeclaims", namespace, made)?;
            volumes.retain(|volume| volume["name"] != *name_of(claim));
            volumes.push(json!({"name": name_of(claim), "persistentVolumeClaim": {"claimName": claim_name}}));
        }
        if !volumes.is_empty() {
            pod["spec"]["volumes"] = json!(volumes);
        }
        if let Some(metadata) = pod["metadata"].as_object_mut() {
            metadata.remove("generateName");
        }
        pod["metadata"]["name"] = pod_name.as_str().into();
        for (label, value) in [
            (REVISION, revision),
            ("statefulset.kubernetes.io/pod-name", pod_name.as_str()),
            ("apps.kubernetes.io/pod-index", at.to_string().as_str()),
        ] {
            pod["metadata"]["labels"][label] = value.into();
        }
        pod["spec"]["hostname"] = pod_name.as_str().into();
        if set["spec"]["serviceName"].is_string() {
            pod["spec"]["subdomain"] = set["spec"]["serviceName"].clone();
        }
        self.make("/pods", namespace, pod).map(|_| ())
    }
}
