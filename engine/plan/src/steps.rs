//! The steps of a plan: which calls are made, and what each waits for.

mod through;

use std::collections::BTreeMap;

use ksail_model::{Address, Condition, Declaration, Edge, KindSchema, Record, RecordKey, Schemas, Strength};
use petgraph::algo::{has_path_connecting, tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::PlanError;
use crate::nodes::Nodes;
use crate::numbers::{ByKey, Numbers};
use crate::plan::{Action, PlanNode, PlanStep, SeenAt, StepDo};
use crate::planner::{Name, host_of, name_of, needed_by};

/// Builds the steps, each after all that it needs. Where making the new one first would close a circle, that resource is
/// deleted first instead.
pub(crate) fn steps(
    nodes: &mut Nodes,
    numbers: &Numbers,
    yielded: &[(RecordKey, Edge)],
    schemas: &dyn Schemas,
) -> Result<Vec<PlanStep>, PlanError> {
    // Each round but the last turns at least one resource around.
    loop {
        let builder = built(nodes, numbers, yielded, schemas);
        let turned = builder.create_first_in_circles();
        if turned.is_empty() {
            return builder.finish();
        }
        for key in turned {
            if let Some(node) = nodes.get_mut(&key) {
                node.action = Action::Replace { create_first: false };
            }
        }
    }
}

fn built<'a>(
    nodes: &'a Nodes,
    numbers: &'a Numbers,
    yielded: &'a [(RecordKey, Edge)],
    schemas: &'a dyn Schemas,
) -> Builder<'a> {
    // Most of what changes has one step.
    let changing = nodes.values().filter(|node| node.action.is_change()).count();
    let mut builder = Builder {
        nodes,
        yielded,
        schemas,
        graph: DiGraph::with_capacity(changing, 0),
        forward: ByKey::new(numbers),
        puts: ByKey::new(numbers),
        backward: ByKey::new(numbers),
        deposed: BTreeMap::new(),
    };
    builder.add_steps();
    builder.forward_needs();
    builder.backward_needs();
    builder.same_identity();
    builder
}

#[derive(Clone)]
struct Vertex {
    key: RecordKey,
    what: StepDo,
    estimate_ms: u64,
}

/// How firmly a step needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Firm {
    /// It must hold.
    Always,
    /// It follows from an edge of a record. Records may be of different times and contradict each other: in a circle it
    /// yields.
    Recorded,
    /// Something changes so that it no longer needs what is deleted: it yields before the order of deletions does.
    Changing,
    /// It follows from a soft edge of a record: it yields before all that something stands on.
    Softly,
    /// A deposed resource would stay until its successor is ready: it yields first, for its name may be what the successor
    /// waits for, through others.
    Successor,
    /// It follows from what lies below something that stays: nothing else yields to it.
    Through,
}

struct Builder<'a> {
    nodes: &'a Nodes,
    yielded: &'a [(RecordKey, Edge)],
    schemas: &'a dyn Schemas,
    /// From what is needed to what needs it.
    graph: DiGraph<Vertex, (Condition, Firm)>,
    /// The step that makes, changes or waits for a resource.
    forward: ByKey<'a, NodeIndex>,
    /// The step that sets a record without a call, where that is all.
    puts: ByKey<'a, NodeIndex>,
    /// The step that deletes a resource, by the key of its node.
    backward: ByKey<'a, NodeIndex>,
    /// The steps that delete what is deposed at an address.
    deposed: BTreeMap<&'a Address, Vec<NodeIndex>>,
}

impl<'a> Builder<'a> {
    fn add(&mut self, key: RecordKey, what: StepDo, node: &PlanNode) -> NodeIndex {
        let estimate_ms = estimate(what, node.record.as_deref(), self.schemas.schema(key.address.kind()));
        self.graph.add_node(Vertex { key, what, estimate_ms })
    }

    fn link(&mut self, needed: NodeIndex, by: NodeIndex, condition: Condition) {
        self.link_firmly(needed, by, condition, Firm::Always);
    }

    fn link_firmly(&mut self, needed: NodeIndex, by: NodeIndex, condition: Condition, firm: Firm) {
        if needed != by {
            self.graph.add_edge(needed, by, (condition, firm));
        }
    }

    fn add_steps(&mut self) {
        for (key, node) in self.nodes.iter() {
            let adopt = (node.import.is_some() && !matches!(node.action, Action::Blocked { .. }))
                .then(|| self.add(key.clone(), StepDo::Put, node));
            match &node.action {
                Action::NoOp if adopt.is_none() && node.refreshed.is_some() => {
                    let put = self.add(key.clone(), StepDo::Put, node);
                    self.puts.insert(key, put);
                }
                Action::NoOp => {
                    if let Some(put) = adopt {
                        self.puts.insert(key, put);
                    }
                }
                Action::Blocked { .. } => {}
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
                    if key.deposed.is_some() {
                        self.deposed.entry(&key.address).or_default().push(delete);
                    }
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
        for (key, node) in self.nodes.iter() {
            let (Some(&step), Some(declaration)) = (self.forward.get(key), &node.declaration) else { continue };
            for edge in &declaration.edges {
                let yielded = self.yielded.iter().any(|(holder, soft)| holder == key && soft.to == edge.to);
                if !edge.is_need() && !self.is_changed_in_turn(node) {
                    continue;
                }
                if !yielded && let Some(needed) = self.made_at(&edge.to) {
                    self.link(needed, step, edge.condition);
                }
            }
            if let Some(needed) = self.nearest_host(declaration, |host| self.made(host)) {
                self.link(needed, step, Condition::Serving);
            }
        }
    }

    /// Whether a field changes that is changed on one resource after the other.
    fn is_changed_in_turn(&self, node: &PlanNode) -> bool {
        let schema = self.schemas.schema(node.key.address.kind());
        let in_turn = |path| schema.is_some_and(|schema| schema.field(path).in_turn);
        node.action == Action::Update && node.changes.iter().any(|change| in_turn(&change.path))
    }

    /// The step after which a resource is as planned, also where that is a matter of its record only: sessions and
    /// references are made from records.
    fn made(&self, key: &RecordKey) -> Option<NodeIndex> {
        self.forward.get(key).or_else(|| self.puts.get(key)).copied()
    }

    /// The same of the current resource at an address.
    fn made_at(&self, address: &Address) -> Option<NodeIndex> {
        self.forward.current(address).or_else(|| self.puts.current(address)).copied()
    }

    /// The step that ends a resource outside: its own deletion, or that of the host that takes it along.
    fn end(&self, key: &RecordKey) -> Option<NodeIndex> {
        let node = self.nodes.get(key)?;
        match node.with_host.then(|| host_of(node)).flatten() {
            Some(host) => self.end(&host),
            None => self.backward.get(key).copied(),
        }
    }

    /// What is deleted waits for all that stood on it to be deleted, or to be changed so that it no longer does.
    fn backward_needs(&mut self) {
        for (key, node) in self.nodes.iter() {
            let Some(record) = &node.record else { continue };
            let own_delete = self.backward.get(key).copied();
            if node.with_host && node.action == Action::Delete {
                if let (Some(host), Some(forget)) = (self.end(key), own_delete) {
                    self.link(host, forget, Condition::Exists);
                }
                continue;
            }
            // It goes with its host and is made anew somewhere else: only then, or an apply that ends in between would leave the old
            // one in a host that stays, and no record of it.
            let left = left_host(node, record);
            if let (Some(host), Some(&create)) = (&left, self.forward.get(key))
                && let Some(end) = self.end(host)
            {
                self.link(end, create, Condition::Exists);
            }
            if let Some(own) = own_delete {
                self.after_host(&record.declaration, node.seen == SeenAt::Deferred, own);
                self.after_successor(key, record, own);
            }
            // What neither ends nor changes has no step to put in order.
            if own_delete.is_none() && self.made(key).is_none() {
                continue;
            }
            let soft = |address: &Address| {
                let mut edges = record.declaration.edges.iter().filter(|edge| edge.to == *address);
                record.declaration.host.as_ref() != Some(address) && edges.all(|edge| edge.strength == Strength::Soft)
            };
            for needed in needed_by(&record.declaration) {
                if left.as_ref().is_some_and(|host| host.address == needed) {
                    continue;
                }
                let firm = if soft(&needed) { Firm::Softly } else { Firm::Recorded };
                let still_needed = node
                    .declaration
                    .as_ref()
                    .is_some_and(|declaration| needed_by(declaration).any(|address| address == needed));
                let ends = self.ends_of(&needed);
                // What it stands on is gone already and is made anew: it goes before that, as if the old one were still to be deleted.
                if let (true, Some(own), Some(create)) = (ends.is_empty(), own_delete, self.made_anew(&needed)) {
                    self.link_firmly(own, create, Condition::Exists, Firm::Softly);
                }
                // What only came after it gives up what it may take over.
                if let (Firm::Softly, true, Some(own), Some(change)) =
                    (firm, ends.is_empty(), own_delete, self.updated(&needed))
                {
                    self.link_firmly(own, change, Condition::Exists, Firm::Softly);
                }
                for (delete, is_old) in ends {
                    let (before, condition) = match (own_delete, self.made(key)) {
                        (Some(own), _) => (own, Condition::Exists),
                        (None, Some(change)) if !still_needed => {
                            self.link_firmly(change, delete, Condition::Exists, firm.max(Firm::Changing));
                            continue;
                        }
                        // The old one of a resource that was made first goes when its dependents have changed over.
                        (None, Some(change)) if is_old => (change, Condition::Ready),
                        _ => continue,
                    };
                    self.link_firmly(before, delete, condition, firm);
                }
            }
        }
    }

    /// The step that makes what was at an address anew, where nothing of the old one is to be ended.
    fn made_anew(&self, address: &Address) -> Option<NodeIndex> {
        let node = self.nodes.get(&RecordKey::current(address.clone()))?;
        let is_anew = node.record.is_some() && matches!(node.action, Action::Create | Action::Replace { .. });
        self.forward.get(&node.key).copied().filter(|_| is_anew)
    }

    /// The step that changes what is at an address in place.
    fn updated(&self, address: &Address) -> Option<NodeIndex> {
        let node = self.nodes.get(&RecordKey::current(address.clone()))?;
        self.forward.get(&node.key).copied().filter(|_| node.action == Action::Update)
    }

    /// The steps that end what is or was at an address; with each, whether it is an old one beside a new one.
    fn ends_of(&self, address: &Address) -> Vec<(NodeIndex, bool)> {
        let current = RecordKey::current(address.clone());
        let deposed = self.deposed.get(address).into_iter().flatten().map(|&delete| (delete, true));
        self.end(&current).map(|end| (end, self.is_create_first(&current))).into_iter().chain(deposed).collect()
    }

    /// What is in a host that is to be brought to serve can be deleted when it does; in one that serves already, when its
    /// record tells how to reach it.
    fn after_host(&mut self, declaration: &Declaration, deferred: bool, delete: NodeIndex) {
        let steps = if deferred { &self.forward } else { &self.puts };
        if let Some(host) = self.nearest_host(declaration, |host| steps.get(host).copied()) {
            self.link(host, delete, Condition::Serving);
        }
    }

    /// The step of the nearest host that has one: a host without one serves as soon as its own host does.
    fn nearest_host(
        &self,
        declaration: &Declaration,
        step: impl Fn(&RecordKey) -> Option<NodeIndex>,
    ) -> Option<NodeIndex> {
        let mut next = declaration.host.clone();
        // Hosts in a ring are no matter of steps.
        for _ in 0..self.nodes.len() {
            let host = RecordKey::current(next?);
            if let Some(step) = step(&host) {
                return Some(step);
            }
            let node = self.nodes.get(&host)?;
            let declared = node.declaration.as_ref().or(node.record.as_ref().map(|record| &record.declaration));
            next = declared.and_then(|declared| declared.host.clone());
        }
        None
    }

    /// A deposed resource goes when its successor is ready, unless that waits for its name, be it through others.
    fn after_successor(&mut self, key: &RecordKey, record: &Record, delete: NodeIndex) {
        if key.deposed.is_none() {
            return;
        }
        let Some(node) = self.nodes.get(&RecordKey::current(key.address.clone())) else { return };
        let current = &node.key;
        let other_name = node
            .declaration
            .as_ref()
            .is_some_and(|declaration| name_of(current, declaration) != name_of(key, &record.declaration));
        if let Some(&successor) = self.forward.get(current).filter(|_| other_name && node.action != Action::Update) {
            self.link_firmly(successor, delete, Condition::Ready, Firm::Successor);
        }
    }

    fn is_create_first(&self, key: &RecordKey) -> bool {
        self.nodes.get(key).is_some_and(|node| node.action == Action::Replace { create_first: true })
    }

    /// A name is free only when what bears it is gone, whatever its address was.
    fn same_identity(&mut self) {
        let mut bearers: BTreeMap<Name, NodeIndex> = BTreeMap::new();
        for (key, node) in self.nodes.iter() {
            if let (Some(record), Some(&delete)) = (&node.record, self.backward.get(key)) {
                bearers.insert(name_of(key, &record.declaration), delete);
            }
        }
        if bearers.is_empty() {
            return;
        }
        for (key, node) in self.nodes.iter() {
            if let (Some(declaration), Some(&create)) = (&node.declaration, self.forward.get(key))
                && matches!(node.action, Action::Create | Action::Replace { .. })
                && let Some(&delete) = bearers.get(&name_of(key, declaration))
            {
                self.link(delete, create, Condition::Exists);
            }
        }
    }

    /// Where steps wait for each other because of what records say, that yields: first what was soft.
    fn break_circles(&mut self) {
        if toposort(&self.graph, None).is_ok() {
            return;
        }
        let mut circle_of = vec![0; self.graph.node_count()];
        for (number, nodes) in tarjan_scc(&self.graph).into_iter().enumerate() {
            for node in nodes {
                circle_of[node.index()] = number;
            }
        }
        let within = |graph: &DiGraph<Vertex, (Condition, Firm)>, edge| {
            graph.edge_endpoints(edge).filter(|(from, to)| circle_of[from.index()] == circle_of[to.index()])
        };
        let mut yielding: Vec<(Firm, NodeIndex, NodeIndex, Condition)> = self
            .graph
            .edge_indices()
            .filter(|&edge| self.graph[edge].1 != Firm::Always)
            .filter_map(|edge| {
                let (from, to) = within(&self.graph, edge)?;
                Some((self.graph[edge].1, from, to, self.graph[edge].0))
            })
            .collect();
        self.graph.retain_edges(|graph, edge| graph[edge].1 == Firm::Always || within(&graph, edge).is_none());
        yielding.sort_unstable_by_key(|(firm, from, to, _)| (*firm, *from, *to));
        for (firm, from, to, condition) in yielding {
            if !has_path_connecting(&self.graph, to, from, None) {
                self.graph.add_edge(from, to, (condition, firm));
            }
        }
    }

    /// What would be made first and stands in a circle with its own deletion.
    fn create_first_in_circles(&self) -> Vec<RecordKey> {
        if !self.nodes.values().any(|node| node.action == Action::Replace { create_first: true })
            || toposort(&self.graph, None).is_ok()
        {
            return Vec::new();
        }
        let mut found = Vec::new();
        for circle in tarjan_scc(&self.graph).into_iter().filter(|nodes| nodes.len() > 1) {
            for node in circle {
                let key = RecordKey::current(self.graph[node].key.address.clone());
                if self.graph[node].what == StepDo::Delete && self.is_create_first(&key) {
                    found.push(key);
                }
            }
        }
        found
    }

    /// Steps of which each waits for the one before it, and the first for the last.
    fn circle(&self) -> Vec<(StepDo, RecordKey)> {
        let Some(within) = tarjan_scc(&self.graph).into_iter().find(|nodes| nodes.len() > 1) else { return Vec::new() };
        let mut way: Vec<NodeIndex> = within.first().copied().into_iter().collect();
        // Within such a group every step leads on to another one of it, so that the way comes back to itself.
        while let Some(next) =
            way.last().and_then(|&last| self.graph.neighbors(last).find(|next| within.contains(next)))
        {
            if let Some(begin) = way.iter().position(|&node| node == next) {
                way.drain(..begin);
                break;
            }
            way.push(next);
        }
        way.into_iter().map(|node| (self.graph[node].what, self.graph[node].key.clone())).collect()
    }

    fn finish(mut self) -> Result<Vec<PlanStep>, PlanError> {
        self.break_circles();
        self.needs_through();
        let Ok(sorted) = toposort(&self.graph, None) else {
            return Err(PlanError::StepCycle(self.circle()));
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
                    needs.push((position[needed.index()], self.graph[edge].0));
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

/// The host that a resource goes with, if it is made anew in another one.
fn left_host(node: &PlanNode, record: &Record) -> Option<RecordKey> {
    let replaced = node.with_host && matches!(node.action, Action::Replace { .. });
    let before = record.declaration.host.as_ref().filter(|_| replaced)?;
    let after = node.declaration.as_ref().and_then(|declaration| declaration.host.as_ref());
    (after != Some(before)).then(|| RecordKey::current(before.clone()))
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
