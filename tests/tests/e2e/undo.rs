//! The way back from what was only taken into the state, or only left it: nothing outside is made or destroyed.

use crate::support::project::{MIRRORS, Project};

const THREE: [&str; 3] = ["docker.io", "ghcr.io", "quay.io"];

fn last(project: &Project) -> String {
    project.history()[0]["operation"].as_str().unwrap().to_owned()
}

#[test]
fn what_was_imported_is_forgotten_and_stays() {
    let project = Project::applied();
    project.engine().create_volume("precious");
    project.declare(&THREE, "");
    project.run(&["import", "volume/mirror-quay.io", "precious", "--auto-approve"]).code(0).says("imported");
    let import = last(&project);
    project.apply();
    project.run(&["undo", &import, "--auto-approve"]).code(0).says("1 to forget").says_not("comes back empty");
    let engine = project.engine();
    assert!(engine.volume("precious").is_some(), "it was there before ksail");
    assert_eq!(engine.is_running("dev-mirror-quay.io"), None, "what the apply made is destroyed");
    project.declare(&MIRRORS, "");
    project.is_settled();
}

#[test]
fn a_recovery_of_a_lost_state_is_not_undone_and_one_of_the_rest_is_forgotten() {
    let project = Project::applied();
    let before = project.engine().addresses("dev");
    // What the state forgot and a recovery found is forgotten again.
    project.run(&["state", "rm", "volume/mirror-ghcr.io"]).code(0);
    project.run(&["state", "recover", "--auto-approve"]).code(0).says("imported");
    project.run(&["undo", "--auto-approve"]).code(0).says("1 to forget");
    assert_eq!(project.engine().addresses("dev"), before);

    for name in ["snapshot.json", "journal"] {
        std::fs::rename(project.state().join(name), project.path().join(name)).unwrap();
    }
    std::fs::rename(project.state().join("history"), project.path().join("history")).unwrap();
    project.run(&["state", "recover", "--auto-approve"]).code(0);
    project.run(&["undo", "--auto-approve"]).code(1).says("KS0408").says("rebuilt a lost state");
    assert_eq!(project.engine().addresses("dev"), before);
}

#[test]
fn what_was_forgotten_is_taken_up_again_as_it_is() {
    let project = Project::applied();
    let registry = project.engine().inspect("dev-mirror-ghcr.io")["Id"].clone();
    let both = "  removed:\n    - {from: volume/mirror-ghcr.io, destroy: false}\n    - {from: mirror/ghcr.io, destroy: false}\n";
    project.declare(&["docker.io"], both);
    project.run(&["apply", "--auto-approve"]).code(0);
    project.run(&["undo", "--auto-approve"]).code(0).says("2 to import").says_not("comes back empty");
    assert_eq!(project.engine().inspect("dev-mirror-ghcr.io")["Id"], registry);
    project.declare(&MIRRORS, "");
    project.is_settled();

    project.run(&["state", "rm", "volume/mirror-ghcr.io"]).code(0);
    project.run(&["undo", "--auto-approve"]).code(0).says("1 to import").says_not("comes back empty");
    project.is_settled();
    // And the way back from that.
    project.run(&["undo", "--auto-approve"]).code(0).says("1 to forget");
    assert!(project.engine().volume("dev-mirror-ghcr.io").is_some());
}

#[test]
fn a_move_is_made_back() {
    let project = Project::applied();
    let registry = project.engine().inspect("dev-mirror-ghcr.io")["Id"].clone();
    project.run(&["state", "mv", "volume/mirror-ghcr.io", "volume/other"]).code(0);
    project.run(&["undo", "--auto-approve"]).code(0).says("0 to add").says("0 to destroy").says_not("comes back empty");
    assert_eq!(project.engine().inspect("dev-mirror-ghcr.io")["Id"], registry);
    project.is_settled();
}
