//! Taints by which pods leave that are on a node already (`NoExecute`).

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::scheduling::tolerates_by;
use super::{Again, Controllers, Key};
use crate::status::Status;

/// The taints of a node by which pods leave.
pub(crate) fn of(node: &Value) -> Vec<Value> {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.filter(|taint| taint["effect"] == "NoExecute").cloned().collect()
}

/// How long a pod bears taints; nothing if for good.
fn borne(pod: &Value, taints: &[Value]) -> Option<Duration> {
    let mut least: Option<Duration> = None;
    for taint in taints {
        // One without a time, among those that fit, bears it for good.
        let mut longest = Some(Duration::ZERO);
        for toleration in pod["spec"]["tolerations"].as_array().into_iter().flatten() {
            if tolerates_by(toleration, taint) {
                let seconds = toleration["tolerationSeconds"].as_i64();
                let time = seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
                longest = longest.zip(time).map(|(one, other)| one.max(other));
            }
        }
        least = match (least, longest) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    least
}

impl Controllers {
    /// Deletes a pod whose node has taints that it does not bear any longer. Else it goes on, and tells when it is to be looked at again.
    pub(crate) fn leave(&mut self, key: &Key, pod: &Value, node: &Value) -> Result<ControlFlow<(), Again>, Status> {
        let is_over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let Some(time) = borne(pod, &of(node)).filter(|_| !is_over) else {
            self.tainted.remove(key);
            return Ok(ControlFlow::Continue(None));
        };
        let since = *self.tainted.entry(key.clone()).or_insert_with(Instant::now);
        let left = time.saturating_sub(since.elapsed());
        if left.is_zero() {
            self.tainted.remove(key);
            self.remove(&key.0, &key.1.0, &key.1.1)?;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(Some(left)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_bears_a_taint_as_long_as_it_says() {
        let taint = |key: &str| json!({"key": key, "effect": "NoExecute"});
        let check = |tolerations: Value, keys: &[&str], wanted: Option<u64>| {
            let pod = json!({"spec": {"tolerations": tolerations}});
            let taints: Vec<Value> = keys.iter().map(|key| taint(key)).collect();
            assert_eq!(borne(&pod, &taints), wanted.map(Duration::from_secs), "{tolerations} {keys:?}");
        };
        let bears =
            |key: &str, seconds: Option<i64>| json!({"key": key, "operator": "Exists", "tolerationSeconds": seconds});
        check(json!([]), &[], None);
        check(json!([]), &["a"], Some(0));
        check(json!([bears("a", None)]), &["a"], None);
        check(json!([bears("a", Some(30))]), &["a"], Some(30));
        check(json!([bears("a", Some(30)), bears("b", Some(5))]), &["a", "b"], Some(5));
        check(json!([bears("a", Some(30)), bears("a", None)]), &["a"], None);
        check(json!([bears("a", Some(30))]), &["a", "b"], Some(0));
        check(json!([bears("a", Some(-1))]), &["a"], Some(0));
    }
}
