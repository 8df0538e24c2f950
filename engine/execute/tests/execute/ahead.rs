//! Calls that are announced before it is their turn.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ksail_conformance::Method;
use ksail_execute::Ending;
use serde_json::json;

use crate::support::{Stack, With as _, address, declared};

/// One call at a time, each of a second, and two announced ahead.
fn one_by_one(kind: &str) -> Stack {
    let mut stack = Stack::new((0..5).map(|n| declared(&format!("{kind}/n{n}"), json!({}))));
    stack.limits.calls_in_flight = 1;
    stack.limits.announced_ahead = 2;
    stack.world.all(|behaviour| behaviour.latency = Some(Duration::from_secs(1)));
    stack
}

/// Waits for the middle of the first call.
async fn first_call(stack: &Stack) {
    while stack.world.count(Method::Create) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(stack.world.count(Method::Create), 1);
}

/// How many intents are durable in the middle of the first call.
async fn open_in_the_first_call(stack: &Stack) -> usize {
    let plan = stack.plan().await;
    let (summary, open) = tokio::join!(stack.apply(plan), async {
        first_call(stack).await;
        stack.snapshot().await.open.len()
    });
    Stack::complete(&summary.unwrap());
    assert_eq!(stack.world.most_mutating_at_once(), 1);
    stack.converged("one by one").await;
    open
}

#[tokio::test(start_paused = true)]
async fn the_next_intents_are_durable_before_a_slot_is_free() {
    assert_eq!(open_in_the_first_call(&one_by_one("thing")).await, 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_safe_to_repeat_is_announced_when_it_is_called() {
    assert_eq!(open_in_the_first_call(&one_by_one("once")).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_takes_back_what_was_announced() {
    for abort in [false, true] {
        let mut stack = one_by_one("thing");
        let plan = stack.plan().await;
        let (summary, ()) = tokio::join!(stack.apply(plan.clone()), async {
            first_call(&stack).await;
            if abort { &stack.abort } else { &stack.stop }.cancel();
        });
        let summary = summary.unwrap();
        assert_eq!(summary.ending, Ending::Interrupted);
        assert_eq!(stack.world.count(Method::Create), 1);
        let open: Vec<_> = stack.snapshot().await.open.into_keys().collect();
        // Only the call that was cut off may have been carried out.
        assert!(open.len() <= usize::from(abort), "{open:?}");
        crate::events::check(&stack.sink.take());
        (stack.stop, stack.abort) = Default::default();
        Stack::complete(&stack.apply(plan).await.unwrap());
        stack.converged("resumed").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_does_not_come_gives_the_intent_back() {
    let mut stack = one_by_one("thing");
    stack.world.behave();
    let plan = stack.plan().await;
    // The last of five calls comes after 68 s; its intent is kept for 60.
    stack.limits.call_timeout = Duration::from_secs(100);
    stack.limits.announced_ahead = 4;
    stack.world.all(|behaviour| behaviour.latency = Some(Duration::from_secs(17)));
    Stack::complete(&stack.apply(plan).await.unwrap());
    let journal = std::fs::read_to_string(stack.folder.path().join("state/journal")).unwrap();
    let intents =
        |name: &str| journal.lines().filter(|line| line.contains("\"intent\"") && line.contains(name)).count();
    let mut counts = ["n0", "n1", "n2", "n3", "n4"].map(intents);
    counts.sort_unstable();
    // The first five are in the first snapshot; one was taken back and is announced again.
    assert_eq!(counts, [0, 0, 0, 0, 1], "{journal}");
    crate::events::check(&stack.sink.take());
    stack.world.behave();
    stack.converged("late").await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_lets_nobody_call_who_was_announced() {
    let stack = one_by_one("thing");
    let plan = stack.plan().await;
    // Begin, context and three intents are in the first snapshot; the first outcome cannot be written.
    stack.fails_after.store(0, std::sync::atomic::Ordering::SeqCst);
    stack.apply(plan.clone()).await.unwrap_err();
    // The second call's intent was durable, and its turn may come before the failure is known.
    assert!(stack.world.count(Method::Create) <= 2);
    stack.fails_after.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    Stack::complete(&stack.apply(plan).await.unwrap());
    stack.converged("after the failure").await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_apply_writes_few_groups() {
    let mut stack = Stack::new((0..200).map(|n| declared(&format!("thing/n{n}"), json!({}))));
    stack.limits.calls_in_flight = 10;
    for n in 0..200 {
        // They end one by one.
        let latency = Duration::from_millis(10 + n % 10);
        stack.world.at(&address(&format!("thing/n{n}")), move |behaviour| behaviour.latency = Some(latency));
    }
    Stack::complete(&stack.run().await);
    let groups = stack.groups.load(Ordering::SeqCst);
    assert!(groups < 100, "{groups} groups of some 400 entries");
}

#[tokio::test(start_paused = true)]
async fn what_somebody_waits_for_is_written_at_once() {
    let chain = (0..20).map(|n| {
        let link = declared(&format!("thing/n{n}"), json!({}));
        if n == 0 { link } else { link.needs(&format!("thing/n{}", n - 1)) }
    });
    let stack = Stack::new(chain);
    stack.world.all(|behaviour| behaviour.latency = Some(Duration::from_millis(10)));
    let plan = stack.plan().await;
    let began = tokio::time::Instant::now();
    Stack::complete(&stack.apply(plan).await.unwrap());
    // The looks before it take their time, too; a linger for each link would add forty milliseconds.
    let took = began.elapsed();
    assert!(took < Duration::from_millis(20 * 10 + 30), "{took:?}");
}

/// How many intents are durable once some calls have returned that take so long, of 200 one after another whose kind says that
/// each takes longer.
async fn open_after_some_calls(latency: Duration) -> usize {
    let mut stack = Stack::new((0..200).map(|n| declared(&format!("thing/n{n}"), json!({}))));
    (stack.limits.calls_in_flight, stack.limits.announced_ahead) = (1, 1_000);
    stack.world.all(|behaviour| behaviour.latency = Some(latency));
    let plan = stack.plan().await;
    let (summary, open) = tokio::join!(stack.apply(plan), async {
        while stack.world.count(Method::Create) < 5 {
            tokio::time::sleep(latency / 2).await;
        }
        stack.snapshot().await.open.len()
    });
    Stack::complete(&summary.unwrap());
    open
}

#[tokio::test(start_paused = true)]
async fn calls_that_turn_out_to_be_quick_are_announced_further_ahead() {
    let quick = open_after_some_calls(Duration::from_millis(10)).await;
    assert!(quick > 150, "{quick}");
    // The last one's turn would come in some minutes.
    let slow = open_after_some_calls(Duration::from_secs(2)).await;
    assert!((2..40).contains(&slow), "{slow}");
}

#[tokio::test(start_paused = true)]
async fn where_the_state_is_away_few_round_trips_are_waited_for() {
    let round_trip = Duration::from_millis(20);
    let mut stack = Stack::new((0..2_000).map(|n| declared(&format!("thing/n{n}"), json!({}))));
    stack.away = Some(round_trip);
    let plan = stack.plan().await;
    let began = tokio::time::Instant::now();
    Stack::complete(&stack.apply(plan).await.unwrap());
    // The first snapshot, the rest of the intents, outcomes that come meanwhile, and the last.
    let took = began.elapsed();
    assert!(took < round_trip * 6, "{took:?}");
    assert!(stack.groups.load(Ordering::SeqCst) < 5);
    stack.converged("away").await;
}
