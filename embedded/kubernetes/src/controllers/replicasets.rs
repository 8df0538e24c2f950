//! Replica sets and replication controllers: as many pods as are asked for.

use serde_json::{Value, json};

use super::{Again, Controllers, Key, condition, controller_reference, is_deleted, is_pod_ready, name_of};
use crate::status::Status;

/// The most pods that are made before others have their turn.
const AT_ONCE: usize = 500;
/// The wait before the next ones are made.
const NEXT: std::time::Duration = std::time::Duration::from_millis(1);

/// Whether a pod counts: it has not ended and is not being deleted.
pub(crate) fn is_active(pod: &Value) -> bool {
    !is_deleted(pod) && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// The wait before pods are made again after one was refused.
const REFUSED: std::time::Duration = std::time::Duration::from_secs(1);

/// A pod of a template.
pub(crate) fn pod_of(owner: &Value, template: &Value) -> Value {
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    if !pod["metadata"].is_object() {
        pod["metadata"] = json!({});
    }
    pod["metadata"]["generateName"] = format!("{}-", name_of(owner)).into();
    pod["metadata"]["ownerReferences"] = controller_reference(owner);
    pod
}

impl Controllers {
    pub(crate) fn replica_set(&mut self, key: &Key, set: &Value) -> Result<Again, Status> {
        let (namespace, name) = (&*key.1.0, &*key.1.1);
        let pods = self.controlled("/pods", namespace, set);
        let active: Vec<&Value> = pods.iter().filter(|pod| is_active(pod)).collect();
        let wanted = usize::try_from(set["spec"]["replicas"].as_i64().unwrap_or(1)).unwrap_or_default();
        let mut again = None;
        let mut failure = None;
        if !is_deleted(set) {
            if active.len() < wanted {
                for _ in 0..(wanted - active.len()).min(AT_ONCE) {
                    let made = self.make("/pods", namespace, pod_of(set, &set["spec"]["template"]));
                    if let Err(refused) = made {
                        failure = Some(refused.message);
                        break;
                    }
                }
                again = (wanted - active.len() > AT_ONCE).then_some(NEXT);
                if failure.is_some() {
                    again = Some(REFUSED);
                }
            } else if active.len() > wanted {
                // Those that are not ready go first, then the newest.
                let mut order = active.clone();
                order.sort_by_key(|pod| {
                    let created = pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
                    (is_pod_ready(pod), std::cmp::Reverse(created))
                });
                for pod in order.into_iter().take(active.len() - wanted) {
                    self.remove("/pods", namespace, name_of(pod))?;
                }
            }
        }
        let pods = self.controlled("/pods", namespace, set);
        let active: Vec<&Value> = pods.iter().filter(|pod| is_active(pod)).collect();
        let ready = active.iter().filter(|pod| is_pod_ready(pod)).count();
        let mut status = json!({"replicas": active.len(), "observedGeneration": set["metadata"]["generation"]});
        for (field, count) in
            [("fullyLabeledReplicas", active.len()), ("readyReplicas", ready), ("availableReplicas", ready)]
        {
            if count > 0 {
                status[field] = count.into();
            }
        }
        if &*key.0 == "apps/replicasets" {
            status["terminatingReplicas"] = pods.iter().filter(|pod| is_deleted(pod)).count().into();
        }
        if let Some(why) = failure {
            let time = crate::api::now();
            status["conditions"] =
                json!([condition(&set["status"], "ReplicaFailure", "True", "FailedCreate", &why, &time)]);
        }
        if status != set["status"] {
            let place = self.place(&key.0, namespace, name)?;
            self.api.set_status(&place, super::MANAGER, &status)?;
        }
        Ok(again)
    }
}
