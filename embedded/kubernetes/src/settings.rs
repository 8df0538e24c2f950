//! How a cluster behaves.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

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

/// A step in the life of objects of one resource, as a Stage of KWOK: which objects, after which delay, what becomes of
/// their status. Objects that no stage matches live as they do by default: nodes become Ready and pods run at once.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// The resource: `nodes` or `pods`.
    pub resource: String,
    /// The labels that an object must have.
    pub labels: BTreeMap<String, String>,
    /// The namespace; any if none.
    pub namespace: Option<String>,
    /// The value that a field of the object must have, by JSON pointer; `null` matches what is not there.
    pub matches: Vec<(String, Value)>,
    /// How long after the object's last change it is taken.
    pub delay: Duration,
    /// What is merged into the object's status.
    pub status: Value,
}
