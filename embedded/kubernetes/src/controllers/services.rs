//! Services: their endpoints, and the addresses of load balancers.

use serde_json::{Value, json};

use super::{Again, Controllers, controller_reference, is_deleted, is_pod_ready, name_of};
use crate::http::selectors::LabelSelector;
use crate::settings::StageKind;
use crate::status::Status;

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGED: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";

impl Controllers {
    pub(crate) fn service(&mut self, namespace: &str, name: &str, service: &Value) -> Result<Again, Status> {
        if is_deleted(service) {
            return Ok(None);
        }
        let place = self.place("/services", namespace, name)?;
        let key = ("/services".into(), (namespace.into(), name.into()));
        let staged = self.stage(StageKind::Service, &key, service)?;
        let again = staged.flatten();
        let balanced = &service["status"]["loadBalancer"];
        let balancer = service["spec"]["type"] == "LoadBalancer";
        if staged.is_some() {
            // It has the address that a stage gives it, if any.
        } else if balancer && balanced["ingress"].as_array().is_none_or(Vec::is_empty) {
            let address = self.api.allocation.balancer(&place.key());
            let status = json!({"loadBalancer": {"ingress": [{"ip": address.to_string(), "ipMode": "VIP"}]}});
            self.api.set_status(&place, super::MANAGER, &status)?;
        } else if !balancer && balanced["ingress"].as_array().is_some_and(|list| !list.is_empty()) {
            self.api.set_status(&place, super::MANAGER, &json!({"loadBalancer": {}}))?;
        }
        let selector = &service["spec"]["selector"];
        if selector.as_object().is_none_or(serde_json::Map::is_empty) || service["spec"]["type"] == "ExternalName" {
            return Ok(again);
        }
        let mut pods = Vec::new();
        if let Some(selector) = LabelSelector::of(selector) {
            for (_, entry) in self.api.store.list("/pods", Some(namespace)).1 {
                let pod = entry.object();
                let placed = pod["status"]["podIP"].is_string() && pod["status"]["phase"] == "Running";
                if placed && selector.matches(&pod["metadata"]["labels"]) {
                    pods.push(pod);
                }
            }
        }
        self.slice(namespace, service, &pods)?;
        self.endpoints(namespace, service, &pods)?;
        Ok(again)
    }

    fn slice(&mut self, namespace: &str, service: &Value, pods: &[Value]) -> Result<(), Status> {
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|pod| {
                let ready = is_pod_ready(pod);
                let mut endpoint = json!({
                    "addresses": [pod["status"]["podIP"]], "targetRef": target(pod), "nodeName": pod["spec"]["nodeName"],
                    "conditions": {"ready": ready, "serving": ready, "terminating": is_deleted(pod)},
                });
                if service["spec"]["clusterIP"] == "None" && pod["spec"]["hostname"].is_string() {
                    endpoint["hostname"] = pod["spec"]["hostname"].clone();
                }
                endpoint
            })
            .collect();
        let ports: Vec<Value> = ports(service, pods.first());
        let own = |slice: &Value| slice["metadata"]["labels"][MANAGED] == CONTROLLER;
        let found = self.controlled("discovery.k8s.io/endpointslices", namespace, service).into_iter().find(own);
        let mut labels = service["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        labels.insert(SERVICE.to_owned(), name_of(service).into());
        labels.insert(MANAGED.to_owned(), CONTROLLER.into());
        if service["spec"]["clusterIP"] == "None" {
            labels.insert("service.kubernetes.io/headless".to_owned(), "".into());
        }
        match found {
            None => {
                let slice = json!({
                    "metadata": {
                        "generateName": format!("{}-", name_of(service)), "labels": labels,
                        "ownerReferences": controller_reference(service),
                    },
                    "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
                });
                self.make("discovery.k8s.io/endpointslices", namespace, slice)?;
            }
            Some(slice) => {
                let place = self.place("discovery.k8s.io/endpointslices", namespace, name_of(&slice))?;
                self.api.edit(&place, "", super::MANAGER, &mut |slice| {
                    slice["endpoints"] = json!(endpoints);
                    slice["ports"] = json!(ports);
                    slice["metadata"]["labels"] = json!(labels);
                })?;
            }
        }
        Ok(())
    }

    fn endpoints(&mut self, namespace: &str, service: &Value, pods: &[Value]) -> Result<(), Status> {
        let addresses = |ready: bool| -> Vec<Value> {
            let chosen = pods.iter().filter(|pod| is_pod_ready(pod) == ready);
            chosen.map(|pod| json!({"ip": pod["status"]["podIP"], "nodeName": pod["spec"]["nodeName"], "targetRef": target(pod)})).collect()
        };
        let mut subset = json!({"ports": ports(service, pods.first())});
        for (field, list) in [("addresses", addresses(true)), ("notReadyAddresses", addresses(false))] {
            if !list.is_empty() {
                subset[field] = json!(list);
            }
        }
        let subsets = if pods.is_empty() { Value::Null } else { json!([subset]) };
        let name = name_of(service);
        let mut labels = service["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        labels.insert("endpoints.kubernetes.io/managed-by".to_owned(), "endpoint-controller".into());
        if self.api.object("/endpoints", namespace, name).is_none() {
            let made = json!({
                "metadata": {"name": name, "labels": labels, "ownerReferences": controller_reference(service)}, "subsets": subsets,
            });
            self.make("/endpoints", namespace, made)?;
            return Ok(());
        }
        let place = self.place("/endpoints", namespace, name)?;
        self.api.edit(&place, "", super::MANAGER, &mut |object| object["subsets"] = subsets.clone())?;
        Ok(())
    }
}

fn target(pod: &Value) -> Value {
    json!({"kind": "Pod", "namespace": pod["metadata"]["namespace"], "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]})
}

/// The ports of a Service as its pods have them.
fn ports(service: &Value, pod: Option<&Value>) -> Vec<Value> {
    let named = |name: &str| {
        let containers = pod.map(|pod| pod["spec"]["containers"].as_array().into_iter().flatten());
        let mut ports =
            containers.into_iter().flatten().flat_map(|container| container["ports"].as_array().into_iter().flatten());
        ports.find(|port| port["name"] == name).map(|port| port["containerPort"].clone())
    };
    service["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|port| {
            let number = match &port["targetPort"] {
                Value::String(name) => named(name)?,
                Value::Null => port["port"].clone(),
                number => number.clone(),
            };
            let mut made = json!({"port": number, "protocol": port["protocol"]});
            if port["name"].is_string() {
                made["name"] = port["name"].clone();
            }
            Some(made)
        })
        .collect()
}
