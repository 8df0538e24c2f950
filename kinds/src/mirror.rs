//! Pull-through mirrors.

use ksail_model::Value;
use serde::{Deserialize, Serialize};

use crate::Spec;

/// A registry in a container that answers pulls from an upstream and keeps what it pulled. The identity's name is the
/// container's name. Attributes: `id`, `endpoint`, `network_endpoint` as for a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorSpec {
    /// The host whose images it answers for (`docker.io`).
    pub host: String,
    /// Where it pulls from: a URL without credentials (`https://registry-1.docker.io`).
    pub upstream: String,
    /// The user at the upstream: a text or a secret.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub username: Value,
    /// The password or token at the upstream: a secret.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub password: Value,
    /// The registry image's full reference.
    pub image: String,
    /// The network's name.
    pub network: String,
    /// The name of the volume that holds its blobs.
    pub volume: String,
    /// The address on the engine's machine (`127.0.0.1`).
    pub address: String,
    /// The port on the engine's machine.
    pub port: u16,
    /// Whether it shall run.
    pub running: bool,
}

impl Spec for MirrorSpec {
    const KIND: &'static str = "mirror";
}
