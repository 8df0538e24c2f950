//! Plans as JSON, and what other tools make of it.

use std::path::Path;
use std::process::Command;

use ksail_views::json;
use serde_json::Value as Json;

use crate::samples::{self, TestKinds};

pub(crate) fn rendered() -> Vec<(&'static str, Json)> {
    samples::all().into_iter().map(|(name, plan)| (name, json::plan_json(&plan, &TestKinds::new()))).collect()
}

#[test]
fn plans_as_terraform_writes_them() {
    for (name, plan) in rendered() {
        insta::assert_snapshot!(format!("json_{name}"), json::text(&plan, true));
    }
}

#[test]
fn blocked_nodes_are_never_unchanged() {
    let plan = json::plan_json(&samples::everything_else(), &TestKinds::new());
    assert_eq!(plan["complete"], false);
    assert_eq!(plan["ksail"]["blocked"].as_array().map(Vec::len), Some(4));
    let changes = plan["resource_changes"].as_array().expect("a list");
    assert!(
        changes.iter().all(|change| !change["address"].as_str().is_some_and(|address| address.starts_with("prod/")))
    );
    assert_eq!(json::plan_json(&samples::first_apply(), &TestKinds::new())["complete"], true);
}

#[test]
fn sensitive_values_are_null_and_flagged() {
    let plan = json::plan_json(&samples::first_apply(), &TestKinds::new());
    let mirror = &plan["resource_changes"][0]["change"];
    assert_eq!(mirror["after"]["password"], Json::Null);
    assert!(mirror["after"].as_object().is_some_and(|after| after.contains_key("password")));
    assert_eq!(mirror["after_sensitive"], serde_json::json!({"password": true}));

    let text = json::text(&json::plan_json(&samples::changes(), &TestKinds::new()), false);
    for secret in ["t0", "t1", "p1", "p2", "p3", "p4"] {
        assert!(!text.contains(&format!("\"{secret}\"")), "{secret} in\n{text}");
    }
}

#[test]
fn nothing_to_do_is_not_applyable() {
    let applyable = |plan| json::plan_json(&plan, &TestKinds::new())["applyable"].clone();
    assert_eq!(applyable(samples::unchanged()), false);
    assert_eq!(applyable(samples::changes()), true);
}

#[test]
fn the_library_of_other_tools_reads_it() {
    if Command::new("go").arg("version").output().is_err() {
        return ksail_test_real::did_not_run("go is not installed");
    }
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/terraform-json");
    let modules = Command::new("go").args(["mod", "download"]).current_dir(&module).output().expect("go runs");
    if !modules.status.success() {
        return ksail_test_real::did_not_run("the Go modules cannot be had");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let files: Vec<_> = rendered()
        .into_iter()
        .map(|(name, plan)| {
            let file = folder.path().join(format!("{name}.json"));
            std::fs::write(&file, json::text(&plan, true)).expect("a file");
            file
        })
        .collect();
    let output = Command::new("go").args(["run", "."]).args(&files).current_dir(module).output().expect("go runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with("OK ")).count(), files.len(), "{stdout}");
}
