//! Which node a pod runs on.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::{Controllers, is_deleted, nodes};
use crate::http::selectors::LabelSelector;
use crate::quantity::Quantity;
use crate::store::Name;

/// What pods ask of their nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Requests {
    pods: i128,
    cpu: i128,
    memory: i128,
}

/// The pods of nodes.
#[derive(Debug, Default)]
pub(crate) struct Load {
    placed: HashMap<Name, (String, Requests)>,
    nodes: HashMap<String, Requests>,
    pending: BTreeSet<Name>,
}

fn nanos(value: &Value) -> i128 {
    value.as_str().and_then(Quantity::parse).map_or(0, Quantity::nanos)
}

fn requests(pod: &Value) -> Requests {
    let mut all = Requests { pods: 1, ..Requests::default() };
    for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
        all.cpu += nanos(&container["resources"]["requests"]["cpu"]);
        all.memory += nanos(&container["resources"]["requests"]["memory"]);
    }
    all
}

impl Load {
    /// Notes a pod as it is; `None` if it is gone.
    pub(crate) fn note(&mut self, name: &Name, pod: Option<&Value>) {
        if let Some((node, had)) = self.placed.remove(name)
            && let Some(load) = self.nodes.get_mut(&node)
        {
            load.pods -= had.pods;
            load.cpu -= had.cpu;
            load.memory -= had.memory;
        }
        self.pending.remove(name);
        let Some(pod) = pod else { return };
        if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
            return;
        }
        match pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
            Some(node) => {
                let wanted = requests(pod);
                let load = self.nodes.entry(node.to_owned()).or_default();
                load.pods += wanted.pods;
                load.cpu += wanted.cpu;
                load.memory += wanted.memory;
                self.placed.insert(name.clone(), (node.to_owned(), wanted));
            }
            None => {
                self.pending.insert(name.clone());
            }
        }
    }

    /// Pods without a node.
    pub(crate) fn pending(&self) -> Vec<Name> {
        self.pending.iter().cloned().collect()
    }

    fn fits(&self, node: &Value, wanted: Requests) -> bool {
        let name = super::name_of(node);
        let load = self.nodes.get(name).copied().unwrap_or_default();
        let allocatable = &node["status"]["allocatable"];
        let room = |resource: &str, used: i128, wanted: i128| match &allocatable[resource] {
            Value::Null => true,
            most => wanted == 0 || used + wanted <= nanos(most),
        };
        const UNIT: i128 = 1_000_000_000;
        room("pods", load.pods * UNIT, wanted.pods * UNIT)
            && room("cpu", load.cpu, wanted.cpu)
            && room("memory", load.memory, wanted.memory)
    }
}

/// Whether a pod tolerates a taint.
fn tolerates(pod: &Value, taint: &Value) -> bool {
    pod["spec"]["tolerations"].as_array().into_iter().flatten().any(|toleration| tolerates_by(toleration, taint))
}

/// Whether a toleration is about a taint.
pub(crate) fn tolerates_by(toleration: &Value, taint: &Value) -> bool {
    let effect = toleration["effect"].is_null() || toleration["effect"] == taint["effect"];
    let exists = toleration["operator"] == "Exists";
    let key = (toleration["key"].is_null() && exists) || toleration["key"] == taint["key"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    effect && key && (exists || text(&toleration["value"]) == text(&taint["value"]))
}

fn terms_match(terms: &Value, node: &Value) -> bool {
    terms.as_array().into_iter().flatten().any(|term| {
        let by = |expressions: &Value, labels: &Value| {
            if expressions.is_null() {
                return true;
            }
            let selector = serde_json::json!({"matchExpressions": expressions});
            LabelSelector::of(&selector).is_some_and(|selector| selector.matches(labels))
        };
        let fields = serde_json::json!({"metadata.name": node["metadata"]["name"]});
        by(&term["matchExpressions"], &node["metadata"]["labels"]) && by(&term["matchFields"], &fields)
    })
}

/// Whether a pod wants to be on a node, whatever the node has room for.
pub(crate) fn suits(pod: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let selected =
        pod["spec"]["nodeSelector"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
    let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    selected && (required.is_null() || terms_match(&required["nodeSelectorTerms"], node))
}

/// Why a pod may not be on a node now.
pub(crate) fn refuses(pod: &Value, node: &Value) -> Option<&'static str> {
    if !nodes::is_ready(node) {
        return Some("node(s) were not ready");
    }
    let unschedulable = serde_json::json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    if node["spec"]["unschedulable"] == true && !tolerates(pod, &unschedulable) {
        return Some("node(s) were unschedulable");
    }
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let mut hard = taints.filter(|taint| taint["effect"] != "PreferNoSchedule");
    if hard.any(|taint| !tolerates(pod, taint)) {
        return Some("node(s) had untolerated taint(s)");
    }
    None
}

impl Controllers {
    /// The node for a pod: the one with the fewest pods of those that take it; or why there is none.
    pub(crate) fn choose_node(&self, pod: &Value) -> Result<String, String> {
        let (_, all) = self.api.store.list("/nodes", None);
        let wanted = requests(pod);
        let mut reasons: HashMap<&'static str, usize> = HashMap::new();
        let mut best: Option<(i128, String)> = None;
        for (_, entry) in &all {
            let node = entry.object();
            let reason = if is_deleted(&node) {
                Some("node(s) were being deleted")
            } else if !suits(pod, &node) {
                Some("node(s) didn't match Pod's node affinity/selector")
            } else if let Some(reason) = refuses(pod, &node) {
                Some(reason)
            } else if !self.load.fits(&node, wanted) {
                Some("Insufficient resources")
            } else {
                None
            };
            match reason {
                Some(reason) => *reasons.entry(reason).or_default() += 1,
                None => {
                    let name = super::name_of(&node).to_owned();
                    let pods = self.load.nodes.get(&name).map_or(0, |load| load.pods);
                    if best.as_ref().is_none_or(|(least, _)| pods < *least) {
                        best = Some((pods, name));
                    }
                }
            }
        }
        best.map(|(_, name)| name).ok_or_else(|| {
            if all.is_empty() {
                return "no nodes available to schedule pods".to_owned();
            }
            let mut said: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            said.sort_unstable();
            format!("0/{} nodes are available: {}.", all.len(), said.join(", "))
        })
    }
}
