//! Load balancers: what stands before several control planes.

use std::collections::BTreeMap;

use ksail_model::Value;
use serde::{Deserialize, Serialize};

use crate::Spec;

/// A container that leads to the API servers of a cluster, to those that answer. It runs HAProxy. The identity's name is the
/// container's name, by which machines reach the API. Attributes: `endpoint`, where it is reached on the engine's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadBalancerSpec {
    /// The image's full reference: one of HAProxy that has a shell.
    pub image: String,
    /// The cluster's name, by which kind finds it.
    pub cluster: String,
    /// The network's name.
    pub network: String,
    /// The address on the engine's machine that it is published at (`127.0.0.1`).
    pub address: String,
    /// The port there.
    pub port: u16,
    /// Whether it speaks IPv6 too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ipv6: bool,
    /// By machine, the address of its API server (`10.170.3.2:6443`), or its name where the engine gives it an address.
    pub backends: BTreeMap<String, String>,
    /// Whether it shall run. Stopped by hand is drift.
    pub running: bool,
}

impl Spec for LoadBalancerSpec {
    const KIND: &'static str = "load-balancer";
}

impl LoadBalancerSpec {
    /// The port in its container.
    pub const PORT: u16 = 6443;
}

/// The attributes that follow from a spec.
pub(crate) fn follows(_: &str, spec: &Value) -> Vec<(&'static str, Value)> {
    crate::ClusterSpec::endpoint_of(spec).map(|endpoint| ("endpoint", Value::from(endpoint))).into_iter().collect()
}
