//! How a cluster behaves.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How a cluster behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The version that it states, before `+ksail.embedded`; by default that of the server that described its types.
    pub version: String,
    /// The stages by which objects come to life; see [`Stage`]. The first that matches an object is taken.
    pub stages: Vec<Stage>,
    /// Whether controllers work: without them objects are stored and nothing becomes of them.
    pub controllers: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { version: ksail_kubernetes_schema::builtin().version.clone(), stages: Vec::new(), controllers: true }
    }
}

/// A step in the life of nodes, pods, claims of volumes or services, as a Stage of KWOK: which objects, after which delay, what becomes of their status.
///
/// Objects that no stage matches live as they do by default: nodes become Ready, pods run, claims are bound and balanced services have
/// their address at once. What a stage has set the status
/// of carries a condition that says so, lives by stages alone from then on, and begins anew when the cluster is opened without that stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub kind: StageKind,
    /// The namespace; any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The labels that an object must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// What must hold of its fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
    /// How long after the object's last change it is taken, in milliseconds.
    #[serde(default)]
    pub delay_milliseconds: u64,
    /// What is merged into the object's status, as a strategic merge patch. Without it the object lives on as by default, after the delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Map<String, Value>>,
}

/// The kinds that stages are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageKind {
    /// Nodes.
    Node,
    /// Pods.
    Pod,
    /// Claims of volumes.
    PersistentVolumeClaim,
    /// Services; of what a stage does not hold, only the address of a load balancer comes to life.
    Service,
}

/// What must hold of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// The field, as a JSON pointer: `/status/phase`.
    pub pointer: String,
    /// What it must be.
    pub operator: Operator,
    /// The texts that it is compared with. Numbers and booleans are compared as they are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What a field must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of the values; one that is not there is none of them.
    NotIn,
    /// There.
    Exists,
    /// Not there.
    DoesNotExist,
}

impl Stage {
    /// How long after the object's last change it is taken.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_milliseconds)
    }
}

impl Requirement {
    /// Whether it holds of an object.
    pub(crate) fn holds(&self, object: &Value) -> bool {
        let text = match object.pointer(&self.pointer) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        let is_listed = || text.as_ref().is_some_and(|text| self.values.contains(text));
        match self.operator {
            Operator::In => is_listed(),
            Operator::NotIn => !is_listed(),
            Operator::Exists => text.is_some(),
            Operator::DoesNotExist => text.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requirements_are_those_of_selectors() {
        let object = json!({"status": {"phase": "Pending", "ready": true, "count": 3, "none": null}});
        for (pointer, operator, values, wanted) in [
            ("/status/phase", Operator::In, &["Running", "Pending"][..], true),
            ("/status/phase", Operator::NotIn, &["Running"], true),
            ("/status/phase", Operator::In, &[], false),
            ("/status/ready", Operator::In, &["true"], true),
            ("/status/count", Operator::NotIn, &["3"], false),
            ("/status/reason", Operator::NotIn, &["x"], true),
            ("/status/reason", Operator::Exists, &[], false),
            ("/status/none", Operator::DoesNotExist, &[], true),
            ("/status/phase", Operator::Exists, &[], true),
        ] {
            let values = values.iter().map(|text| (*text).to_owned()).collect();
            let requirement = Requirement { pointer: pointer.to_owned(), operator, values };
            assert_eq!(requirement.holds(&object), wanted, "{requirement:?}");
        }
    }

    #[test]
    fn what_a_stage_does_not_know_is_refused() {
        let stage = json!({"name": "a", "kind": "Pod", "statsu": {}});
        assert!(serde_json::from_value::<Stage>(stage).is_err());
        assert!(serde_json::from_value::<Stage>(json!({"name": "a", "kind": "Secret"})).is_err());
    }
}
