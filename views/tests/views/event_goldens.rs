//! Events as lines, as JSON, as progress and as a summary.

use ksail_execute::{Ending, Event, Failure, Skipped, Summary};
use ksail_plan::{Counts, PlanStep, StepDo};
use ksail_records::Snapshot;
use ksail_views::events::{ProgressModel, event_json, event_line, final_summary};
use ksail_views::json;
use ksail_views::text::TextOptions;

use crate::samples::{self, key};

pub(crate) fn all_events() -> Vec<Event> {
    let registry = || key("dev/registry/local");
    let counts = Counts { create: 3, update: 1, replace: 1, ..Counts::default() };
    let hint = Some("free the port, then run `ksail apply`".to_owned());
    vec![
        Event::Started { operation: "op-1".to_owned(), resumed: false, counts, steps: 6, done: 0 },
        Event::Started { operation: "op-1".to_owned(), resumed: true, counts, steps: 6, done: 2 },
        Event::Verifying { nodes: 1 },
        Event::Resolved { key: registry(), what: "its create had succeeded".to_owned() },
        Event::StepStarted { key: registry(), step: StepDo::Create, at_ms: 10, estimate_ms: 1_500 },
        Event::StepStarted { key: registry(), step: StepDo::Put, at_ms: 10, estimate_ms: 0 },
        Event::StepRetried {
            key: registry(),
            step: StepDo::Create,
            attempt: 2,
            message: "connection reset".to_owned(),
            wait_ms: 500,
        },
        Event::StepWaiting { key: registry(), why: "its health check has not passed".to_owned(), at_ms: 700 },
        Event::StepHeld {
            key: registry(),
            step: StepDo::Delete,
            why: "1 pod must leave it: shop/web-1: its budget allows none to go".to_owned(),
            at_ms: 900,
        },
        Event::StepDone { key: registry(), step: StepDo::Create, at_ms: 1_210, took_ms: 1_200 },
        Event::StepDone { key: registry(), step: StepDo::Wait, at_ms: 1_210, took_ms: 12_345 },
        Event::StepDone { key: registry(), step: StepDo::Forget, at_ms: 1_210, took_ms: 0 },
        Event::StepFailed {
            key: registry(),
            step: StepDo::Update,
            at_ms: 5,
            message: "port 5000 is taken".to_owned(),
            hint,
            indeterminate: false,
        },
        Event::StepFailed {
            key: registry(),
            step: StepDo::Wait,
            at_ms: 5,
            message:
                "not ready after 9 s: 0 of 1 pods are available\nthe last lines of container app:\n  panic: no database"
                    .to_owned(),
            hint: None,
            indeterminate: false,
        },
        Event::StepFailed {
            key: registry(),
            step: StepDo::Delete,
            at_ms: 5,
            message: "no answer in 30s".to_owned(),
            hint: None,
            indeterminate: true,
        },
        Event::StepBlocked {
            key: key("dev/mirror/docker.io"),
            step: StepDo::Create,
            by: registry(),
            why: "what it needs was not done".to_owned(),
        },
        Event::Note { message: "stops after what is in flight; once more stops at once".to_owned() },
        Event::Finished {
            operation: "op-1".to_owned(),
            ending: Ending::Partial,
            done: 4,
            failed: 1,
            blocked: 1,
            at_ms: 65_000,
        },
    ]
}

#[test]
fn events_as_lines() {
    let lines: Vec<String> =
        all_events().iter().map(|event| event_line(event).unwrap_or_else(|| "(none)".to_owned())).collect();
    insta::assert_snapshot!("event_lines", lines.join("\n"));
}

#[test]
fn events_as_json_lines() {
    let lines: Vec<String> =
        all_events().iter().map(|event| json::text(&event_json(event, 1_700_000_000_123), false)).collect();
    assert!(lines.iter().all(|line| !line.contains('\n')));
    insta::assert_snapshot!("event_json", lines.join("\n"));
}

/// network (1 s) before registry (4 s); volume (2 s) stands alone.
fn small_plan() -> ksail_plan::Plan {
    let step = |text: &str, needs, estimate_ms| PlanStep { key: key(text), what: StepDo::Create, needs, estimate_ms };
    let mut plan = samples::empty_plan();
    plan.steps = vec![
        step("dev/network/main", vec![], 1_000),
        step("dev/volume/data", vec![], 2_000),
        step("dev/registry/local", vec![(0, ksail_model::Condition::Ready)], 4_000),
    ];
    plan
}

fn started(text: &str, at_ms: u64, estimate_ms: u64) -> Event {
    Event::StepStarted { key: key(text), step: StepDo::Create, at_ms, estimate_ms }
}

fn done(text: &str, at_ms: u64, took_ms: u64) -> Event {
    Event::StepDone { key: key(text), step: StepDo::Create, at_ms, took_ms }
}

#[test]
fn progress_at_given_times() {
    let mut model = ProgressModel::new(&small_plan(), 2);
    let mut drawn = Vec::new();
    let mut draw = |model: &ProgressModel, now_ms: u64| {
        drawn.push(format!("at {now_ms} ms"));
        drawn.extend(model.lines(now_ms, 80));
    };
    model.update(&Event::Started {
        operation: "op".to_owned(),
        resumed: false,
        counts: Counts::default(),
        steps: 3,
        done: 0,
    });
    model.update(&Event::Verifying { nodes: 3 });
    draw(&model, 0);
    model.update(&started("dev/network/main", 10, 1_000));
    model.update(&started("dev/volume/data", 10, 2_000));
    draw(&model, 510);
    model.update(&done("dev/network/main", 1_010, 1_000));
    model.update(&started("dev/registry/local", 1_010, 4_000));
    model.update(&Event::StepWaiting {
        key: key("dev/registry/local"),
        why: "its health check has not passed".to_owned(),
        at_ms: 1_500,
    });
    draw(&model, 3_010);
    model.update(&Event::StepFailed {
        key: key("dev/volume/data"),
        step: StepDo::Create,
        at_ms: 3_100,
        message: "no space left".to_owned(),
        hint: None,
        indeterminate: false,
    });
    draw(&model, 9_000);
    model.update(&done("dev/registry/local", 9_100, 8_090));
    draw(&model, 9_100);
    insta::assert_snapshot!("progress", drawn.join("\n"));
    model.update(&Event::Finished {
        operation: "op".to_owned(),
        ending: Ending::Partial,
        done: 2,
        failed: 1,
        blocked: 0,
        at_ms: 9_100,
    });
    assert!(model.lines(9_200, 80).is_empty());
}

#[test]
fn the_estimate_is_the_longer_of_chain_and_work() {
    let model = ProgressModel::new(&small_plan(), 2);
    // The chain takes 5 s, the work shared by two 3.5 s.
    assert_eq!(model.eta_ms(0), Some(5_000));
    // One at a time, it is all the work.
    assert_eq!(ProgressModel::new(&small_plan(), 1).eta_ms(0), Some(7_000));
    let mut resumed = ProgressModel::new(&small_plan(), 1);
    resumed.update(&Event::Started {
        operation: "op".to_owned(),
        resumed: true,
        counts: Counts::default(),
        steps: 3,
        done: 2,
    });
    assert_eq!(resumed.eta_ms(0), Some(7_000 / 3));
}

#[test]
fn many_running_steps_are_counted_and_lines_are_cut() {
    let mut model = ProgressModel::new(&samples::empty_plan(), 64);
    for index in 0..20 {
        model.update(&started(&format!("dev/volume/a-rather-long-name-for-a-volume-{index:02}"), 0, 1_000));
    }
    let lines = model.lines(1_000, 30);
    assert_eq!(lines.len(), 14);
    assert!(lines.iter().all(|line| line.chars().count() <= 30), "{lines:?}");
    assert_eq!(lines[12], "  … and 8 more");
}

fn summary(ending: Ending) -> Summary {
    Summary {
        operation: "op-1".to_owned(),
        ending,
        resumed: false,
        done: 4,
        failed: Vec::new(),
        skipped: Vec::new(),
        snapshot: Snapshot::empty("lineage", "dev", None),
    }
}

#[test]
fn the_summary_names_what_failed_and_the_next_command() {
    let options = TextOptions::default();
    let command = ["ksail", "apply", "my plan.out"];
    let mut partial = summary(Ending::Partial);
    partial.failed.push(Failure {
        key: key("dev/registry/local"),
        step: StepDo::Create,
        message: "port 5000 is taken".to_owned(),
        hint: Some("free the port".to_owned()),
        indeterminate: false,
    });
    partial.failed.push(Failure {
        key: key("dev/registry/other"),
        step: StepDo::Wait,
        message: "not ready after 9 s: it crashes\nthe last lines of container app:\n  panic: no database".to_owned(),
        hint: None,
        indeterminate: false,
    });
    partial.skipped.push(Skipped {
        key: key("dev/mirror/docker.io"),
        step: StepDo::Create,
        by: key("dev/registry/local"),
        why: "what it needs was not done".to_owned(),
    });
    let many: Vec<Skipped> = (0..40).map(|_| partial.skipped[0].clone()).collect();
    let mut unknown = partial.clone();
    unknown.failed[0].indeterminate = true;
    unknown.skipped = many;
    let plan = samples::first_apply();
    let texts: Vec<String> = [summary(Ending::Complete), partial, unknown, summary(Ending::Interrupted)]
        .iter()
        .map(|summary| final_summary(summary, &plan, &command, &options))
        .collect();
    insta::assert_snapshot!("summary", texts.join("----\n"));
}

#[test]
fn the_summary_names_what_is_blocked_where_nothing_failed() {
    let plan = samples::everything_else();
    let said = final_summary(&summary(Ending::Partial), &plan, &["ksail", "apply"], &TextOptions::default());
    insta::assert_snapshot!("summary_blocked", said);
}
