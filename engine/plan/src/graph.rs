//! The graph of what needs what: order, cycles, and soft edges that yield.

use ksail_model::{Address, Edge, RecordKey, Strength};
use petgraph::algo::{has_path_connecting, tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::numbers::ByKey;

/// A link of a cycle: the resource, and the edge by which it needs the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleLink {
    /// The resource.
    pub from: Address,
    /// The resource that it needs.
    pub to: Address,
    /// Where the edge came from.
    pub origin: String,
}

/// The order in which resources are judged: each after all that it needs.
#[derive(Debug)]
pub(crate) struct Order {
    /// The numbers of resources, dependencies first.
    pub(crate) numbers: Vec<usize>,
    /// Soft edges that yielded.
    pub(crate) yielded: Vec<(RecordKey, Edge)>,
}

/// What one resource needs.
pub(crate) struct Needs<'a> {
    /// Its edges.
    pub(crate) edges: &'a [Edge],
    /// Its host.
    pub(crate) host: Option<&'a Address>,
    /// Whether the edges come from a record only: they order deletions and may yield.
    pub(crate) recorded_only: bool,
}

/// Orders the resources. A cycle of hard edges is an error, shown as a path.
pub(crate) fn order(nodes: &ByKey<'_, Needs<'_>>) -> Result<Order, Vec<CycleLink>> {
    let numbers = nodes.numbers();
    let mut graph: DiGraph<&RecordKey, Option<&Edge>> = DiGraph::with_capacity(numbers.len(), numbers.len() * 2);
    for key in numbers.keys() {
        graph.add_node(key);
    }
    // A vertex has the number of its resource.
    let at = |address: &Address| numbers.at(address).map(NodeIndex::new);
    let mut soft = Vec::new();
    for number in 0..numbers.len() {
        let (Some(needs), from) = (nodes.at(number), NodeIndex::new(number)) else { continue };
        if let Some(to) = needs.host.and_then(at) {
            graph.add_edge(from, to, None);
        }
        for edge in needs.edges {
            let Some(to) = at(&edge.to) else { continue };
            if edge.strength != Strength::Hard || needs.recorded_only {
                soft.push((from, to, edge, needs.recorded_only));
            } else {
                graph.add_edge(from, to, Some(edge));
            }
        }
    }
    if let Some(cycle) = find_cycle(&graph) {
        return Err(cycle);
    }
    let yielded = add_soft(&mut graph, soft);
    let mut numbers: Vec<usize> = match toposort(&graph, None) {
        Ok(sorted) => sorted.into_iter().map(NodeIndex::index).collect(),
        Err(_) => return Err(find_cycle(&graph).unwrap_or_default()),
    };
    numbers.reverse();
    Ok(Order { numbers, yielded })
}

type Soft<'a> = (NodeIndex, NodeIndex, &'a Edge, bool);

/// Adds the soft edges; answers those that would close a cycle and were left out. Mostly none does, which one pass
/// tells; only otherwise each is tried by itself.
fn add_soft<'a>(graph: &mut DiGraph<&'a RecordKey, Option<&'a Edge>>, soft: Vec<Soft<'a>>) -> Vec<(RecordKey, Edge)> {
    if soft.is_empty() {
        return Vec::new();
    }
    let mut all = graph.clone();
    for (from, to, edge, _) in &soft {
        all.add_edge(*from, *to, Some(edge));
    }
    if toposort(&all, None).is_ok() {
        *graph = all;
        return Vec::new();
    }
    let mut yielded = Vec::new();
    for (from, to, edge, recorded_only) in soft {
        if from == to || has_path_connecting(&*graph, to, from, None) {
            if !recorded_only {
                yielded.push((graph[from].clone(), edge.clone()));
            }
        } else {
            graph.add_edge(from, to, Some(edge));
        }
    }
    yielded
}

fn find_cycle(graph: &DiGraph<&RecordKey, Option<&Edge>>) -> Option<Vec<CycleLink>> {
    let component = tarjan_scc(graph)
        .into_iter()
        .find(|nodes| nodes.len() > 1 || nodes.iter().any(|&node| graph.find_edge(node, node).is_some()))?;
    // Walk within the component, always to the smallest successor, until a resource comes again.
    let mut walk = vec![*component.iter().min_by_key(|&&node| graph[node])?];
    loop {
        let here = *walk.last()?;
        let next = graph.neighbors(here).filter(|node| component.contains(node)).min_by_key(|&node| graph[node])?;
        if let Some(start) = walk.iter().position(|&node| node == next) {
            walk.drain(..start);
            walk.push(next);
            break;
        }
        walk.push(next);
    }
    Some(
        walk.windows(2)
            .map(|pair| {
                let edge = graph.edges_connecting(pair[0], pair[1]).next();
                let origin = match edge.map(|edge| *edge.weight()) {
                    Some(Some(edge)) => edge.origin.to_string(),
                    _ => "lives in it".to_owned(),
                };
                CycleLink { from: graph[pair[0]].address.clone(), to: graph[pair[1]].address.clone(), origin }
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use ksail_model::{Condition, ForceOn, Origin};
    use proptest::prelude::{Strategy, any, prop};
    use proptest::{prop_assert, proptest};

    use super::*;
    use crate::numbers::Numbers;

    fn key(number: usize) -> RecordKey {
        RecordKey::current(Address::new("c", "k", &[&format!("n{number:02}")]))
    }

    fn edge(to: usize, strength: Strength) -> Edge {
        Edge {
            to: key(to).address,
            condition: Condition::Exists,
            strength,
            on_replace: ForceOn::Nothing,
            origin: Origin::Flag { flag: format!("edge to {to}").into() },
        }
    }

    fn ordered(edges: &[Vec<Edge>]) -> Result<Order, Vec<CycleLink>> {
        let numbers = Numbers::new((0..edges.len()).map(key).collect());
        let needs = edges.iter().map(|edges| Needs { edges, host: None, recorded_only: false });
        order(&ByKey::of_all(&numbers, needs))
    }

    #[test]
    fn a_cycle_is_a_path_with_origins() {
        let hard = |to| vec![edge(to, Strength::Hard)];
        let cycle = ordered(&[hard(1), hard(2), hard(1)]).unwrap_err();
        let text: Vec<_> = cycle.iter().map(|link| format!("{} → {} ({})", link.from, link.to, link.origin)).collect();
        assert_eq!(text, ["c/k/n01 → c/k/n02 (flag edge to 2)", "c/k/n02 → c/k/n01 (flag edge to 1)"]);
        assert_eq!(ordered(&[hard(0)]).unwrap_err().len(), 1);
    }

    #[test]
    fn soft_edges_yield_in_a_cycle_only() {
        let order = ordered(&[vec![edge(1, Strength::Soft)], vec![edge(0, Strength::Hard)]]).unwrap();
        assert_eq!(order.yielded.len(), 1);
        assert_eq!(order.numbers, [0, 1]);
        let order = ordered(&[vec![edge(1, Strength::Soft)], vec![]]).unwrap();
        assert!(order.yielded.is_empty());
        assert_eq!(order.numbers, [1, 0]);
    }

    fn acyclic() -> impl Strategy<Value = Vec<Vec<Edge>>> {
        prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..4), 1..40)
            .prop_map(|lists| {
                lists
                    .into_iter()
                    .enumerate()
                    .map(|(number, picks)| {
                        if number == 0 {
                            return Vec::new();
                        }
                        picks
                            .into_iter()
                            .map(|(pick, soft)| {
                                edge(pick.index(number), if soft { Strength::Soft } else { Strength::Hard })
                            })
                            .collect()
                    })
                    .collect()
            })
    }

    proptest! {
        #[test]
        fn everything_comes_after_what_it_needs(edges in acyclic()) {
            let order = ordered(&edges).unwrap();
            prop_assert!(order.yielded.is_empty());
            let at = |wanted: &RecordKey| order.numbers.iter().position(|number| key(*number) == *wanted).unwrap();
            for (number, edges) in edges.iter().enumerate() {
                for edge in edges {
                    prop_assert!(at(&RecordKey::current(edge.to.clone())) < at(&key(number)));
                }
            }
        }
    }
}
