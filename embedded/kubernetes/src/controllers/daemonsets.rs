//! Daemon sets: a pod on every node that suits.

use serde_json::{Value, json};

use super::replicasets::{is_active, pod_of};
use super::{Again, Controllers, hash, is_deleted, is_pod_ready, name_of, scheduling};
use crate::status::Status;

const REVISION: &str = "controller-revision-hash";

impl Controllers {
    pub(crate) fn daemon_set(&mut self, namespace: &str, name: &str, set: &Value) -> Result<Again, Status> {
        if is_deleted(set) {
            return Ok(None);
        }
        let revision = self.keep_revision(namespace, set)?;
        let pods = self.controlled("/pods", namespace, set);
        let on = |pod: &Value| {
            let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
            terms[0]["matchFields"][0]["values"][0].as_str().unwrap_or_default().to_owned()
        };
        let (mut desired, mut ready, mut updated, mut current) = (0, 0, 0, 0);
        let mut hosts = Vec::new();
        for (_, entry) in self.api.store.list("/nodes", None).1 {
            let node = entry.object();
            let mut pod = pod_of(set, &set["spec"]["template"]);
            tolerate(&mut pod);
            if is_deleted(&node) || !scheduling::suits(&pod, &node) || hard_refusal(&pod, &node) {
                continue;
            }
            let host = name_of(&node).to_owned();
            desired += 1;
            let own = pods.iter().find(|pod| on(pod) == host && is_active(pod));
            match own {
                None => {
                    pod["metadata"]["labels"][REVISION] = revision.as_str().into();
                    pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [host]}]}]});
                    self.make("/pods", namespace, pod)?;
                }
                Some(pod) => {
                    current += 1;
                    ready += i64::from(is_pod_ready(pod));
                    let is_new = pod["metadata"]["labels"][REVISION] == revision.as_str();
                    updated += i64::from(is_new);
                    if !is_new && set["spec"]["updateStrategy"]["type"] != "OnDelete" {
                        self.remove("/pods", namespace, name_of(pod))?;
                    }
                }
            }
            hosts.push(host);
        }
        for pod in pods.iter().filter(|pod| is_active(pod) && !hosts.contains(&on(pod))) {
            self.remove("/pods", namespace, name_of(pod))?;
        }
        let mut status = json!({
            "currentNumberScheduled": current, "desiredNumberScheduled": desired, "numberMisscheduled": 0,
            "numberReady": ready, "observedGeneration": set["metadata"]["generation"],
        });
        for (field, number) in
            [("updatedNumberScheduled", updated), ("numberAvailable", ready), ("numberUnavailable", desired - ready)]
        {
            if number > 0 {
                status[field] = number.into();
            }
        }
        if status != set["status"] {
            let place = self.place("apps/daemonsets", namespace, name)?;
            self.api.set_status(&place, super::MANAGER, &status)?;
        }
        Ok(None)
    }

    /// Keeps the template of a set as a revision; answers its hash.
    pub(crate) fn keep_revision(&mut self, namespace: &str, set: &Value) -> Result<String, Status> {
        let template = &set["spec"]["template"];
        let hash = hash(template);
        let name = format!("{}-{hash}", name_of(set));
        if self.api.object("apps/controllerrevisions", namespace, &name).is_none() {
            let revisions = self.controlled("apps/controllerrevisions", namespace, set);
            let latest =
                revisions.iter().filter_map(|revision| revision["revision"].as_i64()).max().unwrap_or_default();
            let mut data = json!({"spec": {"template": template}});
            data["spec"]["template"]["$patch"] = "replace".into();
            let mut labels = template["metadata"]["labels"].clone();
            labels[REVISION] = hash.as_str().into();
            let kept = json!({
                "metadata": {"name": name, "labels": labels, "ownerReferences": super::controller_reference(set)},
                "data": data, "revision": latest + 1,
            });
            self.make("apps/controllerrevisions", namespace, kept)?;
        }
        Ok(hash)
    }
}

/// The pods of a daemon set stay where others would not.
fn tolerate(pod: &mut Value) {
    let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    for (key, effect) in [
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ] {
        tolerations.push(json!({"key": key, "operator": "Exists", "effect": effect}));
    }
    pod["spec"]["tolerations"] = json!(tolerations);
}

/// Whether a node's taints keep the pods of a daemon set away for good; that it is not ready yet does not.
fn hard_refusal(pod: &Value, node: &Value) -> bool {
    let mut ready = node.clone();
    ready["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    if let Some(taints) = ready["spec"]["taints"].as_array_mut() {
        taints.retain(|taint| taint["key"] != "node.kubernetes.io/not-ready");
    }
    scheduling::refuses(pod, &ready).is_some()
}
