//! A graph as declarations.

use std::collections::BTreeMap;
use std::sync::Arc;

use ksail_model::{
    Address, Condition, Declaration, DeclaredGraph, Edge, ForceOn, Identity, Lifecycle, Origin, Origins, Ownership,
    ProviderConfig, Span, Strength, Value,
};
use xtask::graph::Graph;

use crate::kind::{KIND, KIND_VERSION};

/// The cluster of all nodes.
const CLUSTER: &str = "bench";

/// The provider's name.
pub(crate) const PROVIDER: &str = "nothing";

/// The declarations of a graph; each leaf and edge knows its line, as those of a real file do.
pub(crate) fn compile(graph: &Graph, file: &str) -> DeclaredGraph {
    let addresses: Vec<Address> = graph.nodes.iter().map(|node| Address::new(CLUSTER, KIND, &[&node.name])).collect();
    let file: std::sync::Arc<str> = file.into();
    let origin = |line: usize| Origin::File {
        file: file.clone(),
        span: Span { line: u32::try_from(line + 1).unwrap_or(u32::MAX), column: 1, length: 1 },
    };
    let declarations = graph.nodes.iter().enumerate().map(|(index, node)| {
        let edges = node.needs.iter().map(|needed| Edge {
            to: addresses[*needed].clone(),
            condition: Condition::Ready,
            strength: Strength::Hard,
            on_replace: ForceOn::Nothing,
            origin: origin(index),
        });
        let declaration = Declaration {
            address: addresses[index].clone(),
            kind_version: KIND_VERSION,
            provider: PROVIDER.to_owned(),
            identity: Identity::named(node.name.clone()),
            spec: Value::map([("input", node.input.as_str())]),
            host: None,
            edges: edges.collect(),
            ownership: Ownership::Owned,
            lifecycle: Lifecycle::default(),
            choices: Vec::new(),
            origins: Origins::all(origin(index)),
        };
        (addresses[index].clone(), Arc::new(declaration))
    });
    DeclaredGraph {
        declarations: declarations.collect(),
        providers: BTreeMap::from([(
            PROVIDER.to_owned(),
            ProviderConfig { kind: PROVIDER.to_owned(), settings: BTreeMap::new() },
        )]),
        ..DeclaredGraph::default()
    }
}
