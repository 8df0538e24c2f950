//! Failures: what they close over, what they leave open, and how the next apply goes on.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ksail_conformance::Method;
use ksail_conformance::faults::{Fault, FaultPlan, Faulty};
use ksail_conformance::world::{Moment, SimulatedConnector};
use ksail_execute::{ApplyError, Ending};
use ksail_model::{Condition, UnknownReason};
use ksail_plan::{Action, Blocked, Mode};
use ksail_provider::{CallError, CallErrorKind};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{Stack, With as _, address, declared, key, platform};

#[tokio::test(start_paused = true)]
async fn a_failure_closes_exactly_over_what_needs_it() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.usize(2..25);
        let mut needs: Vec<Vec<usize>> = Vec::new();
        let graph: Vec<_> = (0..count)
            .map(|n| {
                needs.push((0..rng.usize(0..3)).filter(|_| n > 0).map(|_| rng.usize(0..n)).collect());
                let node = declared(&format!("thing/n{n}"), json!({}));
                needs[n].iter().fold(node, |node, to| node.needs(&format!("thing/n{to}")))
            })
            .collect();
        let stack = Stack::new(graph);
        let bad: Vec<usize> = (0..count).filter(|_| rng.u8(..) < 40).collect();
        for n in &bad {
            stack.world.at(&address(&format!("thing/n{n}")), |behaviour| behaviour.refusal = Some("no".to_owned()));
        }
        stack.world.all(|behaviour| behaviour.latency = Some(Duration::from_millis(1)));
        let summary = stack.run().await;
        let mut lost = vec![false; count];
        for n in 0..count {
            lost[n] = needs[n].iter().any(|to| lost[*to] || bad.contains(to));
        }
        let failed: Vec<usize> = bad.iter().copied().filter(|n| !lost[*n]).collect();
        assert_eq!(summary.failed.len(), failed.len(), "seed {seed}");
        assert_eq!(summary.skipped.len(), lost.iter().filter(|lost| **lost).count(), "seed {seed}");
        assert_eq!(stack.listed().len(), count - summary.failed.len() - summary.skipped.len(), "seed {seed}");
        crate::events::check(&stack.sink.take());
        stack.world.behave();
        Stack::complete(&stack.run().await);
        stack.converged(&format!("seed {seed}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_needs_it_to_exist_only_is_made_though_it_is_never_ready() {
    let mut stack = Stack::new([
        declared("thing/a", json!({})),
        declared("thing/held", json!({})),
        // It could begin before `a` failed, and has no slot until then.
        declared("thing/z", json!({})).needs_until("thing/a", Condition::Exists),
    ]);
    stack.limits.calls_in_flight = 1;
    stack.limits.wait_timeout = Duration::from_secs(1);
    stack.world.at(&address("thing/a"), |behaviour| behaviour.held_back = Some("never".to_owned()));
    stack.world.at(&address("thing/held"), |behaviour| behaviour.latency = Some(Duration::from_secs(5)));
    let summary = stack.run().await;
    assert_eq!((summary.failed.len(), summary.skipped.len()), (1, 0), "{:?}", summary.skipped);
    assert_eq!(stack.listed().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn retries_by_kind_of_error() {
    let cases = [
        (CallErrorKind::Transient, 4, 5, true),
        (CallErrorKind::Unreachable, 4, 5, true),
        (CallErrorKind::Transient, 5, 5, false),
        (CallErrorKind::Indeterminate, 1, 2, true),
        (CallErrorKind::Indeterminate, 2, 2, false),
        (CallErrorKind::Refused, 1, 1, false),
        (CallErrorKind::NotOurs, 1, 1, false),
    ];
    for (kind, failures, tries, succeeds) in cases {
        let stack = Stack::new([declared("thing/a", json!({}))]);
        let error = CallError::new(kind, "scripted");
        stack.world.all(|behaviour| _ = behaviour.fail_next(Method::Create, failures, error));
        let summary = stack.run().await;
        assert_eq!(summary.ending == Ending::Complete, succeeds, "{kind:?}");
        assert_eq!(stack.world.count(Method::Create), tries, "{kind:?} {failures}");
        let open = !stack.snapshot().await.open.is_empty();
        assert_eq!(open, kind == CallErrorKind::Indeterminate && !succeeds, "{kind:?}");
        crate::events::check(&stack.sink.take());
    }
}

fn faulty(stack: &mut Stack, script: Vec<(Method, Fault)>) -> Arc<Faulty> {
    let faulty = Arc::new(Faulty::new(stack.world.provider().into(), FaultPlan::script(script)));
    let shared = Arc::clone(&faulty);
    let connector = SimulatedConnector::of("sim", &stack.world).decorated(move |_, _| {
        let shared: Arc<dyn ksail_provider::Provider> = shared.clone();
        shared
    });
    stack.connector = Arc::new(connector);
    faulty
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_not_undone_by_a_known_one() {
    // The first try was carried out and its reply lost; the second was certainly not sent.
    for second in [Fault::Unreachable, Fault::Transient] {
        let mut stack = Stack::new([declared("thing/a", json!({}))]);
        let script = std::iter::once((Method::Create, Fault::LostReply))
            .chain(std::iter::repeat_n((Method::Create, second), 10))
            .collect();
        let faults = faulty(&mut stack, script);
        let summary = stack.run().await;
        assert!(summary.failed[0].indeterminate, "{:?}", summary.failed);
        assert!(stack.snapshot().await.open.contains_key(&key("thing/a")), "it may be there");
        faults.enable(false);
        let plan = stack.plan().await;
        assert_eq!(plan.resolutions.len(), 1);
        assert_eq!(plan.nodes[&key("thing/a")].action, Action::NoOp, "it is adopted");
        Stack::complete(&stack.apply(plan).await.unwrap());
        stack.converged("adopted").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_may_end_between_a_plan_and_its_apply() {
    let mut stack = Stack::new([declared("thing/a", json!({})), declared("thing/b", json!({}))]);
    Stack::complete(&stack.run().await);
    stack.world.at(&address("thing/a"), |behaviour| {
        _ = behaviour.fail_next(Method::Delete, 2, CallError::indeterminate("lost"));
    });
    stack.declare([declared("thing/b", json!({}))]);
    assert_eq!(stack.run().await.ending, Ending::Partial);
    let plan = stack.plan().await;
    assert_eq!((plan.resolutions.len(), &plan.nodes[&key("thing/a")].action), (1, &Action::Delete));
    stack.world.remove("thing", "dev-thing-a").unwrap();
    Stack::complete(&stack.apply(plan).await.unwrap());
    stack.converged("gone").await;
}

#[tokio::test(start_paused = true)]
async fn a_call_cancelled_by_nobody_is_tried_again() {
    let mut stack = Stack::new([declared("thing/a", json!({}))]);
    stack.world.all(|behaviour| _ = behaviour.fail_next(Method::Create, 1, CallError::cancelled()));
    let summary = stack.run().await;
    Stack::complete(&summary);
    stack.declare([]);
    Stack::complete(&stack.run().await);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_host_held_open_is_resolved() {
    let mut stack = Stack::new([declared("host/h", json!({})), declared("thing/in", json!({})).on("host/h")]);
    stack.world.at(&address("thing/in"), |behaviour| {
        _ = behaviour.fail_next(Method::Create, 2, CallError::indeterminate("lost"));
    });
    assert_eq!(stack.run().await.ending, Ending::Partial);
    stack.world.remove("host", "dev-host-h").unwrap();
    Stack::complete(&stack.run().await);
    stack.converged("host made again").await;
    stack.declare([]);
    Stack::complete(&stack.run().await);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_reached_blocks_what_is_in_it() {
    let mut stack = Stack::new(platform(1));
    stack.run().await;
    stack.declare(platform(2));
    stack.world.at(&address("host/h"), |behaviour| behaviour.unreachable = Some(true));
    let plan = stack.plan().await;
    for text in ["host/h", "thing/net", "thing/reg"] {
        let Action::Blocked { why: Blocked::Unknown { reason } } = &plan.nodes[&key(text)].action else {
            panic!("{text}: {:?}", plan.nodes[&key(text)].action);
        };
        let of_host = matches!(reason, UnknownReason::HostUnknown { .. });
        assert_eq!(of_host, text != "host/h");
    }
    let before = stack.world.find("host", "dev-host-h").unwrap();
    assert_eq!(stack.apply(plan).await.unwrap().ending, Ending::Partial);
    assert_eq!(stack.world.find("host", "dev-host-h").unwrap(), before);
    stack.world.behave();
    Stack::complete(&stack.run().await);
    stack.converged("reached again").await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_written_stops_everything() {
    for after in 0..40 {
        let mut stack = Stack::new(platform(1));
        stack.run().await;
        stack.declare(platform(2));
        stack.fails_after.store(after, Ordering::SeqCst);
        let result = stack.apply(stack.plan().await).await;
        stack.world.forget_calls();
        let failed = match result {
            Ok(_) => false,
            Err(ApplyError::Journal(_)) => true,
            Err(other) => panic!("after {after}: {other}"),
        };
        stack.fails_after.store(u64::MAX, Ordering::SeqCst);
        if !failed {
            assert!(after > 10);
            break;
        }
        assert_eq!(stack.world.count(Method::Create), 0, "nothing is called once the apply has returned");
        Stack::complete(&stack.run().await);
        stack.converged(&format!("journal failed after {after}")).await;
    }
}

/// Drops the apply at a moment of a call, as a kill would, and lets what was sent land.
async fn killed_at(stack: &Stack, plan: &ksail_plan::Plan, kill_at: usize) -> bool {
    let changes = |method| matches!(method, Method::Create | Method::Update | Method::Delete | Method::Wait);
    killed_at_one_of(stack, plan, changes, kill_at).await
}

/// The same, at a moment of one of some methods.
async fn killed_at_one_of(
    stack: &Stack,
    plan: &ksail_plan::Plan,
    is_one: impl Fn(Method) -> bool + Send + Sync + 'static,
    kill_at: usize,
) -> bool {
    let (token, count) = (CancellationToken::new(), Mutex::new(0));
    let kill = token.clone();
    stack.world.set_hook(Some(Arc::new(move |method, _, _: Moment| {
        if is_one(method) {
            let mut count = count.lock().unwrap();
            *count += 1;
            if *count == kill_at {
                kill.cancel();
            }
        }
    })));
    let finished = tokio::select! {
        biased;
        () = token.cancelled() => false,
        result = stack.apply(plan.clone()) => { result.unwrap(); true }
    };
    stack.world.set_hook(None);
    // Tasks of the dropped apply end at their next await.
    tokio::time::sleep(Duration::from_millis(200)).await;
    finished
}

#[tokio::test(start_paused = true)]
async fn the_same_plan_resumes_wherever_it_was_killed() {
    for other_plan in [false, true] {
        let mut kills = 0;
        for at in 1.. {
            let mut stack = Stack::new(platform(1));
            stack.world.all(|behaviour| {
                behaviour.latency = Some(Duration::from_millis(5));
                behaviour.reply_latency = Some(Duration::from_millis(5));
                behaviour.ready_after = Some(Duration::from_millis(40));
                behaviour.lands_late = Some(true);
            });
            Stack::complete(&stack.run().await);
            stack.declare(platform(2));
            let plan = stack.plan().await;
            if killed_at(&stack, &plan, at).await {
                break;
            }
            kills += 1;
            if other_plan {
                Stack::complete(&stack.run().await);
            } else {
                let summary = stack.apply(plan.clone()).await.unwrap_or_else(|error| panic!("killed at {at}: {error}"));
                Stack::complete(&summary);
                assert!(matches!(stack.apply(plan).await.unwrap_err(), ApplyError::Used { .. }));
            }
            stack.converged(&format!("killed at {at}")).await;
        }
        assert!(kills > 20, "{kills}");
    }
}

#[tokio::test(start_paused = true)]
async fn killed_between_the_new_one_and_the_end_of_the_old_one() {
    let twin = |size: i64| {
        declared("twin/t", json!({"size": size})).named(&format!("t-{size}")).with(|declaration| {
            declaration.lifecycle.create_before_destroy = true;
        })
    };
    for resumed in [true, false] {
        let mut stack = Stack::new([twin(1)]);
        Stack::complete(&stack.run().await);
        stack.declare([twin(2)]);
        let plan = stack.plan().await;
        // Create begun, landed and over, then the delete has begun.
        stack.world.at(&address("twin/t"), |behaviour| behaviour.latency = Some(Duration::from_millis(5)));
        let kill = CancellationToken::new();
        let killer = kill.clone();
        stack.world.set_hook(Some(Arc::new(move |method, _, moment| {
            if method == Method::Delete && moment == Moment::Begun {
                killer.cancel();
            }
        })));
        tokio::select! {
            biased;
            () = kill.cancelled() => {}
            result = stack.apply(plan.clone()) => panic!("not killed: {:?}", result.map(|summary| summary.ending)),
        }
        stack.world.set_hook(None);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let old = ksail_model::RecordKey { address: address("twin/t"), deposed: Some(1) };
        let snapshot = stack.snapshot().await;
        assert_eq!(snapshot.records[&key("twin/t")].generation, 2);
        assert!(snapshot.open.contains_key(&old), "its deletion was announced: {:?}", snapshot.open);
        assert_eq!(stack.world.count(Method::Create), 2, "both were made");
        if resumed {
            Stack::complete(&stack.apply(plan).await.unwrap());
        } else {
            Stack::complete(&stack.run().await);
        }
        assert_eq!(stack.world.count(Method::Create), 2, "and the new one was not made again");
        stack.converged("the old one is gone").await;
    }
}

#[tokio::test(start_paused = true)]
async fn killed_before_the_end_of_the_old_one_is_announced() {
    let twin = |size: i64| {
        declared("twin/t", json!({"size": size})).named(&format!("t-{size}")).with(|declaration| {
            declaration.lifecycle.create_before_destroy = true;
        })
    };
    // The journal has room for the new one, and for no word of the old one's end.
    for room in 0..20 {
        let mut stack = Stack::new([twin(1)]);
        stack.run().await;
        stack.declare([twin(2)]);
        let plan = stack.plan().await;
        stack.fails_after.store(room, Ordering::SeqCst);
        assert!(stack.apply(plan).await.is_err(), "room for {room}");
        stack.fails_after.store(u64::MAX, Ordering::SeqCst);
        let old = ksail_model::RecordKey { address: address("twin/t"), deposed: Some(1) };
        let snapshot = stack.snapshot().await;
        let made = snapshot.records.get(&key("twin/t"));
        if made.is_some_and(|record| record.generation == 2 && record.status == ksail_model::Status::Present) {
            assert!(snapshot.records.contains_key(&old) && !snapshot.open.contains_key(&old), "{:?}", snapshot.open);
            let plan = stack.plan().await;
            assert_eq!(plan.nodes[&old].action, Action::Delete);
            assert_eq!(plan.nodes[&key("twin/t")].action, Action::NoOp);
            assert_eq!(stack.listed(), ["t-1", "t-2"]);
            Stack::complete(&stack.apply(plan).await.unwrap());
            stack.converged("the deposed one is gone").await;
            return;
        }
        Stack::complete(&stack.run().await);
        stack.converged(&format!("room for {room}")).await;
    }
    panic!("the moment between the two never came");
}

#[tokio::test(start_paused = true)]
async fn a_destroy_killed_anywhere_is_finished_by_another() {
    for at in 1.. {
        let stack = Stack::new(platform(1));
        stack.world.all(|behaviour| {
            behaviour.latency = Some(Duration::from_millis(5));
            behaviour.reply_latency = Some(Duration::from_millis(5));
            behaviour.lands_late = Some(true);
        });
        stack.run().await;
        let plan = stack.plan_as(Mode::Destroy).await;
        if killed_at(&stack, &plan, at).await {
            break;
        }
        let plan = stack.plan_as(Mode::Destroy).await;
        Stack::complete(&stack.apply(plan).await.unwrap());
        assert!(stack.listed().is_empty() && stack.snapshot().await.records.is_empty(), "killed at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_lands_after_a_second_kill_is_known() {
    let mut kills = 0;
    for at in 1.. {
        let stack = Stack::new([declared("thing/a", json!({}))]);
        stack.world.at(&address("thing/a"), |behaviour| {
            behaviour.latency = Some(Duration::from_secs(10));
            behaviour.lands_late = Some(true);
        });
        let plan = stack.plan().await;
        assert!(!killed_at(&stack, &plan, 1).await);
        // Nothing has landed yet when the second one looks, and is killed before, while or after it asks again.
        let plan = stack.plan().await;
        if killed_at_one_of(&stack, &plan, |_| true, at).await {
            break;
        }
        kills += 1;
        tokio::time::sleep(Duration::from_secs(60)).await;
        stack.world.behave();
        Stack::complete(&stack.run().await);
        stack.converged(&format!("killed at {at}")).await;
    }
    assert!(kills > 3, "{kills}");
}

#[tokio::test(start_paused = true)]
async fn an_unresolved_call_waits_for_its_deadline() {
    let mut stack = Stack::new([declared("thing/a", json!({}))]);
    stack.world.at(&address("thing/a"), |behaviour| behaviour.latency = Some(Duration::from_secs(3600)));
    assert_eq!(stack.run().await.ending, Ending::Partial);
    let snapshot = stack.snapshot().await;
    let deadline = snapshot.open[&key("thing/a")].intent.deadline_ms;
    assert!(deadline >= 20_000, "all tries are within it: {deadline}");
    stack.world.behave();
    stack.clock.pass(deadline);
    stack.declare([declared("thing/a", json!({}))]);
    Stack::complete(&stack.run().await);
    stack.converged("past the deadline").await;
}
