//! Graphs to measure with: three shapes, equal on every machine.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// How many nodes a layer has.
const LAYER: usize = 50;

/// The most earlier nodes that a node of a random graph stands on.
const RANDOM_NEEDS: usize = 3;

/// The seed of random edges and of durations.
const SEED: u64 = 20;

/// The shortest and the longest simulated call, in milliseconds.
const CALL_MS: std::ops::RangeInclusive<u64> = 20..=180;

/// How nodes stand on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Not at all.
    Flat,
    /// Layers of 50, each node on two of the layer above.
    Layered,
    /// Each node on up to three earlier ones.
    Random,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Flat, Self::Layered, Self::Random];
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Flat => "flat",
            Self::Layered => "layered",
            Self::Random => "random",
        })
    }
}

/// A node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its one field.
    pub input: String,
    /// The positions of the earlier nodes that it stands on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<usize>,
    /// How long its call takes where calls are simulated, in milliseconds.
    pub call_ms: u64,
}

/// A graph.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Graph {
    /// The nodes, each after all that it stands on.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// Makes a graph; the same arguments give the same graph.
    pub fn generate(shape: Shape, nodes: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(SEED);
        let nodes = (0..nodes)
            .map(|index| Node {
                name: format!("n{index:06}"),
                input: format!("value-{index}"),
                needs: needs(shape, index, &mut random),
                call_ms: random.u64(CALL_MS),
            })
            .collect();
        Self { nodes }
    }

    /// Reads a graph from a file.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// Writes the graph to a file.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec(self)?)
    }

    /// The longest path and the sum of the simulated calls, in milliseconds.
    pub fn critical_path_and_work_ms(&self) -> (u64, u64) {
        let mut ends: Vec<u64> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let begin = node.needs.iter().map(|needed| ends[*needed]).max().unwrap_or(0);
            ends.push(begin + node.call_ms);
        }
        (ends.into_iter().max().unwrap_or(0), self.nodes.iter().map(|node| node.call_ms).sum())
    }
}

fn needs(shape: Shape, index: usize, random: &mut fastrand::Rng) -> Vec<usize> {
    match shape {
        Shape::Flat => Vec::new(),
        Shape::Layered if index < LAYER => Vec::new(),
        Shape::Layered => {
            let above = (index / LAYER - 1) * LAYER;
            let place = index % LAYER;
            vec![above + place, above + (place + 1) % LAYER]
        }
        Shape::Random if index == 0 => Vec::new(),
        Shape::Random => {
            let mut needs: Vec<usize> = (0..random.usize(0..=RANDOM_NEEDS)).map(|_| random.usize(0..index)).collect();
            needs.sort_unstable();
            needs.dedup();
            needs
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_stand_on_earlier_ones_only() {
        for shape in Shape::ALL {
            let graph = Graph::generate(shape, 500);
            for (index, node) in graph.nodes.iter().enumerate() {
                assert!(node.needs.iter().all(|needed| *needed < index), "{shape}");
                assert!(node.needs.len() <= RANDOM_NEEDS);
            }
            let edges: usize = graph.nodes.iter().map(|node| node.needs.len()).sum();
            match shape {
                Shape::Flat => assert_eq!(edges, 0),
                Shape::Layered => assert_eq!(edges, 2 * 450),
                Shape::Random => assert!(edges > 500, "{edges}"),
            }
        }
    }

    #[test]
    fn the_bounds_of_a_makespan() {
        let node = |needs: &[usize], call_ms| Node {
            name: "n".to_owned(),
            input: "x".to_owned(),
            needs: needs.to_vec(),
            call_ms,
        };
        let graph = Graph { nodes: vec![node(&[], 5), node(&[0], 7), node(&[], 3), node(&[1, 2], 1)] };
        assert_eq!(graph.critical_path_and_work_ms(), (13, 16));
    }
}
