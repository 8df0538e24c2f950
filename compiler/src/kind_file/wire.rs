//! The shape of the file.

use core::fmt;
use std::collections::BTreeMap;

use ksail_kinds::{ContainerdPatches, MachineMount, Propagation};
use serde::Deserialize;

use super::networking::{self, Family};
use super::patches::{JsonPatch, Patches};
use super::{KindFile, KindNode, port};
use crate::format::NodeRole;

/// What is wrong with what was read.
pub(super) enum Problem {
    Wrong(String),
    /// The same at a place of the file, with what to do.
    At {
        path: &'static str,
        what: String,
        hint: String,
    },
}

impl Problem {
    pub(super) fn at(path: &'static str, what: String, hint: &str) -> Self {
        Self::At { path, what, hint: hint.to_owned() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(what) => to.write_str(what),
            Self::At { path, what, .. } => write!(to, "{path}: {what}"),
        }
    }
}

/// A text that says something.
pub(super) fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
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
    networking: networking::Wire,
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
        let networking = self.networking.read(problems);
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
        let nodes = self.nodes.into_iter().filter_map(|node| node.into_node(networking.family, problems)).collect();
        if let Err(why) = containerd.check() {
            problems.push(Problem::Wrong(why));
        }
        KindFile {
            nodes,
            networking,
            feature_gates: self.feature_gates,
            runtime_config: self.runtime_config,
            patches: of_cluster,
            containerd,
        }
    }
}

impl Node {
    fn into_node(self, family: Family, problems: &mut Vec<Problem>) -> Option<(NodeRole, KindNode)> {
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
            match port(mapping, family) {
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
