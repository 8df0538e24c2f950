//! The addresses of a cluster's machines on its network.

use crate::format::NodeRole;
use crate::nodes::Node;

/// The addresses of a cluster's network. They follow from the cluster's name, so that they are the same on every machine and
/// no plan has to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    prefix: [u8; 3],
}

impl Addresses {
    /// The first address of control planes, of which there are few, and of workers. What asks for no address of its own gets one
    /// of the upper half.
    const CONTROL_PLANES: u8 = 2;
    /// As many control planes as etcd is recommended to have members at most, which is seven.
    const AFTER_CONTROL_PLANES: u8 = 9;
    const WORKERS: u8 = 10;
    const GIVEN: u8 = 128;

    pub(super) fn of(cluster: &str) -> Self {
        let digest = ksail_model::Digest::of_bytes(cluster.as_bytes());
        let number = u16::from_str_radix(digest.short().get(..4).unwrap_or_default(), 16).unwrap_or_default();
        let [high, low] = number.to_be_bytes();
        // A quarter of 10.0.0.0/8, apart from where engines, clouds and Kubernetes itself begin.
        Self { prefix: [10, 128 + high % 64, low] }
    }

    fn at(self, last: u8) -> String {
        let [a, b, c] = self.prefix;
        format!("{a}.{b}.{c}.{last}")
    }

    pub(super) fn subnet(self) -> String {
        format!("{}/24", self.at(0))
    }

    pub(super) fn given(self) -> String {
        format!("{}/25", self.at(Self::GIVEN))
    }

    /// The address of a node, if the network has room for it.
    pub(super) fn node(self, node: &Node) -> Option<String> {
        let (first, end) = match node.role {
            NodeRole::ControlPlane => (Self::CONTROL_PLANES, Self::AFTER_CONTROL_PLANES),
            NodeRole::Worker => (Self::WORKERS, Self::GIVEN - 1),
        };
        let last = u8::try_from(node.index).ok()?.checked_add(first)?;
        (last < end).then(|| self.at(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_and_leave_room_for_those_that_are_given() {
        let addresses = Addresses::of("dev");
        assert_eq!(addresses, Addresses::of("dev"));
        assert_ne!(addresses.subnet(), Addresses::of("prod").subnet());
        let node = |role, index| addresses.node(&Node { role, index });
        assert!(node(NodeRole::ControlPlane, 0).unwrap().ends_with(".2"));
        assert!(node(NodeRole::Worker, 0).unwrap().ends_with(".10"));
        assert!(node(NodeRole::Worker, 116).unwrap().ends_with(".126"));
        assert_eq!((node(NodeRole::Worker, 117), node(NodeRole::ControlPlane, 7)), (None, None));
    }
}
