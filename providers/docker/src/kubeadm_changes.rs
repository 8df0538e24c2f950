//! What changes on a node when kubeadm would be told otherwise: what of it can be changed where the node is, and what stands as long as the
//! node or its cluster does.

use std::collections::{BTreeMap, BTreeSet};

use ksail_kinds::{BootstrapAction, BootstrapSpec};
use serde_json::Value as Json;

use crate::kubeadm_documents::fields;

/// Arguments of a kubelet that say what node it is.
const WHO_IT_IS: [&str; 2] = ["node-ip", "provider-id"];
/// The argument with the labels that a kubelet registers its node with.
const LABELS: &str = "node-labels";
/// What is read only when a machine becomes a node: another one is for the next time.
const FOR_THE_NEXT_TIME: [&str; 6] = [
    "bootstrapTokens",
    "discovery",
    "timeouts",
    "nodeRegistration.ignorePreflightErrors",
    "nodeRegistration.imagePullPolicy",
    "nodeRegistration.imagePullSerial",
];
/// What of a kubelet cannot be another while pods run.
const OF_KUBELET: [&str; 3] = ["cgroupDriver", "cgroupRoot", "staticPodPath"];
/// What of the programs of a control plane is a matter of their manifests.
const OF_PROGRAM: [&str; 3] = ["extraArgs", "extraEnvs", "extraVolumes"];

/// What is to be done on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    /// The API server gets another certificate, for it answers to other names.
    pub(crate) certificate: bool,
    /// The programs of the control plane get other manifests.
    pub(crate) control_plane: bool,
    /// So does etcd.
    pub(crate) etcd: bool,
    /// The API server reads other files.
    pub(crate) files: bool,
    /// The kubelet gets another configuration, or other arguments.
    pub(crate) kubelet: bool,
    /// Arguments of the kubelet that are others now (`--v=3`), and the names of those that are not what they were.
    pub(crate) arguments: Vec<String>,
    pub(crate) former_arguments: Vec<String>,
    /// What the cluster keeps of it for nodes that join and for upgrades is another.
    pub(crate) kept: bool,
    /// Every node's kube-proxy gets another configuration.
    pub(crate) proxy: bool,
    /// The cluster's DNS is another.
    pub(crate) dns: bool,
    /// The node is labelled, as kubectl's command has it: `a=1`, or `a-` for one that goes.
    pub(crate) labels: Vec<String>,
    /// Labels as they were.
    pub(crate) former_labels: Vec<String>,
    /// By their paths, what cannot be changed.
    pub(crate) fixed: Vec<String>,
}

impl Changes {
    pub(crate) fn of(current: &BootstrapSpec, wanted: &BootstrapSpec) -> Self {
        let mut changes = Self::default();
        // The first machine says what the cluster is told, and others read that there.
        let is_first = wanted.action == BootstrapAction::Init;
        let is_control_plane =
            is_first || wanted.config.iter().any(|document| document.field("controlPlane").is_some());
        let registration = match wanted.action {
            BootstrapAction::Init => "InitConfiguration",
            BootstrapAction::Join => "JoinConfiguration",
        };
        let (before, after) = (fields(&current.config), fields(&wanted.config));
        let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for path in paths.into_iter().filter(|path| before.get(*path) != after.get(*path)) {
            let (kind, field) = path.split_once('.').unwrap_or((path, ""));
            let is_of_node = matches!(kind, "InitConfiguration" | "JoinConfiguration");
            match kind {
                "ClusterConfiguration" => changes.of_cluster(path, field, is_control_plane, is_first),
                _ if is_of_node && kind != registration => {}
                _ if is_of_node => changes.of_node(path, field, after.get(path)),
                "KubeletConfiguration" if !is_below(field, &OF_KUBELET) => {
                    changes.kubelet = true;
                    changes.kept |= is_first;
                }
                "KubeProxyConfiguration"
                    if ["mode", "kind"].iter().all(|of| field != *of) || is_another_mode(&before, &after) =>
                {
                    changes.proxy |= is_first;
                }
                _ => changes.fixed.push(path.clone()),
            }
        }
        let labels = |fields: &BTreeMap<String, Json>| {
            labels_of(fields.get(&format!("{registration}.nodeRegistration.kubeletExtraArgs.{LABELS}")))
        };
        (changes.labels, changes.former_labels) = relabelled(&labels(&before), &labels(&after));
        changes.files = is_control_plane && current.files != wanted.files;
        if current.through != wanted.through {
            changes.fixed.push("through".to_owned());
        }
        changes
    }

    fn of_cluster(&mut self, path: &str, field: &str, is_control_plane: bool, is_first: bool) {
        let (program, rest) = field.split_once('.').unwrap_or((field, ""));
        let is_program = matches!(program, "apiServer" | "controllerManager" | "scheduler");
        match program {
            "apiServer" if rest == "certSANs" => self.certificate |= is_control_plane,
            _ if is_program && is_below(rest, &OF_PROGRAM) => self.control_plane |= is_control_plane,
            "etcd" if rest.strip_prefix("local.").is_some_and(|rest| is_below(rest, &OF_PROGRAM)) => {
                self.etcd |= is_control_plane;
            }
            "dns" => self.dns |= is_first,
            _ => return self.fixed.push(path.to_owned()),
        }
        self.kept |= is_first;
    }

    fn of_node(&mut self, path: &str, field: &str, wanted: Option<&Json>) {
        if is_below(field, &FOR_THE_NEXT_TIME) {
            return;
        }
        match field.strip_prefix("nodeRegistration.kubeletExtraArgs.") {
            Some(argument) if !WHO_IT_IS.contains(&argument) => {
                let wanted = wanted.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                if wanted.as_ref().is_some_and(|value| !value.chars().all(is_plain)) {
                    return self.fixed.push(path.to_owned());
                }
                self.kubelet = true;
                self.former_arguments.push(argument.to_owned());
                self.arguments.extend(wanted.map(|value| format!("--{argument}={value}")));
            }
            _ => self.fixed.push(path.to_owned()),
        }
    }

    /// Whether anything is done on the node itself, or in its cluster.
    pub(crate) fn is_work(&self) -> bool {
        self.certificate
            || self.control_plane
            || self.etcd
            || self.files
            || self.kubelet
            || self.kept
            || self.proxy
            || self.dns
            || !self.labels.is_empty()
    }
}

/// Whether a field is one of some, or below one.
fn is_below(field: &str, of: &[&str]) -> bool {
    of.iter().any(|of| field.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Whether an argument with it stands in the file of a service as it is.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_./:,=+@%".contains(character)
}

/// Whether there is a kube-proxy before and after: it can work otherwise, and neither come nor go.
fn is_another_mode(before: &BTreeMap<String, Json>, after: &BTreeMap<String, Json>) -> bool {
    [before, after].iter().all(|fields| fields.contains_key("KubeProxyConfiguration.kind"))
}

/// Labels as an argument has them: `a=1,b=2`.
fn labels_of(argument: Option<&Json>) -> BTreeMap<String, String> {
    let text = argument.and_then(Json::as_str).unwrap_or_default();
    let pair = |label: &str| label.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.split(',').filter_map(pair).collect()
}

/// What brings labels from one to the other, and back.
fn relabelled(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> (Vec<String>, Vec<String>) {
    let towards = |to: &BTreeMap<String, String>, from: &BTreeMap<String, String>| {
        let set = to.iter().filter(|(key, value)| from.get(*key) != Some(value));
        let gone = from.keys().filter(|key| !to.contains_key(*key)).map(|key| format!("{key}-"));
        set.map(|(key, value)| format!("{key}={value}")).chain(gone).collect()
    };
    (towards(after, before), towards(before, after))
}

#[cfg(test)]
mod tests {
    use ksail_model::Value;
    use serde_json::json;

    use super::*;

    fn spec(action: BootstrapAction, cluster: Json, node: Json, kubelet: Json) -> BootstrapSpec {
        let document = |kind: &str, api: &str, fields: Json| {
            let mut document = json!({"kind": kind, "apiVersion": api});
            for (key, value) in fields.as_object().expect("fields") {
                document[key] = value.clone();
            }
            Value::from(document)
        };
        let kubeadm = "kubeadm.k8s.io/v1beta4";
        BootstrapSpec {
            action,
            config: vec![
                document("ClusterConfiguration", kubeadm, cluster),
                document("InitConfiguration", kubeadm, node.clone()),
                document("JoinConfiguration", kubeadm, node),
                document("KubeletConfiguration", "kubelet.config.k8s.io/v1beta1", kubelet),
            ],
            through: None,
            files: BTreeMap::new(),
            taints: Vec::new(),
            takes_workloads: false,
        }
    }

    fn arguments(of: &[(&str, &str)]) -> Json {
        of.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    }

    fn first(cluster: Json) -> BootstrapSpec {
        spec(BootstrapAction::Init, cluster, json!({}), json!({}))
    }

    #[test]
    fn programs_of_the_control_plane_change_in_place() {
        let before = first(json!({"networking": {"podSubnet": "10.1.0.0/16"}}));
        let with =
            |program: &str, value: Json| first(json!({"networking": {"podSubnet": "10.1.0.0/16"}, program: value}));
        let changes = Changes::of(&before, &with("scheduler", json!({"extraArgs": arguments(&[("v", "3")])})));
        assert_eq!(changes, Changes { control_plane: true, kept: true, ..Changes::default() });
        let changes = Changes::of(&before, &with("apiServer", json!({"certSANs": ["a.example"]})));
        assert_eq!(changes, Changes { certificate: true, kept: true, ..Changes::default() });
        let changes = Changes::of(&before, &with("etcd", json!({"local": {"extraArgs": arguments(&[("v", "3")])}})));
        assert_eq!(changes, Changes { etcd: true, kept: true, ..Changes::default() });
        // More than once is allowed for some.
        let twice = |last: &str| with("apiServer", json!({"extraArgs": arguments(&[("a", "1"), ("a", last)])}));
        assert!(Changes::of(&twice("2"), &twice("3")).control_plane);
    }

    #[test]
    fn what_stands_as_long_as_the_cluster_does_is_named() {
        let cluster =
            |pods: &str| first(json!({"networking": {"podSubnet": pods}, "etcd": {"local": {"dataDir": "/a"}}}));
        let changes = Changes::of(&cluster("10.1.0.0/16"), &cluster("10.2.0.0/16"));
        assert_eq!(changes.fixed, ["ClusterConfiguration.networking.podSubnet"]);
        let node =
            |name: &str| spec(BootstrapAction::Join, json!({}), json!({"nodeRegistration": {"name": name}}), json!({}));
        assert_eq!(Changes::of(&node("a"), &node("b")).fixed, ["JoinConfiguration.nodeRegistration.name"]);
        let driver = |driver: &str| spec(BootstrapAction::Join, json!({}), json!({}), json!({"cgroupDriver": driver}));
        assert_eq!(Changes::of(&driver("a"), &driver("b")).fixed, ["KubeletConfiguration.cgroupDriver"]);
    }

    #[test]
    fn kube_proxy_works_otherwise_and_neither_comes_nor_goes() {
        let with = |mode: Option<&str>| {
            let mut spec = first(json!({}));
            spec.config.extend(mode.map(|mode| Value::from(json!({"kind": "KubeProxyConfiguration", "mode": mode}))));
            spec
        };
        let changes = Changes::of(&with(Some("iptables")), &with(Some("nftables")));
        assert_eq!(changes, Changes { proxy: true, ..Changes::default() });
        let gone = Changes::of(&with(Some("iptables")), &with(None)).fixed;
        assert_eq!(gone, ["KubeProxyConfiguration.kind", "KubeProxyConfiguration.mode"]);
    }

    #[test]
    fn a_node_that_joined_changes_what_is_its_own() {
        let node = |labels: &str, level: &str| {
            let arguments = arguments(&[("node-ip", level), ("node-labels", labels), ("v", level)]);
            let registration =
                json!({"nodeRegistration": {"kubeletExtraArgs": arguments}, "discovery": {"file": level}});
            spec(
                BootstrapAction::Join,
                json!({"scheduler": {"extraArgs": [{"name": "v", "value": level}]}}),
                registration,
                json!({}),
            )
        };
        let changes = Changes::of(&node("a=1,b=2", "2"), &node("b=3,c=4", "3"));
        let expected = Changes {
            kubelet: true,
            arguments: ["--node-labels=b=3,c=4", "--v=3"].map(str::to_owned).into(),
            former_arguments: ["node-labels", "v"].map(str::to_owned).into(),
            labels: ["b=3", "c=4", "a-"].map(str::to_owned).into(),
            former_labels: ["a=1", "b=2", "c-"].map(str::to_owned).into(),
            ..Changes::default()
        };
        assert_eq!(changes, expected);
        // It is a matter of the first machine, or of the next time.
        let other = Changes::of(&spec(BootstrapAction::Join, json!({}), json!({}), json!({})), &{
            spec(
                BootstrapAction::Join,
                json!({"dns": {"imageTag": "x"}}),
                json!({"discovery": {"file": "x"}}),
                json!({}),
            )
        });
        assert!(!other.is_work() && other.fixed.is_empty(), "{other:?}");
    }
}
