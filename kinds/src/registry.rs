//! The local registry.

use serde::{Deserialize, Serialize};

use crate::Spec;

/// A registry in a container: push and pull. The identity's name is the container's name. Attributes: `id`, `endpoint`
/// (`localhost:5050`, as clients on the engine's machine use it), `network_endpoint` (`dev-local-registry:5000`, as containers of the
/// network use it).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySpec {
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

impl Spec for RegistrySpec {
    const KIND: &'static str = "registry";
}
