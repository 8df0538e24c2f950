//! The seven stories of a platform's life, as plans.

use insta::assert_snapshot;
use ksail_model::{Fingerprint, Mark, Observation, Scope, Secret, SecretPart, Value};
use ksail_plan::{Mode, Observed};
use ksail_records::Call;
use serde_json::json;

use crate::support::{Bench, With as _, address, declared, key, mark};

/// An engine with a network, a registry on it, and something outside that needs the registry.
fn platform() -> Vec<ksail_model::Declaration> {
    let registry = declared(
        "thing/registry",
        json!({"version": "3.0", "network": {"$ref": {"address": "dev/thing/network", "path": "id"}}, "password": {"$secret": {"parts": [{"env": "TOKEN"}], "fingerprint": "f1"}}}),
    );
    vec![
        declared("host/engine", json!({"size": 1})),
        declared("thing/network", json!({"subnet": "10.0.0.0/24"})).on("host/engine"),
        registry.on("host/engine").dies_with("thing/network"),
        declared("thing/consumer", json!({"from": {"$ref": {"address": "dev/thing/registry", "path": "endpoint"}}}))
            .needs("thing/registry"),
    ]
}

fn change(bench: &mut Bench, text: &str, field: &str, value: Value) {
    assert!(bench.edited(text).spec.set(&ksail_model::Path::key(field), value));
}

#[test]
fn first_apply() {
    let mut bench = Bench::new(platform());
    assert_snapshot!(bench.shown());
    bench.apply();
    bench.check("");
}

#[test]
fn a_host_unreachable() {
    let mut bench = Bench::applied(platform());
    bench.unreachable("host/engine");
    change(&mut bench, "thing/registry", "version", "3.1".into());
    // What would have changed is blocked like what would not: nothing is known of it.
    assert_snapshot!(bench.shown());
    assert!(bench.plan().steps.is_empty());
    bench.destroy();
    assert_snapshot!(bench.shown());
}

#[test]
fn a_host_replaced() {
    let mut bench = Bench::applied(platform());
    change(&mut bench, "host/engine", "size", 2_i64.into());
    assert_snapshot!(bench.shown());
    let plan = bench.apply();
    let recreated = &plan.nodes[&key("thing/network")];
    assert_eq!(recreated.scope, None, "the scope of the old host is not that of the new one");
    bench.check("");
}

#[test]
fn a_version_bumped() {
    let mut bench = Bench::applied(platform());
    change(&mut bench, "thing/registry", "version", "3.1".into());
    assert_snapshot!(bench.shown());
}

#[test]
fn a_secret_rotated() {
    let mut bench = Bench::applied(platform());
    let parts = vec![SecretPart::Env("TOKEN".to_owned())];
    let rotated = Secret { parts, fingerprint: Some(Fingerprint("f2".to_owned())) };
    change(&mut bench, "thing/registry", "password", rotated.into());
    assert_snapshot!(bench.shown());
    assert!(bench.plan().nodes[&key("thing/registry")].changes[0].sensitive);
}

#[test]
fn the_state_lost() {
    let mut bench = Bench::applied(platform());
    bench.snapshot.records.clear();
    bench.see(&key("thing/network"), |seen| {
        seen.mark = Some(Mark { lineage: "another".to_owned(), ..mark(&address("thing/network"), 1) });
    });
    assert_snapshot!(bench.shown());
    bench.mode = Mode::Recover;
    assert_snapshot!(bench.shown());
    bench.see(&key("thing/network"), |seen| seen.mark = Some(mark(&address("thing/network"), 1)));
    bench.apply();
    bench.mode = Mode::Apply;
    bench.check("");
}

#[test]
fn a_plan_killed() {
    let mut bench = Bench::applied(platform());
    bench.snapshot.records.remove(&key("thing/consumer"));
    bench.observations.remove(&key("thing/consumer"));
    let consumer = bench.edited("thing/consumer").clone();
    bench.open("thing/consumer", Call::Create, consumer, 0);
    assert_snapshot!(bench.shown());
}

#[test]
fn another_engine_behind_the_same_name() {
    let mut bench = Bench::applied([declared("thing/a", json!({})), declared("thing/b", json!({})).needs("thing/a")]);
    let observation = Observation::Absent;
    bench.observations.insert(key("thing/a"), Observed { observation, scope: Some(Scope("engine-2".into())) });
    bench.check("thing/a: blocked (unknown engine-2 engine other_scope)");
    bench.destroy();
    bench.check(
        "thing/a: blocked (unknown engine-2 engine other_scope)
         thing/b: delete; destroy
         0 delete thing/b",
    );
}
