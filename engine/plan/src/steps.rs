//! The steps of a plan: which calls are made, and what each waits for.

use std::collections::BTreeMap;

use ksail_model::{Condition, Declaration, Edge, KindSchema, Record, RecordKey, Schemas};
use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::PlanError;
use crate::plan::{Action, PlanNode, PlanStep, StepDo};

/// Builds the steps, each after all that it needs.
pub(crate) fn steps(
    nodes: &BTreeMap<RecordKey, PlanNode>,
    yielded: &[(RecordKey, Edge)],
    schemas: &dyn Schemas,
) -> Result<Vec<PlanStep>, PlanError> {
    let mut builder =
        Builder { nodes, yielded, schemas, graph: DiGraph::new(), forward: BTreeMap::new(), backward: BTreeMap::new() };
    builder.add_steps();
    builder.forward_needs();
    builder.backward_needs();
    builder.same_identity();
    builder.finish()
}

struct Vertex {
    key: RecordKey,
    what: StepDo,
    estimate_ms: u64,
}

struct Builder<'a> {
    nodes: &'a BTreeMap<RecordKey, PlanNode>,
    yielded: &'a [(RecordKey, Edge)],
    schemas: &'a dyn Schemas,
    /// From what is needed to what needs it.
    graph: DiGraph<Vertex, Condition>,
    /// The step that makes, changes or waits for a resource.
    forward: BTreeMap<&'a RecordKey, NodeIndex>,
    /// The step that deletes a resource, by the key of its node.
    backward: BTreeMap<&'a RecordKey, NodeIndex>,
}

impl<'a> Builder<'a> {
    fn add(&mut self, key: RecordKey, what: StepDo, node: &PlanNode) -> NodeIndex {
        let estimate_ms = estimate(what, node.record.as_deref(), self.schemas.schema(key.address.kind()));
        self.graph.add_node(Vertex { key, what, estimate_ms })
    }

    fn link(&mut self, needed: NodeIndex, by: NodeIndex, condition: Condition) {
        if needed != by {
            self.graph.add_edge(needed, by, condition);
        }
    }

    fn add_steps(&mut self) {
        let nodes = self.nodes;
        for (key, node) in nodes {
            let adopt = (node.import.is_some() && !matches!(node.action, Action::Blocked { .. }))
                .then(|| self.add(key.clone(), StepDo::Put, node));
            match &node.action {
                Action::NoOp if adopt.is_none() && node.refreshed.is_some() => {
                    self.add(key.clone(), StepDo::Put, node);
                }
                Action::NoOp | Action::Blocked { .. } => {}
                Action::Create => {
                    let create = self.add(key.clone(), StepDo::Create, node);
                    self.forward.insert(key, create);
                }
                Action::Update | Action::Wait => {
                    let what = if node.action == Action::Wait { StepDo::Wait } else { StepDo::Update };
                    let change = self.add(key.clone(), what, node);
                    self.forward.insert(key, change);
                    if let Some(adopt) = adopt {
                        self.link(adopt, change, Condition::Exists);
                    }
                }
                Action::Replace { create_first } => self.add_replacement(key, node, *create_first, adopt),
                Action::Delete if node.with_host => {
                    let forget = self.add(key.clone(), StepDo::Forget, node);
                    self.backward.insert(key, forget);
                }
                Action::Delete => {
                    let delete = self.add(key.clone(), StepDo::Delete, node);
                    self.backward.insert(key, delete);
                }
                Action::Forget => {
                    let forget = self.add(key.clone(), StepDo::Forget, node);
                    self.backward.insert(key, forget);
                }
            }
        }
    }

    fn add_replacement(
        &mut self,
        key: &'a RecordKey,
        node: &'a PlanNode,
        create_first: bool,
        adopt: Option<NodeIndex>,
    ) {
        if node.with_host {
            let create = self.add(key.clone(), StepDo::Create, node);
            self.forward.insert(key, create);
        } else if create_first {
            let depose = self.add(key.clone(), StepDo::Depose, node);
            let create = self.add(key.clone(), StepDo::Create, node);
            let old = RecordKey { address: key.address.clone(), deposed: Some(node.generation - 1) };
            let delete = self.add(old, StepDo::Delete, node);
            self.link(depose, create, Condition::Exists);
            self.link(create, delete, Condition::Ready);
            self.forward.insert(key, create);
            self.backward.insert(key, delete);
            if let Some(adopt) = adopt {
                self.link(adopt, depose, Condition::Exists);
            }
        } else {
            let delete = self.add(key.clone(), StepDo::Delete, node);
            let create = self.add(key.clone(), StepDo::Create, node);
            self.link(delete, create, Condition::Exists);
            self.forward.insert(key, create);
            self.backward.insert(key, delete);
            if let Some(adopt) = adopt {
                self.link(adopt, delete, Condition::Exists);
            }
        }
    }

    /// What is made or changed needs what it stands on.
    fn forward_needs(&mut self) {
        for (key, node) in self.nodes {
            let (Some(&step), Some(declaration)) = (self.forward.get(key), &node.declaration) else { continue };
            for edge in &declaration.edges {
                let yielded = self.yielded.iter().any(|(holder, soft)| holder == key && soft.to == edge.to);
                if !yielded && let Some(&needed) = self.forward.get(&RecordKey::current(edge.to.clone())) {
                    self.link(needed, step, edge.condition);
                }
            }
            if let Some(host) = &declaration.host
                && let Some(&needed) = self.forward.get(&RecordKey::current(host.clone()))
            {
                self.link(needed, step, Condition::Serving);
            }
        }
    }

    /// What is deleted waits for all that stood on it to be deleted, or to be changed so that it no longer does.
    fn backward_needs(&mut self) {
        for (key, node) in self.nodes {
            let Some(record) = &node.record else { continue };
            let own_delete = self.backward.get(key).copied();
            if node.with_host && node.action == Action::Delete {
                let host = host_of(node).and_then(|host| self.backward.get(&host).copied());
                if let (Some(host), Some(forget)) = (host, own_delete) {
                    self.link(host, forget, Condition::Exists);
                }
                continue;
            }
            for needed in needed_by(&record.declaration) {
                let needed = RecordKey::current(needed);
                let Some(&delete) = self.backward.get(&needed) else { continue };
                let still_needed = node
                    .declaration
                    .as_ref()
                    .is_some_and(|declaration| needed_by(declaration).any(|address| address == needed.address));
                match (own_delete, self.forward.get(key).copied()) {
                    (Some(own), _) => self.link(own, delete, Condition::Exists),
                    (None, Some(change)) if !still_needed => self.link(change, delete, Condition::Exists),
                    // The old one of a resource that was made first goes when its dependents have changed over.
                    (None, Some(change)) if self.is_create_first(&needed) => {
                        self.link(change, delete, Condition::Ready)
                    }
                    _ => {}
                }
            }
        }
    }

    fn is_create_first(&self, key: &RecordKey) -> bool {
        self.nodes.get(key).is_some_and(|node| node.action == Action::Replace { create_first: true })
    }

    /// A name is free only when what bears it is gone, whatever its address was.
    fn same_identity(&mut self) {
        let mut bearers: BTreeMap<(&str, &str, Option<&str>, &str), NodeIndex> = BTreeMap::new();
        for (key, node) in self.nodes {
            if let (Some(record), Some(&delete)) = (&node.record, self.backward.get(key)) {
                bearers.insert(name_of(key, &record.declaration), delete);
            }
        }
        if bearers.is_empty() {
            return;
        }
        for (key, node) in self.nodes {
            if let (Some(declaration), Some(&create)) = (&node.declaration, self.forward.get(key))
                && matches!(node.action, Action::Create)
                && let Some(&delete) = bearers.get(&name_of(key, declaration))
            {
                self.link(delete, create, Condition::Exists);
            }
        }
    }

    fn finish(self) -> Result<Vec<PlanStep>, PlanError> {
        let Ok(sorted) = toposort(&self.graph, None) else {
            let circle = tarjan_scc(&self.graph).into_iter().find(|nodes| nodes.len() > 1).unwrap_or_default();
            return Err(PlanError::StepCycle(circle.into_iter().map(|node| self.graph[node].key.clone()).collect()));
        };
        let mut position = vec![0_u32; self.graph.node_count()];
        for (at, node) in sorted.iter().enumerate() {
            position[node.index()] = u32::try_from(at).unwrap_or(u32::MAX);
        }
        Ok(sorted
            .into_iter()
            .map(|node| {
                let mut needs: Vec<(u32, Condition)> = Vec::new();
                let mut edges = self.graph.neighbors_directed(node, petgraph::Direction::Incoming).detach();
                while let Some((edge, needed)) = edges.next(&self.graph) {
                    needs.push((position[needed.index()], self.graph[edge]));
                }
                needs.sort_unstable();
                // Of several edges to one step the strongest condition counts.
                needs.dedup_by(|next, kept| {
                    let same = next.0 == kept.0;
                    if same {
                        kept.1 = next.1;
                    }
                    same
                });
                let vertex = &self.graph[node];
                PlanStep { key: vertex.key.clone(), what: vertex.what, needs, estimate_ms: vertex.estimate_ms }
            })
            .collect())
    }
}

fn host_of(node: &PlanNode) -> Option<RecordKey> {
    let declaration = node.record.as_ref().map(|record| &record.declaration).or(node.declaration.as_ref())?;
    declaration.host.clone().map(RecordKey::current)
}

fn needed_by(declaration: &Declaration) -> impl Iterator<Item = ksail_model::Address> + '_ {
    declaration.edges.iter().map(|edge| edge.to.clone()).chain(declaration.host.clone())
}

fn name_of<'a>(key: &'a RecordKey, declaration: &'a Declaration) -> (&'a str, &'a str, Option<&'a str>, &'a str) {
    (
        declaration.provider.as_str(),
        key.address.kind(),
        declaration.host.as_ref().map(ksail_model::Address::as_str),
        declaration.identity.name.as_str(),
    )
}

fn estimate(what: StepDo, record: Option<&Record>, schema: Option<&KindSchema>) -> u64 {
    let durations = record.map(|record| record.durations).unwrap_or_default();
    let by_kind = schema.map_or(0, |schema| u64::try_from(schema.estimate.as_millis()).unwrap_or(u64::MAX));
    match what {
        StepDo::Create => durations.create_ms.unwrap_or(by_kind),
        StepDo::Update => durations.update_ms.unwrap_or(by_kind),
        StepDo::Wait => durations.create_ms.unwrap_or(by_kind),
        StepDo::Delete => durations.delete_ms.unwrap_or(by_kind / 2),
        StepDo::Depose | StepDo::Put | StepDo::Forget => 0,
    }
}
