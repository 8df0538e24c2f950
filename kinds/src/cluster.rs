//! A cluster, and its nodes.

use std::collections::BTreeMap;

use ksail_model::Value;
use serde::{Deserialize, Serialize};

use crate::Spec;

/// A Kubernetes cluster. The identity's name is the cluster's name. Attributes: `id`, `endpoint` (`https://127.0.0.1:6443`), and how
/// its administrator reaches it: `kubeconfig` (the path of a file, or in whose machines it lies), and of one on machines `machines`: the
/// cluster's name, by which these are found. It serves as long as one of its control plane does. One without is served by the embedded
/// engine, and is a simulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// The version of Kubernetes, `v1.36.3`.
    pub version: String,
    /// The loopback port of its API.
    pub port: u16,
    /// Whether it shall be served. One whose port was taken when the engine started is not; the next plan serves it.
    pub running: bool,
    /// By which its nodes and pods come to life; the first that matches one is taken. Records of before have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
}

/// A step in the life of nodes or pods of a simulated cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// `Node` or `Pod`.
    pub kind: String,
    /// The namespace; any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The labels that an object must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// What must hold of its fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<StageRequirement>,
    /// How long after the object's last change it is taken.
    pub delay_milliseconds: u64,
    /// What is merged into the object's status; nothing, so that it lives on by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

/// What must hold of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageRequirement {
    /// The field, as a JSON pointer: `/status/phase`.
    pub pointer: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// What it is compared with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

impl Spec for ClusterSpec {
    const KIND: &'static str = "cluster";
}

impl ClusterSpec {
    /// Where the API on a port of this machine is.
    pub fn endpoint(port: u16) -> String {
        format!("https://127.0.0.1:{port}")
    }
}

/// The attributes that follow from a spec.
pub(crate) fn follows(_: &str, spec: &Value) -> Vec<(&'static str, Value)> {
    let port = crate::registry::port_of(spec);
    port.map(|port| ("endpoint", Value::from(ClusterSpec::endpoint(port)))).into_iter().collect()
}

/// A node: the kind whose spec is the node's object in the cluster, as a manifest has it (labels, taints, annotations). The identity's
/// name is that of the object, `Node/_/<name>`.
pub const NODE: &str = "node";

/// The annotation of a simulated node that says which version its kubelet states.
pub const KUBELET_VERSION: &str = "embedded.ksail.io/kubelet-version";
