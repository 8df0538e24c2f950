//! Credentials are references from the file to the graph, and in no message on the way.

use ksail_compiler::{SourceFile, Sources, load, validate};
use ksail_model::Value;

use crate::world::{World, built, judged, read, render, sources, with_spec};

const CANARY: &str = "hunter2canary";

fn mirror(fields: &str) -> String {
    with_spec(&format!("  cluster: {{distribution: None}}\n  mirrors:\n    - host: ghcr.io\n{fields}"))
}

#[test]
fn references_reach_the_graph_as_references() {
    let world = World::with_env(&[("USER_NAME", "me"), ("TOKEN", CANARY)]);
    for fields in [
        "      username: ${USER_NAME}\n      password: ${TOKEN}\n",
        "      upstream: https://${USER_NAME}:${TOKEN}@ghcr.io/proxy\n",
        "      username: me\n      password: \"${TOKEN}\"\n",
        "      upstream: me:${TOKEN}@ghcr.io\n",
    ] {
        let text = mirror(fields);
        assert_eq!(judged(&text), "", "{text}");
        let compiled = built(&sources(&text), &world).unwrap();
        let json = serde_json::to_string(&compiled.graph).unwrap();
        assert!(!json.contains(CANARY) && !format!("{compiled:?}").contains(CANARY), "{json}");
        let spec = &compiled.graph.declarations.values().find(|one| one.address.kind() == "mirror").unwrap().spec;
        assert_eq!(spec.field("password"), Some(&Value::Secret(ksail_model::Secret::env("TOKEN"))));
        assert!(spec.field("upstream").unwrap().as_str().unwrap().starts_with("https://ghcr.io"));
        let loaded = load(&sources(&text), &world);
        assert!(!format!("{loaded:?}").contains(CANARY));
    }
}

#[test]
fn unset_is_an_error_at_plan_only() {
    let text = mirror("      username: me\n      password: ${TOKEN}\n");
    assert_eq!(judged(&text), "");
    let errors = built(&sources(&text), &World::default()).unwrap_err();
    insta::assert_snapshot!("unset_secret", render(&read(&text), &errors));
}

#[test]
fn unset_is_an_error_wherever_a_credential_stands() {
    let texts = [
        mirror("      upstream: https://me:${TOKEN}@ghcr.io\n"),
        mirror("      username: ${TOKEN}\n      password: ${TOKEN}\n"),
        with_spec(
            "  cluster:\n    distribution: None\n    localRegistry:\n      registry: me:${TOKEN}@ghcr.io/owner\n",
        ),
    ];
    for text in texts {
        assert_eq!(judged(&text), "", "{text}");
        let errors = built(&sources(&text), &World::default()).unwrap_err();
        assert!(errors.iter().all(|error| error.code.to_string() == "KS0124"), "{errors:?}");
        built(&sources(&text), &World::with_env(&[("TOKEN", CANARY)])).unwrap();
    }
}

#[test]
fn open_credentials_are_refused_and_masked_everywhere() {
    let texts = [
        mirror(&format!("      username: me\n      password: {CANARY}\n")),
        mirror(&format!("      username: me\n      password: |\n        {CANARY}\n        {CANARY}\n")),
        mirror(&format!("      username: me\n      password: ${{TOKEN}}{CANARY}\n")),
        mirror(&format!("      username: me\n      password: ${{TOKEN:-{CANARY}}}\n")),
        mirror(&format!("      username: me\n      password: [{CANARY}]\n")),
        mirror(&format!("      username: me\n      pasword: {CANARY}\n")),
        mirror(&format!("      username: me\n      password: ${{T}}\n      password: {CANARY}\n")),
        mirror(&format!("      username: ${{X:-{CANARY}}}\n")),
        mirror(&format!("      upstream: https://me:{CANARY}@ghcr.io\n")),
        mirror(&format!("      upstream: https://me:${{T:-{CANARY}}}@ghcr.io\n")),
        mirror(&format!("      upstream: [\"https://me:{CANARY}@ghcr.io\"]\n")),
        mirror(&format!("      token: {CANARY}\n")),
        with_spec(&format!("  cluster:\n    localRegistry:\n      registry: me:{CANARY}@ghcr.io/x\n")),
        with_spec(&format!("  cluster:\n    provider: me:{CANARY}@ghcr.io/x\n")),
        format!("password: {CANARY}\nx: [\n"),
        format!("mirrors: [{{host: a, password: {CANARY}}}\nx: [\n"),
        format!("upstream: https://me:{CANARY}@h\nx: [\n"),
    ];
    for text in texts {
        let loaded = read(&text);
        let diagnostics = validate(&loaded);
        assert!(diagnostics.iter().any(ksail_model::Diagnostic::is_error), "{text}");
        for shown in [
            render(&loaded, &diagnostics),
            format!("{loaded:?}"),
            format!("{diagnostics:?}"),
            format!("{:?}", loaded.texts),
        ] {
            assert!(!shown.contains(CANARY), "{text}\n---\n{shown}");
        }
        for masked in &loaded.texts {
            assert!(!masked.text.contains(CANARY), "{}", masked.text);
            assert_eq!(masked.text.lines().count(), text.lines().count());
        }
        assert!(!format!("{:?}", loaded.origins).contains(CANARY));
        assert!(!format!("{:?}", sources(&text)).contains(CANARY));
    }
}

#[test]
fn open_credentials_in_flags_are_refused_and_masked() {
    for argument in [
        format!("spec.mirrors[0].password={CANARY}"),
        format!("spec.mirrors[0]={{host: a, password: {CANARY}}}"),
        format!("spec.mirrors[0].upstream=https://me:{CANARY}@h"),
        format!("spec.mirrors[0].pasword={CANARY}"),
        format!("spec.mirrors[.password={CANARY}"),
        format!("spec.mirrors[0].password=[{CANARY}"),
    ] {
        let flagged = Sources { set: vec![argument.clone()], ..sources(&mirror("")) };
        let loaded = load(&flagged, &World::default());
        let diagnostics = validate(&loaded);
        assert!(diagnostics.iter().any(ksail_model::Diagnostic::is_error), "{argument}");
        let shown = format!(
            "{}{loaded:?}{:?}{:?}{flagged:?}",
            render(&loaded, &diagnostics),
            loaded.origins,
            loaded.texts.iter().map(|text| &text.text).collect::<Vec<_>>()
        );
        assert!(!shown.contains(CANARY), "{argument}\n{shown}");
    }
    // A reference in a flag is as good as one in the file.
    let set = vec!["spec.mirrors[0].username=me".to_owned(), "spec.mirrors[0].password=${TOKEN}".to_owned()];
    let flagged = Sources { set, ..sources(&mirror("")) };
    let compiled = built(&flagged, &World::with_env(&[("TOKEN", CANARY)])).unwrap();
    assert!(!serde_json::to_string(&compiled.graph).unwrap().contains(CANARY));
}

#[test]
fn a_variable_that_hides_credentials_in_a_url_is_refused() {
    let text = mirror("      upstream: ${UPSTREAM}\n");
    let value = format!("https://me:{CANARY}@ghcr.io");
    let world = World::with_env(&[("UPSTREAM", value.as_str())]);
    let loaded = load(&sources(&text), &world);
    let said = render(&loaded, &validate(&loaded));
    assert!(said.contains("[KS0122]") && !said.contains(CANARY), "{said}");
    assert!(!format!("{loaded:?}").contains(CANARY));
}

#[test]
fn an_open_credential_is_explained() {
    let text = mirror(&format!(
        "      username: me\n      password: {CANARY}\n      upstream: https://me:${{T:-x}}@ghcr.io\n"
    ));
    insta::assert_snapshot!("open_credential", judged(&text));
}

#[test]
fn overlays_are_masked_too() {
    let overlay = SourceFile {
        name: "ksail.a.yaml".into(),
        text: format!("spec: {{mirrors: [{{host: a, password: {CANARY}}}]}}\n"),
    };
    let layered = Sources { overlay: Some(overlay), ..sources(&mirror("")) };
    let loaded = load(&layered, &World::default());
    let said = render(&loaded, &validate(&loaded));
    assert!(said.contains("[KS0122]") && !said.contains(CANARY), "{said}");
}
