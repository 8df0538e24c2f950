//! The embedded engine.

use ksail_model::Value;
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

impl EngineSpec {
    /// Where the status page of an engine on a port of this machine is.
    pub fn endpoint(port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }
}

/// The attributes that follow from a spec.
pub(crate) fn follows(_: &str, spec: &Value) -> Vec<(&'static str, Value)> {
    let port = crate::registry::port_of(spec);
    port.map(|port| ("endpoint", Value::from(EngineSpec::endpoint(port)))).into_iter().collect()
}
