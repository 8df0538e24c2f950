//! The nodes that a file asks for, by role and name.

use crate::format::{Cluster, NodeRole, NodeRule};

/// A node before it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) role: NodeRole,
    /// Its position among those of its role, from 0.
    pub(crate) index: u32,
}

impl NodeRole {
    /// The word for it in names and labels, as kubeadm and kind have it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
        }
    }
}

impl Node {
    /// The name in its address: `worker-0`.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.role.word(), self.index)
    }
}

impl NodeRule {
    /// Whether it is about a node.
    pub(crate) fn concerns(&self, node: &Node) -> bool {
        self.role.is_none_or(|wanted| wanted == node.role)
            && self.name.as_ref().is_none_or(|wanted| *wanted == node.name())
    }
}

/// The nodes of a cluster, control planes first, of which there is one at least.
pub(crate) fn of(cluster: &Cluster) -> Vec<Node> {
    let counts = [
        (NodeRole::ControlPlane, cluster.control_planes.unwrap_or(0).max(1)),
        (NodeRole::Worker, cluster.workers.unwrap_or(0)),
    ];
    counts.into_iter().flat_map(|(role, count)| (0..count).map(move |index| Node { role, index })).collect()
}
