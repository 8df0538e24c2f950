//! Full and read-only disks. The disks are mounted in a namespace of the child, which takes them away when it ends.

use std::process::{Command, Output, Stdio};

use crate::children;

/// How to get a namespace in which disks can be mounted: as root, or as a user who may have namespaces.
const NAMESPACES: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--map-root-user", "--mount"]];

/// A namespace with mounts of its own; `None`, with a reason printed, where there is none.
fn namespace() -> Option<&'static [&'static str]> {
    let root = tempfile::tempdir().unwrap();
    let works = |prefix: &&[&str]| {
        let mut probe = children::shell(prefix, "mount -t tmpfs none \"$KSAIL_STATE_TEST_FOLDER\"", root.path());
        probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let found = NAMESPACES.into_iter().find(works);
    if found.is_none() {
        ksail_test_real::did_not_run(
            "no mount namespace can be made here (it takes Linux, unshare and the right to mount)",
        );
    }
    found
}

fn must_survive(command: &mut Command) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && stdout.contains("survived"), "{status}\n{stdout}\n{stderr}");
}

#[test]
fn a_full_disk_loses_nothing_and_appends_go_on_once_there_is_room() {
    let Some(prefix) = namespace() else { return };
    let root = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=400k none \"$KSAIL_STATE_TEST_FOLDER\"
        export KSAIL_STATE_TEST_CHILD='fill disk'
        exec \"$0\" \"$@\"";
    must_survive(&mut children::shell(prefix, script, root.path()));
}

#[test]
fn a_file_at_its_size_limit_loses_nothing_and_a_checkpoint_makes_room() {
    if cfg!(not(unix)) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    // The signal is ignored so that the write fails instead, as it does on a full disk.
    let script = "trap '' XFSZ
        ulimit -f 200
        export KSAIL_STATE_TEST_CHILD='fill file'
        exec \"$0\" \"$@\"";
    must_survive(&mut children::shell(&[], script, &root.path().join("stack")));
}

#[test]
fn a_read_only_folder_can_be_read_and_is_named() {
    let Some(prefix) = namespace() else { return };
    let root = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs none \"$KSAIL_STATE_TEST_FOLDER\"
        export KSAIL_STATE_TEST_CHILD='prepare'
        \"$0\" \"$@\"
        mount -o remount,ro none \"$KSAIL_STATE_TEST_FOLDER\"
        export KSAIL_STATE_TEST_CHILD='read only'
        exec \"$0\" \"$@\"";
    must_survive(&mut children::shell(prefix, script, root.path()));
}
