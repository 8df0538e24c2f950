//! A cluster whose nodes are containers of a Docker Engine: machines, what makes them nodes, and what goes into the cluster.

use std::collections::BTreeMap;

use ksail_kinds::{
    AddonSpec, BootstrapAction, BootstrapSpec, BuiltinKinds, ClusterSpec, MachineRole, MachineSpec, NODE, Port,
    RegistrySpec, Spec, VolumeSpec, full_reference, host_and_port,
};
use ksail_model::{
    Address, Choice, Condition, Declaration, Edge, ForceOn, Identity, Lifecycle, Origin, Origins, Ownership, Path,
    Reference, Schemas as _, Step, Strength, Value,
};

use super::kubeadm::{ClusterFacts, MachineFacts, provider_id};
use super::machine_addresses::{Addresses, Place};
use super::node_taints::keep_workloads_off;
use super::proxies::proxies;
use super::resources::{Builder, DOCKER, KUBERNETES, choose_port, derived};
use super::{audit, names};
use crate::catalogue;
use crate::codes;
use crate::endpoints::{self, RegistryPlace};
use crate::format::NodeRole;
use crate::kind_file::KindFile;
use crate::nodes::{self, Node};
use crate::{image_reference, manifests, versions};

/// Ports that are tried first for the API.
pub(super) const API_PORTS: std::ops::RangeInclusive<u16> = 6443..=6459;
/// Below this, ports of an engine's machine are those of its system; a port of a node that is below is published this much above.
const FIRST_OWN_PORT: u16 = 1024;
const ABOVE_SYSTEM: u16 = 8000;
/// Where node images keep the manifests that they bring along.
const NETWORK_PLUGIN: &str = "/kind/manifests/default-cni.yaml";
const STORAGE: &str = "/kind/manifests/default-storage.yaml";

/// What all nodes have in common.
pub(super) struct Common<'a> {
    network: &'a Address,
    image: Address,
    image_reference: String,
    image_origin: Origin,
    facts: ClusterFacts,
    addresses: Addresses,
    /// All nodes, in the order in which they are upgraded.
    nodes: Vec<Node>,
    /// The container and the address of each control plane.
    pub(super) control_planes: Vec<(String, Address)>,
    /// The load balancer before several of them.
    pub(super) balancer: Option<Address>,
    registries: BTreeMap<String, String>,
    proxy: BTreeMap<String, Value>,
    /// What control planes are given before kubeadm runs.
    files: BTreeMap<String, String>,
    file: KindFile,
}

impl Common<'_> {
    /// The node that is upgraded before another.
    fn before(&self, node: &Node) -> Option<&Node> {
        let position = self.nodes.iter().position(|other| other == node)?;
        self.nodes.get(position.checked_sub(1)?)
    }
}

impl Builder<'_> {
    /// The cluster on machines, and the objects in it.
    pub(super) fn docker_cluster(&mut self, network: &Address, file: KindFile) {
        self.provider(KUBERNETES);
        let mut wanted = self.loaded.config.spec.cluster.clone();
        wanted.control_planes = wanted.control_planes.or(file.count(NodeRole::ControlPlane));
        wanted.workers = wanted.workers.or(file.count(NodeRole::Worker));
        let nodes = nodes::of(&wanted);
        let Some(first) = nodes.first() else { return };
        let common = self.common(network, &nodes, first, file);
        let cluster = self.cluster_on_machines(&common);
        self.kubeconfig(&cluster);
        self.kubeconfig_output();
        for node in &nodes {
            self.docker_node(&common, &cluster, node);
        }
        let ports: Vec<_> = nodes.iter().flat_map(|node| common.file.node(node).ports).collect();
        self.chosen_ports(&common);
        self.graph.outputs.extend(names::ingress(&ports).map(|found| ("ingress".to_owned(), found)));
        self.addons(&common, &cluster);
        let problems = manifests::declare(self.loaded, self.project, KUBERNETES, Some(&cluster), &mut self.graph);
        self.problems.extend(problems);
    }

    fn common<'n>(&mut self, network: &'n Address, nodes: &[Node], first: &Node, file: KindFile) -> Common<'n> {
        let (version, version_origin) = self.node_version(file.node(first).image.as_deref());
        let rules = self.loaded.config.spec.images.as_slice();
        let wanted = format!("{}:{version}", catalogue::NODE_IMAGE);
        let (image_reference, rule) = image_reference::rewrite(&wanted, rules);
        let image_origin = match rule {
            Some(index) => self.origin(&format!("spec.images[{index}].to")),
            None => version_origin,
        };
        let image = self.node_image(&image_reference, &image_origin);
        let is_control_plane = |node: &&Node| node.role == NodeRole::ControlPlane;
        let control_planes: Vec<(String, Address)> = nodes
            .iter()
            .filter(is_control_plane)
            .map(|node| (self.machine_name(node), self.address(MachineSpec::KIND, &node.name())))
            .collect();
        let addresses = Addresses::of(self.cluster, file.networking.family);
        let balancer = (control_planes.len() > 1).then(|| {
            let backend = |node: &Node| {
                let address = addresses.node(node)?.of(file.networking.versions()).into_iter().next()?;
                Some((self.machine_name(node), host_and_port(&address, MachineSpec::API_PORT)))
            };
            let backends = nodes.iter().filter(is_control_plane).filter_map(backend).collect();
            self.load_balancer(network, &file, backends)
        });
        let policy = self.audit_policy();
        let facts = ClusterFacts {
            name: self.cluster.to_owned(),
            version,
            endpoint: format!("{}:{}", self.api_name(), MachineSpec::API_PORT),
            api_port: MachineSpec::API_PORT,
            networking: file.networking.clone(),
            feature_gates: file.feature_gates.clone(),
            runtime_config: file.runtime_config.clone(),
            has_audit: policy.is_some(),
        };
        let registries = self.registries_of_machines();
        let of_registries = registries.values().filter_map(|url| url.strip_prefix("http://")?.split(':').next());
        let ranges = [&file.networking.service_subnet, &file.networking.pod_subnet];
        let past = ranges.into_iter().flat_map(|ranges| ranges.split(',')).map(str::to_owned);
        let past = past.chain([addresses.subnet()]).chain(addresses.ipv6_subnet());
        let door = facts.endpoint.split(':').next().map(str::to_owned);
        let past = past
            .chain(door)
            .chain(nodes.iter().map(|node| self.machine_name(node)))
            .chain(of_registries.map(str::to_owned));
        let proxy = proxies(self.project, past);
        Common {
            network,
            image,
            image_reference,
            image_origin,
            facts,
            addresses,
            nodes: nodes.to_vec(),
            control_planes,
            balancer,
            registries,
            proxy,
            files: policy.map(|policy| (audit::POLICY.to_owned(), policy)).into_iter().collect(),
            file,
        }
    }

    /// The version that is asked for, or that the tag of the first node's image tells.
    fn node_version(&mut self, image: Option<&str>) -> (String, Origin) {
        if let Some(version) = &self.loaded.config.spec.cluster.kubernetes_version {
            return (versions::canonical(version), self.origin("spec.cluster.kubernetesVersion"));
        }
        let Some(image) = image else {
            let origin = Origin::Catalogue { entry: "Kubernetes on Docker".into() };
            return (catalogue::NODE_KUBERNETES.to_owned(), origin);
        };
        let tag =
            image.split('@').next().and_then(|name| name.rsplit('/').next()).and_then(|name| name.split_once(':'));
        let tag = tag.map(|(_, tag)| tag).unwrap_or_default();
        if !versions::is_version(tag) {
            let message = format!("the tag of the node image `{image}` tells no version of Kubernetes");
            let error = ksail_model::Diagnostic::error(codes::MISSING, message);
            self.problems.push(error.hint("say it in `spec.cluster.kubernetesVersion`"));
        }
        (versions::canonical(tag), derived("the tag of the node image tells it"))
    }

    fn node_image(&mut self, reference: &str, origin: &Origin) -> Address {
        self.needed_image(reference, origin, "nodes need it")
    }

    /// As kind names it, so that people find what they know.
    fn machine_name(&self, node: &Node) -> String {
        let number = if node.index == 0 { String::new() } else { (node.index + 1).to_string() };
        format!("{}-{}{number}", self.cluster, node.role.word())
    }

    /// Who answers pulls of which host: the mirrors, and the local registry under the names that it has.
    fn registries_of_machines(&self) -> BTreeMap<String, String> {
        let url = |name: &str| format!("http://{}", RegistrySpec::network_endpoint(name));
        let mut registries = BTreeMap::new();
        for mirror in &self.loaded.config.spec.mirrors {
            let host = mirror.host.to_lowercase();
            let name = self.engine_name(&format!("{}-mirror-", self.cluster), &host);
            registries.insert(host, url(&name));
        }
        if let Some(local) = &self.loaded.config.spec.cluster.local_registry
            && let Ok(RegistryPlace::Local { port, .. }) =
                endpoints::registry_place(local.registry.as_deref().unwrap_or_default())
        {
            let name = self.engine_name(&format!("{}-", self.cluster), "local-registry");
            registries.extend(port.map(|port| (format!("localhost:{port}"), url(&name))));
            registries.insert(RegistrySpec::network_endpoint(&name), url(&name));
        }
        registries
    }

    /// Tells the ports of nodes that do not stand in the file.
    fn chosen_ports(&mut self, common: &Common<'_>) {
        for node in &common.nodes {
            if common.file.node(node).ports.iter().any(|port| port.host == 0) {
                let machine =
                    Reference { address: self.address(MachineSpec::KIND, &node.name()), path: Path::key("ports") };
                self.graph.outputs.insert(format!("ports-{}", node.name()), Value::Ref(machine));
            }
        }
    }

    fn docker_node(&mut self, common: &Common<'_>, cluster: &Address, node: &Node) {
        let field = self.origin(match node.role {
            NodeRole::ControlPlane => "spec.cluster.controlPlanes",
            NodeRole::Worker => "spec.cluster.workers",
        });
        let Some(place) = common.addresses.node(node) else {
            let message = format!("{} is one node too many for one engine", node.name());
            let error = ksail_model::Diagnostic::error(codes::BAD_VALUE, message).hint("ask for fewer nodes");
            let path = Path::parse("spec.cluster.workers").unwrap_or_default();
            self.problems.push(self.loaded.label(error, &path, ""));
            return;
        };
        let container = self.machine_name(node);
        let addresses = place.of(common.file.networking.versions());
        let machine = self.machine(common, node, &container, place, &field);
        let bootstrap = self.bootstrap(common, node, &container, &addresses, &machine, &field);
        if let Some(address) = addresses.first().filter(|_| node.role == NodeRole::ControlPlane) {
            self.etcd_member(common, node, (&container, address), cluster, &bootstrap, field.clone());
        }
        self.node_on_machine(common, node, &container, cluster, &bootstrap, field);
    }

    fn machine(&mut self, common: &Common<'_>, node: &Node, container: &str, place: Place, field: &Origin) -> Address {
        let volume_name = format!("{container}-var");
        let spec = VolumeSpec { driver: "local".to_owned() };
        let volume = self.declaration(&node.name(), volume_name.clone(), &spec, Origins::all(field.clone()));
        let volume = self.add(volume);
        // The only control plane is what a load balancer would be.
        let is_only = node.role == NodeRole::ControlPlane && common.balancer.is_none();
        let own = common.file.node(node);
        let (image_reference, image_origin, image) = match &own.image {
            None => (common.image_reference.clone(), common.image_origin.clone(), common.image.clone()),
            Some(image) => {
                let full = full_reference(image);
                let (reference, _) = image_reference::rewrite(&full, self.loaded.config.spec.images.as_slice());
                let origin = derived("the distribution's file names the node's image");
                let address = self.node_image(&reference, &origin);
                (reference, origin, address)
            }
        };
        let networking = &common.file.networking;
        let port = networking.api_port.unwrap_or_default();
        let spec = MachineSpec {
            cluster: self.cluster.to_owned(),
            role: match node.role {
                NodeRole::ControlPlane => MachineRole::ControlPlane,
                NodeRole::Worker => MachineRole::Worker,
            },
            image: image_reference,
            network: self.cluster.to_owned(),
            address: Some(place.ipv4),
            ipv6: networking.family.has_v6(),
            ipv6_address: place.ipv6,
            aliases: if is_only { vec![self.api_name()] } else { Vec::new() },
            volume: volume_name,
            port: is_only.then_some(port),
            api_address: networking.api_address.clone().filter(|_| is_only),
            ports: own.ports,
            mounts: own.mounts,
            dns_search: networking.dns_search.clone(),
            containerd: common.file.containerd.clone(),
            registries: common.registries.clone(),
            proxy: common.proxy.clone(),
            certificates: MachineSpec::VALID.to_owned(),
            running: true,
        };
        let mut origins = Origins::all(field.clone());
        origins.set(Path::key("certificates"), derived("what is lost or at its end is made anew"));
        origins.set(Path::key("image"), image_origin);
        origins.set(Path::key("network"), derived("what a cluster has on an engine shares one network"));
        origins.set(Path::key("address"), derived("nodes keep their addresses"));
        if networking.family.has_v6() {
            origins.set(Path::key("ipv6"), derived("the distribution's file asks for IPv6"));
            origins.set(Path::key("ipv6_address"), derived("nodes keep their addresses"));
        }
        origins.set(Path::key("api_address"), derived("the distribution's file says where the API is published"));
        origins.set(Path::key("aliases"), derived("machines reach the API by this name"));
        origins.set(Path::key("volume"), derived("what a node keeps outlives its container"));
        origins.set(Path::key("containerd"), derived("the distribution's file says it"));
        origins.set(Path::key("registries"), derived("the mirrors and the local registry answer pulls"));
        origins.set(Path::key("running"), derived("what is declared runs"));
        origins.set(Path::key("proxy"), derived("the proxies of who makes the machine, and what is reached past them"));
        let mut machine = self.declaration(&node.name(), container.to_owned(), &spec, origins);
        if is_only && port == 0 {
            choose_port(&mut machine, API_PORTS.collect());
        }
        choose_host_ports(&mut machine, &spec.ports);
        // They are those of who made it: whoever plans later with others is no reason to make it anew.
        machine.lifecycle.ignore = vec![Path::key("proxy")];
        machine.edges = vec![
            edge(common.network, ForceOn::Replace, "the machine is on the cluster's network"),
            edge(&volume, ForceOn::Replace, "the machine keeps what it has in the volume"),
            edge(&image, ForceOn::Nothing, "the machine is a container of the image"),
        ];
        if let Some(before) = common.before(node) {
            let before = edge(
                &self.address(MachineSpec::KIND, &before.name()),
                ForceOn::Nothing,
                "nodes are upgraded one by one",
            );
            machine.edges.push(Edge { strength: Strength::InTurn, ..before });
        }
        if node.role == NodeRole::Worker {
            let first = self.address(MachineSpec::KIND, &format!("{}-0", NodeRole::ControlPlane.word()));
            let first = edge(&first, ForceOn::Nothing, "the first machine has the disk to itself until it runs");
            machine.edges.push(Edge { condition: Condition::Exists, strength: Strength::Soft, ..first });
        }
        self.add(machine)
    }

    fn bootstrap(
        &mut self,
        common: &Common<'_>,
        node: &Node,
        container: &str,
        addresses: &[String],
        machine: &Address,
        field: &Origin,
    ) -> Address {
        let is_first = node.role == NodeRole::ControlPlane && node.index == 0;
        let facts = MachineFacts {
            name: container.to_owned(),
            addresses: addresses.to_vec(),
            is_control_plane: node.role == NodeRole::ControlPlane,
            labels: common.file.node(node).labels,
        };
        let mut documents = common.facts.documents(&facts);
        let own = common.file.node(node).patches;
        if let Err(why) = common.file.patches.apply(&mut documents).and_then(|()| own.apply(&mut documents)) {
            self.problems.push(ksail_model::Diagnostic::error(codes::BAD_VALUE, why));
        }
        // What a node is tainted with it has from its first moment on; changed later, it is the node's own.
        let taints = self.taints_of(node).map(|(taints, _)| taints).unwrap_or_default();
        let spec = BootstrapSpec {
            action: if is_first { BootstrapAction::Init } else { BootstrapAction::Join },
            config: documents.into_iter().map(Value::from).collect(),
            through: (!is_first).then(|| self.machine_name(&Node { role: NodeRole::ControlPlane, index: 0 })),
            files: if facts.is_control_plane { common.files.clone() } else { BTreeMap::new() },
            takes_workloads: common.nodes.len() == 1 && !keep_workloads_off(&taints),
            taints,
        };
        let mut origins = Origins::all(field.clone());
        origins.set(Path::key("config"), derived("what kind tells kubeadm"));
        let mut bootstrap = self.declaration(&node.name(), container.to_owned(), &spec, origins);
        bootstrap.lifecycle.ignore = vec![Path::key("taints")];
        bootstrap.host = Some(machine.clone());
        bootstrap.edges = self.needs_of_bootstrap(common, node);
        self.add(bootstrap)
    }

    fn cluster_on_machines(&mut self, common: &Common<'_>) -> Address {
        let mut origins = Origins::all(self.origin("spec.cluster.distribution"));
        origins.set(Path::key("version"), common.image_origin.clone());
        origins.set(Path::key("running"), derived("it serves as long as its machines run"));
        origins.set(Path::key("address"), derived("the distribution's file says where the API is published"));
        let spec = ClusterSpec {
            version: common.facts.version.clone(),
            port: 0,
            address: common.file.networking.api_address.clone(),
            running: true,
            stages: Vec::new(),
        };
        let mut cluster = self.declaration("main", self.cluster.to_owned(), &spec, origins);
        let first = |kind: &str| self.address(kind, &format!("{}-0", NodeRole::ControlPlane.word()));
        let published_by = common.balancer.clone().unwrap_or_else(|| first(MachineSpec::KIND));
        let port = Reference { address: published_by.clone(), path: Path::key("port") };
        cluster.spec.set(&Path::key("port"), Value::Ref(port));
        // Several control planes keep it together, whichever of them is made anew.
        let on_replace = if common.balancer.is_some() { ForceOn::Nothing } else { ForceOn::Replace };
        cluster.edges = vec![
            edge(&first(BootstrapSpec::KIND), on_replace, "its first node begins it"),
            edge(&published_by, ForceOn::Nothing, "it is reached there"),
        ];
        cluster.edges.extend(common.nodes.iter().map(|node| {
            let bootstrap = self.address(BootstrapSpec::KIND, &node.name());
            let edge = edge(&bootstrap, ForceOn::Nothing, "it is of a version once all its nodes are");
            Edge { strength: Strength::InTurn, ..edge }
        }));
        let address = self.add(cluster);
        let endpoint = Value::Ref(Reference { address: address.clone(), path: Path::key("endpoint") });
        self.graph.outputs.insert("kubernetes".to_owned(), endpoint);
        address
    }

    /// The node's object, which the kubelet makes: it is marked, labelled, waited for, and emptied before it goes.
    fn node_on_machine(
        &mut self,
        common: &Common<'_>,
        node: &Node,
        name: &str,
        cluster: &Address,
        bootstrap: &Address,
        field: Origin,
    ) {
        let reached_by = common.balancer.as_ref();
        let mut origins = Origins::all(field);
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        for (position, rule) in self.loaded.config.spec.nodes.iter().enumerate() {
            if !rule.concerns(node) {
                continue;
            }
            let entry = Path::key("spec").child_key("nodes").child(Step::Index(position)).child_key("labels");
            for (key, value) in &rule.labels {
                let at = Path::key("metadata").child_key("labels").child_key(key);
                origins.set(at, self.loaded.origin(&entry.child_key(key)));
                labels.insert(key.clone(), value.clone());
            }
        }
        let mut metadata = vec![("name", Value::from(name))];
        if !labels.is_empty() {
            metadata.push(("labels", Value::map(labels)));
        }
        let id = provider_id(self.cluster, name);
        origins.set(Path::key("spec").child_key("providerID"), derived("the kubelet is told so"));
        let mut of_node = vec![("providerID", Value::from(id))];
        if let Some((taints, origin)) = self.taints_of(node) {
            origins.set(Path::key("spec").child_key("taints"), origin);
            of_node.push(("taints", Value::List(taints)));
        }
        let spec = [
            ("apiVersion", Value::from("v1")),
            ("fieldManager", Value::from(manifests::MANAGER)),
            ("kind", Value::from("Node")),
            ("metadata", Value::map(metadata)),
            ("spec", Value::map(of_node)),
        ];
        self.add(Declaration {
            address: self.address(NODE, &node.name()),
            kind_version: BuiltinKinds.schema(NODE).map_or(1, |schema| schema.version),
            provider: KUBERNETES.to_owned(),
            identity: Identity::named(format!("Node/_/{name}")),
            spec: Value::map(spec),
            host: Some(cluster.clone()),
            // One that is made anew is emptied before it goes, as one that goes for good.
            edges: std::iter::once(edge(
                bootstrap,
                ForceOn::Replace,
                "the machine is a node once kubeadm has run on it",
            ))
            .chain(reached_by.map(|balancer| edge(balancer, ForceOn::Nothing, "the cluster is reached by it")))
            .collect(),
            ownership: Ownership::Owned,
            lifecycle: Lifecycle::default(),
            choices: Vec::new(),
            origins,
        });
    }

    fn addons(&mut self, common: &Common<'_>, cluster: &Address) {
        let network = AddonSpec {
            manifest: NETWORK_PLUGIN.to_owned(),
            pod_subnet: Some(common.file.networking.pod_subnet.clone()),
            endpoint: Some(common.facts.endpoint.clone()),
        };
        let storage = AddonSpec { manifest: STORAGE.to_owned(), pod_subnet: None, endpoint: None };
        let is_wanted = |name: &str| name != "cni" || !common.file.networking.has_no_default_cni;
        for (name, spec, why) in [
            ("cni", network, "the node image brings a network plugin along"),
            ("storage", storage, "the node image brings a storage class along"),
        ] {
            if !is_wanted(name) {
                continue;
            }
            let mut addon = self.declaration(name, name.to_owned(), &spec, Origins::all(derived(why)));
            addon.provider = DOCKER.to_owned();
            addon.host = Some(cluster.clone());
            self.add(addon);
        }
    }
}

/// Leaves host ports that are not given out of the spec, to be chosen when planning.
fn choose_host_ports(machine: &mut Declaration, ports: &[Port]) {
    for (index, port) in ports.iter().enumerate().filter(|(_, port)| port.host == 0) {
        let path = Path::key("ports").child(Step::Index(index)).child_key("host");
        machine.spec.set(&path, Value::Null);
        let preferred = if port.container < FIRST_OWN_PORT { port.container + ABOVE_SYSTEM } else { port.container };
        machine.choices.push(Choice::Port { path, preferred: vec![preferred] });
    }
}

pub(super) fn edge(to: &Address, on_replace: ForceOn, why: &str) -> Edge {
    Edge { to: to.clone(), condition: Condition::Ready, strength: Strength::Hard, on_replace, origin: derived(why) }
}
