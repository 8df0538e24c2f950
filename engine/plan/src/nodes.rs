//! The nodes of a plan: one piece of memory, sorted by key.

use std::ops::Index;

use ksail_model::RecordKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::plan::PlanNode;

/// The nodes of a plan by their keys, in the order of keys.
///
/// A node is large and knows its key, and there is one for each resource: a tree would hold the keys twice and leave room in each
/// of its parts. In JSON it is a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nodes(Vec<PlanNode>);

impl Nodes {
    /// The nodes of a list whose keys are in order, each once, as those of a plan in the making are.
    pub(crate) fn of_sorted(nodes: Vec<PlanNode>) -> Self {
        debug_assert!(nodes.windows(2).all(|pair| pair[0].key < pair[1].key));
        Self(nodes)
    }

    fn position(&self, key: &RecordKey) -> Option<usize> {
        self.0.binary_search_by(|node| node.key.cmp(key)).ok()
    }

    /// The node of a key.
    pub fn get(&self, key: &RecordKey) -> Option<&PlanNode> {
        self.position(key).map(|at| &self.0[at])
    }

    /// The node of a key, to be changed; its key must stay as it is.
    pub fn get_mut(&mut self, key: &RecordKey) -> Option<&mut PlanNode> {
        self.position(key).map(|at| &mut self.0[at])
    }

    /// Whether there is a node of a key.
    pub fn contains_key(&self, key: &RecordKey) -> bool {
        self.position(key).is_some()
    }

    /// The keys.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &RecordKey> + Clone {
        self.0.iter().map(|node| &node.key)
    }

    /// The nodes.
    pub fn values(&self) -> std::slice::Iter<'_, PlanNode> {
        self.0.iter()
    }

    /// The nodes, to be changed; their keys must stay as they are.
    pub fn values_mut(&mut self) -> std::slice::IterMut<'_, PlanNode> {
        self.0.iter_mut()
    }

    /// The nodes with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&RecordKey, &PlanNode)> {
        self.0.iter().map(|node| (&node.key, node))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Index<&RecordKey> for Nodes {
    type Output = PlanNode;

    /// Panics where there is no node of this key.
    fn index(&self, key: &RecordKey) -> &PlanNode {
        match self.get(key) {
            Some(node) => node,
            None => panic!("no node of {key}"),
        }
    }
}

impl FromIterator<PlanNode> for Nodes {
    /// Of several nodes of one key the last one counts.
    fn from_iter<I: IntoIterator<Item = PlanNode>>(nodes: I) -> Self {
        let mut nodes: Vec<PlanNode> = nodes.into_iter().collect();
        // Stable, so that the last one stays the last; a list that is sorted already is only looked through.
        nodes.sort_by(|a, b| a.key.cmp(&b.key));
        nodes.dedup_by(|next, kept| {
            let same = next.key == kept.key;
            if same {
                std::mem::swap(next, kept);
            }
            same
        });
        nodes.shrink_to_fit();
        Self(nodes)
    }
}

impl Serialize for Nodes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<PlanNode>::deserialize(deserializer)?.into_iter().collect())
    }
}
