//! Calls that a killed operation left open: every call × what is seen × whether its deadline is past.

use ksail_model::{Declaration, Observation, Readiness, Scope, Seen, UnknownReason, Value};
use ksail_plan::Observed;
use ksail_records::Call;
use serde_json::json;

use crate::support::{Bench, NOW, With as _, declared, key, mark};

#[derive(Clone, Copy, Debug)]
enum See {
    Absent,
    Old,
    New,
    Foreign,
    Unknown,
    Elsewhere,
    Nothing,
}

const PAST: u64 = NOW - 1;
const FUTURE: u64 = NOW + 1;

fn seen(declaration: &Declaration, generation: u32) -> Seen {
    Seen {
        id: Some("id".to_owned()),
        fields: declaration.spec.clone(),
        attributes: Value::map([("id", "id")]),
        mark: Some(mark(&declaration.address, generation)),
        readiness: Readiness::Ready,
        others: Vec::new(),
    }
}

#[track_caller]
fn check(call: Call, see: See, kind: &str, deadline: u64, expected: &str) {
    let text = format!("{kind}/a");
    let old = declared(&text, json!({"x": 1}));
    let new = declared(&text, json!({"x": 2}));
    let mut bench = match call {
        Call::Create => Bench::new([new.clone()]),
        _ => Bench::applied([old.clone()]),
    };
    bench.declare(if call == Call::Delete { vec![] } else { vec![new.clone()] });
    bench.open(&text, call, new.clone(), deadline);
    let scope = Some(Scope("engine".into()));
    let (observation, scope) = match see {
        See::Absent => (Observation::Absent, scope),
        See::Old => (Observation::Present(Box::new(seen(&old, 1))), scope),
        See::New => (Observation::Present(Box::new(seen(&new, 1))), scope),
        See::Foreign => (Observation::Present(Box::new(Seen { mark: None, ..seen(&old, 1) })), scope),
        See::Unknown => (Observation::Unknown(UnknownReason::Unreachable { message: "no".to_owned() }), None),
        See::Elsewhere => (Observation::Absent, Some(Scope("engine-2".into()))),
        See::Nothing => (Observation::Absent, None),
    };
    if matches!(see, See::Nothing) {
        // `--refresh=false`
        let plan = bench.plan_seeing(&Default::default()).unwrap();
        let lines: Vec<String> = crate::support::shown(&plan).lines().map(str::to_owned).collect();
        assert_eq!(lines, expected.lines().map(str::trim).collect::<Vec<_>>(), "{call:?} {see:?}");
        return;
    }
    bench.observations.insert(key(&text), Observed { observation, scope });
    bench.check(expected);
}

#[test]
fn creates() {
    let open = "once/a: blocked (unknown 1000001 op-killed open_intent)";
    let made = "resolved thing/a: applied";
    let anew = "thing/a: create; declared
        resolved thing/a: not done
        0 create thing/a";
    check(Call::Create, See::New, "thing", FUTURE, made);
    check(Call::Create, See::New, "thing", PAST, made);
    check(Call::Create, See::Absent, "thing", FUTURE, anew);
    check(Call::Create, See::Absent, "thing", PAST, anew);
    // A second one might appear beside a call that is still under way.
    check(Call::Create, See::Absent, "once", FUTURE, open);
    check(Call::Create, See::Absent, "once", PAST, &anew.replace("thing", "once"));
    check(
        Call::Create,
        See::Foreign,
        "thing",
        PAST,
        "thing/a: blocked (not_ours a)
         resolved thing/a: not done",
    );
    check(Call::Create, See::Unknown, "thing", PAST, "thing/a: blocked (unknown no unreachable)");
    check(Call::Create, See::Elsewhere, "thing", PAST, "thing/a: blocked (unknown engine-2 engine other_scope)");
    check(Call::Create, See::Nothing, "once", PAST, "once/a: blocked (unknown 999999 op-killed open_intent)");
}

#[test]
fn updates() {
    for kind in ["thing", "once"] {
        for deadline in [PAST, FUTURE] {
            check(Call::Update, See::New, kind, deadline, &format!("resolved {kind}/a: applied"));
            check(
                Call::Update,
                See::Old,
                kind,
                deadline,
                &format!(
                    "{kind}/a: update; interrupted; x: 1 → 2 (declared)
                     resolved {kind}/a: not done
                     0 update {kind}/a"
                ),
            );
            check(
                Call::Update,
                See::Absent,
                kind,
                deadline,
                &format!(
                    "{kind}/a: create; deleted_outside
                     drift {kind}/a: gone  → reverted
                     resolved {kind}/a: not done
                     0 create {kind}/a"
                ),
            );
        }
    }
    check(Call::Update, See::Elsewhere, "thing", PAST, "thing/a: blocked (unknown engine-2 engine other_scope)");
}

#[test]
fn deletions() {
    for kind in ["thing", "once"] {
        for deadline in [PAST, FUTURE] {
            check(Call::Delete, See::Absent, kind, deadline, &format!("resolved {kind}/a: deleted"));
            check(
                Call::Delete,
                See::Old,
                kind,
                deadline,
                &format!(
                    "{kind}/a: delete; no_longer_declared
                     resolved {kind}/a: not done
                     0 delete {kind}/a"
                ),
            );
        }
    }
    check(Call::Delete, See::Unknown, "thing", PAST, "thing/a: blocked (unknown no unreachable)");
    // In another engine it is absent for certain, and that says nothing.
    check(Call::Delete, See::Elsewhere, "thing", PAST, "thing/a: blocked (unknown engine-2 engine other_scope)");
}

#[test]
fn a_host_is_not_replaced_under_an_open_call() {
    let inside = declared("once/in", json!({})).on("host/h");
    let mut bench = Bench::applied([declared("host/h", json!({"size": 1})), inside.clone()]);
    bench.declare([declared("host/h", json!({"size": 2})), inside.clone()]);
    bench.snapshot.records.remove(&key("once/in"));
    bench.open("once/in", Call::Create, inside, FUTURE);
    std::sync::Arc::make_mut(bench.snapshot.records.get_mut(&key("once/in")).unwrap()).scope = None;
    bench
        .observations
        .insert(key("once/in"), Observed { observation: Observation::Absent, scope: Some(Scope("id-h-1".into())) });
    bench.snapshot.open.get_mut(&key("once/in")).unwrap().intent.scope = None;
    bench.check(
        "host/h: blocked (dependency once/in)
         once/in: blocked (unknown 1000001 op-killed open_intent)",
    );
}
