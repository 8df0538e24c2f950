//! Machines: the containers that are nodes of a cluster.

use std::collections::BTreeMap;

use ksail_model::Value;
use serde::{Deserialize, Serialize};

use crate::{ContainerdPatches, Port, Spec, host_and_port};

/// What a machine does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineRole {
    /// It runs the control plane.
    ControlPlane,
    /// It runs workloads only.
    Worker,
}

impl MachineRole {
    /// The word for it, as kind's label has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
        }
    }
}

/// Which mounts below a mount are seen on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// None.
    #[default]
    None,
    /// The machine sees what is mounted on the engine's machine later.
    HostToContainer,
    /// Each sees what the other mounts.
    Bidirectional,
}

impl Propagation {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// A folder of the engine's machine in a machine. One that is not there is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineMount {
    /// An absolute path on the engine's machine.
    pub source: String,
    /// The absolute path in the machine.
    pub target: String,
    /// Whether it cannot be written.
    #[serde(default)]
    pub read_only: bool,
    /// Which mounts below it are seen on the other side.
    #[serde(default, skip_serializing_if = "Propagation::is_none")]
    pub propagation: Propagation,
    /// Whether SELinux labels it for the machine alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relabel: bool,
}

/// A container that is a machine: it runs systemd, with containerd and the kubelet, as the node images of kind do. What it keeps
/// is on a volume. Its container may be made anew on that volume without the machine becoming another: one whose container is
/// gone and whose volume is there does not run. The identity's name is the container's name. Attributes: `name`.
///
/// One that was bootstrapped is ready when its kubelet has reported since it was started, and one of a control plane when its API
/// server answers too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// The cluster's name, by which kind finds it.
    pub cluster: String,
    /// What it does.
    pub role: MachineRole,
    /// The node image's full reference.
    pub image: String,
    /// The network's name.
    pub network: String,
    /// Its address on that network; left out, the engine gives it one whenever it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether it speaks IPv6 too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ipv6: bool,
    /// Its IPv6 address on that network; left out, the engine gives it one as it does of IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    /// Names beside its own by which the network knows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The name of the volume that holds what it keeps (`/var`).
    pub volume: String,
    /// The port of the engine's machine that leads to its API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The address of the engine's machine that the port is published at; left out, the loopback address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_address: Option<String>,
    /// Further published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Further mounts: folders of the engine's machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MachineMount>,
    /// The domains in which it looks for names; left out, those of the engine's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_search: Option<Vec<String>>,
    /// What is changed in containerd's configuration.
    #[serde(default, skip_serializing_if = "ContainerdPatches::is_empty")]
    pub containerd: ContainerdPatches,
    /// By host of images, the URL of the registry that answers pulls for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registries: BTreeMap<String, String>,
    /// The proxies that it uses, by the names of variables. Where one holds a password it is a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy: BTreeMap<String, Value>,
    /// What its certificates are: [`MachineSpec::VALID`] is wanted, and seen are those that are lost or at their end, with why.
    #[serde(default = "valid")]
    pub certificates: String,
    /// Whether it shall run.
    pub running: bool,
}

fn valid() -> String {
    MachineSpec::VALID.to_owned()
}

impl Spec for MachineSpec {
    const KIND: &'static str = "machine";
}

impl MachineSpec {
    /// The variables that tell proxies; programs read them in small letters too.
    pub const PROXIES: [&'static str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
    /// What is said of certificates that serve.
    pub const VALID: &str = "valid";
    /// The port of an API server in its machine.
    pub const API_PORT: u16 = 6443;
}

/// What kubeadm does on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapAction {
    /// It begins a cluster, or joins it where other control planes run it already, so that the first one can be made anew.
    Init,
    /// It joins one.
    Join,
}

/// What makes a machine a node: kubeadm's run on it. It lives in the machine. The identity's name is the machine's. No
/// attributes.
///
/// The run leaves its operation, its pid and its exit code on the machine: a call that comes while it goes on waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapSpec {
    /// What kubeadm does.
    pub action: BootstrapAction,
    /// Its configuration: documents, each with its kind.
    pub config: Vec<Value>,
    /// The machine whose control plane admits it, where it joins; another one that serves does where this one does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// Files that are written before, by their paths without the first slash.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// What the node is tainted with from its registration on, beside what the configuration says: each with its key and its effect. What
    /// it is tainted with later is a matter of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Value>,
    /// Whether a control plane takes workloads, as it must where it is alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_workloads: bool,
}

impl Spec for BootstrapSpec {
    const KIND: &'static str = "bootstrap";
}

/// Objects that a node image brings along as a file: the network plugin, the storage class. They live in the cluster, and are applied
/// by a machine of its control plane. The identity's name is what they are (`cni`). No attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddonSpec {
    /// The file in the machine.
    pub manifest: String,
    /// The range of the pods' addresses, for a file that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_subnet: Option<String>,
    /// Where machines reach the API server (`dev-control-plane:6443`), for a file that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

impl Spec for AddonSpec {
    const KIND: &'static str = "addon";
}

/// A member of the etcd of a control plane of several machines: it came with the machine's bootstrap, and leaves before the machine
/// does, so that those that stay keep their majority. It lives in the cluster. The identity's name is the machine's. No
/// attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdMemberSpec {
    /// Where other members reach it (`https://10.170.3.2:2380`).
    pub peer: String,
    /// What it raises the alarm for: [`EtcdMemberSpec::NO_ALARM`] is wanted. `NOSPACE` says that it is full and takes nothing more.
    #[serde(default = "no_alarm")]
    pub alarm: String,
}

fn no_alarm() -> String {
    EtcdMemberSpec::NO_ALARM.to_owned()
}

impl Spec for EtcdMemberSpec {
    const KIND: &'static str = "etcd-member";
}

impl EtcdMemberSpec {
    /// What is said where no alarm is raised.
    pub const NO_ALARM: &str = "none";

    /// Where other members reach the one of a machine.
    pub fn peer_at(address: &str) -> String {
        format!("https://{}", host_and_port(address, 2380))
    }
}

/// The attributes of a machine that follow from its spec.
pub(crate) fn follows(name: &str, _: &Value) -> Vec<(&'static str, Value)> {
    vec![("name", Value::from(name))]
}
