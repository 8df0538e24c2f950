//! The embedded engine.

use serde::{Deserialize, Serialize};

use crate::Spec;

/// The background process that plays a container engine on this machine. The identity's name is the engine's folder, relative to the
/// state's. Attributes: `id` (the scope of what it hosts; kept for the folder's life), `socket` (the path of its Unix socket),
/// `endpoint` (`http://127.0.0.1:<port>`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSpec {
    /// The version of the binary that runs it; another one is restarted in place.
    pub version: String,
    /// The loopback port of its status page.
    pub port: u16,
    /// Whether it shall run. A reboot stops it; the next plan starts it.
    pub running: bool,
}

impl Spec for EngineSpec {
    const KIND: &'static str = "engine";
}
