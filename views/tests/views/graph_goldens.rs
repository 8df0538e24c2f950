//! Graphs as DOT and as trees.

use ksail_views::dot::{graph_dot, graph_text};

use crate::samples;

#[test]
fn graphs_show_actions_conditions_and_hosts() {
    insta::assert_snapshot!("dot_two_clusters", graph_dot(&samples::two_clusters()));
    insta::assert_snapshot!("dot_first_apply", graph_dot(&samples::first_apply()));
    insta::assert_snapshot!("tree_two_clusters", graph_text(&samples::two_clusters()));
}

#[test]
fn every_node_is_drawn_once() {
    for (name, plan) in samples::all() {
        let dot = graph_dot(&plan);
        assert_eq!(dot.matches("fillcolor=").count(), plan.nodes.len(), "{name}");
        let tree = graph_text(&plan);
        for key in plan.nodes.keys() {
            assert!(tree.lines().any(|line| line.contains(&key.to_string())), "{name}: {key}");
        }
    }
}

#[test]
fn hosts_in_each_other_are_drawn_all_the_same() {
    let hosted = |text: &str, host: &str| {
        samples::with(samples::node(text, ksail_plan::Action::Create, ksail_plan::Reason::Declared), |node| {
            if let Some(declaration) = &mut node.declaration {
                std::sync::Arc::make_mut(declaration).host = Some(samples::address(host));
            }
        })
    };
    let plan = samples::plan_of([hosted("dev/engine/a", "dev/engine/b"), hosted("dev/engine/b", "dev/engine/a")]);
    assert_eq!(graph_dot(&plan).matches("fillcolor=").count(), 2);
    assert_eq!(graph_text(&plan).lines().count(), 3);
}

#[test]
fn a_long_chain_needs_no_deep_stack() {
    let name = |index: usize| format!("dev/volume/v{index:06}");
    let length = 20_000;
    let plan = samples::plan_of((0..length).map(|index| {
        samples::with(samples::node(&name(index), ksail_plan::Action::Create, ksail_plan::Reason::Declared), |node| {
            if let (Some(declaration), true) = (&mut node.declaration, index + 1 < length) {
                let to = name(index + 1);
                let edge = samples::edge(&to, ksail_model::Condition::Ready, ksail_model::Strength::Hard);
                std::sync::Arc::make_mut(declaration).edges.push(edge);
            }
        })
    }));
    assert_eq!(graph_dot(&plan).matches(" -> ").count(), length - 1);
    let tree = graph_text(&plan);
    // Each node once, and once more where a tree goes on below.
    assert_eq!(tree.lines().filter(|line| !line.ends_with("(below)")).count(), length);
    assert!(tree.lines().all(|line| line.chars().count() < 200));
}
