//! Disruption budgets: how many pods may be evicted now.

use serde_json::{Value, json};

use super::{Again, Controllers, condition, is_pod_ready};
use crate::api::{self, Api};
use crate::http::selectors::LabelSelector;
use crate::status::Status;

fn share(value: &Value, all: i64) -> i64 {
    match value {
        Value::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or_default();
            (percent * all + 99) / 100
        }
        other => other.as_i64().unwrap_or_default(),
    }
}

impl Api {
    /// The status of a budget, by its pods as they are now.
    pub(crate) fn budget_status(&self, namespace: &str, budget: &Value) -> Value {
        let selector = LabelSelector::of(&budget["spec"]["selector"]);
        let (mut expected, mut healthy) = (0, 0);
        for (_, entry) in self.store.list("/pods", Some(namespace)).1 {
            let pod = entry.object();
            if selector.as_ref().is_some_and(|selector| selector.matches(&pod["metadata"]["labels"])) {
                expected += 1;
                healthy += i64::from(is_pod_ready(&pod));
            }
        }
        let spec = &budget["spec"];
        let desired = if spec["minAvailable"].is_null() {
            expected - share(&spec["maxUnavailable"], expected)
        } else {
            share(&spec["minAvailable"], expected)
        }
        .max(0);
        let allowed = (healthy - desired).max(0);
        let (state, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        let mut allows = condition(&budget["status"], "DisruptionAllowed", state, reason, "", &api::now());
        allows["observedGeneration"] = budget["metadata"]["generation"].clone();
        json!({
            "currentHealthy": healthy, "desiredHealthy": desired, "disruptionsAllowed": allowed, "expectedPods": expected,
            "observedGeneration": budget["metadata"]["generation"], "conditions": [allows],
        })
    }
}

impl Controllers {
    pub(crate) fn budget(&mut self, namespace: &str, name: &str, budget: &Value) -> Result<Again, Status> {
        let status = self.api.budget_status(namespace, budget);
        if status != budget["status"] {
            let place = self.place("policy/poddisruptionbudgets", namespace, name)?;
            self.api.set_status(&place, super::MANAGER, &status)?;
        }
        Ok(None)
    }
}
