//! A cluster from day to day: listed, shown, stopped, started, opened, and asked for what its nodes say.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::cluster::applied;
use crate::machines::World;
use crate::support::project::Project;
use crate::support::{files_below, wait_until};

/// The files below a folder, by the paths that they have there.
fn layout(folder: &Path) -> BTreeSet<String> {
    let below = |file: std::path::PathBuf| file.strip_prefix(folder).expect("below").display().to_string();
    files_below(folder).into_iter().map(below).collect()
}

/// What of a layout is the same whenever it is asked for: logs are rotated, and pods come and go.
fn steady(layout: &BTreeSet<String>) -> BTreeSet<&str> {
    let is_steady = |path: &&str| !path.ends_with("-version.txt") || path.ends_with("kubernetes-version.txt");
    let all = layout.iter().map(String::as_str).filter(is_steady);
    all.filter(|path| !path.contains("/pods/") && !path.contains("/containers/")).collect()
}

/// A k9s that says how it was called.
fn k9s(project: &mut Project) {
    let folder = project.home().join("programs");
    std::fs::create_dir_all(&folder).expect("a folder");
    let program = folder.join("k9s");
    std::fs::write(&program, "#!/bin/sh\necho \"editor=$K9S_EDITOR $*\"\nexit 7\n").expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = std::env::var("PATH").unwrap_or_default();
    project.set_env("PATH", &format!("{}:{path}", folder.display()));
}

#[test]
fn a_cluster_on_docker_is_stopped_and_started_and_tells_of_itself() {
    let Some(mut world) = World::example() else { return };
    world.workers(1);
    // A proxy that nothing answers at: what the cluster does, it does past it.
    world.project.set_env("HTTPS_PROXY", "http://me:pass-of-the-proxy@127.0.0.1:9");
    let file = world.project.read("ksail.yaml");
    world
        .project
        .write("ksail.yaml", &file.replace("distribution: Vanilla\n", "distribution: Vanilla\n    audit: {}\n"));
    let published = crate::support::free_port();
    let kind = world.project.read("kind.yaml");
    let mapped =
        format!("role: control-plane\n    extraPortMappings: [{{containerPort: 80, hostPort: {published}}}]\n");
    world.project.write("kind.yaml", &kind.replace("role: control-plane\n", &mapped));
    world.project.apply();
    world.project.is_settled();
    let (_, env) = world.engine.exec(&world.nodes(1)[1], &["printenv", "https_proxy", "NO_PROXY"]);
    assert!(env.starts_with("http://me:pass-of-the-proxy@127.0.0.1:9"), "{env}");
    assert!(env.contains(&format!("{}-local-registry", world.cluster)) && env.contains(".svc.cluster.local"), "{env}");
    world.project.run(&["state", "pull"]).code(0).says("HTTPS_PROXY").says_not("pass-of-the-proxy");
    // Who plans later without a proxy makes nothing anew.
    world.project.unset_env("HTTPS_PROXY");
    world.project.is_settled();
    let ingress = world.project.run(&["output", "ingress"]).code(0).out;
    assert!(ingress.contains(&format!("http://NAME.127.0.0.1.nip.io:{published}")), "{ingress}");
    let uid = world.uid(&world.control_plane());
    let listed = |project: &Project| project.run(&["cluster", "list", "--format", "json"]).code(0).json();
    let row = |project: &Project| {
        let rows = listed(project);
        let row = rows.as_array().expect("a list").iter().find(|row| row["name"] == world.cluster.as_str());
        row.unwrap_or_else(|| panic!("{} in {rows}", world.cluster)).clone()
    };
    let ours = row(&world.project);
    assert_eq!((&ours["status"], &ours["this_project"]), (&json!("running"), &json!(true)), "{ours}");
    assert_eq!(ours["nodes"].as_array().map(Vec::len), Some(2));
    // In another folder it is that of another state.
    let mut elsewhere = Project::empty(crate::support::free_port());
    elsewhere.set_env("DOCKER_HOST", &std::env::var("KSAIL_TEST_DOCKER_HOST").expect("the engine"));
    let theirs = row(&elsewhere);
    assert_eq!((&theirs["this_project"], &theirs["lineage"]), (&json!(false), &json!(world.project.lineage())));
    let said = elsewhere.run(&["cluster", "ls"]).code(0).says("2/2").out;
    assert!(said.contains(&format!("state {}", &world.project.lineage()[..8])), "{said}");
    let info = world.project.run(&["cluster", "info"]).code(0);
    info.says(&format!("Kubernetes {}", world.version)).says("node/worker-0").says("https://127.0.0.1:");
    let info = world.project.run(&["cluster", "info", "--output", "json"]).code(0).json();
    assert!(info["resources"].as_array().expect("a list").iter().all(|part| part["ready"] == true), "{info}");

    // What the nodes say, laid out as kind lays it out.
    let logs = world.project.home().join("logs");
    let told = world.project.run(&["cluster", "logs", &logs.display().to_string(), "--format", "json"]).json();
    // A node image need not have every program; what it lacks is told.
    let missing = told["missing"].as_array().expect("a list");
    assert!(missing.iter().all(|why| why.as_str().is_some_and(|why| why.contains("images.log"))), "{missing:?}");
    let written = layout(&logs);
    let of_etcd = format!("{}/pods/kube-system_etcd-", world.control_plane());
    assert!(written.iter().any(|path| path.starts_with(&of_etcd)), "{written:?}");
    let audit = std::fs::read_to_string(logs.join(world.control_plane()).join("kubernetes/audit/audit.log"));
    assert!(audit.expect("the log of requests").contains("audit.k8s.io/v1"));
    let containers = format!("{}/containers/etcd-", world.control_plane());
    let etcd = written.iter().find(|path| path.starts_with(&containers)).expect("the log of etcd");
    assert!(std::fs::read_to_string(logs.join(etcd)).expect("a log").contains("etcd"));
    if let Some(kind) = std::env::var_os("KSAIL_TEST_KIND").filter(|path| !path.is_empty()) {
        let theirs = world.project.home().join("of-kind");
        let run = Command::new(kind)
            .args(["export", "logs", "--name", &world.cluster])
            .arg(&theirs)
            .env("DOCKER_HOST", std::env::var("KSAIL_TEST_DOCKER_HOST").expect("the engine"))
            .output()
            .expect("kind runs");
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(
            run.status.success() || said.matches("failed with error").count() == said.matches("crictl").count(),
            "{said}"
        );
        assert_eq!(steady(&written), steady(&layout(&theirs)));
    }

    world.project.run(&["cluster", "stop"]).code(0).says(&format!("{}-worker: stopped", world.cluster));
    for node in world.nodes(1) {
        assert_eq!(world.engine.is_running(&node), Some(false), "{node}");
    }
    assert_eq!(world.engine.is_running(&format!("{}-local-registry", world.cluster)), Some(false));
    assert_eq!(row(&world.project)["status"], "stopped");
    world.project.run(&["cluster", "info"]).code(0).says("stopped");
    // What is stopped still has its logs.
    let logs = world.project.home().join("logs-of-stopped");
    world.project.run(&["cluster", "logs", &logs.display().to_string()]).code(3).says("does not run (exited)");
    assert!(layout(&logs).iter().any(|path| path.starts_with(&of_etcd)));
    let plan = world.project.run(&["plan", "--detailed-exitcode"]).code(2);
    plan.says(&format!("the cluster {} is stopped: `ksail cluster start` starts it", world.cluster))
        .says("0 to add")
        .says("0 to destroy");
    let before = world.project.run(&["state", "pull"]).code(0).out;
    world.project.run(&["cluster", "stop", "--format", "json"]).code(0).says("was_so").says_not("\"done\"");

    world.project.run(&["cluster", "start"]).code(0).says("started, and ready");
    // What runs on the nodes comes up again after them.
    wait_until("rest", || {
        let plan = world.project.command(&["plan", "--detailed-exitcode"]).output().expect("a plan");
        plan.status.code() == Some(0)
    });
    assert_eq!(world.project.run(&["state", "pull"]).code(0).out, before, "the state has nothing of it");
    assert_eq!(world.ready_nodes(), world.nodes(1));
    assert_eq!(world.uid(&world.control_plane()), uid);
    world.project.run(&["destroy", "--auto-approve"]).code(0);
    world.is_gone();
    world.project.run(&["cluster", "start"]).code(1).says("nothing of this state can be stopped or started");
}

#[test]
fn an_embedded_cluster_is_stopped_started_and_opened() {
    let mut project = applied();
    let pid = project.engine_pid();
    project.run(&["cluster", "info"]).code(0).says("node/control-plane-0").says("ready");
    project.run(&["cluster", "stop"]).code(0).says("dev is stopped");
    wait_until("the end of the engine", || project.engine_pids().is_empty());
    project.run(&["cluster", "info"]).code(0).says("stopped");
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("dev/engine/main will be updated");
    project.run(&["cluster", "start"]).code(0).says("dev is started, and ready");
    assert_ne!(project.engine_pid(), pid);
    project.is_settled();

    project.run(&["cluster", "logs"]).code(1).says("provider Embedded has no nodes whose logs could be had");
    project.run(&["cluster", "connect"]).code(1).says("k9s").says("--context ksail-dev get pods -A");
    k9s(&mut project);
    let opened = project.run(&["cluster", "connect", "--editor", "vi", "--", "--readonly"]).code(7).out;
    let file = project.home().join(".kube/config");
    assert_eq!(opened, format!("editor=vi --kubeconfig {} --context ksail-dev --readonly\n", file.display()));
    project.run(&["destroy", "--auto-approve"]).code(0);
    project.run(&["cluster", "connect"]).code(1).says("no cluster that a kubeconfig leads to");
}

#[test]
fn what_cannot_be_started_is_told_by_its_name() {
    let project = Project::quickstart();
    project.run(&["cluster", "stop"]).code(1).says("there is no state");
    project.run(&["cluster", "info"]).code(1).says("nothing was applied yet");
    project.apply_first();
    project.run(&["cluster", "stop"]).code(0);
    // Somebody took its port meanwhile.
    let engine = project.run(&["state", "show", "engine/main", "--format", "json"]).code(0).out;
    let (_, port) = engine.split_once("\"port\": ").unwrap_or_else(|| panic!("a port in {engine}"));
    let port: u16 = port.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a port");
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port");
    project.run(&["cluster", "start"]).code(3).says("engine").says("held by something else");
    drop(taken);
    project.run(&["cluster", "start"]).code(0);
    project.is_settled();
}
