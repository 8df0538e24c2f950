//! Taints of nodes: what `spec.nodes` says of one, with the field that says it.

use ksail_model::{Origin, Path, Step, Value};

use super::resources::Builder;
use crate::format::Taint;
use crate::nodes::Node;

/// By which a control plane keeps workloads off itself.
pub(super) const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

impl Builder<'_> {
    /// The taints that the rules give a node, each key and effect once: a later rule goes before an earlier one. None if no rule has
    /// any.
    pub(super) fn taints_of(&self, node: &Node) -> Option<(Vec<Value>, Origin)> {
        let mut taints: Vec<Value> = Vec::new();
        let mut origin = None;
        for (position, rule) in self.loaded.config.spec.nodes.iter().enumerate() {
            if !rule.concerns(node) || rule.taints.is_empty() {
                continue;
            }
            let entry = Path::key("spec").child_key("nodes").child(Step::Index(position));
            origin = Some(self.loaded.origin(&entry.child_key("taints")));
            for taint in rule.taints.iter().map(taint) {
                taints.retain(|known| !is_same(known, &taint));
                taints.push(taint);
            }
        }
        origin.map(|origin| (taints, origin))
    }
}

/// Whether two taints have the same key and effect, which a node has once.
fn is_same(one: &Value, other: &Value) -> bool {
    one.field("key") == other.field("key") && one.field("effect") == other.field("effect")
}

/// Whether one of the taints keeps workloads off a control plane.
pub(super) fn keep_workloads_off(taints: &[Value]) -> bool {
    taints.iter().any(|taint| taint.field("key").and_then(Value::as_str) == Some(CONTROL_PLANE))
}

fn taint(taint: &Taint) -> Value {
    let fields = [
        ("key", taint.key.clone()),
        // An empty value is none.
        ("value", taint.value.clone().filter(|value| !value.is_empty())),
        ("effect", taint.effect.map(|effect| effect.as_str().to_owned())),
    ];
    Value::map(fields.into_iter().filter_map(|(key, value)| Some((key, value?))))
}
