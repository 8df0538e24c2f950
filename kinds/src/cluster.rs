//! A cluster, and its nodes.

use std::collections::BTreeMap;

use ksail_model::Value;
use serde::{Deserialize, Serialize};

use crate::{Spec, host_and_port};

/// A Kubernetes cluster. The identity's name is the cluster's name. Attributes: `id`, `endpoint` (`https://127.0.0.1:6443`), and how
/// its administrator reaches it: `kubeconfig` (the path of a file, or in whose machines it lies), and of one on machines `machines`: the
/// cluster's name, by which these are found. It serves as long as one of its control plane does. One without is served by the embedded
/// engine, and is a simulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// The version of Kubernetes, `v1.36.3`.
    pub version: String,
    /// The port of its API.
    pub port: u16,
    /// The address on this machine that it is published at; left out, the loopback address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether it shall be served. One whose port was taken when the engine started is not; the next plan serves it.
    pub running: bool,
    /// By which its nodes, pods, claims and services come to life; the first that matches one is taken. Records of before have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
}

/// A step in the life of what is in a simulated cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// `Node`, `Pod`, `PersistentVolumeClaim` or `Service`.
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
    /// The address that an API is published at where nothing else is said.
    pub const LOOPBACK: &str = "127.0.0.1";
    /// The same of a cluster of IPv6 alone.
    pub const LOOPBACK_V6: &str = "::1";

    /// By which address of this machine something is reached that is published at an address: if that stands for all, by the loopback one.
    pub fn reached_at(address: &str) -> &str {
        match address {
            "" | "0.0.0.0" => Self::LOOPBACK,
            "::" => Self::LOOPBACK_V6,
            address => address,
        }
    }

    /// Where the API on a port of this machine is, which is published at an address. The certificate of one that is published at all
    /// addresses is good for `localhost` and for what was said, and for no loopback address. By IPv6 not every machine knows that name.
    pub fn endpoint(address: &str, port: u16) -> String {
        let host = match address {
            "0.0.0.0" => "localhost",
            "" => Self::LOOPBACK,
            address => address,
        };
        format!("https://{}", host_and_port(host, port))
    }

    /// The same, of a spec that may not have its port yet.
    pub fn endpoint_of(spec: &Value) -> Option<String> {
        let address = spec.field("address").and_then(Value::as_str).unwrap_or_default();
        crate::registry::port_of(spec).map(|port| Self::endpoint(address, port))
    }
}

/// The attributes that follow from a spec.
pub(crate) fn follows(_: &str, spec: &Value) -> Vec<(&'static str, Value)> {
    ClusterSpec::endpoint_of(spec).map(|endpoint| ("endpoint", Value::from(endpoint))).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_reached_where_it_is_published() {
        assert_eq!(ClusterSpec::endpoint("127.0.0.1", 6443), "https://127.0.0.1:6443");
        assert_eq!(ClusterSpec::endpoint("0.0.0.0", 6443), "https://localhost:6443");
        assert_eq!(ClusterSpec::endpoint("::", 6443), "https://[::]:6443");
        assert_eq!(ClusterSpec::endpoint("192.168.1.4", 6443), "https://192.168.1.4:6443");
        assert_eq!(ClusterSpec::endpoint("fd00::1", 6443), "https://[fd00::1]:6443");
        assert_eq!(ClusterSpec::reached_at("::"), "::1", "an engine publishes it by IPv6 alone");
    }
}
