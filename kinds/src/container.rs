//! Containers.

use std::collections::BTreeMap;

use ksail_model::Value;
use serde::{Deserialize, Serialize};

use crate::Spec;

/// TCP, UDP or SCTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The port in the container.
    pub container: u16,
    /// The port on the engine's machine; always fixed before the call.
    pub host: u16,
    /// The address on the engine's machine (`127.0.0.1`).
    pub address: String,
    /// The protocol.
    pub protocol: Protocol,
}

/// A volume or folder in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// A volume's name, or an absolute path on the engine's machine.
    pub source: String,
    /// The absolute path in the container.
    pub target: String,
    /// Whether it cannot be written.
    #[serde(default)]
    pub read_only: bool,
}

/// When the engine starts it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// Always, also after the engine's own restart, unless it was stopped by hand.
    UnlessStopped,
}

/// How a container is found healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// A published container port and a path that must answer an HTTP status below 500.
    pub port: u16,
    /// The path (`/v2/`).
    pub path: String,
}

/// A container. The identity's name is the container's name. Attributes: `id`, `addresses` (network name to address).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// The image's full reference.
    pub image: String,
    /// Arguments; left out, the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment: texts or secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Value>,
    /// Volumes and folders, by target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Published ports, by container port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Names of networks; the container's name is its alias on each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// When it is started again.
    pub restart: Restart,
    /// Whether it shall run. Stopped by hand is drift.
    pub running: bool,
    /// How it is found healthy; left out, running is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
}

impl Spec for ContainerSpec {
    const KIND: &'static str = "container";
}
