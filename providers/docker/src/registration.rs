//! What a node is tainted with when its kubelet registers it: nothing is scheduled there before.

use ksail_kinds::BootstrapSpec;
use ksail_model::{Path, Value};

/// What kubeadm taints a control plane with where nothing else is said; a list that is given takes its place.
const OF_CONTROL_PLANE: [(&str, &str); 2] =
    [("effect", "NoSchedule"), ("key", "node-role.kubernetes.io/control-plane")];

/// The configuration with the taints in it, after those that it has by itself.
pub(crate) fn with_taints(spec: &BootstrapSpec) -> Vec<Value> {
    let mut config = spec.config.clone();
    if spec.taints.is_empty() {
        return config;
    }
    let is_of_control_plane = config.iter().any(|document| document.field("controlPlane").is_some());
    let at = Path::key("nodeRegistration").child_key("taints");
    for document in &mut config {
        if !matches!(document.field("kind").and_then(Value::as_str), Some("InitConfiguration" | "JoinConfiguration")) {
            continue;
        }
        let mut taints = match document.get(&at) {
            Some(Value::List(taints)) => taints.clone(),
            _ if is_of_control_plane => vec![Value::map(OF_CONTROL_PLANE)],
            _ => Vec::new(),
        };
        let is_same =
            |one: &Value, other: &Value| ["key", "effect"].iter().all(|part| one.field(part) == other.field(part));
        taints.retain(|known| !spec.taints.iter().any(|taint| is_same(known, taint)));
        taints.extend(spec.taints.iter().cloned());
        document.set(&at, Value::List(taints));
    }
    config
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ksail_kinds::BootstrapAction;
    use serde_json::{Value as Json, json};

    use super::*;

    fn check(config: Vec<Json>, taints: Json, expected: &[Json]) {
        let Value::List(taints) = Value::from(taints) else { panic!("a list") };
        let spec = BootstrapSpec {
            action: BootstrapAction::Join,
            config: config.into_iter().map(Value::from).collect(),
            through: None,
            files: BTreeMap::new(),
            taints,
            takes_workloads: false,
        };
        let told = with_taints(&spec)
            .into_iter()
            .map(|document| document.to_plain_json()["nodeRegistration"]["taints"].clone());
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_node_registers_with_its_taints() {
        let gpu = json!({"key": "gpu", "effect": "NoSchedule"});
        let join = json!({"kind": "JoinConfiguration", "nodeRegistration": {"criSocket": "x"}});
        check(vec![join.clone(), json!({"kind": "KubeletConfiguration"})], json!([gpu]), &[json!([gpu]), Json::Null]);
        check(vec![join], json!([]), &[Json::Null]);
    }

    #[test]
    fn a_control_plane_keeps_its_own_taint_and_patches_keep_theirs() {
        let own = json!({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"});
        let gpu = json!({"key": "gpu", "effect": "NoSchedule", "value": "b"});
        let init = json!({"kind": "InitConfiguration", "nodeRegistration": {}});
        let join = json!({"kind": "JoinConfiguration", "controlPlane": {}, "nodeRegistration": {"taints": [
            {"key": "patched", "effect": "NoSchedule"}, {"key": "gpu", "effect": "NoSchedule", "value": "a"},
        ]}});
        let patched = json!([{"key": "patched", "effect": "NoSchedule"}, gpu]);
        check(vec![init, join], json!([gpu]), &[json!([own, gpu]), patched]);
    }
}
