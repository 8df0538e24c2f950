//! What holds of every plan.

use std::collections::BTreeSet;

use ksail_model::{Declaration, Observation, RecordKey};
use ksail_plan::{Action, Plan, StepDo, digest_of};
use proptest::prelude::{Strategy, any, prop};
use proptest::sample::Index;
use proptest::{prop_assert, prop_assert_eq, proptest};
use serde_json::json;

use crate::support::{Bench, With as _, declared, key, shown};

/// What one generated resource is like; edges and hosts lead to earlier ones.
#[derive(Debug, Clone)]
struct Shape {
    kind: usize,
    needs: Vec<(Index, u8)>,
    host: Option<Index>,
    size: i64,
    value: i64,
    present: bool,
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = (
        0..4_usize,
        prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
        prop::option::of(any::<Index>()),
        0..2_i64,
        0..2_i64,
        prop::bool::weighted(0.8),
    )
        .prop_map(|(kind, needs, host, size, value, present)| Shape { kind, needs, host, size, value, present });
    prop::collection::vec(shape, 1..14)
}

const KINDS: [&str; 4] = ["thing", "host", "twin", "once"];

/// The same names with other contents: kinds, hosts and edges are those of `frame`, the rest of `shapes`.
fn graph(frame: &[Shape], values: &[Shape]) -> Vec<Declaration> {
    let name = |n: usize| format!("{}/n{n}", KINDS[frame[n].kind]);
    let kept = |n: usize| values.get(n).is_none_or(|shape| shape.present);
    let mut all: Vec<Declaration> = Vec::new();
    for (n, shape) in frame.iter().enumerate() {
        let value = values.get(n).unwrap_or(shape);
        if !kept(n) {
            continue;
        }
        let mut declaration = declared(&name(n), json!({"size": value.size, "v": value.value}));
        if shape.kind == 2 {
            declaration = declaration.create_first().named(&format!("n{n}-{}", value.size));
        }
        let earlier: Vec<&Declaration> = all.iter().collect();
        if !earlier.is_empty() {
            for (index, how) in &value.needs {
                let to = index.get(&earlier).address.to_string();
                declaration = match how % 3 {
                    0 => declaration.needs(&to),
                    1 => declaration.needs_softly(&to),
                    _ => declaration.dies_with(&to),
                };
            }
        }
        let hosts: Vec<String> = all
            .iter()
            .filter(|earlier| earlier.address.kind() == "host")
            .map(|host| host.address.to_string())
            .collect();
        if let Some(index) = shape.host.filter(|_| !hosts.is_empty()) {
            let host: &String = index.get(&hosts);
            declaration = declaration.on(host);
        }
        all.push(declaration);
    }
    all
}

/// An applied state, changed declarations, and something that drifted or is gone.
fn changed(frame: &[Shape], values: &[Shape], faults: &[(Index, u8)]) -> Bench {
    let mut bench = Bench::applied(graph(frame, &[]));
    bench.declare(graph(frame, values));
    let keys: Vec<RecordKey> = bench.snapshot.records.keys().cloned().collect();
    for (index, how) in faults {
        let text = index.get(&keys).to_string();
        if !matches!(bench.observations[&key(&text)].observation, Observation::Present(_)) {
            continue;
        }
        match how % 4 {
            0 => bench.drift(&text, "v", json!(7)),
            1 => bench.gone(&text),
            2 => bench.unreachable(&text),
            _ => bench.not_ready(&text),
        };
    }
    contents_follow_their_hosts(&mut bench);
    bench
}

/// As whoever looks would see it.
fn contents_follow_their_hosts(bench: &mut Bench) {
    for _ in 0..bench.snapshot.records.len() {
        for (key, record) in bench.snapshot.records.clone() {
            let Some(host) = &record.declaration.host else { continue };
            match bench.observations[&RecordKey::current(host.clone())].observation.clone() {
                Observation::Absent => _ = bench.gone(&key.to_string()),
                Observation::Unknown(_) => _ = bench.unreachable(&key.to_string()),
                Observation::Present(seen) if !seen.readiness.is_ready() => {
                    bench.not_serving(&key.to_string(), host.as_str());
                }
                Observation::Present(_) => {}
            }
        }
    }
}

fn position(plan: &Plan, what: StepDo, key: &RecordKey) -> Option<usize> {
    plan.steps.iter().position(|step| step.what == what && step.key == *key)
}

/// The step that ends a resource outside: its own deletion, or that of the host that takes it along.
fn end_of(plan: &Plan, key: &RecordKey) -> Option<usize> {
    let node = plan.nodes.get(key)?;
    if node.with_host {
        let host = node.record.as_ref()?.declaration.host.clone()?;
        return end_of(plan, &RecordKey::current(host));
    }
    let deposed = RecordKey { address: key.address.clone(), deposed: Some(node.generation.saturating_sub(1)) };
    position(plan, StepDo::Delete, key).or_else(|| position(plan, StepDo::Delete, &deposed))
}

fn reaches(plan: &Plan, from: usize, to: usize) -> bool {
    let mut todo = vec![to];
    let mut seen = BTreeSet::new();
    while let Some(at) = todo.pop() {
        if at == from {
            return true;
        }
        if seen.insert(at) {
            todo.extend(plan.steps[at].needs.iter().map(|(needed, _)| *needed as usize));
        }
    }
    false
}

/// Whether a step is, or comes after, one in a host that does not serve yet.
fn waits_for_a_host(plan: &Plan, at: usize) -> bool {
    plan.steps.iter().enumerate().any(|(index, step)| {
        let deferred = plan.nodes.get(&step.key).is_some_and(|node| node.seen == ksail_plan::SeenAt::Deferred);
        deferred && reaches(plan, index, at)
    })
}

fn blocked(plan: &Plan, key: &RecordKey) -> bool {
    plan.nodes.get(key).is_some_and(|node| matches!(node.action, Action::Blocked { .. }))
}

proptest! {
    #[test]
    fn of_any_change(frame in shapes(), values in shapes(), faults in prop::collection::vec((any::<Index>(), any::<u8>()), 0..3)) {
        let bench = changed(&frame, &values, &faults);
        let plan = bench.plan();
        let text = shown(&plan);

        // Every step comes after its needs.
        for (at, step) in plan.steps.iter().enumerate() {
            prop_assert!(step.needs.iter().all(|(needed, _)| (*needed as usize) < at), "{text}");
        }
        // Twice planned is the same, and JSON loses nothing.
        prop_assert_eq!(&bench.plan(), &plan);
        let json = serde_json::to_string(&plan).unwrap();
        let back: Plan = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&digest_of(&back), &plan.digest);
        prop_assert_eq!(&back, &plan);

        for (key, node) in plan.nodes.iter() {
            // What changes stands on nothing that is blocked.
            if let Some(declaration) = node.declaration.as_ref().filter(|_| node.action.is_change()) {
                for edge in declaration.edges.iter().filter(|edge| edge.strength == ksail_model::Strength::Hard) {
                    prop_assert!(!blocked(&plan, &RecordKey::current(edge.to.clone())), "{key} stands on a blocked one\n{text}");
                }
                if let Some(host) = &declaration.host {
                    prop_assert!(!blocked(&plan, &RecordKey::current(host.clone())), "{key} is in a blocked one\n{text}");
                }
            }
            // What is blocked for another is blocked for a reason.
            if let Action::Blocked { why: ksail_plan::Blocked::Dependency { on } } = &node.action {
                prop_assert!(blocked(&plan, on), "{key} is blocked for {on}\n{text}");
            }
            // Nothing ends while something that was applied on it stays unknown, or before what is deleted too.
            let Some(record) = &node.record else { continue };
            let hard = record.declaration.edges.iter().filter(|edge| edge.strength == ksail_model::Strength::Hard);
            let needed = hard.map(|edge| &edge.to).chain(&record.declaration.host);
            for needed in needed {
                let needed = RecordKey::current(needed.clone());
                let Some(end) = end_of(&plan, &needed) else { continue };
                prop_assert!(!blocked(&plan, key), "{needed} ends under the blocked {key}\n{text}");
                if node.with_host {
                    continue;
                }
                // What is in a host that comes first may have to wait longer, and what it stands on with it.
                if let Some(own) = end_of(&plan, key).filter(|own| !waits_for_a_host(&plan, *own)) {
                    prop_assert!(own == end || reaches(&plan, own, end), "{key} does not end before {needed}\n{text}");
                }
            }
        }
        // What is in a host that is blocked is neither made nor ended.
        if plan.is_complete() {
            let mut done = bench.clone();
            done.apply();
            let again = done.plan();
            let quiet = again.nodes.values().all(|node| !node.action.is_change());
            prop_assert!(quiet, "first\n{text}\nthen\n{}", shown(&again));
            prop_assert!(again.steps.is_empty(), "first\n{text}\nthen\n{}", shown(&again));
        }
    }

    #[test]
    fn of_what_is_as_declared(frame in shapes()) {
        let bench = Bench::applied(graph(&frame, &[]));
        let plan = bench.plan();
        prop_assert!(plan.steps.is_empty() && !plan.has_changes(), "{}", shown(&plan));
    }

    #[test]
    fn of_a_destroy(frame in shapes(), faults in prop::collection::vec((any::<Index>(), any::<u8>()), 0..3)) {
        let mut bench = changed(&frame, &[], &faults);
        let records: BTreeSet<RecordKey> = bench.snapshot.records.keys().cloned().collect();
        let plan = bench.destroy().plan();
        let text = shown(&plan);
        let stepped: Vec<RecordKey> = plan.steps.iter().map(|step| step.key.clone()).collect();
        prop_assert_eq!(stepped.len(), stepped.iter().collect::<BTreeSet<_>>().len(), "{}", text);
        for key in &records {
            prop_assert!(stepped.contains(key) != blocked(&plan, key), "{key} is destroyed once or blocked\n{text}");
        }
        if plan.is_complete() {
            bench.apply();
            prop_assert!(bench.snapshot.records.is_empty());
        }
    }
}
