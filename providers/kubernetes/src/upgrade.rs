//! Another version of the kubelet of a simulated node. As on a real one, what can be elsewhere leaves it first, and it takes pods again
//! once the kubelet that was asked for has reported.

use ksail_kinds::{KUBELET_VERSION, takes_pods};
use ksail_model::{Path, Value};
use ksail_provider::CallError;
use serde_json::Value as Json;

use crate::call::Call;
use crate::drain::{self, Leaves};
use crate::wire::{at, text};

const ASKED: [&str; 3] = ["metadata", "annotations", KUBELET_VERSION];

/// Whether a declaration asks for another kubelet than the node was asked to have.
pub(crate) fn is_asked_for(spec: &Value, live: &Json) -> bool {
    let wanted = ASKED.iter().fold(Path::root(), |path, key| path.child_key(*key));
    let wanted = spec.get(&wanted).and_then(Value::as_str);
    matches!((wanted, text(live, &ASKED)), (Some(wanted), Some(asked)) if wanted != asked)
}

/// Why the kubelet that is asked for is not there yet.
pub(crate) fn pending(node: &Json) -> Option<String> {
    let (asked, reported) = (text(node, &ASKED)?, text(node, &["status", "nodeInfo", "kubeletVersion"])?);
    (asked != reported).then(|| format!("its kubelet is still {reported}, and {asked} is asked for"))
}

/// Whether a node other than this one takes pods. Where none does, they stay: nowhere is no better place.
pub(crate) async fn has_elsewhere(call: &Call, what: &str, node: &str) -> Result<bool, CallError> {
    let Some(nodes) = call.read(what, "/api/v1/nodes").await? else { return Ok(false) };
    let others = at(&nodes, &["items"]).and_then(Json::as_array).into_iter().flatten();
    Ok(others.filter(|other| text(other, &["metadata", "name"]) != Some(node)).any(takes_pods))
}

/// What a change of a node's kubelet does to pods.
pub(crate) async fn forecast(call: &Call, what: &str, node: &str) -> Result<Vec<String>, CallError> {
    let told = drain::forecast(call, what, node, Leaves::MadeAnew).await?;
    if told.is_empty() || has_elsewhere(call, what, node).await? {
        return Ok(told);
    }
    Ok(vec!["its pods stay on it, for no other node takes any".to_owned()])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(asked: &str, reported: Option<&str>) -> Json {
        json!({"metadata": {"annotations": {KUBELET_VERSION: asked}}, "status": {"nodeInfo": {"kubeletVersion": reported}}})
    }

    #[test]
    fn a_kubelet_is_changed_where_another_one_is_declared() {
        let spec = |version: &str| Value::from(json!({"metadata": {"annotations": {KUBELET_VERSION: version}}}));
        assert!(is_asked_for(&spec("v2"), &node("v1", Some("v1"))));
        // It was asked for already, by an apply that was cut off.
        assert!(!is_asked_for(&spec("v2"), &node("v2", Some("v1"))));
        assert!(!is_asked_for(&Value::empty_map(), &node("v1", None)));
        // A node whose machine has the kubelet says nothing of it.
        assert!(!is_asked_for(&spec("v2"), &json!({"metadata": {}})));
    }

    #[test]
    fn a_kubelet_is_there_once_it_says_so() {
        assert_eq!(pending(&node("v2", Some("v1"))).as_deref(), Some("its kubelet is still v1, and v2 is asked for"));
        assert_eq!(pending(&node("v2", Some("v2"))), None);
        assert_eq!(pending(&node("v2", None)), None);
        assert_eq!(pending(&json!({"metadata": {}})), None);
    }
}
