//! The user's kubeconfig: entries come, are mended and go, and what is the user's stays.

use std::fs;
use std::process::Command;

use serde_json::Value as Json;

use crate::cluster::{applied, written};
use crate::support::project::Project;
use crate::support::{ChosenPorts, did_not_run};

/// What the user has before, with a comment.
const MINE: &str = "# mine\napiVersion: v1\nkind: Config\nclusters:\n- name: work # at work\n  cluster:\n    server: https://work:6443\ncontexts:\n- name: work\n  \
                    context:\n    cluster: work\n    user: me\ncurrent-context: work\nusers:\n- name: me\n  user:\n    token: mine\n";

fn write(project: &Project, text: &str) {
    fs::create_dir_all(project.home().join(".kube")).expect("a folder");
    fs::write(project.home().join(".kube/config"), text).expect("a kubeconfig");
}

fn read(project: &Project) -> String {
    fs::read_to_string(project.home().join(".kube/config")).expect("a kubeconfig")
}

/// Before commands that are killed.
pub(crate) fn begin(project: &Project) {
    write(project, MINE);
}

/// After one that came to its end: what is the user's is there as it was, ours once or not at all, and nothing is left beside.
#[track_caller]
pub(crate) fn is_whole(project: &Project, is_there: bool) {
    let text = read(project);
    if is_there {
        let mut lines = text.lines();
        let is_kept = |line: &str| line.starts_with("current-context") || lines.any(|have| have == line);
        assert!(MINE.lines().all(is_kept), "{text}");
        assert_eq!(text.matches("name: ksail-dev\n").count(), 3, "{text}");
    } else {
        assert_eq!(text, MINE);
    }
    let folder = fs::read_dir(project.home().join(".kube")).expect("a folder");
    let beside: Vec<_> = folder.flatten().map(|entry| entry.file_name()).filter(|name| name != "config").collect();
    assert!(beside.is_empty(), "{beside:?}");
}

/// The token by which the cluster's administrator logs in.
fn token(project: &Project) -> String {
    let path = project.run(&["output", "kubeconfig"]).code(0).out;
    let text = fs::read_to_string(path.trim()).expect("the cluster's own kubeconfig");
    text.lines().find_map(|line| line.trim().strip_prefix("token: ")).expect("a token").to_owned()
}

/// All that the project's state has on disk, but for what the engine keeps.
fn state(project: &Project) -> String {
    let mut all = String::new();
    let mut todo = vec![project.state()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            match entry.file_type().expect("a type").is_dir() {
                true if entry.file_name() != "engine" => todo.push(entry.path()),
                true => {}
                false => all.push_str(&String::from_utf8_lossy(&fs::read(entry.path()).expect("a file"))),
            }
        }
    }
    all
}

#[test]
fn a_cluster_is_reached_by_the_users_kubeconfig_which_is_given_back() {
    let project = written();
    write(&project, MINE);
    let ports = ChosenPorts::lock();
    let plan = project.run(&["plan"]).code(0);
    plan.says("dev/kubeconfig/main will be created").says("\"~/.kube/config\"").says("\"ksail-dev\"");
    assert_eq!(read(&project), MINE, "a plan writes nothing");
    project.run(&["plan", "--out", "plan.json"]).code(0);
    let applied = project.run(&["apply", "plan.json", "--format", "json"]).code(0);
    drop(ports);
    project.is_settled();
    let text = read(&project);
    assert!(text.contains("current-context: ksail-dev"), "{text}");
    assert!(text.starts_with("# mine\n") && text.contains("- name: work # at work\n"), "{text}");
    let token = token(&project);
    assert!(text.contains(&token));
    let told = [applied.out, applied.err, project.read("plan.json"), state(&project)].concat();
    let shown = project.run(&["state", "show", "kubeconfig/main"]).code(0).out;
    assert!(!told.contains(&token) && !shown.contains(&token), "a credential is told");
    assert!(shown.contains("former_context") && shown.contains("work"), "{shown}");
    assert_eq!(project.run(&["output", "context"]).code(0).out.trim(), "ksail-dev");
    if let Some(kubectl) = std::env::var_os("KSAIL_TEST_KUBECTL").filter(|path| !path.is_empty()) {
        // As a user types it.
        let run = |arguments: &[&str]| {
            let mut command = Command::new(&kubectl);
            command.args(arguments).env_remove("KUBECONFIG").env("HOME", project.home());
            let run = command.output().expect("kubectl runs");
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            String::from_utf8_lossy(&run.stdout).into_owned()
        };
        assert!(run(&["get", "nodes"]).contains("dev-control-plane"));
        // kubectl writes the file anew, and ours stays ours.
        run(&["config", "set-context", "--current", "--namespace=shop"]);
        project.is_settled();
        assert!(run(&["get", "pods"]).contains("web-"));
        run(&["config", "use-context", "work"]);
        project.is_settled();
        run(&["config", "use-context", "ksail-dev"]);
        project.run(&["destroy", "--auto-approve"]).code(0);
        let view: Json = serde_json::from_str(&run(&["config", "view", "-o", "json"])).expect("JSON");
        assert_eq!(view["current-context"], "work");
        assert_eq!(view["contexts"].as_array().map(Vec::len), Some(1), "{view}");
        return;
    }
    did_not_run("KSAIL_TEST_KUBECTL names no kubectl (testbed/kubernetes.sh up; testbed/kubernetes.sh env)");
    project.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(read(&project), MINE);
}

#[test]
fn what_is_changed_by_hand_is_drift_and_what_is_taken_out_comes_back() {
    let mut project = applied();
    let whole = read(&project);
    let server = whole.lines().find(|line| line.contains("server:")).expect("a server").to_owned();
    write(&project, &whole.replace(&server, "    server: https://elsewhere:1"));
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("dev/kubeconfig/main").says("https://elsewhere:1");
    assert_eq!(project.changes(&[]), ["dev/kubeconfig/main: update"]);
    project.apply();
    assert_eq!(read(&project).matches("server:").count(), 1);
    project.is_settled();
    write(&project, "");
    project.run(&["plan"]).code(0).says("dev/kubeconfig/main was deleted outside of ksail");
    project.apply();
    project.is_settled();
    assert!(read(&project).contains("current-context: ksail-dev"));
    // The file that was chosen first stays, wherever KUBECONFIG leads later.
    project.set_env("KUBECONFIG", "/nowhere/config");
    project.is_settled();
    // A lock that somebody else left is told of, with what to do, and nothing is written.
    write(&project, MINE);
    fs::write(project.home().join(".kube/config.lock"), "").expect("a lock");
    project.run(&["apply", "--auto-approve", "--timeout", "4s"]).code(3).says("config.lock exists").says("rm -f");
    assert_eq!(read(&project), MINE);
    fs::remove_file(project.home().join(".kube/config.lock")).expect("the lock");
    project.apply();
    project.is_settled();
}

#[test]
fn a_context_of_somebody_else_is_left_alone_and_another_name_and_file_can_be_given() {
    let project = written();
    let theirs = MINE
        .replace("name: work\n", "name: ksail-dev\n")
        .replace("current-context: work", "current-context: ksail-dev");
    write(&project, &theirs);
    let ports = ChosenPorts::lock();
    let plan = project.run(&["plan"]).code(3);
    plan.says("dev/kubeconfig/main is blocked: ksail-dev exists and is not ours").says("16 to add");
    // The rest is applied.
    project.run(&["apply", "--auto-approve"]).code(3);
    drop(ports);
    assert_eq!(read(&project), theirs);
    let file = project.read("ksail.yaml");
    let connection = "    provider: Embedded\n    connection: {kubeconfig: dev.kubeconfig, context: shop}\n";
    project.write("ksail.yaml", &file.replace("    provider: Embedded\n", connection));
    project.apply();
    project.is_settled();
    assert!(project.read("dev.kubeconfig").contains("current-context: shop"));
    project.write(
        "ksail.yaml",
        &file.replace("    provider: Embedded\n", &connection.replace("context: shop", "context: other")),
    );
    assert_eq!(project.changes(&[]), ["dev/kubeconfig/main: delete,create"]);
    project.apply();
    let text = project.read("dev.kubeconfig");
    assert!(text.contains("current-context: other") && !text.contains("shop"), "{text}");
    assert_eq!(read(&project), theirs);
}

#[test]
fn a_lost_state_finds_its_entries_again_and_an_undo_gives_them_back() {
    let project = written();
    write(&project, MINE);
    let ports = ChosenPorts::lock();
    project.apply();
    drop(ports);
    for name in ["snapshot.json", "journal"] {
        fs::rename(project.state().join(name), project.path().join(name)).expect("the state is lost");
    }
    project.run(&["plan"]).code(3).says("ksail state recover");
    project.run(&["state", "recover", "--auto-approve"]).code(0).says("kubeconfig/main");
    project.is_settled();
    // An undo takes the same ports again: nobody may choose them in between.
    let ports = ChosenPorts::lock();
    project.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(read(&project), MINE);
    project.run(&["undo", "--auto-approve"]).code(0);
    drop(ports);
    assert!(read(&project).contains("current-context: ksail-dev"));
    project.is_settled();
    project.run(&["undo", "--auto-approve"]).code(0);
    assert_eq!(read(&project), MINE);
}

#[test]
fn two_projects_of_one_name_do_not_take_each_others_place() {
    let (first, mut second) = (applied(), written());
    let home = first.home().display().to_string();
    second.set_env("HOME", &home);
    let ports = ChosenPorts::lock();
    second.run(&["apply", "--auto-approve"]).code(3).says("ksail-dev exists and belongs to lineage").says("1 blocked");
    drop(ports);
    first.is_settled();
    assert!(read(&first).contains(&token(&first)) && !read(&first).contains(&token(&second)));
}
