//! What is told of an apply.

use std::collections::BTreeMap;

use ksail_execute::{Ending, Event};
use serde_json::json;

use crate::support::{Stack, With as _, declared, platform};

/// Each step that was begun ends once, and the counts at the end are those of the events.
#[track_caller]
pub(crate) fn check(events: &[Event]) {
    let mut open: BTreeMap<String, i32> = BTreeMap::new();
    let (mut done, mut failed, mut blocked) = (0, 0, 0);
    for event in events {
        match event {
            Event::StepStarted { key, step, .. } => {
                let count = open.entry(format!("{key} {step:?}")).or_default();
                *count += 1;
                assert_eq!(*count, 1, "{key} {step:?} begins twice\n{events:#?}");
            }
            Event::StepDone { key, step, .. } | Event::StepFailed { key, step, .. } => {
                let count = open.entry(format!("{key} {step:?}")).or_default();
                *count -= 1;
                assert_eq!(*count, 0, "{key} {step:?} ends without a beginning\n{events:#?}");
                if matches!(event, Event::StepDone { .. }) { done += 1 } else { failed += 1 }
            }
            Event::StepBlocked { key, step, .. } => {
                open.insert(format!("{key} {step:?}"), 0);
                blocked += 1;
            }
            _ => {}
        }
    }
    assert!(open.values().all(|count| *count == 0), "{open:?}\n{events:#?}");
    assert!(matches!(
        events[0],
        Event::Verifying { .. } | Event::Started { .. } | Event::Resolved { .. } | Event::Note { .. }
    ));
    let Some(Event::Finished { done: told, failed: told_failed, blocked: told_blocked, ending, .. }) = events.last()
    else {
        panic!("the last event is {:?}", events.last());
    };
    let before = events.iter().find_map(|event| match event {
        Event::Started { done, .. } => Some(*done),
        _ => None,
    });
    assert_eq!((*told, *told_failed), (done + before.unwrap_or_default(), failed), "{events:#?}");
    if *ending != Ending::Interrupted {
        assert_eq!(*told_blocked, blocked, "{events:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_good_and_bad_runs() {
    let mut stack = Stack::new(platform(1));
    stack.world.all(|behaviour| behaviour.ready_after = Some(std::time::Duration::from_millis(50)));
    stack.run().await;
    check(&stack.sink.take());
    stack.declare(platform(2));
    stack.world.at(&crate::support::address("host/h"), |behaviour| behaviour.refusal = Some("no".to_owned()));
    stack.run().await;
    check(&stack.sink.take());
}

#[tokio::test(start_paused = true)]
async fn of_an_abort_while_calling_and_waiting() {
    let stack = Stack::new([
        declared("thing/a", json!({})),
        declared("thing/b", json!({})),
        declared("thing/c", json!({})).needs("thing/a"),
    ]);
    stack.world.at(&crate::support::address("thing/a"), |behaviour| {
        behaviour.ready_after = Some(std::time::Duration::from_secs(5));
    });
    stack.world.at(&crate::support::address("thing/b"), |behaviour| {
        behaviour.latency = Some(std::time::Duration::from_secs(5));
    });
    let plan = stack.plan().await;
    let abort = stack.abort.clone();
    let (summary, ()) = tokio::join!(stack.apply(plan), async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        abort.cancel();
    });
    let summary = summary.unwrap();
    assert_eq!(summary.ending, Ending::Interrupted);
    assert_eq!(summary.failed.len(), 1, "what is waited for has not failed: {:?}", summary.failed);
    check(&stack.sink.take());
}
