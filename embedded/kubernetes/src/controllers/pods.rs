//! Pods: put on a node, running there as soon as no stage says otherwise, gone with their node.

use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::{Again, Controllers, KUBELET, Key, condition, is_deleted, volumes};
use crate::api;
use crate::settings::StageKind;
use crate::status::Status;

impl Controllers {
    pub(crate) fn pod(&mut self, key: &Key, pod: &Value) -> Result<Again, Status> {
        let (namespace, name) = (&*key.1.0, &*key.1.1);
        let place = self.place("/pods", namespace, name)?;
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if node.is_empty() {
            return self.schedule(key, pod);
        }
        let host = self.api.object("/nodes", "", node);
        if host.is_none() || is_deleted(pod) {
            // A pod does not outlive its node, and nothing runs that would need its grace.
            self.api.finish(&place)?;
            return Ok(None);
        }
        let host = host.unwrap_or_default();
        let ControlFlow::Continue(until_it_leaves) = self.leave(key, pod, &host)? else { return Ok(None) };
        if let Some(again) = self.stage(StageKind::Pod, key, pod)? {
            return Ok(again.into_iter().chain(until_it_leaves).min());
        }
        match pod["status"]["phase"].as_str().unwrap_or("Pending") {
            "Pending" => {
                let status = running(pod, &host, &key.1);
                self.api.set_status(&place, KUBELET, &status)?;
            }
            "Running" if ends(pod) => {
                let status = succeeded(pod);
                self.api.set_status(&place, KUBELET, &status)?;
            }
            _ => {}
        }
        Ok(until_it_leaves)
    }

    fn schedule(&mut self, key: &Key, pod: &Value) -> Result<Again, Status> {
        let gated = pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
        if is_deleted(pod) || gated || pod["spec"]["schedulerName"] != "default-scheduler" {
            return Ok(None);
        }
        let (namespace, name) = (&*key.1.0, &*key.1.1);
        let mut place = self.place("/pods", namespace, name)?;
        let chosen = match volumes::unbound(&self.api, namespace, pod) {
            Some(why) => Err(why),
            None => self.choose_node(pod),
        };
        match chosen {
            Ok(node) => {
                place.subresource = "binding".to_owned();
                self.api.bind_pod(&place, &node)?;
                let bound = self.api.object("/pods", namespace, name);
                self.load.note(&key.1, bound.as_ref());
                Ok(None)
            }
            Err(why) => {
                let wanted = condition(&pod["status"], "PodScheduled", "False", "Unschedulable", &why, &api::now());
                let known = pod["status"]["conditions"].as_array().into_iter().flatten();
                if known
                    .clone()
                    .any(|condition| condition["type"] == "PodScheduled" && condition["message"] == wanted["message"])
                {
                    return Ok(None);
                }
                let mut conditions: Vec<Value> =
                    known.filter(|condition| condition["type"] != "PodScheduled").cloned().collect();
                conditions.push(wanted);
                self.api.edit(&place, "status", "kube-scheduler", &mut |pod| {
                    pod["status"]["conditions"] = json!(conditions)
                })?;
                Ok(None)
            }
        }
    }
}

/// Whether a pod ends by itself: one of a job, which nothing in it keeps alive.
fn ends(pod: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().any(|owner| owner["kind"] == "Job" && owner["controller"] == true)
}

/// An address of a pod, within its node's range.
fn address(node: &Value, name: &crate::store::Name) -> String {
    let range = node["spec"]["podCIDR"].as_str().and_then(|range| range.split('/').next()?.parse::<Ipv4Addr>().ok());
    let base = range.unwrap_or(Ipv4Addr::new(10, 244, 0, 0)).octets();
    let host = crc32c::crc32c(format!("{}/{}", name.0, name.1).as_bytes()) % 253 + 2;
    format!("{}.{}.{}.{host}", base[0], base[1], base[2])
}

fn running(pod: &Value, node: &Value, name: &crate::store::Name) -> Value {
    let time = api::now();
    let mut status = pod["status"].clone();
    let statuses = |list: &str, ready: bool| -> Vec<Value> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers
            .map(|container| {
                let side = list == "initContainers" && container["restartPolicy"] != "Always";
                let state = if side {
                    json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": time, "finishedAt": time}})
                } else {
                    json!({"running": {"startedAt": time}})
                };
                json!({
                    "name": container["name"], "image": container["image"], "imageID": "", "ready": ready, "started": !side,
                    "restartCount": 0, "state": state, "lastState": {},
                })
            })
            .collect()
    };
    let conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let before = pod["status"].clone();
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|of| {
            let mut condition = condition(&before, of, "True", "", "", &time);
            condition["lastProbeTime"] = Value::Null;
            condition
        })
        .collect();
    status["conditions"] = json!(conditions);
    status["phase"] = "Running".into();
    status["startTime"] = time.as_str().into();
    status["containerStatuses"] = json!(statuses("containers", true));
    let first = statuses("initContainers", true);
    if !first.is_empty() {
        status["initContainerStatuses"] = json!(first);
    }
    let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    let host = addresses
        .clone()
        .find(|address| address["type"] == "InternalIP")
        .map_or(Value::Null, |found| found["address"].clone());
    if host.is_string() {
        status["hostIP"] = host.clone();
        status["hostIPs"] = json!([{"ip": host}]);
    }
    let own = match (&pod["spec"]["hostNetwork"], host.as_str()) {
        (Value::Bool(true), Some(host)) => host.to_owned(),
        _ => address(node, name),
    };
    status["podIP"] = own.as_str().into();
    status["podIPs"] = json!([{"ip": own}]);
    status
}

fn succeeded(pod: &Value) -> Value {
    let time = api::now();
    let mut status = pod["status"].clone();
    status["phase"] = "Succeeded".into();
    for container in status["containerStatuses"].as_array_mut().into_iter().flatten() {
        let started = container["state"]["running"]["startedAt"].clone();
        container["ready"] = false.into();
        container["started"] = false.into();
        container["state"] =
            json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": time}});
    }
    for one in status["conditions"].as_array_mut().into_iter().flatten() {
        if one["type"] == "Ready" || one["type"] == "ContainersReady" {
            one["status"] = "False".into();
            one["reason"] = "PodCompleted".into();
            one["lastTransitionTime"] = time.as_str().into();
        }
    }
    status
}
