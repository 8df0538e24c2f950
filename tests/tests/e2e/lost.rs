//! The state lost: rebuilt from the marks on what exists.

use std::fs;

use crate::support::project::Project;
use crate::support::wait_until;

fn lose_state(project: &Project) {
    for name in ["snapshot.json", "journal"] {
        fs::rename(project.state().join(name), project.path().join(name)).unwrap();
    }
}

#[test]
fn a_lost_state_is_named_and_recovered() {
    let project = Project::applied();
    let lineage = project.lineage();
    lose_state(&project);
    project
        .run(&["plan", "--detailed-exitcode"])
        .code(3)
        .says(&format!("belongs to lineage {lineage}"))
        .says("8 resources are blocked: what is outside is unknown: its host dev/engine/main is unknown")
        .says("ksail state recover");
    project.run(&["apply", "--auto-approve"]).code(3);
    assert_eq!(project.engine().addresses("dev").len(), 7, "nothing was touched");
    project.run(&["state", "recover"]).code(1).says("KS0304");
    project.run(&["state", "recover", "--auto-approve"]).code(0).says(&lineage);
    assert_eq!(project.lineage(), lineage);
    project.is_settled();
    project.run(&["state", "recover", "--auto-approve"]).code(1).says("nothing is lost");
    project.run(&["destroy", "--auto-approve"]).code(0);
    assert!(!project.engine_folder().exists());
}

#[test]
fn the_history_of_a_lost_state_stays_apart_from_that_of_the_recovered_one() {
    let project = Project::applied();
    project.declare(&["docker.io"], "");
    project.apply();
    let before = project.history();
    lose_state(&project);
    project.run(&["state", "recover", "--auto-approve"]).code(0);
    let after = project.history();
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(after[1..], before[..], "the recovery is the newest one");
    project.run(&["undo"]).code(1).says("rebuilt a lost state");
    let lost = before[0]["operation"].as_str().unwrap();
    project.run(&["undo", lost]).code(1).says("is not in the history");
    // What comes after it can be undone, and nothing more is.
    project.declare(&[], "");
    project.apply();
    project.run(&["undo", "--auto-approve"]).code(0).says("dev/mirror/docker.io");
    assert!(project.run(&["state", "list"]).code(0).out.contains("dev/mirror/docker.io"));
}

#[test]
fn a_lost_state_is_recovered_also_where_the_engine_does_not_run() {
    let project = Project::applied();
    let lineage = project.lineage();
    let port = project.run(&["state", "show", "engine/main"]).code(0).out;
    lose_state(&project);
    // Nobody else is given the engine's port meanwhile.
    let _ports = crate::support::ChosenPorts::lock();
    project.kill_engine();
    project.run(&["plan"]).code(3).says(&lineage).says("ksail state recover");
    project
        .run(&["state", "recover"])
        .code(1)
        .says("KS0304")
        .says("~ running = false -> true")
        .says("dev/engine/main does not run and is brought back first");
    assert!(project.engine_pids().is_empty(), "nothing is started before a yes");
    assert!(!project.state().join("snapshot.json").exists());

    project.run(&["state", "recover", "--auto-approve"]).code(0).says("looking for what it holds").says("8 to import");
    assert_eq!(project.lineage(), lineage);
    assert_eq!(project.engine().addresses("dev").len(), 7);
    assert_eq!(project.run(&["state", "show", "engine/main"]).code(0).out.lines().last(), port.lines().last());
    project.is_settled();
    project.run(&["state", "recover", "--auto-approve"]).code(1).says("nothing is lost");
}

#[test]
fn a_recovery_killed_after_the_engine_is_back_goes_on() {
    let project = Project::applied();
    lose_state(&project);
    let _ports = crate::support::ChosenPorts::lock();
    project.kill_engine();
    let recovery = project.start(&["state", "recover", "--auto-approve"]);
    wait_until("the engine is back", || recovery.has_said("dev/engine/main: updated"));
    recovery.signal(rustix::process::Signal::KILL);
    recovery.end();
    // Whatever it came to: what is not in the state yet is found by another one, or nothing is lost any more.
    let again = project.run(&["state", "recover", "--auto-approve"]);
    assert!(again.code == Some(0) || again.err.contains("nothing is lost"), "{again}");
    project.apply();
    project.is_settled();
    assert_eq!(project.engine().addresses("dev").len(), 7);
}

#[test]
fn what_is_no_longer_declared_is_recovered_too_and_then_planned() {
    let project = Project::applied();
    lose_state(&project);
    project.declare(&["docker.io"], "");
    project.run(&["state", "recover", "--auto-approve"]).code(0);
    let mut changes = project.changes(&[]);
    changes.sort();
    assert_eq!(changes, ["dev/mirror/ghcr.io: delete", "dev/volume/mirror-ghcr.io: delete"]);
    project.apply();
    project.is_settled();
}

#[test]
fn a_foreign_lineage_is_refused_with_its_owner() {
    let project = Project::applied();
    let lineage = project.lineage();
    lose_state(&project);
    let other = "0123456789abcdef0123456789abcdef";
    project
        .run(&["state", "recover", "--auto-approve", "--lineage", other])
        .code(1)
        .says("KS0410")
        .says(other)
        .says(&lineage);
    assert!(!project.state().join("snapshot.json").exists());
}

#[test]
fn without_marks_there_is_nothing_to_recover() {
    let project = Project::quickstart();
    project.run(&["state", "recover", "--auto-approve"]).code(1).says("KS0408");
}
