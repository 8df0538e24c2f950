//! Networks that containers share.

use serde::{Deserialize, Serialize};

use crate::Spec;

/// A bridge network. The identity's name is the network's name. Attributes: `id`, `name`, `subnet`, `gateway`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// The driver (`bridge`).
    pub driver: String,
    /// The IPv4 subnet in CIDR notation; left out, the engine chooses one, which the attribute `subnet` tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The part of the subnet that addresses are given from where none is asked for; left out, all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// The IPv6 subnet in CIDR notation; left out, the network has no IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_subnet: Option<String>,
    /// The part of the IPv6 subnet that addresses are given from where none is asked for; left out, all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_given: Option<String>,
    /// Whether it has no way out.
    #[serde(default)]
    pub internal: bool,
}

impl Spec for NetworkSpec {
    const KIND: &'static str = "network";
}

impl NetworkSpec {
    /// A bridge of IPv4 with a way out, on a subnet that the engine chooses.
    #[must_use]
    pub fn bridge() -> Self {
        Self {
            driver: "bridge".to_owned(),
            subnet: None,
            given: None,
            ipv6_subnet: None,
            ipv6_given: None,
            internal: false,
        }
    }
}
