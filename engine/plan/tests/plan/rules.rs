//! One rule a test: drift, changes, protection, moves, imports, targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use insta::assert_snapshot;
use ksail_model::{Mark, Ownership, Preview, Readiness, Status, Value};
use ksail_plan::{Mode, Plan, PlanNode, Reason, RecordChange, digest_of, explain};
use serde_json::json;

use crate::support::{Bench, With as _, address, declared, key, mark, shown};
use ksail_plan::StepDo;

#[test]
fn drift_and_changes_are_told_apart() {
    let spec = json!({"a": 1, "b": 1, "c": 1, "ports": [{"container": 80, "host": 1}], "tags": ["x", "y"]});
    let mut bench = Bench::applied([declared("thing/t", spec)]);
    bench.drift("thing/t", "a", json!(9)).drift("thing/t", "b", json!(9)).drift("thing/t", "extra", json!(true));
    bench.drift("thing/t", "ports", json!([{"container": 80, "host": 2}])).drift("thing/t", "tags", json!(["x"]));
    let changed = json!({"a": 1, "b": 2, "c": 2, "ports": [{"container": 80, "host": 1}], "tags": ["x", "y"]});
    bench.declare([declared("thing/t", changed)]);
    bench.check(
        "thing/t: update; declaration_changed; a: 9 → 1 (drifted); b: 9 → 2 (declared); c: 1 → 2 (declared); extra: true → - (drifted); ports[\"80\"].host: 2 → 1 (drifted); tags[\"y\"]: - → \"y\" (drifted)
         drift thing/t: changed a, b, ports[\"80\"].host, tags[\"y\"], extra → reverted
         0 update thing/t",
    );
}

#[test]
fn drift_alone_is_the_reason() {
    let mut bench = Bench::applied([declared("thing/t", json!({"size": 1, "a": 1}))]);
    bench.drift("thing/t", "size", json!(2));
    bench.check(
        "thing/t: replace; drifted; size: 2 → 1 (drifted, forces)
         drift thing/t: changed size → reverted
         0 delete thing/t
         1 create thing/t after 0 exists",
    );
    // What is declared now is what somebody did by hand already.
    bench.declare([declared("thing/t", json!({"size": 2, "a": 1}))]);
    bench.check(
        "thing/t: no-op
         drift thing/t: changed size → agrees
         0 put thing/t",
    );
}

#[test]
fn what_is_ignored_is_left_alone() {
    let mut bench = Bench::applied([declared("thing/t", json!({"a": 1, "b": {"x": 1}})).ignoring("b")]);
    bench.drift("thing/t", "b", json!({"x": 9}));
    bench.check(
        "thing/t: no-op
         drift thing/t: changed b.x → left
         0 put thing/t",
    );
    bench.declare([declared("thing/t", json!({"a": 2, "b": {"x": 1}})).ignoring("b")]);
    let plan = bench.apply();
    let sent = plan.nodes[&key("thing/t")].declaration.clone().unwrap();
    assert_eq!(sent.spec, json!({"a": 2, "b": {"x": 9}}).into(), "an update leaves it alone too");
    bench.check("");
}

/// What an update of `a` sends of a resource of which `ignored` was changed by hand.
#[track_caller]
fn sent(ignored: &str, before: serde_json::Value, by_hand: serde_json::Value, expected: serde_json::Value) {
    let name = ignored.split(['.', '[']).next().unwrap();
    let put = |a: i64| declared("thing/t", json!({"a": a, name: before})).ignoring(ignored);
    let mut bench = Bench::applied([put(1)]);
    bench.drift("thing/t", name, by_hand);
    assert!(bench.plan().nodes[&key("thing/t")].changes.is_empty(), "{ignored}: {}", bench.shown());
    bench.declare([put(2)]);
    let plan = bench.apply();
    let node = &plan.nodes[&key("thing/t")];
    let paths: Vec<String> = node.changes.iter().map(|change| change.path.to_string()).collect();
    assert_eq!(paths, ["a"], "{ignored}");
    let spec = &node.declaration.as_ref().unwrap().spec;
    assert_eq!(spec.field(name), Some(&expected.clone().into()), "{ignored}");
    assert_eq!(node.after.as_ref().unwrap().field(name), Some(&expected.into()), "{ignored}");
    bench.check("");
}

#[test]
fn an_update_sends_what_is_ignored_as_it_is() {
    let port = |container: u16, host: u16| json!({"container": container, "host": host});
    sent("ports", json!([port(80, 1)]), json!([port(80, 9), port(81, 1)]), json!([port(80, 9), port(81, 1)]));
    sent(
        "ports[*].host",
        json!([port(80, 1), port(81, 1)]),
        json!([port(81, 8), port(80, 9)]),
        json!([port(80, 9), port(81, 8)]),
    );
    sent("ports[\"80\"].host", json!([port(80, 1)]), json!([port(80, 9)]), json!([port(80, 9)]));
    sent("ports[\"80\"]", json!([port(80, 1), port(81, 1)]), json!([port(81, 1)]), json!([port(81, 1)]));
    sent("ports[\"82\"]", json!([port(80, 1)]), json!([port(82, 2), port(80, 1)]), json!([port(80, 1), port(82, 2)]));
    sent("tags", json!(["x", "y"]), json!(["z", "y"]), json!(["y", "z"]));
    sent("tags[\"x\"]", json!(["x", "y"]), json!(["y"]), json!(["y"]));
    sent("list", json!(["x", "y", "z"]), json!(["w"]), json!(["w"]));
    sent("list", json!(["x"]), json!(["w", "v", "u"]), json!(["w", "v", "u"]));
    sent("list[0].k", json!([{"k": 1, "l": 1}]), json!([{"k": 2, "l": 1}]), json!([{"k": 2, "l": 1}]));
    sent("map.k", json!({"k": 1, "l": 1}), json!({"l": 1}), json!({"l": 1}));
    sent("map.k", json!({"l": 1}), json!({"k": 1, "l": 1}), json!({"k": 1, "l": 1}));
    sent("config", json!("a: 1\n"), json!("a: 2 # mine\n"), json!("a: 2 # mine\n"));
    sent("config.a", json!("a: 1\nb: 1\n"), json!("b: 1\na: 2 # mine\n"), json!("b: 1\na: 2 # mine\n"));
}

#[test]
fn a_structured_text_is_changed_around_what_is_ignored() {
    let mut bench = Bench::applied([declared("thing/t", json!({"config": "a: 1\nb: 1\n"})).ignoring("config.a")]);
    bench.drift("thing/t", "config", json!("a: 2\nb: 1\n"));
    bench.declare([declared("thing/t", json!({"config": "a: 1\nb: 7\n"})).ignoring("config.a")]);
    let plan = bench.apply();
    let sent = plan.nodes[&key("thing/t")].declaration.clone().unwrap();
    assert_eq!(sent.spec, json!({"config": "{\"a\":2,\"b\":7}"}).into());
    bench.check("");
}

#[test]
fn what_is_made_anew_is_made_as_declared_and_shown_so() {
    let thing = |size: i64| declared("thing/t", json!({"size": size, "b": 1})).ignoring("b");
    let mut bench = Bench::applied([thing(1)]);
    bench.drift("thing/t", "b", json!(9));
    bench.declare([thing(2)]);
    bench.check(
        "thing/t: replace; declaration_changed; size: 1 → 2 (declared, forces); b: 9 → 1 (drifted)
         drift thing/t: changed b → reverted
         0 delete thing/t
         1 create thing/t after 0 exists",
    );
    let plan = bench.plan();
    let node = &plan.nodes[&key("thing/t")];
    assert_eq!(node.declaration.as_ref().unwrap().spec, json!({"size": 2, "b": 1}).into());
    assert_eq!(node.after.as_ref().unwrap().field("b"), Some(&json!(1).into()));
}

#[test]
fn any_element_may_be_ignored() {
    let spec = json!({"a": 1, "b": {"x": 1, "y": 1}});
    let mut bench = Bench::applied([declared("thing/t", spec).ignoring("b[*]")]);
    bench.drift("thing/t", "b.x", json!(9));
    assert!(bench.plan().nodes[&key("thing/t")].changes.is_empty(), "{}", bench.shown());
}

#[test]
fn protection_outlives_the_declaration() {
    let error = "error: protected, and would be lost: dev/thing/t (deleted)";
    let mut bench = Bench::applied([declared("thing/t", json!({"size": 1})).protected()]);
    bench.clone().destroy().check(error);
    bench.declare([]);
    bench.check(error);
    bench.removed("thing/t", false);
    bench.check(
        "thing/t: forget; removed
         0 forget thing/t",
    );
    bench.declared.removed.clear();
    bench.declare([declared("thing/t", json!({"size": 2})).protected()]);
    bench.check("error: protected, and would be lost: dev/thing/t (made anew)");
    // What is gone already is not lost by the plan, and may be made again.
    bench.gone("thing/t");
    assert_eq!(bench.plan().counts().create, 1);
}

#[test]
fn protection_ends_where_the_declaration_says_so() {
    let mut bench = Bench::applied([declared("thing/t", json!({"size": 1})).protected()]);
    let thing = |size: i64, protect| {
        declared("thing/t", json!({"size": size})).with(|declaration| declaration.lifecycle.protect = protect)
    };
    // A rule that is gone says nothing.
    bench.declare([thing(1, None)]).check("");
    bench.declare([thing(2, None)]).check("error: protected, and would be lost: dev/thing/t (made anew)");
    bench.declare([thing(2, Some(false))]);
    let plan = bench.plan();
    let lifted = [RecordChange::Protection { before: true, after: false }];
    assert_eq!((plan.counts().replace, plan.nodes[&key("thing/t")].lifecycle_changes()), (1, lifted.to_vec()));
    // Where nothing was protected, to say so is no change.
    let mut bench = Bench::applied([thing(1, None)]);
    bench.declare([thing(1, Some(false))]).check("");
}

#[test]
fn what_only_the_state_says_is_a_change() {
    let thing = declared("thing/t", json!({"size": 1}));
    let mut bench = Bench::applied([thing.clone()]);
    assert!(!bench.plan().has_changes());
    bench.declare([thing.clone().protected().ignoring("size")]);
    let plan = bench.apply();
    assert!(plan.has_changes());
    assert_eq!((plan.counts().record, plan.counts().unchanged), (1, 0));
    let all: Vec<RecordChange> = plan.recorded_only().flat_map(|(_, changes)| changes).collect();
    assert!(matches!(all[..], [RecordChange::Protection { before: false, after: true }, RecordChange::Ignored { .. }]));
    bench.see(&key("thing/t"), |seen| seen.attributes = Value::map([("id", "id-t-1"), ("endpoint", "10.0.0.2")]));
    let plan = bench.apply();
    let seen = RecordChange::Seen { attributes: vec!["endpoint".to_owned()] };
    assert_eq!(plan.recorded_only().flat_map(|(_, changes)| changes).collect::<Vec<_>>(), [seen]);
    assert!(!bench.plan().has_changes());
}

#[test]
fn removed_with_and_without_destroy() {
    let mut bench = Bench::applied([declared("thing/a", json!({})), declared("thing/b", json!({}))]);
    bench.declare([]).removed("thing/a", true).removed("thing/b", false);
    bench.check(
        "thing/a: delete; removed
         thing/b: forget; removed
         0 forget thing/b
         1 delete thing/a",
    );
}

#[test]
fn moves() {
    let mut bench = Bench::applied([
        declared("host/old", json!({})).named("h"),
        declared("thing/in", json!({})).on("host/old").needs("host/old"),
    ]);
    bench.observations.remove(&key("thing/unused"));
    bench.declare([
        declared("host/new", json!({})).named("h"),
        declared("thing/in", json!({})).on("host/new").needs("host/new"),
    ]);
    bench.moved("host/old", "host/new");
    let seen = bench.observations.remove(&key("host/old")).unwrap();
    bench.observations.insert(key("host/new"), seen);
    bench.check(
        "host/new: no-op; from host/old
         0 put host/new",
    );
    bench.mode = Mode::RefreshOnly;
    assert_eq!(bench.plan().nodes[&key("host/new")].moved_from, Some(address("host/old")), "{}", bench.shown());
}

#[test]
fn moves_in_a_chain() {
    let mut bench =
        Bench::applied([declared("thing/a", json!({})).named("x"), declared("thing/b", json!({})).named("y")]);
    let (a, b) =
        (bench.observations.remove(&key("thing/a")).unwrap(), bench.observations.remove(&key("thing/b")).unwrap());
    bench.declare([declared("thing/b", json!({})).named("x"), declared("thing/c", json!({})).named("y")]);
    bench.moved("thing/b", "thing/c").moved("thing/a", "thing/b");
    bench.observations.insert(key("thing/b"), a.clone());
    bench.observations.insert(key("thing/c"), b);
    let plan = bench.plan();
    assert_eq!(plan.counts().unchanged, 2, "{}", shown(&plan));
    // One thing, moved twice over the years.
    let mut bench = Bench::applied([declared("thing/a", json!({})).named("x")]);
    bench.observations.clear();
    bench.declare([declared("thing/c", json!({})).named("x")]);
    bench.moved("thing/a", "thing/b").moved("thing/b", "thing/c");
    assert_eq!(ksail_plan::look_list(&bench.declared, &bench.snapshot)[0].key, key("thing/c"));
    bench.observations.insert(key("thing/c"), a);
    bench.check(
        "thing/c: no-op; from thing/a
         0 put thing/c",
    );
}

#[test]
fn moves_that_cannot_be() {
    let two = [declared("thing/a", json!({})), declared("thing/b", json!({}))];
    let mut bench = Bench::applied(two.clone());
    bench.declare([two[1].clone()]).moved("thing/a", "thing/b");
    bench.check("error: dev/thing/a cannot move to dev/thing/b: there is a record already");
    // What is declared at the old address again was moved before.
    bench.declare(two).check("");
    bench.declared.moved.clear();
    bench.moved("thing/a", "host/a");
    bench.check("error: dev/thing/a cannot move to dev/host/a: it would be of another kind");
    bench.declared.moved.clear();
    bench.moved("thing/long-ago", "thing/b");
    bench.check("");
}

#[test]
fn imports() {
    let mut bench = Bench::new([declared("thing/t", json!({"a": 1}))]);
    bench.import("thing/t", "found");
    bench.check("thing/t: blocked (found nothing_to_import)");
    bench.put(&key("thing/t"), declared("thing/t", json!({"a": 2})), 1);
    bench.snapshot.records.clear();
    bench.see(&key("thing/t"), |seen| seen.mark = None);
    bench.check(
        "thing/t: update; declaration_changed; a: 2 → 1 (declared); import found
         0 put thing/t
         1 update thing/t after 0 exists",
    );
    bench.apply();
    bench.check("");
    // Nothing is made where it was not looked.
    let bench = Bench::new([declared("thing/t", json!({}))]).import("thing/t", "found").clone();
    let plan = bench.plan_seeing(&BTreeMap::new()).unwrap();
    assert_eq!(plan.counts().blocked, 1, "{}", shown(&plan));
    let mut bench = Bench::new([]);
    bench.import("thing/t", "x").check("error: dev/thing/t is to be imported and is not declared");
}

#[test]
fn replace_on_request_and_what_cannot_outlive_it() {
    let chain = [
        declared("thing/a", json!({})),
        declared("thing/b", json!({})).dies_with("thing/a"),
        declared("thing/c", json!({})).dies_with("thing/b"),
        declared("thing/d", json!({})).needs("thing/c"),
    ];
    let mut bench = Bench::applied(chain);
    bench.replace("thing/a");
    assert_snapshot!(bench.shown());
    let explained = explain(&bench.plan(), &key("thing/a")).unwrap();
    let forced: Vec<String> = explained.forces.iter().map(|(key, _)| key.to_string()).collect();
    assert_eq!(forced, ["dev/thing/b", "dev/thing/c"]);
    assert_eq!(explained.disturbs, [key("thing/d")]);
    bench.options.replace.clear();
    bench.replace("thing/none").check("error: --replace thing/none selects no resource");
}

#[test]
fn a_target_brings_what_cannot_outlive_its_replacement() {
    let chain = [
        declared("thing/a", json!({"size": 1})),
        declared("thing/b", json!({})).dies_with("thing/a"),
        declared("thing/c", json!({})).dies_with("thing/b").needs("thing/d"),
        declared("thing/d", json!({})).needs("thing/a"),
    ];
    let mut bench = Bench::applied(chain);
    let steps = ["Delete c", "Delete b", "Delete a", "Create a", "Create b", "Create c"];
    let mut requested = bench.clone();
    requested.target("thing/a").replace("thing/a");
    assert_eq!(steps_of(&requested.plan()), steps, "{}", requested.shown());
    // Also where a change forces it.
    bench.edited("thing/a").spec = json!({"size": 2}).into();
    bench.target("thing/a");
    assert_eq!(steps_of(&bench.plan()), steps, "{}", bench.shown());
    // What is excluded stays out, and so nothing is done to what it stands on.
    bench.options.targets.clear();
    bench.exclude("thing/c");
    let plan = bench.plan();
    assert_eq!((plan.steps.len(), plan.counts().blocked), (0, 2), "{}", shown(&plan));
    assert!(shown(&plan).contains("thing/c is on it, cannot outlive it, and is left out"), "{}", shown(&plan));
}

fn line() -> Bench {
    Bench::new([
        declared("thing/a", json!({"x": 1})),
        declared("thing/b", json!({"x": 1})).needs("thing/a"),
        declared("thing/c", json!({"x": 1})).needs("thing/b"),
    ])
}

fn steps_of(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{:?} {}", step.what, step.key.address.name())).collect()
}

#[test]
fn targets_and_excludes() {
    let check =
        |bench: &mut Bench, expected: &[&str]| assert_eq!(steps_of(&bench.plan()), expected, "{}", bench.shown());
    check(line().target("thing/b"), &["Create a", "Create b"]);
    check(line().exclude("thing/b"), &["Create a"]);
    let mut applied = line();
    applied.apply();
    // To destroy something is to destroy what stands on it; to keep something is to keep what it stands on.
    check(applied.clone().destroy().target("thing/b"), &["Delete c", "Delete b"]);
    check(applied.clone().destroy().exclude("thing/b"), &["Delete c"]);
    check(applied.clone().declare([]).target("thing/b"), &["Delete c", "Delete b"]);
    check(applied.clone().declare([]).exclude("thing/c"), &[]);
    line().target("thing/z").check("error: --target thing/z selects no resource");
}

#[test]
fn refresh_only_takes_in_what_is_seen() {
    let mut bench = Bench::applied([
        declared("thing/a", json!({"x": 1})),
        declared("thing/b", json!({})),
        declared("thing/c", json!({})),
    ]);
    bench.drift("thing/a", "x", json!(2)).gone("thing/b").unreachable("thing/c");
    bench.mode = Mode::RefreshOnly;
    bench.check(
        "thing/a: no-op
         thing/b: forget; deleted_outside
         thing/c: blocked (unknown connection refused unreachable)
         drift thing/a: changed x → accepted
         drift thing/b: gone  → accepted
         0 forget thing/b
         1 put thing/a",
    );
}

#[test]
fn without_refresh_the_state_is_believed() {
    let mut bench = Bench::applied([declared("thing/a", json!({"x": 1}))]);
    bench.declare([declared("thing/a", json!({"x": 2})), declared("thing/b", json!({}))]);
    bench.drift("thing/a", "x", json!(9));
    let plan = bench.plan_seeing(&BTreeMap::new()).unwrap();
    assert_eq!(plan.nodes[&key("thing/a")].changes[0].before, Some(1_i64.into()));
    assert_eq!((plan.counts().create, plan.counts().update), (1, 1));
}

#[test]
fn not_ready_is_waited_for_and_not_replaced() {
    let mut bench = Bench::applied([declared("thing/a", json!({}))]);
    bench.not_ready("thing/a");
    bench.check(
        "thing/a: wait; not_ready it is starting
         0 wait thing/a",
    );
    bench.apply();
    bench.check("");
}

#[test]
fn what_the_outside_would_refuse_is_blocked() {
    let mut bench = Bench::applied([declared("thing/a", json!({"x": 1}))]);
    bench.declare([declared("thing/a", json!({"x": 2}))]);
    let refused = Preview::Refused { message: "quota".to_owned(), hint: None };
    bench.previews.insert(key("thing/a"), refused);
    bench.check("thing/a: blocked (refused quota)");
    let path = ksail_model::Path::key("x");
    bench.previews.insert(key("thing/a"), Preview::ForcesReplacement { path, why: "immutable".to_owned() });
    bench.check(
        "thing/a: replace; outside_forces immutable; x: 1 → 2 (declared, forces)
         0 delete thing/a
         1 create thing/a after 0 exists",
    );
}

/// `loose/l` declared so, of which the outside returned these fields.
fn written_otherwise(spec: serde_json::Value, returned: serde_json::Value) -> Bench {
    let mut bench = Bench::applied([declared("loose/l", spec)]);
    let key = key("loose/l");
    let fields = ksail_model::Value::from(returned);
    bench.see(&key, |seen| seen.fields.clone_from(&fields));
    std::sync::Arc::make_mut(bench.snapshot.records.get_mut(&key).unwrap()).fields = fields;
    bench
}

#[test]
fn what_the_outside_writes_otherwise_is_measured_by_what_it_returned() {
    let mut bench = written_otherwise(json!({"cpu": "1000m", "x": 1}), json!({"cpu": "1", "x": 1}));
    bench.check("");
    // Without a word of the outside, the new declaration is shown as it is.
    bench.declare([declared("loose/l", json!({"cpu": "2000m", "x": 1}))]);
    bench.check(
        "loose/l: update; declaration_changed; cpu: \"1\" → \"2000m\" (declared)
         0 update loose/l",
    );
    let says = |fields| Preview::Accepted { fields: ksail_model::Value::from(fields) };
    bench.previews.insert(key("loose/l"), says(json!({"cpu": "2", "x": 1})));
    bench.check(
        "loose/l: update; declaration_changed; cpu: \"1\" → \"2\" (declared)
         0 update loose/l",
    );
    // Another spelling of the same: only the state learns of it.
    bench.previews.insert(key("loose/l"), says(json!({"cpu": "1", "x": 1})));
    let node = &bench.plan().nodes[&key("loose/l")];
    assert_eq!(node.action, ksail_plan::Action::NoOp);
    assert!(node.refreshed.is_some());
}

#[test]
fn drift_of_what_the_outside_writes_otherwise_is_seen() {
    let mut bench = written_otherwise(json!({"cpu": "1000m", "x": 1}), json!({"cpu": "1", "x": 1}));
    bench.drift("loose/l", "cpu", json!("3"));
    bench.check(
        "loose/l: update; drifted; cpu: \"3\" → \"1000m\" (drifted)
         drift loose/l: changed cpu → reverted
         0 update loose/l",
    );
    // Where the outside would not take it back, it is left, and said so.
    let refused = Preview::Refused { message: "cpu is owned by another".to_owned(), hint: None };
    bench.previews.insert(key("loose/l"), refused);
    bench.check(
        "loose/l: blocked (refused cpu is owned by another)
         drift loose/l: changed cpu → left",
    );
    bench.previews.clear();
    bench.declare([declared("loose/l", json!({"cpu": "1000m", "x": 2})).ignoring("cpu")]);
    let says = Preview::Accepted { fields: json!({"cpu": "3", "x": 2}).into() };
    bench.previews.insert(key("loose/l"), says);
    let node = &bench.plan().nodes[&key("loose/l")];
    let sent = &node.declaration.as_ref().unwrap().spec;
    assert_eq!(sent.field("cpu"), Some(&ksail_model::Value::from("3")), "what is ignored is sent as it is");
    assert_eq!(node.changes.len(), 1);
}

#[test]
fn what_is_shared_may_be_there() {
    let shared = declared("thing/s", json!({})).with(|declaration| declaration.ownership = Ownership::Shared);
    let mut bench = Bench::new([shared]);
    bench.put(&key("thing/s"), declared("thing/s", json!({})), 1);
    bench.snapshot.records.clear();
    bench.see(&key("thing/s"), |seen| seen.mark = None);
    bench.check(
        "thing/s: create; declared
         0 create thing/s",
    );
}

#[test]
fn what_is_read_is_never_made() {
    let read = |spec| declared("thing/r", spec).with(|declaration| declaration.ownership = Ownership::Read);
    let mut bench = Bench::new([read(json!({}))]);
    assert!(bench.plan().steps.is_empty(), "{}", bench.shown());
    bench.put(&key("thing/r"), read(json!({"a": 1})), 1);
    bench.see(&key("thing/r"), |seen| seen.mark = None);
    bench.drift("thing/r", "a", json!(2));
    assert!(bench.plan().steps.iter().all(|step| step.what == StepDo::Put), "{}", bench.shown());
    bench.destroy();
    assert_eq!(bench.plan().counts().forget, 1);
}

#[test]
fn a_foreign_lineage_took_it_over() {
    let mut bench = Bench::applied([declared("thing/a", json!({}))]);
    bench.see(&key("thing/a"), |seen| {
        seen.mark = Some(Mark { lineage: "other".to_owned(), ..mark(&address("thing/a"), 1) });
    });
    let blocked = "thing/a: blocked (not_ours a lineage other (dev/thing/a) true)";
    bench.check(blocked);
    bench.mode = Mode::RefreshOnly;
    bench.check(blocked);
    bench.destroy().check(blocked);
}

#[test]
fn a_first_plan_begins_nothing_beside_another_state_of_its_cluster() {
    let mut bench = Bench::new([
        declared("thing/a", json!({})),
        declared("thing/s", json!({})).with(|declaration| declaration.ownership = Ownership::Shared),
    ]);
    let there = declared("thing/a", json!({}));
    bench.put(&key("thing/a"), there, 1);
    bench.snapshot.records.clear();
    bench.see(&key("thing/a"), |seen| seen.mark.as_mut().unwrap().lineage = "lost".to_owned());
    bench.check(
        "thing/a: blocked (not_ours a lineage lost (dev/thing/a))
         thing/s: blocked (other_state thing/a)",
    );
    // A namesake of another cluster stands in nobody's way but its own.
    let mut other = bench.clone();
    other.see(&key("thing/a"), |seen| seen.mark.as_mut().unwrap().address = address("other/thing/a"));
    assert_eq!((other.plan().counts().create, other.plan().counts().blocked), (1, 1), "{}", other.shown());
    // And with a state of its own it goes on.
    bench.snapshot.serial = 1;
    assert_eq!(bench.plan().counts().create, 1, "{}", bench.shown());
}

#[test]
fn what_stands_in_the_place_of_ours_without_a_mark_is_not_ours() {
    let mut bench = Bench::applied([declared("thing/a", json!({"size": 1}))]);
    bench.see(&key("thing/a"), |seen| seen.mark = None);
    let blocked = "thing/a: blocked (not_ours a true)";
    bench.check(blocked);
    bench.clone().drift("thing/a", "size", json!(2)).check(blocked);
    bench.clone().declare([]).check(blocked);
    bench.mode = Mode::RefreshOnly;
    bench.check(blocked);
    bench.destroy().check(blocked);
    // It is given up all the same.
    bench.mode = Mode::Apply;
    bench.removed("thing/a", false);
    assert_eq!(bench.plan().counts().forget, 1, "{}", bench.shown());
}

#[test]
fn references_known_unknown_and_resolved() {
    let reference = |path: &str| json!({"$ref": {"address": "dev/thing/a", "path": path}});
    let user = declared("thing/b", json!({"name": reference("x"), "at": reference("endpoint")})).needs("thing/a");
    let mut bench = Bench::new([declared("thing/a", json!({"x": "declared"})), user.clone()]);
    let plan = bench.plan();
    let after = plan.nodes[&key("thing/b")].after.clone().unwrap();
    assert_eq!(
        after.to_string(),
        r#"{at: (known after apply), id: (known after apply), ip: (known after apply), name: "declared"}"#
    );
    bench.apply();
    bench.check("");
    // Where the other changes, what it will answer is not known; an unchanged answer is no surprise.
    bench.declare([declared("thing/a", json!({"x": "changed"})), user]);
    bench.check(
        "thing/a: update; declaration_changed; x: \"declared\" → \"changed\" (declared)
         thing/b: update; thing/a dependency_changed; at: \"10.0.0.1\" → (known after apply) (dependency); name: \"declared\" → \"changed\" (dependency)
         0 update thing/a
         1 update thing/b after 0 ready",
    );
    let explained = explain(&bench.plan(), &key("thing/a")).unwrap();
    assert_eq!(explained.forces.len(), 1);
}

#[test]
fn blocked_is_exactly_what_needs_it() {
    let mut bench = Bench::new([
        declared("thing/a", json!({})),
        declared("thing/b", json!({})).needs("thing/a"),
        declared("thing/c", json!({})).needs("thing/b"),
        declared("thing/free", json!({})),
        declared("thing/soft", json!({})).needs_softly("thing/a"),
    ]);
    bench.unreachable("thing/a");
    bench.check(
        "thing/a: blocked (unknown connection refused unreachable)
         thing/b: blocked (dependency thing/a)
         thing/c: blocked (dependency thing/b)
         thing/free: create; declared
         thing/soft: create; declared
         0 create thing/soft
         1 create thing/free",
    );
}

#[test]
fn a_blocked_deletion_blocks_what_it_stands_on_and_all_in_it() {
    // What is outside the host needs it, and cannot be told: the host stays, with all that is in it.
    let mut bench = Bench::applied([
        declared("host/h", json!({})),
        declared("thing/in", json!({})).on("host/h"),
        declared("thing/user", json!({})).needs("thing/in"),
    ]);
    bench.unreachable("thing/user");
    bench.clone().destroy().check(
        "host/h: blocked (dependency thing/in)
         thing/in: blocked (dependency thing/user)
         thing/user: blocked (unknown connection refused unreachable)",
    );
    let mut bench = Bench::applied([
        declared("host/h", json!({"size": 1})),
        declared("thing/in", json!({})).on("host/h"),
        declared("thing/user", json!({})).needs("host/h"),
    ]);
    bench.unreachable("thing/user");
    bench.declare([
        declared("host/h", json!({"size": 2})),
        declared("thing/in", json!({})).on("host/h"),
        declared("thing/user", json!({})).needs("host/h"),
    ]);
    bench.check(
        "host/h: blocked (dependency thing/user)
         thing/in: blocked (dependency host/h)
         thing/user: blocked (unknown connection refused unreachable)",
    );
}

#[test]
fn one_plan_over_two_clusters() {
    let hub = declared("hub/thing/store", json!({}));
    let edge =
        declared("edge/thing/agent", json!({"to": {"$ref": {"address": "hub/thing/store", "path": "endpoint"}}}))
            .needs("hub/thing/store");
    let mut bench = Bench::new([hub, edge]);
    bench.check(
        "edge/thing/agent: create; declared
         hub/thing/store: create; declared
         0 create hub/thing/store
         1 create edge/thing/agent after 0 ready",
    );
    bench.apply();
    bench.destroy().check(
        "edge/thing/agent: delete; destroy
         hub/thing/store: delete; destroy
         0 delete edge/thing/agent
         1 delete hub/thing/store after 0 exists",
    );
}

#[test]
fn planning_is_pure() {
    let mut bench = line();
    bench.apply();
    bench.drift("thing/b", "x", json!(2)).gone("thing/c");
    let plan = bench.plan();
    assert_eq!(plan, bench.plan());
    assert_eq!(digest_of(&plan), plan.digest);
    let mut later = bench.clone();
    later.now += 60_000;
    assert_eq!(later.plan().digest, plan.digest, "when it was made does not count");
    let mut elsewhere = bench.clone();
    elsewhere.snapshot.lineage = "another".to_owned();
    let other = elsewhere.try_plan().unwrap();
    assert_eq!(other.content_digest, plan.content_digest);
    assert_ne!(other.digest, plan.digest);
}

#[test]
fn a_plan_that_was_changed_does_not_fit_its_digest_be_it_in_what_is_only_shown() {
    let mut bench = line();
    bench.apply();
    bench.drift("thing/b", "x", json!(2)).gone("thing/c");
    let plan = bench.plan();
    let check = |change: &dyn Fn(&mut Plan)| {
        let mut tampered = plan.clone();
        change(&mut tampered);
        assert_ne!(tampered, plan);
        assert_ne!(digest_of(&tampered), plan.digest);
    };
    fn node(plan: &mut Plan) -> &mut PlanNode {
        plan.nodes.get_mut(&key("thing/b")).unwrap()
    }
    check(&|plan| Arc::make_mut(node(plan).declaration.as_mut().unwrap()).spec = json!({"x": 7}).into());
    check(&|plan| node(plan).before = None);
    check(&|plan| node(plan).after = Some(json!({"x": 7}).into()));
    check(&|plan| node(plan).reason = Reason::Imported);
    check(&|plan| node(plan).record = None);
    check(&|plan| plan.drift.clear());
    check(&|plan| {
        plan.outputs.insert("registry".to_owned(), "evil.example.com".into());
    });
    check(&|plan| plan.notes.push("all is well".to_owned()));
    check(&|plan| plan.header.commit = Some("0123456".to_owned()));
}

#[test]
fn outputs_alone_are_a_change() {
    let mut bench = line();
    bench.apply();
    bench.declared.outputs.insert("registry".to_owned(), "ghcr.io/owner".into());
    let plan = bench.plan();
    assert!(plan.has_changes() && plan.changes_outputs() && plan.steps.is_empty());
    bench.snapshot.outputs = plan.outputs;
    assert!(!bench.plan().has_changes());
}

#[test]
fn explanations() {
    let mut bench = Bench::applied([
        declared("host/h", json!({"size": 1, "v": 1})),
        declared("thing/in", json!({})).on("host/h"),
        declared("thing/user", json!({})).needs("host/h"),
    ]);
    bench.drift("host/h", "v", json!(5));
    let host = bench.edited("host/h");
    host.spec = json!({"size": 2, "v": 1}).into();
    host.origins.set(ksail_model::Path::key("size"), crate::support::origin(42));
    let explained = explain(&bench.plan(), &key("host/h")).unwrap();
    assert_snapshot!(serde_json::to_string_pretty(&explained).unwrap());
    assert!(explain(&bench.plan(), &key("host/none")).is_none());
}

#[test]
fn a_record_that_becomes_ready_is_taken_in() {
    let mut bench = Bench::applied([declared("thing/a", json!({}))]);
    let record = bench.snapshot.records.get_mut(&key("thing/a")).unwrap();
    std::sync::Arc::make_mut(record).status = Status::NotReady { why: "slow".to_owned() };
    bench.see(&key("thing/a"), |seen| seen.readiness = Readiness::Ready);
    bench.check(
        "thing/a: no-op
         0 put thing/a",
    );
}
