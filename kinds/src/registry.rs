//! The local registry.

use ksail_model::Value;
use serde::{Deserialize, Serialize};

use crate::Spec;

/// A registry in a container: push and pull. The identity's name is the container's name. Attributes: `id`, `endpoint`
/// (`localhost:5050`, as clients on the engine's machine use it), `network_endpoint` (`dev-local-registry:5000`, as containers of the
/// network use it), `hosting` (what a cluster on that network tells tools of it, as KEP-1755 has it).
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

impl RegistrySpec {
    /// The port that registries and mirrors listen on in their container.
    pub const PORT: u16 = 5000;

    /// The attribute that a cluster tells tools.
    pub const HOSTING: &'static str = "hosting";

    /// What a cluster on its network tells tools of a registry: where it answers on the engine's machine, and where in the network.
    pub fn hosting(endpoint: &str, network_endpoint: &str) -> String {
        format!(
            "host: \"{endpoint}\"\nhostFromContainerRuntime: \"{network_endpoint}\"\nhostFromClusterNetwork: \"{network_endpoint}\"\n"
        )
    }

    /// Where clients on the engine's machine find a registry or mirror that listens on this address and port there.
    pub fn endpoint(address: &str, port: u16) -> String {
        let host = match address {
            "127.0.0.1" | "0.0.0.0" | "" => "localhost",
            other => other,
        };
        format!("{host}:{port}")
    }

    /// Where containers of its network find the registry or mirror of this name.
    pub fn network_endpoint(name: &str) -> String {
        format!("{name}:{}", Self::PORT)
    }
}

/// The attributes that follow from the spec of a registry.
pub(crate) fn follows_of_registry(name: &str, spec: &Value) -> Vec<(&'static str, Value)> {
    let mut all = follows(name, spec);
    let text = |key: &str| all.iter().find(|(name, _)| *name == key).and_then(|(_, value)| value.as_str());
    let hosting =
        text("endpoint").zip(text("network_endpoint")).map(|(outside, inside)| RegistrySpec::hosting(outside, inside));
    all.extend(hosting.map(|hosting| (RegistrySpec::HOSTING, Value::from(hosting))));
    all
}

/// The attributes that follow from the spec of a registry or mirror.
pub(crate) fn follows(name: &str, spec: &Value) -> Vec<(&'static str, Value)> {
    let mut all = vec![("network_endpoint", Value::from(RegistrySpec::network_endpoint(name)))];
    if let (Some(address), Some(port)) = (spec.field("address").and_then(Value::as_str), port_of(spec)) {
        all.push(("endpoint", Value::from(RegistrySpec::endpoint(address, port))));
    }
    all
}

/// The port of a spec, if it is chosen.
pub(crate) fn port_of(spec: &Value) -> Option<u16> {
    spec.field("port").and_then(Value::as_i64).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_answers_follows_from_where_it_listens() {
        let spec = |port: u16| Value::map([("address", Value::from("127.0.0.1")), ("port", Value::from(port))]);
        let inside = ("network_endpoint", Value::from("dev-local-registry:5000"));
        let outside = ("endpoint", Value::from("localhost:5050"));
        assert_eq!(follows("dev-local-registry", &spec(5050)), [inside.clone(), outside]);
        assert_eq!(follows("dev-local-registry", &spec(0)), std::slice::from_ref(&inside));
        assert_eq!(follows_of_registry("dev-local-registry", &spec(0)), [inside]);
        let told = follows_of_registry("dev-local-registry", &spec(5050));
        let hosting = "host: \"localhost:5050\"\nhostFromContainerRuntime: \"dev-local-registry:5000\"\n\
                       hostFromClusterNetwork: \"dev-local-registry:5000\"\n";
        assert_eq!(told.last(), Some(&("hosting", Value::from(hosting))));
    }
}
