//! `spec.cluster.autoscaler`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::words::{Expanders, TaintEffect, Toggle};

/// What grows and shrinks by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Autoscaler {
    /// Pods.
    pub pod: PodAutoscaler,
    /// Nodes.
    pub node: NodeAutoscaler,
}

/// Scaling of pods.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PodAutoscaler {
    /// Whether numbers of replicas follow the load.
    pub horizontal: Option<Toggle>,
    /// Whether requests of pods follow what they use.
    pub vertical: Option<Toggle>,
}

/// Scaling of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeAutoscaler {
    /// Whether nodes are added and taken away by need.
    pub enabled: Option<Toggle>,
    /// The groups of equal servers that it may grow.
    pub pools: Vec<NodePool>,
    /// How many nodes there may be over all pools; 0 sets no bound.
    pub max_nodes_total: Option<u32>,
    /// How the pool that grows is picked: one way, or several in order.
    pub expander: Option<Expanders>,
    /// How long a node must be idle before it goes, such as `10m`.
    pub scale_down_unneeded_time: Option<String>,
    /// The share of use below which a node counts as idle, such as `"0.5"`.
    pub scale_down_utilization_threshold: Option<String>,
    /// Whether spare room is held by capacity buffers.
    pub capacity_buffers: Option<bool>,
    /// Whether pods of daemon sets do not count as use.
    pub ignore_daemonsets_utilization: Option<bool>,
    /// Whether nodes whose pods have local storage stay.
    pub skip_nodes_with_local_storage: Option<bool>,
    /// Whether nodes that run system pods stay.
    pub skip_nodes_with_system_pods: Option<bool>,
}

/// A group of equal servers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePool {
    /// Its name.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), extend("x-ksail-form" = "lower-case letters, digits and `-`"))]
    pub name: Option<String>,
    /// The type of server.
    pub server_type: Option<String>,
    /// The location of its servers.
    pub location: Option<String>,
    /// The fewest nodes it keeps.
    pub min: Option<u32>,
    /// The most nodes it grows to.
    pub max: Option<u32>,
    /// Labels of its nodes.
    pub labels: BTreeMap<String, String>,
    /// Taints of its nodes.
    pub taints: Vec<Taint>,
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Taint {
    /// Its key.
    pub key: Option<String>,
    /// Its value.
    pub value: Option<String>,
    /// What it does.
    pub effect: Option<TaintEffect>,
}
