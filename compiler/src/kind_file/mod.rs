//! `kind.yaml`: the file of kind (`kind.x-k8s.io/v1alpha4`), as users have it.

mod lists;
mod networking;
mod patches;
mod wire;

use core::net::IpAddr;
use std::collections::BTreeMap;

use ksail_kinds::{ContainerdPatches, MachineMount, Port, Protocol};
use ksail_model::{Diagnostic, Path};

use crate::codes;
use crate::format::NodeRole;
use crate::loaded::Loaded;
use crate::nodes::Node;
use crate::sources::{Project, SourceFile};
use crate::tree::{Role, Texts};
use crate::yaml;
pub(crate) use networking::{Family, Networking, Version};
pub(crate) use patches::Patches;

/// The file's name where none is given.
pub(crate) const DEFAULT_FILE: &str = "kind.yaml";
/// What it says it is.
const API_VERSION: &str = "kind.x-k8s.io/v1alpha4";
const KIND: &str = "Cluster";

/// What a `kind.yaml` says of a cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct KindFile {
    nodes: Vec<(NodeRole, KindNode)>,
    pub(crate) networking: Networking,
    pub(crate) feature_gates: BTreeMap<String, bool>,
    pub(crate) runtime_config: BTreeMap<String, String>,
    pub(crate) patches: Patches,
    pub(crate) containerd: ContainerdPatches,
}

/// What it says of one node.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct KindNode {
    pub(crate) image: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) mounts: Vec<MachineMount>,
    pub(crate) ports: Vec<Port>,
    pub(crate) patches: Patches,
}

/// Reads the file of a configuration; nothing where there is none.
///
/// # Errors
/// What is wrong with it, and what it asks for that is not built.
pub(crate) fn read(loaded: &Loaded, project: &dyn Project) -> Result<KindFile, Vec<Diagnostic>> {
    let given = loaded.config.spec.cluster.distribution_config.as_deref();
    let name = given.unwrap_or(DEFAULT_FILE);
    if given.is_none() && !project.exists(name) {
        return Ok(KindFile::default());
    }
    match project.file(name) {
        Ok(file) => parse(&file),
        Err(why) => {
            let message = format!("the distribution's file `{name}` cannot be read: {why}");
            let error = Diagnostic::error(codes::BAD_VALUE, message)
                .hint("`spec.cluster.distributionConfig` is a `kind.yaml`, relative to the project's folder");
            let path = Path::parse("spec.cluster.distributionConfig").unwrap_or_default();
            Err(vec![loaded.label(error, &path, "")])
        }
    }
}

fn parse(file: &SourceFile) -> Result<KindFile, Vec<Diagnostic>> {
    let mut texts = Texts::default();
    let text = texts.add(&file.name, &file.text, Role::File);
    let read = yaml::read(&texts, text, &file.text, 0);
    if !read.diagnostics.is_empty() {
        return Err(read.diagnostics);
    }
    let Some(root) = read.root else { return Ok(KindFile::default()) };
    let error = |code, message: String| texts.label(Diagnostic::error(code, message), root.place, "");
    let wire: wire::Cluster = serde_json::from_value(root.to_json())
        .map_err(|problem| vec![error(codes::BAD_VALUE, format!("`{}` cannot be used: {problem}", file.name))])?;
    if (wire.api_version.as_str(), wire.kind.as_str()) != (API_VERSION, KIND) {
        let message = format!("`{}` is no file of kind: it says `{}`, `{}`", file.name, wire.api_version, wire.kind);
        let hint = format!("it begins with `kind: {KIND}` and `apiVersion: {API_VERSION}`");
        return Err(vec![error(codes::BAD_VALUE, message).hint(hint)]);
    }
    let mut problems = Vec::new();
    let found = wire.into_file(&mut problems);
    if problems.is_empty() {
        return Ok(found);
    }
    let told = problems.into_iter().map(|problem| match problem {
        wire::Problem::Wrong(what) => error(codes::BAD_VALUE, format!("`{}`: {what}", file.name)),
        wire::Problem::At { path, what, hint } => {
            let place = root.at(&Path::parse(path).unwrap_or_default()).map_or(root.place, |(node, _)| node.place);
            let diagnostic = Diagnostic::error(codes::BAD_VALUE, format!("`{}`: {path}: {what}", file.name));
            texts.label(diagnostic.hint(hint), place, "")
        }
    });
    Err(told.collect())
}

impl KindFile {
    /// How many nodes of a role it lists.
    pub(crate) fn count(&self, role: NodeRole) -> Option<u32> {
        if self.nodes.is_empty() {
            return None;
        }
        u32::try_from(self.nodes.iter().filter(|(other, _)| *other == role).count()).ok()
    }

    /// What it says of a node.
    pub(crate) fn node(&self, node: &Node) -> KindNode {
        let index = usize::try_from(node.index).unwrap_or(usize::MAX);
        let mut of_role = self.nodes.iter().filter(|(role, _)| *role == node.role);
        of_role.nth(index).map(|(_, node)| node.clone()).unwrap_or_default()
    }
}

/// A published port, or why there is none.
fn port(mapping: wire::PortMapping, family: Family) -> Result<Port, wire::Problem> {
    let number = |number: i32, what: &str| {
        u16::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| what.to_owned())
    };
    let container = number(mapping.container_port, "a port mapping needs its `containerPort`");
    // One that is not given is chosen when it is planned: kind does so at creation (0), or leaves it to the engine (-1).
    let host = match mapping.host_port {
        -1 | 0 => Ok(0),
        given => number(given, "the `hostPort` of a port mapping is no port"),
    };
    let protocol = match mapping.protocol.as_deref().unwrap_or("TCP") {
        "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        other => Err(wire::Problem::Wrong(format!(
            "`{other}` is no protocol of a port mapping: there are TCP, UDP and SCTP"
        ))),
    };
    let address = wire::given(mapping.listen_address).unwrap_or_else(|| family.any_address().to_owned());
    if address.parse::<IpAddr>().is_err() {
        return Err(wire::Problem::Wrong(format!("`{address}` is no `listenAddress` of a port mapping")));
    }
    Ok(Port {
        container: container.map_err(wire::Problem::Wrong)?,
        host: host.map_err(wire::Problem::Wrong)?,
        address,
        protocol: protocol?,
    })
}

#[cfg(test)]
mod tests {
    use ksail_kinds::Propagation;

    use super::*;

    fn file(text: &str) -> Result<KindFile, Vec<String>> {
        let text = format!("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n{text}");
        let file = SourceFile { name: "kind.yaml".to_owned(), text };
        parse(&file).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nodes_are_known_by_role_and_position() {
        let found = file(
            "nodes:\n- role: control-plane\n- role: worker\n  labels: {zone: a}\n- role: worker\n  extraPortMappings:\n  - {containerPort: 80, hostPort: 8080}\n  extraMounts:\n  - {hostPath: /data, containerPath: /data, readOnly: true}\n",
        )
        .unwrap();
        assert_eq!((found.count(NodeRole::ControlPlane), found.count(NodeRole::Worker)), (Some(1), Some(2)));
        let worker = |index| found.node(&Node { role: NodeRole::Worker, index });
        assert_eq!(worker(0).labels["zone"], "a");
        assert_eq!((worker(1).ports[0].host, worker(1).ports[0].address.as_str()), (8080, "0.0.0.0"));
        assert!(worker(1).mounts[0].read_only);
        assert_eq!(worker(7), KindNode::default());
        assert_eq!(file("").unwrap().count(NodeRole::Worker), None);
    }

    #[test]
    fn what_is_not_known_is_said() {
        let said = |text: &str, wanted: &str| {
            let errors = file(text).unwrap_err().join("\n");
            assert!(errors.contains(wanted), "{errors}");
        };
        said("nodez: []\n", "unknown field `nodez`");
        said("nodes:\n- role: boss\n", "`boss` is no role");
        said("networking: {apiServerAddress: here}\n", "`here` is no address for `apiServerAddress`");
        said("containerdConfigPatches: ['a = ']\n", "a patch of containerd's configuration is no TOML");
        said("containerdConfigPatchesJSON6902: ['{}']\n", "a JSON patch of containerd's configuration cannot be used");
        said("nodes:\n- extraPortMappings: [{containerPort: 80, hostPort: 70000}]\n", "is no port");
        said("kubeadmConfigPatches: ['a: 1']\n", "a patch names the `kind`");
    }

    #[test]
    fn the_api_is_published_on_this_machine_unless_it_is_said_otherwise() {
        let at = |text: &str| file(&format!("networking: {{{text}}}\n")).unwrap().networking.api_address;
        assert_eq!(at(""), None);
        assert_eq!(at("apiServerAddress: 127.0.0.1"), None);
        assert_eq!(at("apiServerAddress: 0.0.0.0").as_deref(), Some("0.0.0.0"));
    }

    #[test]
    fn ports_listen_at_all_addresses_of_the_family() {
        let at = |head: &str, more: &str| {
            let mapping = format!("{head}nodes:\n- extraPortMappings: [{{containerPort: 80, hostPort: 8080{more}}}]\n");
            let first = Node { role: NodeRole::ControlPlane, index: 0 };
            file(&mapping).map(|file| file.node(&first).ports[0].address.clone())
        };
        assert_eq!(at("", "").unwrap(), "0.0.0.0");
        assert_eq!(at("networking: {ipFamily: dual}\n", "").unwrap(), "0.0.0.0");
        assert_eq!(at("networking: {ipFamily: ipv6}\n", "").unwrap(), "::");
        assert_eq!(at("networking: {ipFamily: ipv6}\n", ", listenAddress: 127.0.0.1").unwrap(), "127.0.0.1");
        assert!(at("", ", listenAddress: here").unwrap_err().join("").contains("`here` is no `listenAddress`"));
    }

    #[test]
    fn what_contradicts_the_family_is_told_at_its_line() {
        let text = format!(
            "kind: {KIND}\napiVersion: {API_VERSION}\nnetworking:\n  ipFamily: ipv6\n  podSubnet: 10.1.0.0/16\n"
        );
        let errors = parse(&SourceFile { name: "kind.yaml".to_owned(), text }).unwrap_err();
        let told = format!("{:?}", errors[0]);
        assert!(told.contains("line: 5") && told.contains("fd00:10:244::/56"), "{told}");
    }

    #[test]
    fn mounts_are_seen_and_labelled_as_they_say() {
        let mount = |more: &str| {
            file(&format!("nodes:\n- extraMounts: [{{hostPath: /a, containerPath: /b{more}}}]\n"))
                .map(|file| file.node(&Node { role: NodeRole::ControlPlane, index: 0 }).mounts[0].clone())
        };
        assert_eq!(mount(", propagation: HostToContainer").unwrap().propagation, Propagation::HostToContainer);
        assert_eq!(mount(", propagation: None").unwrap(), mount("").unwrap());
        assert!(mount(", selinuxRelabel: true").unwrap().relabel);
        assert!(mount(", propagation: Both").unwrap_err().join("").contains("`Both` is no propagation"));
    }

    #[test]
    fn another_file_is_refused() {
        let file = SourceFile { name: "k3d.yaml".to_owned(), text: "apiVersion: k3d.io/v1\nkind: Simple\n".to_owned() };
        let errors = parse(&file).unwrap_err();
        assert!(errors[0].to_string().contains("is no file of kind"), "{}", errors[0]);
    }
}
