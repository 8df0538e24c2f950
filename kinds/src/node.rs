//! Nodes of a cluster: objects that are resources of a kind of their own.

use serde_json::Value as Json;

/// A node: the kind whose spec is the node's object in the cluster, as a manifest has it (labels, taints, annotations). The identity's
/// name is that of the object, `Node/_/<name>`.
pub const NODE: &str = "node";

/// The annotation of a simulated node that says which version its kubelet states.
pub const KUBELET_VERSION: &str = "embedded.ksail.io/kubelet-version";

/// Whether a node, as its cluster tells of it, takes pods of any kind: it is ready, and nothing keeps them off.
pub fn takes_pods(node: &Json) -> bool {
    let list = |pointer: &str| node.pointer(pointer).and_then(Json::as_array).into_iter().flatten();
    let keeps_off = |taint: &Json| matches!(taint["effect"].as_str(), Some("NoSchedule" | "NoExecute"));
    let is_ready = |condition: &Json| condition["type"] == "Ready" && condition["status"] == "True";
    node.pointer("/spec/unschedulable").and_then(Json::as_bool) != Some(true)
        && !list("/spec/taints").any(keeps_off)
        && list("/status/conditions").any(is_ready)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_takes_pods_if_it_is_ready_and_nothing_keeps_them_off() {
        let node = |spec: Json, ready: &str| json!({"spec": spec, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        assert!(takes_pods(&node(json!({}), "True")));
        assert!(takes_pods(&node(json!({"taints": [{"effect": "PreferNoSchedule"}]}), "True")));
        assert!(!takes_pods(&node(json!({"taints": [{"effect": "NoSchedule"}]}), "True")));
        assert!(!takes_pods(&node(json!({"unschedulable": true}), "True")));
        assert!(!takes_pods(&node(json!({}), "Unknown")));
    }
}
