//! The main job: plan, apply, edit, undo, destroy.

use crate::support::ChosenPorts;
use crate::support::engine::http;
use crate::support::project::{MIRRORS, Project};

/// Without a cluster.
const REGISTRIES: &str = "apiVersion: ksail.io/v1alpha1
kind: Cluster
metadata:
  name: dev
spec:
  cluster:
    provider: Embedded
    distribution: None
    localRegistry: {}
  mirrors:
    - host: docker.io
    - host: ghcr.io
";

#[test]
fn registries_have_changes_then_none_then_are_gone() {
    let project = Project::empty(0);
    project.write("ksail.yaml", REGISTRIES);
    let ports = ChosenPorts::lock();
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("Plan: 9 to add, 0 to change, 0 to destroy.");
    assert!(!project.path().join(".ksail").exists(), "a plan writes nothing");
    project.apply().says("Apply complete: 9 steps done.").says("Outputs:");
    drop(ports);
    project.run(&["plan", "--detailed-exitcode"]).code(0).says("No changes");
    let expected = [
        "dev/mirror/docker.io",
        "dev/mirror/ghcr.io",
        "dev/network/main",
        "dev/registry/local",
        "dev/volume/local-registry",
        "dev/volume/mirror-docker.io",
        "dev/volume/mirror-ghcr.io",
    ];
    assert_eq!(project.engine().addresses("dev"), expected);
    let registry = project.run(&["output", "registry"]).code(0).out;
    let port = registry.trim().strip_prefix("localhost:").and_then(|port| port.parse().ok()).expect("a port");
    assert_eq!(http(port, "GET", "/v2/", "", b"").0, 200, "the registry that the outputs name answers");

    project.apply().says("No changes");
    assert_eq!(project.history().len(), 1, "an apply without changes is no operation");

    project.run(&["destroy", "--auto-approve"]).code(0).says("9 to destroy");
    assert!(!project.engine_folder().exists());
    assert!(project.engine_pids().is_empty());
    project.run(&["destroy", "--auto-approve"]).code(0).says("nothing to destroy");
    assert_eq!(project.run(&["state", "list"]).code(0).out, "");
}

#[test]
fn edits_add_remove_and_change_what_they_name_and_nothing_else() {
    let project = Project::applied();
    let registry = project.engine().inspect("dev-local-registry")["Id"].clone();

    project.declare(&["docker.io", "ghcr.io", "quay.io"], "");
    assert_eq!(project.changes(&[]), ["dev/mirror/quay.io: create", "dev/volume/mirror-quay.io: create"]);
    project.apply();
    assert_eq!(project.engine().is_running("dev-mirror-quay.io"), Some(true));

    project.declare(&["docker.io=https://mirror.example.com", "quay.io"], "");
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("mirror.example.com");
    project.apply();
    let engine = project.engine();
    assert_eq!(engine.is_running("dev-mirror-ghcr.io"), None);
    assert!(engine.volume("dev-mirror-ghcr.io").is_none(), "its volume goes with it");
    let environment = engine.inspect("dev-mirror-docker.io")["Config"]["Env"].to_string();
    assert!(environment.contains("https://mirror.example.com"), "{environment}");
    assert_eq!(engine.inspect("dev-local-registry")["Id"], registry, "what did not change is the same thing");
    project.is_settled();
}

#[test]
fn a_plan_tells_where_registries_will_answer() {
    let project = Project::quickstart();
    let _ports = crate::support::ChosenPorts::lock();
    let registry = format!("localhost:{}", project.registry_port);
    project.run(&["plan"]).code(0).says(&format!("+ registry = \"{registry}\"")).says("dev-local-registry:5000");
    project.apply();
    project.run(&["output", "registry"]).code(0).says(&registry);
    project.is_settled();
    // Made anew, it answers where it did; elsewhere, the plan says where.
    project.run(&["plan", "--replace", "registry"]).code(0).says_not("Changes to outputs");
}

#[test]
fn undo_goes_back_one_operation_or_several_and_says_what_stays() {
    let project = Project::applied();
    let first = project.history()[0]["operation"].as_str().unwrap().to_owned();
    project.declare(&["docker.io", "ghcr.io", "quay.io"], "");
    project.apply();
    let second = project.history()[0]["operation"].as_str().unwrap().to_owned();
    project.declare(&["docker.io", "quay.io"], "");
    project.apply();

    project
        .run(&["undo", "--auto-approve"])
        .code(0)
        .says("dev/mirror/ghcr.io will be created")
        .says("comes back empty")
        .says("revert it too");
    assert_eq!(project.engine().is_running("dev-mirror-ghcr.io"), Some(true));
    assert_eq!(project.history()[0]["kind"], "undo");

    project.run(&["undo", &second, "--auto-approve"]).code(0);
    assert_eq!(project.engine().is_running("dev-mirror-quay.io"), None);
    assert_eq!(project.engine().is_running("dev-mirror-ghcr.io"), Some(true));
    project.declare(&MIRRORS, "");
    project.is_settled();

    project.run(&["undo", "0000", "--auto-approve"]).code(1).says("KS0408");
    project.run(&["undo", &first, "--auto-approve"]).code(0).says("to destroy");
    assert!(!project.engine_folder().exists());
}

#[test]
fn what_is_ignored_stays_as_somebody_made_it_until_it_is_made_anew() {
    let project = Project::applied();
    let rule = "  lifecycle:\n    - match: mirror\n      ignore: [running]\n";
    project.declare(&MIRRORS, rule);
    project.engine().stop_container("dev-mirror-ghcr.io");
    project.apply();
    assert_eq!(project.engine().is_running("dev-mirror-ghcr.io"), Some(false), "an apply leaves it stopped");
    project.declare(&["docker.io", "ghcr.io=https://mirror.example.com"], rule);
    project.run(&["plan"]).code(0).says("~ running  = false -> true");
    project.apply();
    assert_eq!(project.engine().is_running("dev-mirror-ghcr.io"), Some(true), "the new one is as declared");
    project.is_settled();
}

#[test]
fn what_has_a_fixed_name_or_port_is_not_made_before_the_old_one_is_gone() {
    let project = Project::quickstart();
    for (what, why) in [
        ("registry/local", "its name and host port are fixed"),
        ("mirror", "its name and host port are fixed"),
        ("volume", "its name is fixed"),
        ("network/main", "its name is fixed"),
    ] {
        project.declare(&MIRRORS, &format!("  lifecycle:\n    - match: {what}\n      createBeforeDestroy: true\n"));
        let run = project.run(&["validate"]).code(1).says("KS0161").says(why).says("ksail.yaml:");
        run.says("hint: leave `createBeforeDestroy` out");
        project.run(&["apply", "--auto-approve"]).code(1).says(why);
    }
    assert!(!project.path().join(".ksail").exists(), "nothing was made");
}

#[test]
fn outputs_come_as_text_as_json_and_one_alone() {
    let project = Project::applied();
    let registry = format!("localhost:{}", project.registry_port);
    project.run(&["output"]).code(0).says("mirrors").says(&registry);
    assert_eq!(project.run(&["output", "registry"]).code(0).out.trim(), registry);
    let json = project.run(&["output", "--format", "json"]).code(0).json();
    assert!(json["registry"].to_string().contains(&registry), "{json}");
    project.run(&["output", "nothing"]).code(1).says("KS0408").says("mirrors, registry");
}

#[test]
fn the_names_of_kubernetes_sail_users_scripts_run() {
    let project = Project::empty(0);
    project.run(&["cluster", "init"]).code(0);
    let ports = ChosenPorts::lock();
    project.run(&["cluster", "diff", "--detailed-exitcode"]).code(2);
    project.run(&["cluster", "create", "--auto-approve"]).code(0);
    drop(ports);
    project.run(&["cluster", "update", "--auto-approve"]).code(0).says("No changes");
    project.run(&["cluster", "delete", "--auto-approve"]).code(0);
    assert!(project.engine_pids().is_empty());
}
