//! The graph of a plan: as DOT for Graphviz, as a tree for terminals, and as JSON for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ksail_model::{Condition, Declaration, Edge, RecordKey, Strength};
use ksail_plan::{Action, Plan, PlanNode};
use serde_json::{Value as Json, json};

use crate::printable::{printable, quoted};
use crate::words::sign;

/// What is declared of a node, or was.
fn declared(node: &PlanNode) -> Option<&Declaration> {
    node.declaration.as_deref().or(node.record.as_ref().map(|record| record.declaration.as_ref()))
}

/// The host of a node, where it is in the plan. A deposed generation stands beside its successor.
fn host(plan: &Plan, node: &PlanNode) -> Option<RecordKey> {
    let host = RecordKey::current(declared(node)?.host.clone()?);
    plan.nodes.contains_key(&host).then_some(host)
}

/// The edges of a node whose ends are in the plan, and whether each yielded.
fn edges<'a>(plan: &'a Plan, node: &'a PlanNode) -> impl Iterator<Item = (RecordKey, &'a Edge, bool)> {
    declared(node).into_iter().flat_map(|declaration| &declaration.edges).filter_map(move |edge| {
        let to = RecordKey::current(edge.to.clone());
        let yielded = plan.yielded.iter().any(|(key, other)| *key == node.key && other.to == edge.to);
        plan.nodes.contains_key(&to).then_some((to, edge, yielded))
    })
}

const fn fill(action: &Action) -> &'static str {
    match action {
        Action::NoOp => "#eeeeee",
        Action::Create => "#d5f0d5",
        Action::Update => "#fff3c4",
        Action::Replace { .. } => "#ffd9b3",
        Action::Delete => "#f7c6c6",
        Action::Forget => "#ffffff",
        Action::Wait => "#d6e9ff",
        Action::Blocked { .. } => "#e3d0f0",
    }
}

fn label(node: &PlanNode) -> String {
    let sign = sign(node).0;
    if sign.is_empty() { node.key.to_string() } else { format!("{sign} {}", node.key) }
}

/// The plan's graph as DOT: nodes coloured by what is done, an arrow from each to what it needs with the condition, and
/// a box around each host with all that lives in it. Equal plans give equal texts.
pub fn graph_dot(plan: &Plan) -> String {
    let mut inside: BTreeMap<Option<RecordKey>, Vec<&PlanNode>> = BTreeMap::new();
    for node in plan.nodes.values() {
        inside.entry(host(plan, node)).or_default().push(node);
    }
    let mut out = String::from("digraph ksail {\n  rankdir=RL;\n  node [shape=box, style=\"rounded,filled\"];\n");
    let mut drawn = BTreeSet::new();
    nested(&mut out, &inside, None, &mut drawn, 1);
    // Hosts that live in each other hang below no root, and are drawn without boxes.
    for node in plan.nodes.values() {
        if drawn.insert(&node.key) {
            draw(&mut out, node, 1);
        }
    }
    for node in plan.nodes.values() {
        for (to, edge, yielded) in edges(plan, node) {
            let style = match (yielded, edge.strength) {
                (true, _) => ", style=dotted, color=red",
                (false, Strength::Soft) => ", style=dashed",
                (false, Strength::InTurn) => ", style=dotted",
                (false, Strength::Hard) => "",
            };
            let label = match (yielded, edge.strength) {
                (true, _) => format!("{} (yields)", edge.condition),
                (false, Strength::InTurn) => "in turn".to_owned(),
                (false, _) => edge.condition.to_string(),
            };
            let (from, to) = (quoted(&node.key.to_string()), quoted(&to.to_string()));
            let _ = writeln!(out, "  {from} -> {to} [label={}{style}];", quoted(&label));
        }
    }
    out.push_str("}\n");
    out
}

/// The plan's graph as JSON: `nodes` with what is done, and what each lives in; `edges` from each to what it needs, with the
/// condition, whether it is soft, and whether it yields.
pub fn graph_json(plan: &Plan) -> Json {
    let nodes: Vec<Json> = plan
        .nodes
        .values()
        .map(|node| {
            json!({
                "key": node.key.to_string(),
                "kind": node.key.address.kind(),
                "action": crate::json::action(node),
                "host": host(plan, node).map(|host| host.to_string()),
            })
        })
        .collect();
    let edges: Vec<Json> = plan
        .nodes
        .values()
        .flat_map(|node| edges(plan, node).map(move |(to, edge, yields)| (node, to, edge, yields)))
        .map(|(node, to, edge, yields)| {
            json!({
                "from": node.key.to_string(),
                "to": to.to_string(),
                "condition": edge.condition.to_string(),
                "soft": edge.strength == Strength::Soft,
                "in_turn": edge.strength == Strength::InTurn,
                "yields": yields,
            })
        })
        .collect();
    json!({ "nodes": nodes, "edges": edges })
}

fn draw(out: &mut String, node: &PlanNode, depth: usize) {
    let indent = "  ".repeat(depth);
    let (id, label) = (quoted(&node.key.to_string()), quoted(&label(node)));
    let _ = writeln!(out, "{indent}{id} [label={label}, fillcolor=\"{}\"];", fill(&node.action));
}

/// How deep boxes stand in boxes; what is deeper is drawn in the last.
const MAX_HOST_DEPTH: usize = 8;

fn nested<'a>(
    out: &mut String,
    inside: &BTreeMap<Option<RecordKey>, Vec<&'a PlanNode>>,
    host: Option<&RecordKey>,
    drawn: &mut BTreeSet<&'a RecordKey>,
    depth: usize,
) {
    for node in inside.get(&host.cloned()).into_iter().flatten() {
        if !drawn.insert(&node.key) {
            continue;
        }
        if !inside.contains_key(&Some(node.key.clone())) || depth > MAX_HOST_DEPTH {
            draw(out, node, depth);
            continue;
        }
        let indent = "  ".repeat(depth);
        let name = node.key.to_string();
        let _ = writeln!(out, "{indent}subgraph {} {{", quoted(&format!("cluster_{name}")));
        let _ = writeln!(out, "{indent}  label={};", quoted(&format!("in {name}")));
        draw(out, node, depth + 1);
        nested(out, inside, Some(&node.key), drawn, depth + 1);
        let _ = writeln!(out, "{indent}}}");
    }
}

/// How deep a tree goes before it goes on further down, as a tree of its own.
const MAX_TREE_DEPTH: usize = 40;

struct Branch {
    key: RecordKey,
    prefix: String,
    is_last: bool,
    /// 0 for a root.
    depth: usize,
    note: String,
}

/// The plan's graph as a tree for terminals: what nothing needs stands at the left, beneath each what it needs. What was
/// shown with all beneath it is shown the second time with `(above)` only, and what would stand too deep with `(below)`.
pub fn graph_text(plan: &Plan) -> String {
    let needs: BTreeMap<&RecordKey, Vec<(RecordKey, String)>> =
        plan.nodes.values().map(|node| (&node.key, needs(plan, node))).collect();
    let needed: BTreeSet<&RecordKey> = needs.values().flatten().map(|(key, _)| key).collect();
    let mut out = String::new();
    let mut shown = BTreeSet::new();
    let roots = plan.nodes.keys().filter(|key| !needed.contains(key));
    // A cycle has no root; its nodes come last, each once.
    for root in roots.chain(plan.nodes.keys()) {
        if shown.contains(root) {
            continue;
        }
        let mut open =
            vec![Branch { key: root.clone(), prefix: String::new(), is_last: true, depth: 0, note: String::new() }];
        while let Some(branch) = open.pop() {
            let below = needs.get(&branch.key).map(Vec::as_slice).unwrap_or_default();
            let too_deep = branch.depth >= MAX_TREE_DEPTH && !below.is_empty() && !shown.contains(&branch.key);
            let first_time = !too_deep && shown.insert(branch.key.clone());
            let fork = match (branch.depth == 0, branch.is_last) {
                (true, _) => "",
                (false, true) => "└─ ",
                (false, false) => "├─ ",
            };
            let text = plan.nodes.get(&branch.key).map(label).unwrap_or_default();
            let above = match (first_time || below.is_empty(), too_deep) {
                (true, _) => "",
                (false, true) => " (below)",
                (false, false) => " (above)",
            };
            let _ = writeln!(out, "{}{fork}{}{}{above}", branch.prefix, printable(&text), branch.note);
            if !first_time {
                continue;
            }
            let bar = match (branch.depth == 0, branch.is_last) {
                (true, _) => "",
                (false, true) => "   ",
                (false, false) => "│  ",
            };
            let prefix = format!("{}{bar}", branch.prefix);
            for (position, (key, note)) in below.iter().enumerate().rev() {
                let is_last = position + 1 == below.len();
                open.push(Branch {
                    key: key.clone(),
                    prefix: prefix.clone(),
                    is_last,
                    depth: branch.depth + 1,
                    note: note.clone(),
                });
            }
        }
    }
    out
}

/// What a node needs, its host first, each with what is said behind it.
fn needs(plan: &Plan, node: &PlanNode) -> Vec<(RecordKey, String)> {
    let host = host(plan, node).map(|host| (host, " [host]".to_owned()));
    let edges = edges(plan, node).filter(|(.., yielded)| !yielded).map(|(to, edge, _)| {
        let note = if edge.condition == Condition::Exists { String::new() } else { format!(" [{}]", edge.condition) };
        (to, note)
    });
    host.into_iter().chain(edges).collect()
}
