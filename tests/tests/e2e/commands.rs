//! The command line itself.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::ChosenPorts;
use crate::support::project::Project;

#[test]
fn init_writes_a_project_that_validates_and_nothing_over_a_file() {
    let project = Project::empty(0);
    project.write(".gitignore", "target");
    project.run(&["init", "--name", "shop"]).code(0).says("ksail.yaml").says(".gitignore");
    assert!(project.read("ksail.yaml").contains("name: shop"));
    assert!(project.read(".gitignore").lines().any(|line| line.trim_end_matches('/') == ".ksail"));
    assert!(project.read(".gitignore").starts_with("target\n"));
    project.run(&["validate"]).code(0).says("is valid");
    project.run(&["plan"]).code(0).says("to add");
    project.write("ksail.yaml", "mine");
    project.run(&["init"]).code(1).says("KS0702").says("--force");
    assert_eq!(project.read("ksail.yaml"), "mine");
    project.run(&["init", "--force", "--provider", "docker"]).code(0);
    assert!(project.read("ksail.yaml").contains("Docker"));
    let ignored = project.read(".gitignore");
    assert_eq!(ignored.matches(".ksail").count(), 1, "{ignored}");
}

#[test]
fn validate_tells_all_errors_at_once_with_their_places() {
    let project = Project::quickstart();
    let file = project.read("ksail.yaml").replace("distribution: None", "distribtion: None\n    workers: many");
    project.write("ksail.yaml", &file);
    let line = file.lines().position(|line| line.contains("distribtion")).unwrap() + 1;
    project
        .run(&["validate"])
        .code(1)
        .says(&format!("ksail.yaml:{line}:5"))
        .says("distribution")
        .says("workers")
        .says("2 errors");
    project.run(&["plan"]).code(1).says("distribtion").says("workers");
    let json = project.run(&["validate", "--format", "json"]).code(1).json();
    assert_eq!(json["valid"], false);
    assert_eq!(json["diagnostics"].as_array().unwrap().len(), 2, "nothing follows from the misspelt key: {json}");
}

#[test]
fn what_is_not_built_is_warned_of_by_validate_and_refused_by_plan() {
    let project = Project::quickstart();
    let file =
        project.read("ksail.yaml").replace("Embedded", "Docker").replace("distribution: None", "distribution: K3s");
    project.write("ksail.yaml", &file);
    project.run(&["validate"]).code(0).says("warning").says("K3s");
    project.run(&["plan"]).code(1).says("K3s");
    assert!(!project.path().join(".ksail").exists());
}

#[test]
fn nobody_is_asked_without_a_terminal() {
    let project = Project::quickstart();
    let _ports = ChosenPorts::lock();
    project.run(&["apply"]).code(1).says("KS0304").says("--auto-approve");
    assert!(project.engine_pids().is_empty());
    project.apply();
    project.run(&["destroy"]).code(1).says("KS0304");
    assert_eq!(project.engine().addresses("dev").len(), 7);
}

#[test]
fn events_are_json_a_line() {
    let project = Project::quickstart();
    let _ports = ChosenPorts::lock();
    let run = project.run(&["apply", "--auto-approve", "--format", "json"]).code(0);
    let events: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(events.len() > 18, "{run}");
    assert!(events.iter().all(|event| event["type"].is_string()), "{run}");
    assert!(events.iter().any(|event| event.to_string().contains("dev/mirror/ghcr.io")), "{run}");
}

#[test]
fn the_log_tells_what_an_operator_looks_for() {
    let mut project = Project::quickstart();
    project.set_env("KSAIL_LOG", "trace");
    let run = project.apply_first();
    for text in [
        "configuration read path=./ksail.yaml",
        "configuration compiled stack=\"dev\" resources=9",
        "no state here",
        "lock taken",
        "lock given back",
        "journal group durable",
        "journaled entry=\"intent Create dev/registry/local\"",
        "method=\"create\" what=dev/registry/local",
        "method=\"observe\"",
        "what=\"create registry `dev-local-registry`\"",
        "engine started",
    ] {
        assert!(run.err.contains(text), "`{text}` is missing in {run}");
    }
    let log = std::fs::read_to_string(project.engine_folder().join("engine.log")).unwrap();
    assert!(log.contains("answered method=POST path=\"/containers/create\" status=201"), "{log}");
    project.unset_env("KSAIL_LOG");
    project.run(&["plan"]).code(0).says_not("DEBUG");
}

#[test]
fn version_help_and_completion_answer() {
    let project = Project::empty(0);
    project.run(&["version"]).code(0).says(env!("CARGO_PKG_VERSION"));
    project.run(&["version", "--format", "json"]).code(0).json();
    let short = project.run(&["plan", "-h"]).code(0).says_not("Examples:");
    let long = project.run(&["plan", "--help"]).code(0).says("Examples:");
    assert!(short.out.len() < long.out.len());
    project.run(&["--help"]).code(0).says("Exit codes");
    for shell in ["bash", "zsh", "fish"] {
        assert!(project.run(&["completion", shell]).code(0).out.contains("ksail"));
    }
    let unknown = project.run(&["aply"]);
    assert!(unknown.code != Some(0) && unknown.err.contains("apply"), "{unknown}");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let project = Project::applied();
    for arguments in [&["plan", "-v"][..], &["state", "pull"], &["graph"], &["--help"]] {
        let mut child = project.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        assert_ne!(output.status.code(), Some(101), "{arguments:?}: {said}");
    }
}

#[test]
fn no_colours_reach_a_pipe_and_a_quiet_apply_says_little() {
    let mut project = Project::quickstart();
    project.set_env("NO_COLOR", "1");
    project.run(&["plan"]).code(0).says_not("\u{1b}[");
    project.unset_env("NO_COLOR");
    project.run(&["plan", "--no-color"]).code(0).says_not("\u{1b}[");
    let quiet = project.run(&["plan", "-q"]).code(0);
    assert_eq!(quiet.err, "");
}
