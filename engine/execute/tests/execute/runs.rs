//! Applies that go well, and what they do in which order.

use std::time::Duration;

use ksail_conformance::Method;
use ksail_conformance::world::{Moment, SimulatedConnector, World};
use ksail_execute::{ApplyError, Ending};
use ksail_model::{Condition, ProviderConfig};
use ksail_plan::{Action, Mode};
use serde_json::json;

use crate::support::{CANARY, Stack, With as _, address, declared, key, platform};
use std::sync::{Arc, Mutex};

#[tokio::test(start_paused = true)]
async fn apply_change_replace_destroy() {
    let mut stack = Stack::new(platform(1));
    Stack::complete(&stack.run().await);
    stack.converged("first").await;
    // The host is made anew with all that is in it; the twin is made first, the other thing last.
    stack.declare(platform(2));
    Stack::complete(&stack.run().await);
    stack.converged("second").await;
    assert_eq!(stack.snapshot().await.records[&key("host/h")].generation, 2);
    let plan = stack.plan_as(Mode::Destroy).await;
    Stack::complete(&stack.apply(plan).await.unwrap());
    assert!(stack.listed().is_empty());
    assert!(stack.snapshot().await.records.is_empty());
    // What was in the host went with it, without a call of its own.
    let deleted: Vec<String> =
        stack.world.calls_of(Method::Delete).iter().map(|call| call.addresses[0].to_string()).collect();
    assert!(!deleted.contains(&"dev/thing/net".to_owned()), "{deleted:?}");
    assert_eq!(stack.backend().history(10).await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_old_one_goes_when_the_new_one_is_ready() {
    let mut stack = Stack::new(platform(1));
    stack.run().await;
    stack.declare(platform(2));
    stack.world.at(&address("twin/t"), |behaviour| behaviour.ready_after = Some(Duration::from_secs(2)));
    stack.world.forget_calls();
    stack.run().await;
    let at = |method, text: &str| {
        let calls = stack.world.calls_of(method);
        calls.into_iter().find(|call| call.addresses == [address(text)]).unwrap()
    };
    assert!(at(Method::Wait, "twin/t").ended < Some(at(Method::Delete, "twin/t").begun));
    assert!(at(Method::Delete, "thing/free").ended < Some(at(Method::Create, "thing/free").begun));
}

#[tokio::test(start_paused = true)]
async fn conditions() {
    let stack = Stack::new([
        declared("thing/a", json!({})),
        declared("thing/early", json!({})).needs_until("thing/a", Condition::Exists),
        declared("thing/late", json!({})).needs_until("thing/a", Condition::Ready),
    ]);
    stack.world.at(&address("thing/a"), |behaviour| behaviour.ready_after = Some(Duration::from_secs(1)));
    Stack::complete(&stack.run().await);
    let created = |text: &str| {
        stack.world.calls_of(Method::Create).into_iter().find(|call| call.addresses == [address(text)]).unwrap()
    };
    let ready = stack.world.calls_of(Method::Wait)[0].ended.unwrap();
    assert!(created("thing/early").begun < ready && created("thing/late").begun > ready);
}

#[tokio::test(start_paused = true)]
async fn budgets_of_calls_and_of_waits_are_apart() {
    let mut stack = Stack::new((0..20).map(|n| declared(&format!("thing/n{n}"), json!({}))));
    stack.limits.calls_in_flight = 3;
    stack.limits.waits_in_flight = 5;
    stack.world.all(|behaviour| {
        behaviour.latency = Some(Duration::from_millis(100));
        behaviour.ready_after = Some(Duration::from_secs(3));
    });
    Stack::complete(&stack.run().await);
    assert_eq!(stack.world.most_mutating_at_once(), 3);
    assert_eq!(stack.world.most_at_once(Method::Wait), 5);
}

#[tokio::test(start_paused = true)]
async fn the_longest_way_goes_first() {
    let mut stack = Stack::new([
        declared("thing/a", json!({})),
        declared("thing/b", json!({})),
        declared("thing/z", json!({})),
        declared("slow/last", json!({})).needs("thing/z"),
    ]);
    stack.limits.calls_in_flight = 1;
    Stack::complete(&stack.run().await);
    let first: Vec<String> =
        stack.world.calls_of(Method::Create).iter().map(|call| call.addresses[0].to_string()).collect();
    assert_eq!(first[..2], ["dev/thing/z", "dev/slow/last"]);
}

#[tokio::test(start_paused = true)]
async fn two_clusters_and_an_edge_between() {
    let mut stack = Stack::new([
        declared("hub/thing/store", json!({})),
        declared("spoke/thing/agent", json!({"to": {"$ref": {"address": "hub/thing/store", "path": "id"}}}))
            .needs("hub/thing/store")
            .with(|declaration| declaration.provider = "other".to_owned()),
    ]);
    let other = World::new("engine-2");
    stack.declared.providers.insert("other".to_owned(), ProviderConfig::default());
    stack.connector = Arc::new(SimulatedConnector::of("sim", &stack.world).with("other", &other));
    Stack::complete(&stack.run().await);
    let id = &stack.world.things().unwrap()[0].id;
    assert_eq!(other.things().unwrap()[0].fields, json!({"to": id}).into());
    assert!(stack.plan().await.steps.is_empty());
}

#[tokio::test(start_paused = true)]
async fn secrets_are_in_no_file() {
    let secret = json!({"password": {"$secret": {"parts": [{"env": "TOKEN"}], "fingerprint": "print"}}});
    let mut stack = Stack::new([declared("thing/a", secret.clone())]);
    Stack::complete(&stack.run().await);
    stack.converged("secret").await;
    stack.declare([declared("thing/a", secret).with(|declaration| {
        declaration.spec.set(&ksail_model::Path::key("x"), true.into());
    })]);
    stack.run().await;
    let mut folders = vec![stack.folder.path().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files += 1;
                let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
                assert!(!text.contains(CANARY), "{}", path.display());
            }
        }
    }
    assert!(files >= 4);
    assert!(!format!("{:?}", stack.sink.take()).contains(CANARY));
}

#[tokio::test(start_paused = true)]
async fn a_stale_plan_is_refused_and_names_what_differs() {
    let mut stack = Stack::new(platform(1));
    stack.run().await;
    stack.declare([&platform(1)[..], &[declared("thing/new", json!({}))]].concat());
    let free = stack.declared.declarations.get_mut(&address("thing/free")).unwrap();
    std::sync::Arc::make_mut(free).spec = json!({"size": 1, "x": 2}).into();
    let plan = stack.plan().await;
    stack.world.modify("thing", "dev-thing-free", |thing| thing.fields = json!({"size": 1, "x": 9}).into()).unwrap();
    stack.world.forget_calls();
    let error = stack.apply(plan.clone()).await.unwrap_err();
    assert!(
        matches!(&error, ApplyError::Stale(_)) && error.to_string().contains("dev/thing/free was changed since"),
        "{error}"
    );
    assert_eq!(stack.world.count(Method::Create) + stack.world.count(Method::Update), 0);
    // The rest can be applied.
    stack.partial = true;
    let summary = stack.apply(plan.clone()).await.unwrap();
    assert_eq!((summary.ending, summary.skipped.len()), (Ending::Partial, 1));
    assert!(stack.listed().contains(&"dev-thing-new".to_owned()));
    let error = stack.apply(plan).await.unwrap_err();
    assert!(matches!(error, ApplyError::Used { .. }), "{error}");
    stack.partial = false;
    Stack::complete(&stack.run().await);
    stack.converged("after partial").await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_of_an_older_state_is_refused() {
    let mut stack = Stack::new([declared("thing/a", json!({}))]);
    let early = stack.plan().await;
    stack.run().await;
    stack.declare([declared("thing/b", json!({}))]);
    stack.run().await;
    assert!(matches!(stack.apply(early).await.unwrap_err(), ApplyError::Stale(_)));
}

#[tokio::test(start_paused = true)]
async fn never_ready_is_waited_for_again() {
    let stack = Stack::new([declared("thing/a", json!({})), declared("thing/b", json!({})).needs("thing/a")]);
    stack.world.at(&address("thing/a"), |behaviour| behaviour.held_back = Some("no image".to_owned()));
    let summary = stack.run().await;
    assert_eq!(summary.ending, Ending::Partial);
    assert!(summary.failed[0].message.contains("not ready after 10 s: no image"), "{:?}", summary.failed);
    assert_eq!(summary.skipped.len(), 1);
    assert_eq!(stack.plan().await.nodes[&key("thing/a")].action, Action::Wait);
    stack.world.behave();
    stack.world.modify("thing", "dev-thing-a", |thing| thing.held_back = None).unwrap();
    Stack::complete(&stack.run().await);
    stack.converged("ready at last").await;
    assert_eq!(stack.world.count(Method::Create), 2);
}

#[tokio::test(start_paused = true)]
async fn what_comes_to_light_when_its_host_serves() {
    let graph = |v: i64| [declared("host/h", json!({"v": v})), declared("thing/in", json!({"v": v})).on("host/h")];
    let mut stack = Stack::new(graph(1));
    stack.run().await;
    let hold = |world: &World, held: Option<&str>| {
        world.modify("host", "dev-host-h", |thing| thing.held_back = held.map(str::to_owned)).unwrap();
    };
    hold(&stack.world, Some("stopped"));
    stack.world.modify("thing", "dev-thing-in", |thing| thing.fields = json!({"v": 77}).into()).unwrap();
    stack.declare(graph(2));
    let summary = stack.run().await;
    assert_eq!(summary.ending, Ending::Partial);
    assert!(summary.failed[0].message.contains("not as recorded"), "{:?}", summary.failed);
    Stack::complete(&stack.run().await);
    stack.converged("looked again").await;
}

#[tokio::test(start_paused = true)]
async fn moved_in_a_chain() {
    let mut stack = Stack::new([
        declared("thing/a", json!({})).named("x"),
        declared("thing/b", json!({})).named("y").needs("thing/a"),
    ]);
    stack.run().await;
    stack.declare([
        declared("thing/b", json!({})).named("x"),
        declared("thing/c", json!({})).named("y").needs("thing/b"),
    ]);
    for (from, to) in [("thing/b", "thing/c"), ("thing/a", "thing/b")] {
        let origin = ksail_model::Origin::Flag { flag: "x".into() };
        stack.declared.moved.push(ksail_model::Move { from: address(from), to: address(to), origin });
    }
    Stack::complete(&stack.run().await);
    stack.converged("moved").await;
    assert_eq!(stack.world.count(Method::Create), 2);
}

#[tokio::test(start_paused = true)]
async fn adoption_by_id_and_its_change() {
    use ksail_conformance::world::Thing;
    let mut stack = Stack::new([declared("thing/a", json!({"x": 2}))]);
    let found = Thing { id: "found".to_owned(), ..Thing::foreign("thing", "found", json!({"x": 1}).into()) };
    let thing = stack.world.put(found).unwrap();
    let origin = ksail_model::Origin::Flag { flag: "x".into() };
    stack.declared.imports.push(ksail_model::Import { to: address("thing/a"), id: "found".to_owned(), origin });
    Stack::complete(&stack.run().await);
    let found = &stack.world.things().unwrap()[..];
    assert!(found.len() == 1 && found[0].id == thing.id && found[0].fields == json!({"x": 2}).into(), "{found:?}");
    assert!(stack.plan().await.steps.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_update_leaves_alone_what_is_ignored() {
    let thing = |a: i64| {
        let spec = json!({"a": a, "ports": [{"container": 80, "host": 1}, {"container": 81, "host": 1}]});
        declared("thing/a", spec).with(|declaration| {
            declaration.lifecycle.ignore.push(ksail_model::Path::parse("ports[\"80\"].host").unwrap());
        })
    };
    let mut stack = Stack::new([thing(1)]);
    stack.run().await;
    let by_hand = json!([{"container": 80, "host": 9}, {"container": 81, "host": 9}]);
    stack
        .world
        .modify("thing", "dev-thing-a", |thing| thing.fields = json!({"a": 1, "ports": by_hand}).into())
        .unwrap();
    stack.declare([thing(2)]);
    Stack::complete(&stack.run().await);
    let expected = json!({"a": 2, "ports": [{"container": 80, "host": 9}, {"container": 81, "host": 1}]});
    assert_eq!(stack.world.things().unwrap()[0].fields, expected.into());
    stack.converged("ignored").await;
}

#[tokio::test(start_paused = true)]
async fn the_same_plan_goes_on_after_an_orderly_stop() {
    let mut stack = Stack::new((0..6).map(|n| {
        let node = declared(&format!("thing/n{n}"), json!({}));
        if n == 0 { node } else { node.needs(&format!("thing/n{}", n - 1)) }
    }));
    stack.world.all(|behaviour| behaviour.latency = Some(Duration::from_millis(100)));
    let plan = stack.plan().await;
    let (stop, seen) = (stack.stop.clone(), Mutex::new(0));
    stack.world.set_hook(Some(Arc::new(move |method, _, moment| {
        if method == Method::Create && moment == Moment::Begun {
            let mut seen = seen.lock().unwrap();
            *seen += 1;
            if *seen == 3 {
                stop.cancel();
            }
        }
    })));
    let summary = stack.apply(plan.clone()).await.unwrap();
    assert_eq!((summary.ending, summary.done), (Ending::Interrupted, 3));
    assert!(stack.snapshot().await.operation.is_some());
    stack.stop = Default::default();
    stack.world.set_hook(None);
    let summary = stack.apply(plan).await.unwrap();
    assert!(summary.resumed);
    assert_eq!((summary.ending, summary.done), (Ending::Complete, 6));
    assert_eq!(stack.world.count(Method::Create), 6);
    stack.converged("resumed").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_program_wrote_is_shown_and_not_kept() {
    let mut stack = Stack::new([declared("thing/a", json!({}))]);
    stack.limits.wait_timeout = Duration::from_secs(4);
    stack
        .world
        .at(&address("thing/a"), |behaviour| behaviour.held_back = Some("it crashes\n  panic: words".to_owned()));
    let summary = stack.run().await;
    assert!(summary.failed[0].message.contains("it crashes\n  panic: words"), "{}", summary.failed[0].message);
    let kept = serde_json::to_string(&stack.snapshot().await).unwrap();
    let history = serde_json::to_string(&stack.backend().history(10).await.unwrap()).unwrap();
    assert!(kept.contains("it crashes") && !kept.contains("panic") && !history.contains("panic"), "{kept}\n{history}");
}
