//! Looking after the state, and what may happen to its files.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::did_not_run;
use crate::support::project::{MIRRORS, Project, Run, Running};

#[test]
fn the_state_is_listed_shown_pulled_and_pushed() {
    let project = Project::applied();
    assert_eq!(project.run(&["state", "list"]).code(0).out.lines().count(), 9);
    project.run(&["state", "list", "--format", "json"]).code(0).says("dev/mirror/ghcr.io");
    project.run(&["state", "show", "mirror/ghcr.io"]).code(0).says("upstream = ").says("lives in    dev/engine/main");
    let record = project.run(&["state", "show", "dev/mirror/ghcr.io", "--format", "json"]).code(0).json();
    assert_eq!(record["declaration"]["address"], "dev/mirror/ghcr.io");
    project.run(&["state", "show", "mirror/nowhere"]).code(1).says("KS0408");

    let pulled = project.run(&["state", "pull"]).code(0).out;
    project.write("state.json", &pulled);
    project.run(&["state", "rm", "mirror/ghcr.io"]).code(0);
    project.run(&["plan"]).code(3).says("dev-mirror-ghcr.io exists");
    project.run(&["state", "push", "state.json"]).code(1).says("serial");
    let newer = pulled.replacen("\"serial\": 1", "\"serial\": 2", 1);
    assert_ne!(newer, pulled);
    project.write("state.json", &newer);
    project.run(&["state", "push", "state.json"]).code(0);
    project.is_settled();

    project.write("foreign.json", &newer.replace(&project.lineage(), "ffffffffffffffffffffffffffffffff"));
    project.run(&["state", "push", "foreign.json"]).code(1).says("KS0410").says("ffffffffffffffffffffffffffffffff");
    project.write("future.json", &newer.replacen("\"format\": 1", "\"format\": 99", 1));
    project.run(&["state", "push", "future.json"]).code(1).says("KS0402");
    project.write("none.json", "[]");
    project.run(&["state", "push", "none.json"]).code(1).says("KS0403");
    let history = project.history();
    assert_eq!(history.len(), 3);
    assert_eq!(history[0]["kind"], "edit");
    project.run(&["state", "history"]).code(0).says("apply").says("complete");
}

#[test]
fn a_move_by_hand_and_a_declared_one_keep_what_exists() {
    let project = Project::applied();
    let volume =
        |project: &Project| project.engine().volume("dev-mirror-ghcr.io").map(|volume| volume["CreatedAt"].clone());
    let before = volume(&project);
    project.run(&["state", "mv", "volume/mirror-ghcr.io", "volume/other"]).code(0);
    project.run(&["state", "list"]).code(0).says("dev/volume/other");
    project.run(&["state", "mv", "volume/other", "network/other"]).code(1).says("different kinds");
    let moved = "  moved:\n    - from: volume/other\n      to: volume/mirror-ghcr.io\n";
    project.declare(&MIRRORS, moved);
    project.run(&["plan"]).code(0).says("has moved to");
    project.apply();
    assert_eq!(volume(&project), before);
    project.is_settled();
}

#[test]
fn what_an_edit_leaves_behind_is_said_as_the_next_plan_has_it() {
    let project = Project::applied();
    project
        .run(&["state", "mv", "mirror/ghcr.io", "mirror/other"])
        .code(0)
        .says("destroys what was moved")
        .says("blocked");
    project.run(&["plan"]).code(3).says("dev/mirror/other will be destroyed").says("dev/mirror/ghcr.io is blocked");
    project.run(&["state", "mv", "mirror/other", "mirror/ghcr.io"]).code(0);
    project.run(&["state", "rm", "mirror/ghcr.io"]).code(0).says("with the mark of this state").says("ksail import");
    project.run(&["plan", "--target", "mirror/docker.io"]).code(0).says("resources are left out");
    project.run(&["plan", "--exclude", "mirror/ghcr.io"]).code(0).says("1 resource is left out");
}

#[test]
fn a_place_of_the_state_that_is_no_folder_is_named_itself() {
    let project = Project::quickstart();
    std::fs::create_dir(project.path().join(".ksail")).unwrap();
    std::fs::write(project.state(), "").unwrap();
    let run = project.run(&["plan"]).code(1).says("KS0407").says(".ksail/dev");
    run.says_not("moved");
}

#[test]
fn what_is_removed_without_destroy_is_forgotten_and_stays() {
    let project = Project::applied();
    let removed = "  removed:\n    - from: mirror/ghcr.io\n      destroy: false\n    - from: volume/mirror-ghcr.io\n      destroy: false\n";
    project.declare(&["docker.io"], removed);
    project.run(&["plan"]).code(0).says("will no longer be managed by ksail");
    project.apply();
    assert_eq!(project.engine().is_running("dev-mirror-ghcr.io"), Some(true));
    project.run(&["state", "list"]).code(0).says_not("ghcr.io");
    project.is_settled();
}

#[test]
fn what_only_the_state_says_is_shown_counted_and_asked_for() {
    let rule = |yes: &str| format!("  lifecycle:\n    - match: volume\n      protect: {yes}\n");
    let project = Project::applied();
    project.declare(&MIRRORS, &rule("true"));
    project
        .run(&["plan", "--detailed-exitcode"])
        .code(2)
        .says("dev/volume/mirror-ghcr.io: protection: off → on")
        .says("3 to record")
        .says_not("No changes");
    project.run(&["apply"]).code(1).says("KS0304").says("protection: off → on");
    project.apply();
    project.is_settled();
    // Without the rule what is recorded holds.
    project.declare(&MIRRORS, "");
    project.is_settled();
    project.run(&["plan", "--replace", "engine"]).code(6).says("KS0202");
    project.declare(&MIRRORS, &rule("false"));
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("protection: on → off");
    project.run(&["plan", "--replace", "engine"]).code(0).says("protection: on → off");
    project.apply();
    // And the way back.
    project.run(&["undo", "--auto-approve"]).code(0).says("protection: off → on");
    project.run(&["undo", "--auto-approve"]).code(0).says("protection: on → off");
    project.is_settled();
}

#[test]
fn a_place_of_the_state_that_there_is_not_is_told_by_validate() {
    let project = Project::quickstart();
    project.declare(&MIRRORS, "  state:\n    path: gs://bucket/x\n");
    project.run(&["validate"]).code(1).says("KS0409").says("ksail.yaml:").says("gs://");
    let rules = "  lifecycle:\n    - {match: registry, protect: true}\n    - {match: registry, protect: false}\n";
    project.declare(&MIRRORS, rules);
    project.run(&["validate"]).code(1).says("KS0140").says("contradict");
}

#[test]
fn what_is_protected_outlives_its_declaration() {
    let protect = |yes: bool| format!("  lifecycle:\n    - match: volume\n      protect: {yes}\n");
    let project = Project::quickstart();
    project.declare(&MIRRORS, &protect(true));
    project.apply_first();
    project.run(&["destroy", "--auto-approve"]).code(6).says("KS0202").says("dev/volume/mirror-ghcr.io");
    project.declare(&["docker.io"], "");
    project.run(&["plan"]).code(6).says("dev/volume/mirror-ghcr.io");
    project.run(&["apply", "--auto-approve"]).code(6);
    assert!(project.engine().volume("dev-mirror-ghcr.io").is_some());
    project.declare(&MIRRORS, &protect(false));
    project.apply();
    project.run(&["destroy", "--auto-approve"]).code(0);
}

#[test]
fn a_torn_last_line_is_told_and_the_next_apply_goes_on() {
    let project = Project::applied();
    let journal = project.state().join("journal");
    let mut file = OpenOptions::new().append(true).open(&journal).unwrap();
    file.write_all(b"0123abcd {\"torn").unwrap();
    drop(file);
    project.run(&["plan", "--detailed-exitcode"]).code(0).says("KS0403").says("incomplete");
    project.run(&["plan", "-q"]).code(0).says("KS0403");
    project.declare(&["docker.io"], "");
    project.run(&["plan", "-q", "--out", "plan.json"]).code(0);
    project.run(&["apply", "-q", "plan.json"]).code(0).says("journal.torn-1");
    project.is_settled();
}

#[test]
fn a_line_damaged_in_the_middle_is_an_error_and_nothing_is_changed() {
    let project = Project::applied();
    project.declare(&["docker.io"], "");
    project.apply();
    project.declare(&MIRRORS, "");
    project.apply();
    let journal = project.state().join("journal");
    let text = fs::read_to_string(&journal).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() > 4, "{text}");
    let damaged = lines[2].replacen(':', ";", 1);
    fs::write(&journal, text.replacen(lines[2], &damaged, 1)).unwrap();
    project.run(&["plan"]).code(1).says("KS0403").says("state recover");
    project.run(&["apply", "--auto-approve"]).code(1);
    assert_eq!(project.engine().addresses("dev").len(), 7);
}

#[test]
fn a_newer_format_is_read_by_nobody_and_kept() {
    let project = Project::applied();
    let path = project.state().join("snapshot.json");
    let newer = fs::read_to_string(&path).unwrap().replacen("\"format\":1", "\"format\":99", 1);
    let newer = newer.replacen("\"format\": 1", "\"format\": 99", 1);
    assert!(newer.contains("99"));
    fs::write(&path, &newer).unwrap();
    project.run(&["plan"]).code(1).says("KS0402");
    project.run(&["destroy", "--auto-approve"]).code(1).says("KS0402");
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
}

/// A way to run commands that may not write below a folder: another user's way is the folder's mode, and root's a private
/// mount namespace in which it is mounted read-only. `None` where neither works.
fn read_only<'a>(project: &'a Project, folder: &'a Path) -> Option<impl Fn(&[&str]) -> Run + 'a> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).unwrap();
    let may_write = fs::write(folder.join("probe"), "").is_ok();
    let _ = fs::remove_file(folder.join("probe"));
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    const MOUNT: &str = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";
    let namespace = move |command: &Command| {
        let mut wrapped = Command::new("unshare");
        wrapped.args(["--mount", "--propagation", "private", "sh", "-c", MOUNT, "sh"]).arg(folder);
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped.current_dir(project.path());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        wrapped
    };
    if may_write && !namespace(&Command::new("true")).output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    Some(move |arguments: &[&str]| {
        if may_write {
            return Running::start(namespace(&project.command(arguments))).end();
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).unwrap();
        let run = project.run(arguments);
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        run
    })
}

#[test]
fn a_state_that_may_not_be_written_can_be_read_and_is_a_clear_error_before_any_call() {
    let project = Project::applied();
    let folder = project.state();
    let Some(run) = read_only(&project, &folder) else {
        return did_not_run("root may write everywhere, and there are no private mount namespaces here");
    };
    run(&["plan", "--detailed-exitcode"]).code(0);
    run(&["state", "list"]).code(0).says("dev/mirror/ghcr.io");
    run(&["state", "history"]).code(0).says("apply");
    run(&["output", "registry"]).code(0).says("localhost:");
    project.declare(&["docker.io"], "");
    run(&["plan", "--detailed-exitcode"]).code(2);
    let before = project.engine().marked("dev");
    for command in
        [&["apply", "--auto-approve"][..], &["destroy", "--auto-approve"], &["state", "rm", "mirror/ghcr.io"]]
    {
        run(command).code(1).says("KS0405").says("hint: ");
    }
    assert_eq!(project.engine().marked("dev"), before);
    project.apply();
    project.is_settled();
}

#[test]
fn a_full_disk_is_a_clear_error_and_the_same_command_goes_on() {
    let project = Project::quickstart();
    let disk = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "ksail-test"])
        .arg(disk.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        return did_not_run("a small disk cannot be mounted here");
    }
    struct Mounted<'a>(&'a std::path::Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(self.0).output();
        }
    }
    let mounted = Mounted(disk.path());
    let state = disk.path().join("state");
    let state = state.to_str().unwrap();
    let filler = disk.path().join("filler");
    let _ports = crate::support::ChosenPorts::lock();
    let _ = fs::write(&filler, vec![0; 2 << 20]);
    project.run(&["apply", "--auto-approve", "--state", state]).code(1).says("KS0404");
    fs::remove_file(&filler).unwrap();
    project.run(&["apply", "--auto-approve", "--state", state]).code(0);
    project.declare(&["docker.io"], "");
    let _ = fs::write(&filler, vec![0; 2 << 20]);
    let full = project.run(&["apply", "--auto-approve", "--state", state]);
    assert_ne!(full.code, Some(0), "{full}");
    let full = full.says("space");
    drop(full);
    fs::remove_file(&filler).unwrap();
    project.run(&["apply", "--auto-approve", "--state", state]).code(0);
    project.run(&["plan", "--detailed-exitcode", "--state", state]).code(0);
    project.run(&["destroy", "--auto-approve", "--state", state]).code(0);
    drop(mounted);
}
