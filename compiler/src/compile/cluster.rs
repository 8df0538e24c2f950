//! The cluster of the embedded engine, its nodes, and the objects in it.

use ksail_kinds::{BuiltinKinds, ClusterSpec, KUBELET_VERSION, NODE};
use ksail_model::{
    Address, Condition, Declaration, Edge, ForceOn, Identity, Lifecycle, Origin, Origins, Ownership, Path, Reference,
    Schemas as _, Step, Strength, Value,
};

use super::machines;
use super::node_taints::{self, keep_workloads_off};
use super::resources::{Builder, EMBEDDED, KUBERNETES, choose_port, derived};
use crate::catalogue::EMBEDDED_KUBERNETES;
use crate::format::NodeRole;
use crate::nodes::{self, Node};
use crate::{manifests, stages, versions};

/// Ports that are tried first for the API.
const API_PORTS: std::ops::RangeInclusive<u16> = 6443..=6459;

/// The role that a node's label tells, as kubeadm and kind set it; it has no value.
const ROLE_LABEL: &str = "node-role.kubernetes.io/";

impl Builder<'_> {
    /// The cluster, its nodes and its objects.
    pub(super) fn embedded_cluster(&mut self) {
        self.provider(KUBERNETES);
        let (version, version_origin) = self.kubernetes_version();
        let cluster = self.api(&version, &version_origin);
        self.kubeconfig(&cluster);
        let nodes = nodes::of(&self.loaded.config.spec.cluster);
        let is_alone = !nodes.iter().any(|node| node.role == NodeRole::Worker);
        let mut control_planes = Vec::new();
        let mut before = None;
        for node in &nodes {
            let mut declaration = self.node(&cluster, node, is_alone, (&version, &version_origin));
            if node.role == NodeRole::Worker {
                declaration.edges = edges_to(&control_planes);
            }
            // One after the other gives its pods away and takes some again.
            declaration.edges.extend(before.as_ref().map(|before| Edge {
                strength: Strength::InTurn,
                ..machines::edge(before, ForceOn::Nothing, "nodes are upgraded one by one")
            }));
            let address = self.add(declaration);
            before = Some(address.clone());
            if node.role == NodeRole::ControlPlane {
                control_planes.push(address);
            }
        }
        let problems = manifests::declare(self.loaded, self.project, KUBERNETES, Some(&cluster), &mut self.graph);
        self.problems.extend(problems);
    }

    fn kubernetes_version(&self) -> (String, Origin) {
        match &self.loaded.config.spec.cluster.kubernetes_version {
            Some(version) => (versions::canonical(version), self.origin("spec.cluster.kubernetesVersion")),
            None => (
                EMBEDDED_KUBERNETES.to_owned(),
                Origin::Catalogue { entry: "Kubernetes of the embedded engine".into() },
            ),
        }
    }

    fn api(&mut self, version: &str, version_origin: &Origin) -> Address {
        let mut origins = Origins::all(self.origin("spec.cluster.distribution"));
        origins.set(Path::key("version"), version_origin.clone());
        origins.set(Path::key("running"), derived("what it holds needs it running"));
        let stages = stages::of(self.loaded);
        for index in 0..stages.len() {
            let origin = self.loaded.origin(&stages::path(index));
            origins.set(Path::key("stages").child(Step::Index(index)), origin);
        }
        let spec = ClusterSpec { version: version.to_owned(), port: 0, address: None, running: true, stages };
        let mut cluster = self.declaration("main", self.cluster.to_owned(), &spec, origins);
        cluster.provider = EMBEDDED.to_owned();
        choose_port(&mut cluster, API_PORTS.collect());
        let address = self.add(cluster);
        let told = |attribute| Value::Ref(Reference { address: address.clone(), path: Path::key(attribute) });
        self.graph.outputs.insert("kubernetes".to_owned(), told("endpoint"));
        self.graph.outputs.insert("kubeconfig".to_owned(), told("kubeconfig"));
        address
    }

    fn node(
        &self,
        cluster: &Address,
        node: &Node,
        is_alone: bool,
        (version, version_origin): (&str, &Origin),
    ) -> Declaration {
        let field = match node.role {
            NodeRole::ControlPlane => "spec.cluster.controlPlanes",
            NodeRole::Worker => "spec.cluster.workers",
        };
        let word = node.role.word();
        // As kind names them, so that people find what they know.
        let number = if node.index == 0 { String::new() } else { (node.index + 1).to_string() };
        let object = format!("{}-{word}{number}", self.cluster);
        let mut origins = Origins::all(self.origin(field));
        let metadata = |part: &str, key: &str| Path::key("metadata").child_key(part).child_key(key);
        let mut labels = vec![(format!("{ROLE_LABEL}{word}"), String::new())];
        origins.set(metadata("labels", &labels[0].0), derived("its role"));
        origins.set(metadata("annotations", KUBELET_VERSION), version_origin.clone());
        let mut taints = Vec::new();
        if node.role == NodeRole::ControlPlane && !is_alone {
            taints.push(Value::map([("key", node_taints::CONTROL_PLANE), ("effect", "NoSchedule")]));
            origins.set(Path::key("spec").child_key("taints"), derived("workloads go to the workers"));
        }
        for (position, rule) in self.loaded.config.spec.nodes.iter().enumerate() {
            if !rule.concerns(node) {
                continue;
            }
            let entry = Path::key("spec").child_key("nodes").child(Step::Index(position));
            for (key, value) in &rule.labels {
                origins.set(metadata("labels", key), self.loaded.origin(&entry.child_key("labels").child_key(key)));
                labels.retain(|(known, _)| known != key);
                labels.push((key.clone(), value.clone()));
            }
        }
        if let Some((more, origin)) = self.taints_of(node) {
            origins.set(Path::key("spec").child_key("taints"), origin);
            taints.retain(|_| !keep_workloads_off(&more));
            taints.extend(more);
        }
        let metadata = [
            ("name", Value::from(object.as_str())),
            ("labels", Value::map(labels)),
            ("annotations", Value::map([(KUBELET_VERSION, version)])),
        ];
        let mut spec = vec![
            ("apiVersion", Value::from("v1")),
            ("fieldManager", Value::from(manifests::MANAGER)),
            ("kind", Value::from("Node")),
            ("metadata", Value::map(metadata)),
        ];
        if !taints.is_empty() {
            spec.push(("spec", Value::map([("taints", Value::List(taints))])));
        }
        Declaration {
            address: self.address(NODE, &node.name()),
            kind_version: BuiltinKinds.schema(NODE).map_or(1, |schema| schema.version),
            provider: KUBERNETES.to_owned(),
            identity: Identity::named(format!("Node/_/{object}")),
            spec: Value::map(spec),
            host: Some(cluster.clone()),
            edges: Vec::new(),
            ownership: Ownership::Owned,
            lifecycle: Lifecycle::default(),
            choices: Vec::new(),
            origins,
        }
    }
}

/// Softly: a worker can be there without its control planes.
fn edges_to(nodes: &[Address]) -> Vec<Edge> {
    let edge = |to: &Address| Edge {
        to: to.clone(),
        condition: Condition::Ready,
        strength: Strength::Soft,
        on_replace: ForceOn::Nothing,
        origin: derived("control planes come before workers"),
    };
    nodes.iter().map(edge).collect()
}
