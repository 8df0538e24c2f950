//! What admission adds to pods when they are created.

use serde_json::{Value, json};

use crate::api::{self, Api};
use crate::status::{Cause, Status};
use crate::write::Place;

/// Where a pod finds the token of its account.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Api {
    pub(crate) fn admit_pod(&self, place: &Place, pod: &mut Value) -> Result<Vec<String>, Status> {
        self.give_account(place, pod)?;
        self.give_priority(place, pod)?;
        give_tolerations(pod);
        pod["status"] = json!({"phase": "Pending", "qosClass": quality(pod)});
        Ok(Vec::new())
    }

    fn give_account(&self, place: &Place, pod: &mut Value) -> Result<(), Status> {
        let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned();
        pod["spec"]["serviceAccountName"] = name.as_str().into();
        pod["spec"]["serviceAccount"] = name.as_str().into();
        let Some(account) = self.object("/serviceaccounts", &place.namespace, &name) else {
            let why = format!(
                "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                place.namespace
            );
            return Err(Status::forbidden("", "pods", &place.name, &why));
        };
        let spec = &mut pod["spec"];
        if spec["imagePullSecrets"].is_null()
            && account["imagePullSecrets"].as_array().is_some_and(|list| !list.is_empty())
        {
            spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
        }
        let wanted = spec["automountServiceAccountToken"]
            .as_bool()
            .or(account["automountServiceAccountToken"].as_bool())
            .unwrap_or(true);
        if !wanted {
            return Ok(());
        }
        let volume = format!("kube-api-access-{}", api::suffix());
        let mut used = false;
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                let mounts = &mut container["volumeMounts"];
                let mut own = mounts.as_array().cloned().unwrap_or_default();
                if own.iter().any(|mount| mount["mountPath"] == TOKEN_PATH) {
                    continue;
                }
                own.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}));
                *mounts = Value::Array(own);
                used = true;
            }
            if spec[list].is_null()
                && let Some(spec) = spec.as_object_mut()
            {
                spec.remove(list);
            }
        }
        if used {
            let mut volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
            volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ]}}));
            spec["volumes"] = Value::Array(volumes);
        }
        Ok(())
    }

    fn give_priority(&self, place: &Place, pod: &mut Value) -> Result<(), Status> {
        let named = pod["spec"]["priorityClassName"].as_str().map(str::to_owned);
        let (priority, policy) = match named.as_deref() {
            Some("system-node-critical") => (json!(2_000_001_000), json!("PreemptLowerPriority")),
            Some("system-cluster-critical") => (json!(2_000_000_000), json!("PreemptLowerPriority")),
            Some(name) => {
                let Some(class) = self.object("scheduling.k8s.io/priorityclasses", "", name) else {
                    let why = format!("no PriorityClass with name {name} was found");
                    return Err(Status::forbidden("", "pods", &place.name, &why));
                };
                (class["value"].clone(), class["preemptionPolicy"].clone())
            }
            None => (json!(0), json!("PreemptLowerPriority")),
        };
        if pod["spec"]["priority"].as_i64().is_some_and(|given| Some(given) != priority.as_i64()) {
            let cause =
                Cause::forbidden("spec.priority", "the integer value of priority must not be provided in pod spec");
            return Err(Status::invalid("", "Pod", &place.name, &[cause]));
        }
        pod["spec"]["priority"] = priority;
        pod["spec"]["preemptionPolicy"] = policy;
        Ok(())
    }
}

/// A pod stays for five minutes on a node that cannot be reached.
pub(crate) fn give_tolerations(pod: &mut Value) {
    let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|toleration| {
            let all = toleration["key"].is_null() && toleration["operator"] == "Exists";
            let effect = toleration["effect"].is_null() || toleration["effect"] == "NoExecute";
            (all || toleration["key"] == key) && effect
        });
        if !tolerated {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
    pod["spec"]["tolerations"] = Value::Array(tolerations);
}

/// The quality of service that a pod's requests and limits lead to.
fn quality(pod: &Value) -> &'static str {
    let lists = ["containers", "initContainers"];
    let containers: Vec<&Value> =
        lists.iter().flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten()).collect();
    let part =
        |container: &Value, name: &str| container["resources"][name].as_object().is_some_and(|part| !part.is_empty());
    if !containers.iter().any(|container| part(container, "limits") || part(container, "requests")) {
        return "BestEffort";
    }
    let guaranteed = containers.iter().all(|container| {
        let resources = &container["resources"];
        ["cpu", "memory"].iter().all(|name| {
            !resources["limits"][*name].is_null() && resources["limits"][*name] == resources["requests"][*name]
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}
