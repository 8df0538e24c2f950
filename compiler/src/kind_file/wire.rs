//! The shape of the file.

use core::net::IpAddr;
use std::collections::BTreeMap;

use ksail_kinds::{ClusterSpec, ContainerdPatches, MachineMount, Propagation};
use serde::Deserialize;

use super::patches::{JsonPatch, Patches};
use super::{KindFile, KindNode, port};
use crate::format::NodeRole;

/// What is wrong with what was read.
pub(super) enum Problem {
    NotBuilt(String),
    Wrong(String),
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) kind: String,
    pub(super) api_version: String,
    /// kind's name of the cluster; ours is `metadata.name` of `ksail.yaml`.
    name: Option<String>,
    nodes: Vec<Node>,
    networking: Networking,
    feature_gates: BTreeMap<String, bool>,
    runtime_config: BTreeMap<String, String>,
    kubeadm_config_patches: Vec<String>,
    #[serde(rename = "kubeadmConfigPatchesJSON6902")]
    kubeadm_json_patches: Vec<JsonPatch>,
    containerd_config_patches: Vec<String>,
    #[serde(rename = "containerdConfigPatchesJSON6902")]
    containerd_json_patches: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Node {
    role: Option<String>,
    image: Option<String>,
    labels: BTreeMap<String, String>,
    extra_mounts: Vec<ExtraMount>,
    extra_port_mappings: Vec<PortMapping>,
    kubeadm_config_patches: Vec<String>,
    #[serde(rename = "kubeadmConfigPatchesJSON6902")]
    kubeadm_json_patches: Vec<JsonPatch>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Networking {
    ip_family: Option<String>,
    api_server_port: Option<i32>,
    api_server_address: Option<String>,
    pod_subnet: Option<String>,
    service_subnet: Option<String>,
    #[serde(rename = "disableDefaultCNI")]
    disable_default_cni: bool,
    kube_proxy_mode: Option<String>,
    dns_search: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct ExtraMount {
    host_path: String,
    container_path: String,
    read_only: bool,
    selinux_relabel: bool,
    propagation: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PortMapping {
    pub(super) container_port: i32,
    pub(super) host_port: i32,
    pub(super) listen_address: Option<String>,
    pub(super) protocol: Option<String>,
}

impl Cluster {
    /// What it means, with what is wrong with it on the side.
    pub(super) fn into_file(self, problems: &mut Vec<Problem>) -> KindFile {
        let mut not_built = |is_asked: bool, what: String| {
            if is_asked {
                problems.push(Problem::NotBuilt(what));
            }
        };
        let network = self.networking;
        let family = network.ip_family.unwrap_or_else(|| "ipv4".to_owned());
        not_built(family != "ipv4", format!("ipFamily {family}"));
        let _ = self.name;
        let mut patches = |merges: &[String], json: Vec<JsonPatch>| match Patches::read(merges, json) {
            Ok(patches) => patches,
            Err(why) => {
                problems.push(Problem::Wrong(why));
                Patches::default()
            }
        };
        let containerd =
            ContainerdPatches { merge: self.containerd_config_patches, json: self.containerd_json_patches };
        let of_cluster = patches(&self.kubeadm_config_patches, self.kubeadm_json_patches);
        let nodes = self.nodes.into_iter().filter_map(|node| node.into_node(problems)).collect();
        if let Err(why) = containerd.check() {
            problems.push(Problem::Wrong(why));
        }
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let api_address = given(network.api_server_address).filter(|address| address != ClusterSpec::LOOPBACK);
        if let Some(address) = api_address.as_ref().filter(|address| address.parse::<IpAddr>().is_err()) {
            problems.push(Problem::Wrong(format!("`{address}` is no address for `apiServerAddress`")));
        }
        KindFile {
            nodes,
            api_port: network.api_server_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
            api_address,
            pod_subnet: given(network.pod_subnet),
            service_subnet: given(network.service_subnet),
            kube_proxy_mode: given(network.kube_proxy_mode),
            dns_search: network.dns_search,
            has_no_default_cni: network.disable_default_cni,
            feature_gates: self.feature_gates,
            runtime_config: self.runtime_config,
            patches: of_cluster,
            containerd,
        }
    }
}

impl Node {
    fn into_node(self, problems: &mut Vec<Problem>) -> Option<(NodeRole, KindNode)> {
        let role = match self.role.as_deref().unwrap_or("control-plane") {
            "" | "control-plane" => NodeRole::ControlPlane,
            "worker" => NodeRole::Worker,
            other => {
                problems.push(Problem::Wrong(format!("`{other}` is no role: there are `control-plane` and `worker`")));
                return None;
            }
        };
        let mut node = KindNode { image: self.image, labels: self.labels, ..KindNode::default() };
        for mount in self.extra_mounts {
            let propagation = match mount.propagation.as_deref().unwrap_or_default() {
                "" | "None" => Propagation::None,
                "HostToContainer" => Propagation::HostToContainer,
                "Bidirectional" => Propagation::Bidirectional,
                other => {
                    let known = "there are `None`, `HostToContainer` and `Bidirectional`";
                    problems.push(Problem::Wrong(format!("`{other}` is no propagation of a mount: {known}")));
                    continue;
                }
            };
            if !mount.host_path.starts_with('/') || !mount.container_path.starts_with('/') {
                let why =
                    format!("the paths of a mount begin with `/`: `{}`, `{}`", mount.host_path, mount.container_path);
                problems.push(Problem::Wrong(why));
                continue;
            }
            // An engine reads a mount as one text, parted by colons.
            if mount.host_path.contains(':') || mount.container_path.contains(':') {
                let why =
                    format!("the paths of a mount hold no `:`: `{}`, `{}`", mount.host_path, mount.container_path);
                problems.push(Problem::Wrong(why));
                continue;
            }
            node.mounts.push(MachineMount {
                source: mount.host_path,
                target: mount.container_path,
                read_only: mount.read_only,
                propagation,
                relabel: mount.selinux_relabel,
            });
        }
        for mapping in self.extra_port_mappings {
            match port(mapping) {
                Ok(port) => node.ports.push(port),
                Err(problem) => problems.push(problem),
            }
        }
        match Patches::read(&self.kubeadm_config_patches, self.kubeadm_json_patches) {
            Ok(patches) => node.patches = patches,
            Err(why) => problems.push(Problem::Wrong(why)),
        }
        Some((role, node))
    }
}
