//! What waits for what.

use ksail_plan::StepDo::{Create, Delete, Update};
use serde_json::json;

use crate::support::{Bench, With as _, comes_before, declared, key, shown};

#[test]
fn cycles_are_shown_with_origins() {
    Bench::new([declared("thing/a", json!({})).needs("thing/b"), declared("thing/b", json!({})).needs("thing/a")]).check(
        "error: resources need each other in a circle: dev/thing/a → (derived: it needs thing/b) dev/thing/b → (derived: it needs thing/a) → dev/thing/a",
    );
    Bench::new([declared("thing/a", json!({})).needs("thing/b")])
        .check("error: dev/thing/a needs dev/thing/b, which is not declared");
    Bench::new([declared("unheard/a", json!({}))])
        .check("error: dev/unheard/a is of a kind that this ksail does not know");
}

#[test]
fn soft_edges_yield_and_can_be_destroyed() {
    let mut bench = Bench::new([
        declared("thing/cni", json!({})).needs_softly("thing/webhook"),
        declared("thing/webhook", json!({})).needs("thing/cni"),
    ]);
    let plan = bench.apply();
    assert_eq!(plan.yielded.len(), 1);
    assert!(comes_before(&plan, (Create, "thing/cni"), (Create, "thing/webhook")));
    bench.check("");
    let plan = bench.destroy().plan();
    assert!(comes_before(&plan, (Delete, "thing/webhook"), (Delete, "thing/cni")), "{}", shown(&plan));
}

#[test]
fn what_is_changed_in_turn_waits_for_a_change_and_for_nothing_else() {
    let nodes = |release: i64, tags: &str| {
        let node = |name: &str| declared(name, json!({"release": release, "tags": [tags]}));
        [node("thing/a"), node("thing/b").comes_after("thing/a"), node("thing/c").comes_after("thing/b")]
    };
    // Nothing waits for it that is made.
    let mut bench = Bench::new(nodes(1, "x"));
    assert!(bench.plan().steps.iter().all(|step| step.needs.is_empty()), "{}", bench.shown());
    bench.apply();
    bench.check("");
    // Nor what changes otherwise.
    bench.declare(nodes(1, "y"));
    assert!(bench.plan().steps.iter().all(|step| step.needs.is_empty()), "{}", bench.shown());
    bench.declare(nodes(2, "x"));
    let plan = bench.plan();
    for (first, then) in [("thing/a", "thing/b"), ("thing/b", "thing/c")] {
        assert!(comes_before(&plan, (Update, first), (Update, then)), "{}", shown(&plan));
    }
    // One that is blocked does not block the next one, and none is asked for with another.
    bench.unreachable("thing/a");
    assert_eq!(bench.plan().steps.len(), 2, "{}", bench.shown());
    let mut bench = Bench::applied(nodes(1, "x"));
    bench.declare(nodes(2, "x")).target("thing/c");
    assert_eq!(bench.plan().steps.len(), 1, "{}", bench.shown());
    // Nor deleted before another.
    let mut bench = Bench::applied(nodes(1, "x"));
    assert!(bench.destroy().plan().steps.iter().all(|step| step.needs.is_empty()), "{}", bench.shown());
}

#[test]
fn records_of_two_times_may_contradict_each_other() {
    // After a partial apply one record says that it needs the other, and the other way round.
    let mut bench = Bench::applied([declared("thing/a", json!({})).needs("thing/b"), declared("thing/b", json!({}))]);
    let record = bench.snapshot.records.get_mut(&key("thing/b")).unwrap();
    let record = std::sync::Arc::make_mut(record);
    std::sync::Arc::make_mut(&mut record.declaration).edges.push(crate::support::edge("thing/a"));
    assert_eq!(bench.destroy().plan().steps.len(), 2);
}

#[test]
fn create_before_destroy() {
    let mut bench = Bench::applied([
        declared("twin/t", json!({"size": 1})).named("t-1").create_first(),
        declared("thing/user", json!({"of": {"$ref": {"address": "dev/twin/t", "path": "id"}}})).needs("twin/t"),
    ]);
    bench.declare([
        declared("twin/t", json!({"size": 2})).named("t-2").create_first(),
        declared("thing/user", json!({"of": {"$ref": {"address": "dev/twin/t", "path": "id"}}})).needs("twin/t"),
    ]);
    bench.check(
        "thing/user: update; twin/t dependency_changed; of: \"id-t-1\" → (known after apply) (dependency)
         twin/t: replace, create first; declaration_changed; size: 1 → 2 (declared, forces)
         0 depose twin/t
         1 create twin/t after 0 exists
         2 update thing/user after 1 ready
         3 delete twin/t#1 after 1 ready, 2 ready",
    );
    // A kind that cannot coexist is deleted first.
    let mut bench = Bench::applied([declared("thing/t", json!({"size": 1})).create_first()]);
    bench.declare([declared("thing/t", json!({"size": 2})).create_first()]);
    assert!(comes_before(&bench.plan(), (Delete, "thing/t"), (Create, "thing/t")));
}

#[test]
fn one_name_cannot_be_borne_twice() {
    let mut bench = Bench::applied([declared("twin/t", json!({"size": 1})).create_first()]);
    bench.declare([declared("twin/t", json!({"size": 2})).create_first()]);
    assert!(comes_before(&bench.plan(), (Delete, "twin/t"), (Create, "twin/t")), "{}", bench.shown());
}

#[test]
fn a_replacement_that_was_cut_short() {
    // The old one was deposed, and the new one was never made.
    let declaration = |size: i64, name| declared("twin/t", json!({"size": size})).named(name).create_first();
    let mut bench = Bench::applied([declaration(1, "t-1")]);
    let record = bench.snapshot.records.remove(&key("twin/t")).unwrap();
    bench.snapshot.records.insert(key("twin/t#1"), record);
    let seen = bench.observations.remove(&key("twin/t")).unwrap();
    bench.observations.insert(key("twin/t#1"), seen);
    bench.declare([declaration(2, "t-2")]);
    bench.check(
        "twin/t: create; declared
         twin/t#1: delete; deposed
         0 create twin/t
         1 delete twin/t#1 after 0 ready",
    );
    assert_eq!(bench.plan().nodes[&key("twin/t")].generation, 2, "generations are never used again");
}

#[test]
fn a_deposed_one_goes_first_where_its_successor_waits_for_what_takes_its_name() {
    // The old one was deposed and the apply was cut short. Now its name moves on to another, and the successor stands on that.
    let old = declared("twin/t", json!({"size": 1})).named("x").create_first();
    let mut bench = Bench::applied([old]);
    let record = bench.snapshot.records.remove(&key("twin/t")).unwrap();
    bench.snapshot.records.insert(key("twin/t#1"), record);
    let seen = bench.observations.remove(&key("twin/t")).unwrap();
    bench.observations.insert(key("twin/t#1"), seen);
    bench.declare([
        declared("twin/new", json!({})).named("x"),
        declared("twin/t", json!({"size": 2})).named("y").create_first().needs("twin/new"),
    ]);
    bench.check(
        "twin/new: create; declared
         twin/t: create; declared
         twin/t#1: delete; deposed
         0 delete twin/t#1
         1 create twin/new after 0 exists
         2 create twin/t after 1 ready",
    );
}

#[test]
fn a_dependent_changes_over_to_what_takes_the_old_name() {
    let user = |to: &str| declared("thing/user", json!({"of": to})).needs(to);
    let mut bench = Bench::applied([declared("thing/old", json!({})).named("x"), user("thing/old")]);
    bench.declare([declared("thing/new", json!({})).named("x"), user("thing/new")]);
    bench.observations.insert(key("thing/new"), bench.observations[&key("thing/old")].clone());
    let plan = bench.plan();
    assert!(comes_before(&plan, (Delete, "thing/old"), (Create, "thing/new")), "{}", shown(&plan));
    assert!(comes_before(&plan, (Create, "thing/new"), (Update, "thing/user")), "{}", shown(&plan));
    // What only has another address is not made anew.
    bench.moved("thing/old", "thing/new");
    bench.observations.insert(key("thing/new"), bench.observations[&key("thing/old")].clone());
    assert_eq!(bench.plan().counts().create + bench.plan().counts().delete, 0, "{}", bench.shown());
}

#[test]
fn a_circle_of_steps_names_them_in_order() {
    let circle = vec![(Delete, key("thing/a")), (Create, key("thing/b"))];
    assert_eq!(
        ksail_plan::PlanError::StepCycle(circle).to_string(),
        "steps would wait for each other in a circle: destroy dev/thing/a → create dev/thing/b → destroy dev/thing/a"
    );
}

#[test]
fn a_name_is_free_when_its_bearer_is_gone() {
    let mut bench = Bench::applied([declared("thing/old", json!({})).named("x")]);
    bench.declare([declared("thing/new", json!({})).named("x")]);
    bench.observations.insert(key("thing/new"), bench.observations[&key("thing/old")].clone());
    // The new one sees what the old one bears: it is ours, at another address.
    let plan = bench.plan();
    assert!(comes_before(&plan, (Delete, "thing/old"), (Create, "thing/new")), "{}", shown(&plan));
}

#[test]
fn names_are_swapped() {
    let with = |a: &str, b: &str, kind: &str| {
        [
            declared(&format!("{kind}/a"), json!({})).named(a).create_first(),
            declared(&format!("{kind}/b"), json!({})).named(b).create_first(),
        ]
    };
    for kind in ["thing", "twin"] {
        let mut bench = Bench::applied(with("x", "y", kind));
        bench.declare(with("y", "x", kind));
        let plan = bench.plan();
        let (a, b) = (format!("{kind}/a"), format!("{kind}/b"));
        let text = shown(&plan);
        let delete =
            |of: &str| if text.contains(&format!("delete {of}#1")) { format!("{of}#1") } else { of.to_owned() };
        assert!(comes_before(&plan, (Delete, &delete(&b)), (Create, &a)), "{text}");
        assert!(comes_before(&plan, (Delete, &delete(&a)), (Create, &b)), "{text}");
    }
}

#[test]
fn what_stands_in_a_host_from_outside_goes_before_the_host() {
    let mut bench = Bench::applied([
        declared("host/h", json!({})),
        declared("thing/in", json!({})).on("host/h"),
        declared("thing/user", json!({})).needs("thing/in"),
    ]);
    let plan = bench.destroy().plan();
    assert!(comes_before(&plan, (Delete, "thing/user"), (Delete, "host/h")), "{}", shown(&plan));
}

#[test]
fn what_leaves_a_host_that_is_made_anew_is_made_after_the_old_host_is_gone() {
    // Otherwise an apply that ends in between leaves the old one in a host that a later plan may keep.
    let mut bench =
        Bench::applied([declared("host/h", json!({"size": 1})), declared("thing/in", json!({})).on("host/h")]);
    bench.declare([declared("host/h", json!({"size": 2})), declared("thing/in", json!({}))]);
    let plan = bench.plan();
    assert!(comes_before(&plan, (Delete, "host/h"), (Create, "thing/in")), "{}", shown(&plan));
}

#[test]
fn what_no_longer_needs_it_changes_before_it_goes() {
    let mut bench =
        Bench::applied([declared("thing/a", json!({})), declared("thing/user", json!({"x": 1})).needs("thing/a")]);
    bench.declare([declared("thing/user", json!({"x": 2}))]);
    assert!(comes_before(&bench.plan(), (Update, "thing/user"), (Delete, "thing/a")));
}

#[test]
fn what_stood_on_a_lost_one_goes_before_that_is_made_anew() {
    // A machine is lost with what made it a node: the node's object goes before another one takes its name.
    let user = declared("thing/user", json!({})).dies_with("thing/lost");
    let mut bench = Bench::applied([declared("thing/lost", json!({})), user]);
    bench.gone("thing/lost");
    let plan = bench.plan();
    assert!(comes_before(&plan, (Delete, "thing/user"), (Create, "thing/lost")), "{}", shown(&plan));
    assert!(comes_before(&plan, (Create, "thing/lost"), (Create, "thing/user")), "{}", shown(&plan));
}

#[test]
fn what_came_after_it_goes_before_it_changes() {
    // A load balancer that is not needed any more holds the port that the only server is to have.
    let server = |port: u16| declared("thing/server", json!({"port": port}));
    let mut bench = Bench::applied([server(0), declared("thing/balancer", json!({})).needs_softly("thing/server")]);
    bench.declare([server(1)]);
    let plan = bench.plan();
    assert!(comes_before(&plan, (Delete, "thing/balancer"), (Update, "thing/server")), "{}", shown(&plan));
}

#[test]
fn a_long_chain_is_planned() {
    let chain = (0..3000).map(|n| {
        let node = declared(&format!("thing/n{n}"), json!({}));
        if n == 0 { node } else { node.needs(&format!("thing/n{}", n - 1)) }
    });
    assert_eq!(Bench::new(chain).plan().steps.len(), 3000);
}

#[test]
fn a_host_that_is_made_again_is_another() {
    // Its deletion was recorded, and then its creation failed: what was in it still has a record.
    let graph = [declared("host/h", json!({})), declared("thing/in", json!({})).on("host/h")];
    let mut bench = Bench::applied(graph);
    bench.snapshot.records.remove(&key("host/h"));
    bench.gone("host/h").gone("thing/in");
    assert_eq!(bench.plan().nodes[&key("host/h")].generation, 2, "{}", bench.shown());
    // And what is in a host that is no longer declared goes from the state with it.
    bench.declare([]);
    bench.check(
        "thing/in: forget; host/h host_deleted
         0 forget thing/in",
    );
}

#[test]
fn what_stands_on_something_that_stays_waits_for_the_changes_below_it() {
    let machine = |note: i64| declared("thing/machine", json!({"note": note}));
    let cluster = || declared("thing/cluster", json!({})).needs("thing/machine");
    let object = |note: i64| declared("thing/object", json!({"note": note})).needs("thing/cluster");
    let mut bench = Bench::applied([machine(1), cluster(), object(1)]);
    bench.declare([machine(2), cluster(), object(2)]);
    assert!(comes_before(&bench.plan(), (Update, "thing/machine"), (Update, "thing/object")), "{}", bench.shown());
    // A cluster that is now reached by something new waits for it, and what is in it does too.
    let balanced = || cluster().needs("thing/balancer");
    bench.declare([machine(1), balanced(), object(2), declared("thing/balancer", json!({}))]);
    assert!(comes_before(&bench.plan(), (Create, "thing/balancer"), (Update, "thing/object")), "{}", bench.shown());
    // What was gone while the cluster served is no need of what is in it.
    let mut bench = Bench::applied([machine(1), cluster(), object(1)]);
    bench.gone("thing/machine");
    bench.declare([machine(1), cluster(), object(2)]);
    let plan = bench.plan();
    assert!(!comes_before(&plan, (Create, "thing/machine"), (Update, "thing/object")), "{}", shown(&plan));
}
