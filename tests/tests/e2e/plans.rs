//! Plan files: applied as they were shown, or refused.

use std::net::TcpListener;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::project::{MIRRORS, Project, Run};
use crate::support::{ChosenPorts, free_port, wait_until};

const THREE: [&str; 3] = ["docker.io", "ghcr.io", "quay.io"];

#[track_caller]
fn plan_to(project: &Project, file: &str) -> Run {
    project.run(&["plan", "--out", file]).code(0)
}

#[test]
fn a_stale_plan_is_refused_with_the_resource_that_differs() {
    let project = Project::applied();
    project.declare(&["docker.io=https://one.example.com", "ghcr.io"], "");
    plan_to(&project, "plan.json");
    project.engine().remove_container("dev-mirror-docker.io");
    project.run(&["apply", "plan.json"]).code(4).says("KS0301").says("dev/mirror/docker.io");
    assert_eq!(project.engine().is_running("dev-mirror-docker.io"), None, "nothing was called");
    assert_eq!(project.history().len(), 1);
}

#[test]
fn a_plan_of_an_older_state_is_refused() {
    let project = Project::applied();
    project.declare(&THREE, "");
    plan_to(&project, "plan.json");
    project.declare(&["docker.io"], "");
    project.apply();
    project.run(&["apply", "plan.json"]).code(4).says("KS0301");
    assert_eq!(project.engine().is_running("dev-mirror-quay.io"), None);
}

#[test]
fn a_partial_apply_of_a_stale_plan_does_the_unaffected_rest() {
    let project = Project::applied();
    project.declare(&["docker.io=https://one.example.com", "ghcr.io", "quay.io"], "");
    plan_to(&project, "plan.json");
    project.engine().remove_container("dev-mirror-docker.io");
    project.run(&["apply", "plan.json", "--partial"]).code(3).says("dev/mirror/docker.io");
    assert_eq!(project.engine().is_running("dev-mirror-quay.io"), Some(true));
    assert_eq!(project.engine().is_running("dev-mirror-docker.io"), None);
    project.apply();
    project.is_settled();
}

#[test]
fn a_plan_beside_another_state_names_that_and_not_the_ports() {
    let project = Project::applied();
    project.declare(&THREE, "");
    plan_to(&project, "plan.json");
    // Something has the port of the new mirror, as it would on another machine.
    let _held = TcpListener::bind(("127.0.0.1", project.mirror_port("quay.io"))).unwrap();
    let plan = project.path().join("plan.json");
    let without = Project::empty(0);
    std::fs::write(without.path().join("ksail.yaml"), project.read("ksail.yaml")).unwrap();
    std::fs::copy(&plan, without.path().join("plan.json")).unwrap();
    without.run(&["apply", "plan.json"]).code(4).says("KS0301").says("the state that it was made from is gone");
    let other = Project::applied();
    std::fs::copy(&plan, other.path().join("plan.json")).unwrap();
    other.run(&["apply", "plan.json"]).code(4).says("is of lineage").says_not("port ");
}

#[test]
fn a_used_plan_is_refused() {
    let project = Project::applied();
    project.declare(&THREE, "");
    plan_to(&project, "plan.json");
    project.run(&["apply", "plan.json"]).code(0);
    project.run(&["apply", "plan.json"]).code(4).says("KS0302").says("already");
    assert_eq!(project.history().len(), 2);
}

#[test]
fn a_plan_file_is_applied_without_the_checkout() {
    let project = Project::quickstart();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("plan.json");
    let file = file.to_str().unwrap();
    let _ports = ChosenPorts::lock();
    plan_to(&project, file);
    std::fs::remove_file(project.path().join("ksail.yaml")).unwrap();
    project.run(&["apply", file]).code(0);
    assert_eq!(project.engine().addresses("dev").len(), 7);
    project.declare(&MIRRORS, "");
    project.is_settled();
}

#[test]
fn a_plan_file_that_was_changed_or_is_none_is_refused() {
    let project = Project::applied();
    project.declare(&THREE, "");
    plan_to(&project, "plan.json");
    let text = project.read("plan.json");
    assert!(text.contains("https://quay.io"));
    project.write("changed.json", &text.replace("https://quay.io", "https://evil.example.com"));
    project.run(&["apply", "changed.json"]).code(1).says("KS0207");
    // What is only shown was reviewed all the same.
    let mut plan: serde_json::Value = serde_json::from_str(&text).unwrap();
    let nodes = plan["plan"]["nodes"].as_array_mut().unwrap();
    let made = nodes.iter_mut().find(|node| node["action"]["do"] == "create" && node["after"]["port"].is_number());
    made.unwrap()["after"]["port"] = 1.into();
    project.write("forged.json", &plan.to_string());
    project.run(&["show", "forged.json"]).code(1).says("KS0207");
    project.run(&["apply", "forged.json"]).code(1).says("KS0207");
    project.write("none.json", "{}");
    project.run(&["apply", "none.json"]).code(1).says("KS0207");
    project.write("torn.json", &text[..text.len() / 2]);
    project.run(&["show", "torn.json"]).code(1).says("KS0207");
    project.run(&["apply", "missing.json"]).code(1).says("missing.json");
    assert_eq!(project.engine().is_running("dev-mirror-quay.io"), None);
}

#[test]
fn a_killed_plan_goes_on_with_the_same_command() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cuts = 0;
    for round in 0..12 {
        let _ports = ChosenPorts::lock();
        let project = Project::quickstart();
        plan_to(&project, "plan.json");
        let running = project.start(&["apply", "plan.json"]);
        std::thread::sleep(Duration::from_millis(random.u64(20..150)));
        running.signal(Signal::KILL);
        let killed = running.end();
        let again = project.run(&["apply", "plan.json"]);
        if killed.code.is_none() && again.code == Some(0) {
            cuts += 1;
        } else {
            // It had been done to its end before the signal came.
            let again = again.code(4).says("KS0302");
            drop(again);
        }
        assert_eq!(project.engine().addresses("dev").len(), 7, "round {round}");
        let history = project.history();
        assert_eq!(history.len(), 1, "one operation, sealed once: {history:?}");
        assert_eq!(history[0]["result"], "complete");
        project.is_settled();
    }
    ksail_test_real::tell(&format!("a killed plan: {cuts} of 12 applies were cut"));
}

#[test]
fn what_fails_closes_over_its_dependents_and_the_summary_names_the_next_command() {
    let project = Project::applied();
    project.declare(&["docker.io", "ghcr.io", "quay.io", "registry.k8s.io"], "");
    plan_to(&project, "plan.json");
    let taken = TcpListener::bind(("127.0.0.1", project.mirror_port("quay.io"))).unwrap();
    // What is known to fail is not begun, unless the rest is wanted all the same.
    project.run(&["apply", "plan.json", "--timeout", "5s"]).code(4).says("dev/mirror/quay.io");
    project
        .run(&["apply", "plan.json", "--timeout", "5s", "--partial"])
        .code(3)
        .says("dev/mirror/quay.io")
        .says("Apply done in part")
        .says("ksail ");
    assert_eq!(project.engine().is_running("dev-mirror-registry.k8s.io"), Some(true), "all else goes on");
    let history = project.history();
    assert_eq!(history[0]["result"], "partial");
    drop(taken);
    project.apply();
    assert_eq!(project.engine().is_running("dev-mirror-quay.io"), Some(true));
    project.is_settled();
}

#[test]
fn a_locked_state_is_refused_with_its_holder_and_a_plan_says_what_is_under_way() {
    let _ports = ChosenPorts::lock();
    let project = Project::quickstart();
    project.apply();
    project.declare(&THREE, "");
    plan_to(&project, "plan.json");
    let engine = project.engine_pid();
    crate::support::signal(engine, Signal::STOP);
    let applying = project.start(&["apply", "plan.json"]);
    wait_until("a lock", || project.run(&["unlock"]).out.contains("locked by"));
    project.run(&["apply", "plan.json"]).code(5).says("KS0401").says("(apply, pid ").says("--lock-timeout");
    project.run(&["apply", "plan.json", "--lock-timeout", "200ms"]).code(5);
    project.run(&["state", "rm", "mirror/ghcr.io"]).code(5);
    project.run(&["plan", "--refresh=false"]).says("is under way (pid ").says_not("killed");
    let held = project.run(&["unlock", "--format", "json"]).code(0).json();
    assert_eq!(held, project.run(&["state", "locks", "--format", "json"]).code(0).json());
    let id = held[0]["id"].as_str().unwrap();
    project.run(&["unlock", "wrong"]).code(1).says("KS0401");
    let broken = project.run(&["unlock", id]);
    assert_ne!(broken.code, Some(0), "a lock whose holder lives is not broken: {broken}");
    let waiting = project.start(&["apply", "plan.json", "--lock-timeout", "60s"]);
    crate::support::signal(engine, Signal::CONT);
    applying.end().code(0);
    waiting.end().code(4).says("KS0302");
    project.run(&["unlock"]).code(0).says("not locked");
    for command in [&["unlock"][..], &["state", "locks"]] {
        let held = project.run(&[command, &["--format", "json"]].concat()).code(0).json();
        assert_eq!(held, serde_json::json!([]), "{command:?}");
    }
}

#[test]
fn selections_are_kept_to_and_one_of_nothing_is_an_error() {
    let project = Project::applied();
    project.declare(&["docker.io", "ghcr.io", "quay.io", "registry.k8s.io"], "");
    assert_eq!(
        project.changes(&["--target", "mirror/quay.io"]),
        ["dev/mirror/quay.io: create", "dev/volume/mirror-quay.io: create"]
    );
    assert_eq!(
        project.changes(&["--exclude", "volume/mirror-quay.io"]),
        ["dev/mirror/registry.k8s.io: create", "dev/volume/mirror-registry.k8s.io: create"]
    );
    project.run(&["plan", "--target", "mirror/nowhere"]).code(1).says("KS0203");
    project.declare(&MIRRORS, "");
    assert_eq!(project.changes(&["--replace", "mirror/ghcr.io"]), ["dev/mirror/ghcr.io: delete,create"]);
    let before = project.engine().inspect("dev-mirror-ghcr.io")["Id"].clone();
    project.run(&["apply", "--replace", "mirror/ghcr.io", "--auto-approve"]).code(0);
    assert_ne!(project.engine().inspect("dev-mirror-ghcr.io")["Id"], before);
    project.run(&["destroy", "--target", "mirror/ghcr.io", "--auto-approve"]).code(0);
    assert_eq!(project.engine().is_running("dev-mirror-ghcr.io"), None);
    assert_eq!(project.engine().is_running("dev-mirror-docker.io"), Some(true));
}

#[test]
fn a_plan_is_shown_as_text_and_as_json_and_explained_by_its_lines() {
    let project = Project::applied();
    project.declare(&["docker.io=https://one.example.com", "ghcr.io"], "");
    plan_to(&project, "plan.json");
    project.run(&["show", "plan.json"]).code(0).says("one.example.com");
    let json = project.run(&["show", "plan.json", "--format", "json"]).code(0).json();
    assert_eq!(json["format_version"], "1.2");
    assert_eq!(json["complete"], true);
    project.run(&["show"]).code(0).says("dev/mirror/docker.io");
    let line = project.read("ksail.yaml").lines().position(|line| line.contains("one.example.com")).unwrap() + 1;
    project.run(&["explain", "mirror/docker.io"]).code(0).says(&format!("ksail.yaml:{line}"));
    let json =
        project.run(&["explain", "dev/mirror/docker.io", "--plan", "plan.json", "--format", "json"]).code(0).json();
    assert!(json.to_string().contains("ksail.yaml"), "{json}");
    project.run(&["explain", "mirror/nowhere"]).code(1).says("KS0408");
}

#[test]
fn the_graph_is_dot_that_graphviz_reads() {
    let project = Project::applied();
    let dot = project.run(&["graph"]).code(0).out;
    assert!(dot.starts_with("digraph") && dot.trim_end().ends_with('}'), "{dot}");
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    assert!(dot.contains("\"dev/registry/local\""), "{dot}");
    project.run(&["graph", "--tree"]).code(0).says("dev/registry/local");
    let json = project.run(&["graph", "--format", "json"]).code(0).json();
    assert_eq!(json["nodes"].as_array().unwrap().len(), 9, "{json}");
    assert_eq!(json["edges"].as_array().unwrap().len(), dot.matches(" -> ").count(), "{json}");
    let registry = json["nodes"].as_array().unwrap().iter().find(|node| node["key"] == "dev/registry/local").unwrap();
    assert_eq!((&registry["action"], &registry["host"]), (&"no-op".into(), &"dev/engine/main".into()));
    project.write("graph.dot", &dot);
    match std::process::Command::new("dot").arg("-Tsvg").arg(project.path().join("graph.dot")).output() {
        Ok(drawn) => assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr)),
        Err(error) => ksail_test_real::tell(&format!("not drawn: graphviz is not here ({error})")),
    }
}

#[test]
fn a_port_that_somebody_takes_between_plan_and_apply_makes_the_plan_stale_and_costs_nothing() {
    let project = Project::applied();
    let port = free_port();
    let before = project.registry_port;
    let file = project.read("ksail.yaml").replace(&format!("localhost:{before}"), &format!("localhost:{port}"));
    project.write("ksail.yaml", &file);
    project.run(&["plan", "--out", "plan.json"]).code(0).says("must be replaced");
    let holder = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    project.run(&["apply", "plan.json"]).code(4).says("KS0301").says(&format!("port {port} of dev/registry/local"));
    assert_eq!(project.engine().is_running("dev-local-registry"), Some(true), "the old one is still there");
    drop(holder);
    project.run(&["apply", "plan.json"]).code(0);
    project.is_settled();
}
