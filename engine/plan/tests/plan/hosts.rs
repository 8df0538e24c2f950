//! What lives in a host, and what becomes of it with the host.

use std::sync::Arc;

use ksail_model::Status;
use ksail_plan::StepDo;
use serde_json::json;

use crate::support::{Bench, With as _, comes_before, declared, key, shown};

#[test]
fn protected_contents_hold_their_host_unless_it_is_gone() {
    let inside = declared("thing/in", json!({})).on("host/h").protected();
    let mut bench = Bench::applied([declared("host/h", json!({"size": 1})), inside.clone()]);
    bench.clone().gone("host/h").gone("thing/in").plan();
    bench.declare([declared("host/h", json!({"size": 2})), inside]);
    bench.check("error: protected, and would be lost: dev/thing/in (made anew)");
    bench.destroy().check("error: protected, and would be lost: dev/thing/in (deleted)");
}

#[test]
fn a_forgotten_host_leaves_its_contents_alone() {
    let inside = declared("thing/in", json!({})).on("host/h").protected();
    let mut bench = Bench::applied([declared("host/h", json!({})), inside]);
    bench.declare([]).removed("host/h", false);
    let plan = bench.plan();
    assert_eq!((plan.counts().forget, plan.counts().delete), (2, 0), "{}", shown(&plan));
}

#[test]
fn what_is_made_in_an_adopted_host_waits_for_its_record() {
    let mut bench = Bench::new([declared("host/h", json!({})), declared("thing/in", json!({})).on("host/h")]);
    bench.put(&key("host/h"), declared("host/h", json!({})), 1);
    bench.snapshot.records.clear();
    bench.see(&key("host/h"), |seen| seen.mark = None);
    bench.import("host/h", "h");
    let plan = bench.plan();
    assert!(comes_before(&plan, (StepDo::Put, "host/h"), (StepDo::Create, "thing/in")), "{}", shown(&plan));
}

#[test]
fn contents_of_a_targeted_host_are_lost_with_it() {
    let mut bench =
        Bench::applied([declared("host/h", json!({"size": 1})), declared("thing/in", json!({})).on("host/h")]);
    bench.declare([declared("host/h", json!({"size": 2})), declared("thing/in", json!({})).on("host/h")]);
    bench.target("host/h");
    let plan = bench.plan();
    assert!(plan.nodes[&key("thing/in")].with_host, "{}", shown(&plan));
}

#[test]
fn a_host_that_is_brought_to_serve() {
    let inside = |x: i64| declared("thing/in", json!({"x": x})).on("host/h");
    let gone = declared("thing/gone", json!({})).on("host/h");
    let mut bench = Bench::applied([declared("host/h", json!({"v": 1})), inside(1), gone]);
    bench.not_ready("host/h").not_serving("thing/in", "host/h").not_serving("thing/gone", "host/h");
    bench.declare([declared("host/h", json!({"v": 2})), inside(2)]);
    bench.check(
        "host/h: update; declaration_changed; v: 1 → 2 (declared)
         thing/gone: delete; no_longer_declared; seen later
         thing/in: update; declaration_changed; x: 1 → 2 (declared); seen later
         0 update host/h
         1 delete thing/gone after 0 serving
         2 update thing/in after 0 serving",
    );
}

#[test]
fn what_was_not_ready_in_a_host_that_is_brought_to_serve_is_waited_for() {
    let inside = || declared("thing/in", json!({})).on("host/h");
    let mut bench = Bench::applied([declared("host/h", json!({"v": 1})), inside()]);
    let record = bench.snapshot.records.get_mut(&key("thing/in")).unwrap();
    Arc::make_mut(record).status = Status::NotReady { why: "it is starting".to_owned() };
    bench.not_ready("host/h").not_serving("thing/in", "host/h");
    bench.declare([declared("host/h", json!({"v": 2})), inside()]);
    bench.check(
        "host/h: update; declaration_changed; v: 1 → 2 (declared)
         thing/in: wait; not_ready it is starting; seen later
         0 update host/h
         1 wait thing/in after 0 serving",
    );
}

#[test]
fn a_host_in_a_host_that_is_brought_to_serve() {
    let inside = |x: i64| declared("thing/in", json!({"x": x})).on("host/inner");
    let inner = || declared("host/inner", json!({})).on("host/outer");
    let gone = declared("thing/gone", json!({})).on("host/inner");
    let mut bench = Bench::applied([declared("host/outer", json!({"v": 1})), inner(), inside(1), gone]);
    bench.not_ready("host/outer").not_serving("host/inner", "host/outer");
    bench.not_serving("thing/in", "host/inner").not_serving("thing/gone", "host/inner");
    bench.declare([declared("host/outer", json!({"v": 2})), inner(), inside(2)]);
    bench.check(
        "host/outer: update; declaration_changed; v: 1 → 2 (declared)
         thing/gone: delete; no_longer_declared; seen later
         thing/in: update; declaration_changed; x: 1 → 2 (declared); seen later
         0 update host/outer
         1 delete thing/gone after 0 serving
         2 update thing/in after 0 serving",
    );
}

#[test]
fn what_moves_into_a_new_host_goes_from_where_it_is() {
    let mut bench = Bench::applied([declared("thing/t", json!({}))]);
    bench.declare([declared("host/h", json!({})), declared("thing/t", json!({})).on("host/h")]);
    let plan = bench.plan();
    assert!(comes_before(&plan, (StepDo::Delete, "thing/t"), (StepDo::Create, "thing/t")), "{}", shown(&plan));
    assert!(comes_before(&plan, (StepDo::Create, "host/h"), (StepDo::Create, "thing/t")), "{}", shown(&plan));
}
