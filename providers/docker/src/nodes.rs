//! The nodes of clusters that an engine has, whoever made them, found as kind finds its own.

use bollard::models::ContainerSummary;
use ksail_kinds::MachineRole;
use ksail_provider::CallError;

use crate::call::Call;
use crate::container::list;
use crate::labels;
use crate::load_balancer::BALANCER;
use crate::machine_plan::{CLUSTER, KEPT, ROLE};

/// A container that is a node of a cluster, or stands before its control planes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeContainer {
    /// Its name.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// `control-plane`, `worker`, or what else its maker calls it.
    pub role: String,
    /// The image.
    pub image: String,
    /// How the engine calls what it does: `running`, `exited`, `paused`.
    pub state: String,
    /// The lineage of the state that made it; `None` where none of ours did.
    pub lineage: Option<String>,
    /// The network that it is on; `None` where it is on none, or on several.
    pub network: Option<String>,
    /// The volume that holds what it keeps, by its name or id.
    pub volume: Option<String>,
}

impl NodeContainer {
    fn of(container: ContainerSummary) -> Option<Self> {
        let labels = container.labels.as_ref()?;
        let lineage = labels::mark(Some(labels)).map(|mark| mark.lineage);
        let (cluster, role) = (labels.get(CLUSTER)?.clone(), labels.get(ROLE).cloned().unwrap_or_default());
        let name = container.names.iter().flatten().next()?.trim_start_matches('/').to_owned();
        let state = container.state.map(|state| state.to_string()).unwrap_or_default();
        let networks = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let network = if networks.len() == 1 { networks.into_keys().next() } else { None };
        let mut mounts = container.mounts.into_iter().flatten();
        let volume = mounts.find(|mount| mount.destination.as_deref() == Some(KEPT)).and_then(|mount| mount.name);
        let image = container.image.unwrap_or_default();
        Some(Self { name, cluster, role, image, state, lineage, network, volume })
    }

    /// Whether it is a node of Kubernetes, and not what stands before several control planes.
    pub fn is_node(&self) -> bool {
        self.role != BALANCER
    }

    /// Whether it runs the control plane.
    pub fn is_control_plane(&self) -> bool {
        self.role == MachineRole::ControlPlane.word()
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }
}

pub(crate) async fn nodes(call: &Call) -> Result<Vec<NodeContainer>, CallError> {
    Ok(list(call).await?.into_iter().filter_map(NodeContainer::of).collect())
}
