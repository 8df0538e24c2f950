//! Plans as text.

use ksail_views::text::{self, TextOptions, Verbosity};

use crate::samples::{self, TestKinds};

/// The text without ANSI sequences.
pub(crate) fn stripped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            for c in chars.by_ref() {
                if c == 'm' {
                    break;
                }
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn render(plan: &ksail_plan::Plan, color: bool, verbosity: Verbosity) -> String {
    text::plan(plan, &TestKinds::new(), &TextOptions { color, width: 100, verbosity })
}

#[test]
fn plans_read_as_people_know_them() {
    for (name, plan) in samples::all() {
        insta::assert_snapshot!(format!("text_{name}"), render(&plan, false, Verbosity::Normal));
    }
}

#[test]
fn quiet_and_verbose() {
    for (name, plan) in [("changes", samples::changes()), ("everything_else", samples::everything_else())] {
        insta::assert_snapshot!(format!("text_{name}_quiet"), render(&plan, false, Verbosity::Quiet));
        insta::assert_snapshot!(format!("text_{name}_verbose"), render(&plan, false, Verbosity::Verbose));
    }
}

#[test]
fn colour_adds_nothing_but_colour() {
    for (name, plan) in samples::all() {
        for verbosity in [Verbosity::Quiet, Verbosity::Normal, Verbosity::Verbose] {
            let plain = render(&plan, false, verbosity);
            let coloured = render(&plan, true, verbosity);
            assert!(!plain.contains('\u{1b}'), "{name}");
            assert_ne!(plain, coloured, "{name}");
            assert_eq!(plain, stripped(&coloured), "{name}");
        }
    }
}

#[test]
fn sentences_are_wrapped_and_values_are_not() {
    let plan = samples::everything_else();
    let narrow =
        text::plan(&plan, &TestKinds::new(), &TextOptions { color: false, width: 60, verbosity: Verbosity::Normal });
    let wide =
        text::plan(&plan, &TestKinds::new(), &TextOptions { color: false, width: 200, verbosity: Verbosity::Normal });
    assert!(narrow.lines().count() > wide.lines().count());
    assert!(
        narrow.lines().filter(|line| line.trim_start().starts_with("hint:")).all(|line| line.chars().count() <= 60)
    );
}

#[test]
fn no_sensitive_value_is_shown() {
    let text = render(&samples::changes(), false, Verbosity::Verbose);
    for secret in ["t0", "t1", "p1", "p2", "p3", "p4"] {
        assert!(!text.contains(&format!("\"{secret}\"")), "{secret} in\n{text}");
    }
}

#[test]
fn names_in_commands_are_one_word() {
    let taken = ksail_plan::Blocked::NotOurs { owner: None, name: "x; rm -rf 'y'".to_owned(), recorded: false };
    let plan = samples::plan_of([samples::node(
        "dev/volume/x",
        ksail_plan::Action::Blocked { why: taken },
        ksail_plan::Reason::None,
    )]);
    let text = render(&plan, false, Verbosity::Quiet);
    assert!(text.contains(r"`ksail import dev/volume/x 'x; rm -rf '\''y'\'''`"), "{text}");
}

#[test]
fn what_is_blocked_for_one_reason_is_named_beneath_it() {
    use ksail_plan::{Action, Blocked, Reason};
    let node = |text: String, why: Blocked| samples::node(&text, Action::Blocked { why }, Reason::None);
    let unrecorded = (1..=2).map(|n| node(format!("dev/volume/v{n}"), Blocked::Unrecorded { name: format!("v-{n}") }));
    let waiting = (1..=23)
        .map(|n| node(format!("dev/network/n{n:02}"), Blocked::Dependency { on: samples::key("dev/engine/main") }));
    let plan = samples::plan_of(unrecorded.chain(waiting));
    let text = render(&plan, false, Verbosity::Quiet);
    let wanted = "  ! 23 resources are blocked: dev/engine/main, which they need, is blocked\n      dev/network/n01\n";
    assert!(text.contains(wanted), "{text}");
    assert!(text.contains("      dev/network/n20\n      and 3 more, which --verbose names\n"), "{text}");
    assert!(text.contains("      dev/volume/v1 (v-1)\n      dev/volume/v2 (v-2)\n    hint: "), "{text}");
    assert!(text.contains("`ksail state recover`"), "{text}");
    assert!(render(&plan, false, Verbosity::Verbose).contains("      dev/network/n23\n"));
}

#[test]
fn explanations_name_every_cause() {
    let mut plan = samples::changes();
    let config = samples::key("dev/config/main");
    if let Some(node) = plan.nodes.get_mut(&config) {
        let mut wanted = samples::declaration("dev/config/main");
        wanted.origins = ksail_model::Origins::all(ksail_model::Origin::File {
            file: "ksail.yaml".into(),
            span: ksail_model::Span { line: 12, column: 3, length: 4 },
        });
        wanted.edges.push(samples::edge(
            "dev/registry/local",
            ksail_model::Condition::Serving,
            ksail_model::Strength::Hard,
        ));
        node.declaration = Some(wanted.into());
    }
    if let Some(network) = plan.nodes.get_mut(&samples::key("dev/network/main"))
        && let Some(declaration) = &mut network.declaration
    {
        std::sync::Arc::make_mut(declaration).edges.push(samples::edge(
            "dev/registry/local",
            ksail_model::Condition::Exists,
            ksail_model::Strength::Hard,
        ));
    }
    let explain = |key: &str| {
        let explanation = ksail_plan::explain(&plan, &samples::key(key)).expect("it is in the plan");
        let json = ksail_views::json::explanation_json(&explanation, &TestKinds::new());
        let json = ksail_views::json::text(&json, true);
        let text = text::explanation(&explanation, &TestKinds::new(), &TextOptions::default());
        for secret in ["t0", "t1", "p1", "p2", "p3", "p4"] {
            assert!(!format!("{text}{json}").contains(&format!("\"{secret}\"")), "{secret} in\n{text}{json}");
        }
        (text, json)
    };
    let (config, json) = explain("dev/config/main");
    insta::assert_snapshot!("explanation_update", config);
    insta::assert_snapshot!("explanation_update_json", json);
    insta::assert_snapshot!("explanation_replace", explain("dev/registry/local").0);
}

#[test]
fn outputs_are_aligned_and_secrets_hidden() {
    let outputs = [
        ("registry".to_owned(), ksail_model::Value::from("127.0.0.1:5000")),
        ("token".to_owned(), ksail_model::Value::Secret(ksail_model::Secret::env("TOKEN"))),
        ("mirrors".to_owned(), samples::value(serde_json::json!({"docker.io": "127.0.0.1:5001"}))),
    ]
    .into();
    insta::assert_snapshot!("outputs", text::outputs(&outputs, &TextOptions::default()));
    insta::assert_snapshot!("outputs_json", ksail_views::json::text(&ksail_views::json::outputs_json(&outputs), true));
    assert_eq!(text::outputs(&std::collections::BTreeMap::new(), &TextOptions::default()), "");
}
