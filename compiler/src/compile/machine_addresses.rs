//! The addresses of a cluster's machines on its network.

use core::net::Ipv6Addr;

use crate::format::NodeRole;
use crate::kind_file::{Family, Version};
use crate::nodes::Node;

/// The addresses of a cluster's network. They follow from the cluster's name, so that they are the same on every machine and
/// no plan has to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    prefix: [u8; 3],
    /// The first half of its IPv6 addresses, if it has such.
    ipv6_prefix: Option<[u8; 8]>,
}

/// Where a machine is on the network of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) ipv4: String,
    pub(super) ipv6: Option<String>,
}

impl Place {
    /// Its addresses of some families, in their order.
    pub(super) fn of(&self, versions: &[Version]) -> Vec<String> {
        let of = |version: &Version| match version {
            Version::V4 => Some(self.ipv4.clone()),
            Version::V6 => self.ipv6.clone(),
        };
        versions.iter().filter_map(of).collect()
    }
}

impl Addresses {
    /// The first address of control planes, of which there are few, and of workers. What asks for no address of its own gets one
    /// of the upper half.
    const CONTROL_PLANES: u8 = 2;
    /// As many control planes as etcd is recommended to have members at most, which is seven.
    const AFTER_CONTROL_PLANES: u8 = 9;
    const WORKERS: u8 = 10;
    const GIVEN: u8 = 128;

    /// Those of a cluster's name.
    pub(super) fn of(cluster: &str, family: Family) -> Self {
        let digest = ksail_model::Digest::of_bytes(cluster.as_bytes());
        let digits = digest.short();
        let byte = |at: usize| {
            digits.get(2 * at..2 * at + 2).and_then(|two| u8::from_str_radix(two, 16).ok()).unwrap_or_default()
        };
        // A quarter of 10.0.0.0/8, apart from where engines, clouds and Kubernetes itself begin.
        let prefix = [10, 128 + byte(0) % 64, byte(1)];
        // Of fd00::/8, whose addresses whoever wants to gives out by chance.
        let ipv6_prefix = [0xfd, byte(0), byte(1), byte(2), byte(3), byte(4), byte(5), 0];
        Self { prefix, ipv6_prefix: family.has_v6().then_some(ipv6_prefix) }
    }

    fn at(self, last: u8) -> String {
        let [a, b, c] = self.prefix;
        format!("{a}.{b}.{c}.{last}")
    }

    fn ipv6_at(self, last: u32) -> Option<String> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ipv6_prefix?);
        bytes[12..].copy_from_slice(&last.to_be_bytes());
        Some(Ipv6Addr::from(bytes).to_string())
    }

    pub(super) fn subnet(self) -> String {
        format!("{}/24", self.at(0))
    }

    pub(super) fn given(self) -> String {
        format!("{}/25", self.at(Self::GIVEN))
    }

    pub(super) fn ipv6_subnet(self) -> Option<String> {
        self.ipv6_at(0).map(|address| format!("{address}/64"))
    }

    /// Above all that nodes can have.
    pub(super) fn ipv6_given(self) -> Option<String> {
        self.ipv6_at(1 << 16).map(|address| format!("{address}/112"))
    }

    /// Where a node is, if the network has room for it: at the same end of either family.
    pub(super) fn node(self, node: &Node) -> Option<Place> {
        let (first, end) = match node.role {
            NodeRole::ControlPlane => (Self::CONTROL_PLANES, Self::AFTER_CONTROL_PLANES),
            NodeRole::Worker => (Self::WORKERS, Self::GIVEN - 1),
        };
        let last = u8::try_from(node.index).ok()?.checked_add(first)?;
        (last < end).then(|| Place { ipv4: self.at(last), ipv6: self.ipv6_at(last.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_and_leave_room_for_those_that_are_given() {
        let of = |cluster: &str| Addresses::of(cluster, Family::V4);
        let addresses = of("dev");
        assert_eq!(addresses, of("dev"));
        assert_ne!(addresses.subnet(), of("prod").subnet());
        let node = |role, index| addresses.node(&Node { role, index }).map(|place| place.ipv4);
        assert!(node(NodeRole::ControlPlane, 0).unwrap().ends_with(".2"));
        assert!(node(NodeRole::Worker, 0).unwrap().ends_with(".10"));
        assert!(node(NodeRole::Worker, 116).unwrap().ends_with(".126"));
        assert_eq!((node(NodeRole::Worker, 117), node(NodeRole::ControlPlane, 7)), (None, None));
        assert_eq!((addresses.ipv6_subnet(), addresses.ipv6_given()), (None, None));
    }

    #[test]
    fn a_cluster_of_ipv6_has_addresses_of_both_families() {
        let addresses = Addresses::of("dev", Family::V6);
        assert_eq!(addresses.subnet(), Addresses::of("dev", Family::V4).subnet(), "which its family does not change");
        let subnet = addresses.ipv6_subnet().unwrap();
        let prefix = subnet.strip_suffix("::/64").unwrap();
        assert!(prefix.starts_with("fd"), "{prefix}");
        assert_eq!(addresses.ipv6_given().unwrap(), format!("{prefix}::1:0/112"));
        let place = addresses.node(&Node { role: NodeRole::Worker, index: 1 }).unwrap();
        assert_eq!(place.ipv6.as_deref(), Some(format!("{prefix}::b").as_str()));
        assert_eq!(place.of(&[Version::V6, Version::V4]), [format!("{prefix}::b"), place.ipv4.clone()]);
        assert_ne!(Addresses::of("prod", Family::V6).ipv6_subnet().unwrap(), subnet);
    }
}
