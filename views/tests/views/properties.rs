//! Whatever stands in a plan or an event: no secret is shown, and nothing steers the terminal.

use ksail_execute::Event;
use ksail_model::{Path, Secret, SecretPart, Step, UnknownReason, Value};
use ksail_plan::{Action, Blocked, Cause, Drift, DriftResponse, FieldChange, Plan, Reason, StepDo};
use ksail_views::events::{ProgressModel, event_json, event_line};
use ksail_views::text::{TextOptions, Verbosity};
use ksail_views::{dot, json, text};
use proptest::prelude::{Strategy, any, prop, prop_assert, proptest};

use crate::samples::{self, TestKinds};
use crate::text_goldens::stripped;

const CANARY: &str = "canary-5f1c";

fn is_hostile(c: char) -> bool {
    c != '\n' && (c.is_control() || "\u{202e}\u{2066}\u{200b}\u{2028}\u{feff}".contains(c))
}

fn hostile_text() -> impl Strategy<Value = String> {
    let nasty =
        prop::sample::select(vec!['\u{1b}', '\u{9b}', '\r', '\n', '\t', '\0', '\u{202e}', '\u{2028}', '"', '\\', '[']);
    prop::collection::vec(proptest::prop_oneof![any::<char>(), nasty], 1..12)
        .prop_map(|chars| chars.into_iter().collect())
}

fn secret() -> Value {
    Value::Secret(Secret { parts: vec![SecretPart::Literal(CANARY.to_owned())], fingerprint: None })
}

fn field(path: Path, before: Value, after: Value, sensitive: bool) -> FieldChange {
    FieldChange {
        path,
        before: Some(before),
        after: Some(after),
        cause: Cause::Drifted,
        forces_replacement: true,
        sensitive,
    }
}

/// A plan with the text in every place that takes one, and a secret in every place that may hold one.
fn plan_with(s: &str) -> Plan {
    let string = || Value::from(s);
    let whole = |canary: &str| {
        Value::map([
            (s.to_owned(), string()),
            ("token".to_owned(), Value::from(canary)),
            ("settings".to_owned(), string()),
            ("secret".to_owned(), Value::List(vec![secret()])),
            ("flagged".to_owned(), Value::List(vec![Value::from(canary)])),
            (
                "users".to_owned(),
                Value::List(vec![Value::map([("name", string()), ("password", Value::from(canary))])]),
            ),
        ])
    };
    let changes = || {
        vec![
            field(Path::key(s), string(), Value::from(format!("{s}\n{s}x\n")), false),
            field(Path::key("token"), Value::from(CANARY), Value::from(format!("{CANARY}2")), false),
            field(
                Path::from(vec![Step::Key("flagged".to_owned()), Step::Index(0)]),
                Value::from(CANARY),
                string(),
                true,
            ),
            field(
                Path::from(vec![
                    Step::Key("users".to_owned()),
                    Step::Element(s.to_owned()),
                    Step::Key("password".to_owned()),
                ]),
                Value::from(CANARY),
                Value::from(CANARY),
                false,
            ),
            field(
                Path::from(vec![Step::Key("settings".to_owned()), Step::Key(s.to_owned())]),
                string(),
                string(),
                false,
            ),
        ]
    };
    let node = |text: &str, action: Action| {
        samples::with(samples::node(text, action, Reason::OutsideForces { why: s.to_owned() }), |node| {
            node.before = Some(whole(CANARY));
            node.after = Some(whole(CANARY));
            node.changes = changes();
            node.loses = Some(s.to_owned());
            node.import = Some(s.to_owned());
            if let Some(declaration) = &mut node.declaration {
                std::sync::Arc::make_mut(declaration).spec = whole(CANARY);
            }
        })
    };
    let refused = Blocked::Refused { message: s.to_owned(), hint: Some(s.to_owned()) };
    let unreachable = Blocked::Unknown { reason: UnknownReason::Unreachable { message: s.to_owned() } };
    let mut plan = samples::plan_of([
        node("dev/config/a", Action::Create),
        node("dev/config/b", Action::Update),
        node("dev/config/c", Action::Replace { create_first: true }),
        node("dev/config/d", Action::Delete),
        node("dev/config/e", Action::NoOp),
        node("dev/config/f", Action::Blocked { why: refused }),
        node("dev/config/g", Action::Blocked { why: unreachable }),
        node(
            "dev/config/h",
            Action::Blocked { why: Blocked::NotOurs { owner: None, name: s.to_owned(), recorded: false } },
        ),
    ]);
    plan.drift = vec![Drift {
        key: samples::key("dev/config/b"),
        deleted: false,
        changes: changes(),
        response: DriftResponse::Reverted,
    }];
    plan.notes = vec![s.to_owned()];
    plan.header.commit = Some(s.to_owned());
    plan.header.environment = Some(s.to_owned());
    let token = ksail_model::Reference { address: samples::address("dev/config/e"), path: Path::key("token") };
    plan.outputs =
        [("plain".to_owned(), string()), ("token".to_owned(), Value::Ref(token)), (s.to_owned(), secret())].into();
    plan
}

fn renderings(plan: &Plan) -> Vec<String> {
    let kinds = TestKinds::new();
    let mut out = Vec::new();
    for verbosity in [Verbosity::Quiet, Verbosity::Normal, Verbosity::Verbose] {
        for color in [false, true] {
            let text = text::plan(plan, &kinds, &TextOptions { color, width: 80, verbosity });
            out.push(if color { stripped(&text) } else { text });
        }
    }
    let json = json::plan_json(plan, &kinds);
    out.extend([json::text(&json, true), json::text(&json, false)]);
    out.extend([
        dot::graph_dot(plan),
        dot::graph_text(plan),
        text::summary_line(plan),
        text::outputs(&plan.outputs, &TextOptions::default()),
    ]);
    for key in plan.nodes.keys() {
        let explanation = ksail_plan::explain(plan, key).expect("it is in the plan");
        out.push(text::explanation(&explanation, &kinds, &TextOptions::default()));
        out.push(json::text(&json::explanation_json(&explanation, &kinds), true));
    }
    out.push(json::text(&json::outputs_json(&plan.outputs), true));
    out
}

fn events_with(s: &str) -> Vec<Event> {
    let key = || samples::key("dev/config/a");
    vec![
        Event::Started {
            operation: s.to_owned(),
            resumed: true,
            counts: ksail_plan::Counts::default(),
            steps: 1,
            done: 0,
        },
        Event::Resolved { key: key(), what: s.to_owned() },
        Event::StepStarted { key: key(), step: StepDo::Create, at_ms: 0, estimate_ms: 1 },
        Event::StepRetried { key: key(), step: StepDo::Create, attempt: 2, message: s.to_owned(), wait_ms: 1 },
        Event::StepWaiting { key: key(), why: s.to_owned(), at_ms: 1 },
        Event::StepHeld { key: key(), step: StepDo::Delete, why: s.to_owned(), at_ms: 1 },
        Event::Note { message: s.to_owned() },
        Event::StepFailed {
            key: key(),
            step: StepDo::Update,
            at_ms: 1,
            message: s.to_owned(),
            hint: Some(s.to_owned()),
            indeterminate: false,
        },
        Event::StepBlocked { key: key(), step: StepDo::Create, by: key(), why: s.to_owned() },
    ]
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn nothing_steers_the_terminal_and_no_secret_is_shown(s in hostile_text()) {
        for text in renderings(&plan_with(&s)) {
            prop_assert!(!text.contains(is_hostile), "{text:?}");
            prop_assert!(!text.contains(CANARY), "{text}");
        }
    }

    #[test]
    fn events_steer_nothing(s in hostile_text()) {
        let mut model = ProgressModel::new(&samples::empty_plan(), 2);
        for event in events_with(&s) {
            model.update(&event);
            let mut texts = model.lines(1, 80);
            prop_assert!(texts.iter().all(|line| !line.contains('\n')));
            texts.push(json::text(&event_json(&event, 0), false));
            texts.extend(event_line(&event));
            for text in texts {
                prop_assert!(!text.contains(is_hostile), "{text:?}");
                // The text, and its hint; what is below a failure's first line is marked as not ours.
                let ours = text.lines().filter(|line| !line.starts_with("    | ")).count();
                prop_assert!(ours <= 2, "{text:?}");
            }
        }
    }

    #[test]
    fn a_text_plan_cannot_be_forged_by_a_value(s in hostile_text()) {
        let forged = format!("{s}\n  # dev/network/forged will be created\n");
        let text = text::plan(&plan_with(&forged), &TestKinds::new(), &TextOptions::default());
        prop_assert!(!text.lines().any(|line| line.starts_with("  # dev/network/forged")), "{text}");
    }
}
