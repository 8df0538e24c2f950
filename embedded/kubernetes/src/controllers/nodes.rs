//! Nodes: Ready as soon as they are there, unless a stage says otherwise.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Again, Controllers, KUBELET, condition, is_deleted};
use crate::api;
use crate::settings::StageKind;
use crate::status::Status;

/// The annotation that says which version the kubelet of a node states; else it is the cluster's.
const KUBELET_VERSION: &str = "embedded.ksail.io/kubelet-version";

/// What a node can hold unless it says so.
const CPU: &str = "16";
const MEMORY: &str = "64Gi";
const PODS: &str = "110";

/// Whether pods may run on a node.
pub(crate) fn is_ready(node: &Value) -> bool {
    !is_deleted(node)
        && node["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

impl Controllers {
    pub(crate) fn node(&mut self, name: &Arc<str>, node: &Value) -> Result<Again, Status> {
        if is_deleted(node) {
            return Ok(None);
        }
        let key = ("/nodes".into(), ("".into(), Arc::clone(name)));
        let place = self.place("/nodes", "", name)?;
        let staged = self.stage(StageKind::Node, &key, node)?;
        if staged.is_none() && !is_ready(node) && node["status"]["conditions"].as_array().is_none_or(Vec::is_empty) {
            let status = ready_status(node, &self.api.settings.version);
            self.api.set_status(&place, KUBELET, &status)?;
        }
        // An upgrade: the kubelet that is asked for takes the place of the one before.
        let asked = asked_version(node);
        if let Some(version) =
            asked.filter(|version| is_ready(node) && node["status"]["nodeInfo"]["kubeletVersion"] != **version)
        {
            let mut status = node["status"].clone();
            status["nodeInfo"]["kubeletVersion"] = version.into();
            self.api.set_status(&place, KUBELET, &status)?;
        }
        let Some(node) = self.api.object("/nodes", "", name) else { return Ok(None) };
        // What a node's lifecycle controller does: pods are put only on nodes that are ready.
        let not_ready = "node.kubernetes.io/not-ready";
        let tainted = node["spec"]["taints"].as_array().into_iter().flatten().any(|taint| taint["key"] == not_ready);
        let ready = is_ready(&node);
        if ready == tainted {
            self.api.edit(&place, "", super::MANAGER, &mut |node| {
                let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
                taints.retain(|taint| taint["key"] != not_ready);
                if !ready {
                    taints.push(json!({"key": not_ready, "effect": "NoSchedule"}));
                }
                node["spec"]["taints"] = Value::Array(taints);
            })?;
        }
        if node["spec"]["podCIDR"].is_null() {
            let taken: Vec<String> = self
                .api
                .store
                .list("/nodes", None)
                .1
                .iter()
                .filter_map(|(_, entry)| entry.object()["spec"]["podCIDR"].as_str().map(str::to_owned))
                .collect();
            let free = (0..=255).map(|index| format!("10.244.{index}.0/24")).find(|range| !taken.contains(range));
            if let Some(range) = free {
                self.api.edit(&place, "", super::MANAGER, &mut |node| {
                    node["spec"]["podCIDR"] = range.as_str().into();
                    node["spec"]["podCIDRs"] = json!([range]);
                })?;
            }
        }
        Ok(staged.flatten())
    }
}

/// The status of a node that is ready. What its maker said of it stays.
fn ready_status(node: &Value, version: &str) -> Value {
    let time = api::now();
    let mut status = node["status"].clone();
    let capacity = json!({"cpu": CPU, "memory": MEMORY, "pods": PODS, "ephemeral-storage": "100Gi"});
    if !status["capacity"].is_object() {
        status["capacity"] = capacity;
    }
    if !status["allocatable"].is_object() {
        status["allocatable"] = status["capacity"].clone();
    }
    let none = json!({});
    let conditions = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "the simulated kubelet is ready"),
    ];
    let conditions = conditions.map(|(of, state, reason, message)| {
        let mut condition = condition(&none, of, state, reason, message, &time);
        condition["lastHeartbeatTime"] = time.as_str().into();
        condition
    });
    status["conditions"] = json!(conditions);
    if !status["addresses"].is_array() {
        let address =
            format!("198.19.{}.{}", crc32c::crc32c(name(node)) % 254, crc32c::crc32c(name(node)) / 254 % 254 + 1);
        status["addresses"] = json!([
            {"type": "InternalIP", "address": address}, {"type": "Hostname", "address": node["metadata"]["name"]},
        ]);
    }
    let info = json!({
        "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "ksail-embedded://1", "kernelVersion": "simulated",
        "kubeProxyVersion": "", "kubeletVersion": asked_version(node).unwrap_or(version), "machineID": "", "operatingSystem": "linux",
        "osImage": "simulated", "systemUUID": "",
    });
    let known = status["nodeInfo"].clone();
    status["nodeInfo"] = info;
    for (key, value) in known.as_object().into_iter().flatten() {
        if value.as_str().is_some_and(|text| !text.is_empty()) {
            status["nodeInfo"][key] = value.clone();
        }
    }
    status["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": 10250}});
    status
}

fn asked_version(node: &Value) -> Option<&str> {
    node["metadata"]["annotations"][KUBELET_VERSION].as_str()
}

fn name(node: &Value) -> &[u8] {
    super::name_of(node).as_bytes()
}
