//! What others changed outside, by hand.

use serde_json::json;

use crate::support::ChosenPorts;
use crate::support::engine::{has_blob, push_blob};
use crate::support::project::Project;
use crate::support::wait_until;

#[test]
fn drift_is_shown_apart_and_repaired() {
    let project = Project::applied();
    project.engine().remove_container("dev-mirror-ghcr.io");
    project.engine().stop_container("dev-mirror-docker.io");
    project
        .run(&["plan", "--detailed-exitcode"])
        .code(2)
        .says("Changed outside of ksail since the last apply:")
        .says("dev/mirror/ghcr.io was deleted outside of ksail")
        .says("~ running = true -> false")
        .says("Plan: 1 to add, 1 to change, 0 to destroy. 2 drifted.");
    let plan = project.run(&["plan", "--format", "json"]).json();
    let drift: Vec<_> =
        plan["resource_drift"].as_array().unwrap().iter().map(|drift| drift["address"].clone()).collect();
    assert_eq!(drift, ["dev/mirror/docker.io", "dev/mirror/ghcr.io"]);
    project.apply();
    assert_eq!(project.engine().is_running("dev-mirror-ghcr.io"), Some(true));
    assert_eq!(project.engine().is_running("dev-mirror-docker.io"), Some(true));
    project.is_settled();
}

#[test]
fn a_refresh_takes_the_drift_into_the_state_and_changes_nothing_outside() {
    let project = Project::applied();
    project.engine().remove_container("dev-mirror-ghcr.io");
    project.run(&["plan", "--refresh-only", "--detailed-exitcode"]).code(2).says("dev/mirror/ghcr.io");
    project.run(&["refresh", "--auto-approve"]).code(0);
    assert_eq!(project.engine().is_running("dev-mirror-ghcr.io"), None);
    project.run(&["state", "list"]).code(0).says_not("mirror/ghcr.io");
    assert_eq!(project.changes(&[]), ["dev/mirror/ghcr.io: create"]);
}

#[test]
fn without_a_look_the_state_is_believed() {
    let project = Project::applied();
    project.engine().remove_container("dev-mirror-ghcr.io");
    project.run(&["plan", "--refresh=false", "--detailed-exitcode"]).code(0);
    project.run(&["plan", "--detailed-exitcode"]).code(2);
}

#[test]
fn an_engine_that_was_killed_is_started_again_with_all_that_it_held() {
    let _ports = ChosenPorts::lock();
    let project = Project::quickstart();
    project.apply();
    let (blob, digest) = (b"kept", "sha256:3b1e4c3a9c4f4ea2ea8a0b5d0f7c5b1c5c2d1e7d9f8a0b1c2d3e4f5061728394");
    let digest = {
        use sha2::Digest as _;
        let hash = sha2::Sha256::digest(blob);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_ne!(digest, hex);
        format!("sha256:{hex}")
    };
    push_blob(project.registry_port, "app", blob, &digest);
    project.kill_engine();
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("~ running = true -> false");
    project.apply();
    assert!(has_blob(project.registry_port, "app", blob, &digest), "what was pushed is still there");
    project.is_settled();
}

#[test]
fn an_engine_without_its_folder_ends_and_is_made_anew_with_its_contents() {
    let _ports = ChosenPorts::lock();
    let project = Project::quickstart();
    project.apply();
    std::fs::remove_dir_all(project.engine_folder()).unwrap();
    wait_until("the end of an engine without a folder", || project.engine_pids().is_empty());
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("9 to add");
    project.apply();
    assert_eq!(project.engine().addresses("dev").len(), 7);
    project.is_settled();
}

#[test]
fn what_exists_and_is_not_ours_is_neither_taken_nor_touched_and_an_import_adopts_it() {
    let project = Project::applied();
    project.engine().create_volume("dev-mirror-quay.io");
    project.declare(&["docker.io", "ghcr.io", "quay.io"], "");
    project
        .run(&["plan"])
        .code(3)
        .says("dev-mirror-quay.io exists and is not ours")
        .says("ksail import dev/volume/mirror-quay.io dev-mirror-quay.io");
    project.run(&["plan", "--out", "plan.json"]).code(3);
    let done = project.run(&["apply", "plan.json"]).code(3).says("Apply done in part").says_not("failed");
    done.says("dev-mirror-quay.io exists and is not ours").says("2 blocked").says("resolve what blocks the rest");
    let labels = project.engine().volume("dev-mirror-quay.io").unwrap()["Labels"].clone();
    assert!(labels.is_null() || labels == json!({}), "{labels}");

    project.run(&["import", "volume/mirror-quay.io", "dev-mirror-quay.io", "--auto-approve"]).code(0).says("imported");
    project.apply();
    assert_eq!(project.engine().is_running("dev-mirror-quay.io"), Some(true));
    project.is_settled();
}

#[test]
fn an_import_of_what_has_a_record_is_refused_by_name() {
    let project = Project::applied();
    for (address, id) in [("network/main", "users-net"), ("dev/volume/mirror-ghcr.io", "dev-mirror-ghcr.io")] {
        let run = project.run(&["import", address, id, "--auto-approve"]).code(1).says("KS0204");
        run.says(address).says("has a record already").says("ksail state rm").says_not("No changes");
    }
    assert_eq!(project.history().len(), 1);
    // In the file the entry may stay.
    project.declare(&["docker.io", "ghcr.io"], "  imports:\n    - to: network/main\n      id: users-net\n");
    project.is_settled();
}

#[test]
fn an_import_can_be_declared_and_one_of_nothing_is_blocked() {
    let project = Project::applied();
    project.engine().create_volume("by-hand");
    let import = |id: &str| format!("  imports:\n    - to: volume/mirror-quay.io\n      id: {id}\n");
    project.declare(&["docker.io", "ghcr.io", "quay.io"], &import("nothing-there"));
    project.run(&["plan"]).code(3).says("nothing to import");
    assert!(project.engine().volume("dev-mirror-quay.io").is_none(), "a plan makes nothing");

    project.declare(&["docker.io", "ghcr.io", "quay.io"], &import("by-hand"));
    project.run(&["plan"]).code(0).says("dev/volume/mirror-quay.io will be imported").says("by-hand");
    project.run(&["plan", "--out", "plan.json"]).code(0);
    project.run(&["apply", "plan.json"]).code(0);
    let engine = project.engine();
    assert!(engine.volume("by-hand").is_some(), "it is adopted as it is");
    assert!(engine.volume("dev-mirror-quay.io").is_none(), "and not made beside it");
    let mounts = engine.inspect("dev-mirror-quay.io")["Mounts"].to_string();
    assert!(mounts.contains("by-hand"), "what needs it uses it: {mounts}");
    project.is_settled();
    // The entry may stay, and may go.
    project.declare(&["docker.io", "ghcr.io", "quay.io"], "");
    project.is_settled();
    project.run(&["state", "show", "volume/mirror-quay.io"]).code(0).says("by-hand");
    // What was taken over goes with everything else.
    project.run(&["destroy", "--auto-approve"]).code(0);
    assert!(project.engine_pids().is_empty());
}
