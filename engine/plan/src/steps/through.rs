//! What stands on something that stays as it is waits for the changes below that: an object waits for the machine that serves its
//! cluster, though the cluster itself does not change.

use std::collections::{BTreeMap, BTreeSet};

use ksail_model::{Address, Condition, RecordKey, Strength};
use petgraph::algo::toposort;
use petgraph::graph::NodeIndex;

use super::{Builder, Firm};
use crate::plan::{Action, PlanNode};

/// Steps below something, with what each must come to.
type Below = BTreeSet<(NodeIndex, Condition)>;

impl Builder<'_> {
    /// Adds these orders to all others, to which they yield.
    pub(super) fn needs_through(&mut self) {
        if !self.nodes.values().any(|node| node.action == Action::NoOp) {
            return;
        }
        let mut known: BTreeMap<RecordKey, Below> = BTreeMap::new();
        let mut found: BTreeSet<(NodeIndex, NodeIndex, Condition)> = BTreeSet::new();
        for (key, node) in self.nodes.iter() {
            let Some(&step) = self.forward.get(key) else { continue };
            for (on, _) in stands_on(node) {
                let on = RecordKey::current(on);
                if !self.stays(&on) {
                    continue;
                }
                let below = known.entry(on.clone()).or_insert_with(|| self.below(on));
                found.extend(below.iter().map(|(needed, condition)| (*needed, step, *condition)));
            }
        }
        if found.is_empty() {
            return;
        }
        let before = self.graph.clone();
        for (needed, by, condition) in &found {
            self.link_firmly(*needed, *by, *condition, Firm::Through);
        }
        if toposort(&self.graph, None).is_ok() {
            return;
        }
        self.graph = before;
        for (needed, by, condition) in found {
            if !petgraph::algo::has_path_connecting(&self.graph, by, needed, None) {
                self.link_firmly(needed, by, condition, Firm::Through);
            }
        }
    }

    /// Whether nothing is done with a resource, but that its record may be written.
    fn stays(&self, key: &RecordKey) -> bool {
        self.nodes.get(key).is_some_and(|node| node.action == Action::NoOp)
    }

    /// The steps that change what a resource stands on, through others that stay.
    fn below(&self, start: RecordKey) -> Below {
        let (mut below, mut seen, mut todo) = (Below::new(), BTreeSet::from([start.clone()]), vec![start]);
        while let Some(key) = todo.pop() {
            let Some(node) = self.nodes.get(&key) else { continue };
            for (on, condition) in stands_on(node) {
                let on = RecordKey::current(on);
                let Some(other) = self.nodes.get(&on) else { continue };
                // What it did without until now is no need of others either.
                let is_need = match other.action {
                    Action::Update | Action::Replace { .. } => true,
                    Action::Create => !stood_on(node, &on.address),
                    Action::NoOp => {
                        if seen.insert(on.clone()) {
                            todo.push(on.clone());
                        }
                        false
                    }
                    _ => false,
                };
                if let (true, Some(&step)) = (is_need, self.forward.get(&on)) {
                    below.insert((step, condition));
                }
            }
        }
        below
    }
}

/// What a resource stands on firmly, as it is declared, and how far that must be.
fn stands_on(node: &PlanNode) -> impl Iterator<Item = (Address, Condition)> + '_ {
    let declaration = node.declaration.as_ref();
    let edges = declaration.into_iter().flat_map(|declaration| &declaration.edges);
    let edges = edges.filter(|edge| edge.strength == Strength::Hard).map(|edge| (edge.to.clone(), edge.condition));
    let host = declaration.and_then(|declaration| declaration.host.clone());
    edges.chain(host.map(|host| (host, Condition::Serving)))
}

/// Whether it stood on something already when it was recorded last.
fn stood_on(node: &PlanNode, address: &Address) -> bool {
    let record = node.record.as_ref();
    record.is_some_and(|record| record.declaration.edges.iter().any(|edge| edge.to == *address))
}
