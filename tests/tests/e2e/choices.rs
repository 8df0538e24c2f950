//! What is chosen on the command line: environments, `--set`, files, folders.

use std::net::TcpListener;

use crate::support::project::{MIRRORS, Project};
use crate::support::{ChosenPorts, free_port};

#[test]
fn a_port_that_another_environment_holds_names_its_engine() {
    let project = Project::applied();
    project.write("ksail.prod.yaml", "spec:\n  mirrors: []\n");
    let registry = format!("port {} of dev/registry/local", project.registry_port);
    let engine = project.engine_folder().display().to_string();
    project.run(&["plan", "--environment", "prod"]).code(1).says("KS0205").says(&registry).says(&engine);
}

#[test]
fn a_partial_environment_is_laid_over_and_a_complete_one_stands_alone() {
    let project = Project::quickstart();
    let (registry, quay) = (free_port(), free_port());
    project.write(
        "ksail.test.yaml",
        &format!("spec:\n  cluster:\n    localRegistry:\n      registry: localhost:{registry}\n  mirrors:\n    - host: quay.io\n      port: {quay}\n"),
    );
    project
        .run(&["plan", "--environment", "test"])
        .code(0)
        .says("ksail.test.yaml")
        .says("laid over")
        .says("dev/mirror/quay.io")
        .says_not("mirror/ghcr.io");
    let complete = project.read("ksail.yaml").replace("name: dev", "name: alone");
    project.write("ksail.prod.yaml", &complete);
    project.run(&["plan", "--environment", "prod"]).code(0).says("alone/mirror/ghcr.io").says("ksail.prod.yaml");
    project.run(&["plan", "--environment", "nowhere"]).code(1).says("ksail.nowhere.yaml");
    project.run(&["plan", "--environment", "../x"]).code(1).says("KS0702");

    let _ports = ChosenPorts::lock();
    project.run(&["apply", "--environment", "test", "--auto-approve"]).code(0);
    assert!(project.path().join(".ksail/dev.test/snapshot.json").exists());
    project.run(&["state", "list"]).code(1).says("KS0408");
    project.run(&["plan", "--environment", "test", "--detailed-exitcode"]).code(0);
    project.run(&["destroy", "--environment", "test", "--auto-approve"]).code(0);
}

#[test]
fn set_overrides_a_field_and_is_named_as_its_origin() {
    let project = Project::applied();
    let set = "spec.mirrors[0].upstream=https://set.example.com";
    project.run(&["plan", "--set", set]).code(0).says("https://set.example.com");
    project.run(&["explain", "mirror/docker.io", "--set", set]).code(0).says("--set");
    project.run(&["plan", "--set", "spec.nothing=1"]).code(1).says("nothing");
    project.run(&["plan", "--set", "spec"]).code(1);
}

#[test]
fn explain_takes_the_beginning_of_one_address_and_numbers_are_at_least_one() {
    let project = Project::applied();
    project.run(&["explain", "registry"]).code(0).says("dev/registry/local does not change");
    project.run(&["explain", "mirror"]).code(1).says("mirror/docker.io, mirror/ghcr.io");
    project.run(&["explain", "nothing"]).code(1).says("is not in the plan");
    project.run(&["apply", "--auto-approve", "--parallelism", "0"]).code(1).says("--parallelism");
}

#[test]
fn another_file_and_another_folder_are_taken() {
    let project = Project::quickstart();
    let file = project.read("ksail.yaml");
    std::fs::create_dir(project.path().join("below")).unwrap();
    std::fs::rename(project.path().join("ksail.yaml"), project.path().join("below/platform.yaml")).unwrap();
    project.run(&["plan"]).code(1).says("ksail init");
    project.run(&["-C", "below", "-f", "platform.yaml", "validate"]).code(0).says("is valid");
    project.run(&["validate", "-C", "below", "--config", "platform.yaml"]).code(0);
    let _ports = ChosenPorts::lock();
    project.run(&["-C", "below", "-f", "platform.yaml", "plan", "--out", "plan.json"]).code(0);
    project.run(&["-C", "below", "-f", "platform.yaml", "apply", "plan.json"]).code(0);
    assert!(project.path().join("below/.ksail/dev/snapshot.json").exists());
    project.run(&["-C", "below", "-f", "platform.yaml", "destroy", "--auto-approve"]).code(0);
    project.write("ksail.yaml", &file);
    project.run(&["state", "list"]).code(1).says("KS0408");
    assert_eq!(MIRRORS.len(), 2);
}

/// An engine with one mirror, whose ports are all chosen by ksail.
const CHOSEN: &str = "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\nspec:\n  cluster:\n    provider: Embedded\n    \
                      distribution: None\n  mirrors:\n    - host: quay.io\n";

fn port_of(project: &Project, address: &str) -> u16 {
    let shown = project.run(&["state", "show", address, "--format", "json"]).code(0).json();
    let port = shown["declaration"]["spec"]["port"].as_u64().unwrap_or_else(|| panic!("no port in {shown}"));
    u16::try_from(port).unwrap()
}

/// Holds a port. A process that was killed holds it for a moment longer than it can be seen; one that somebody else has taken for longer
/// is as good.
fn held(port: u16) -> Option<TcpListener> {
    let bind = || TcpListener::bind(("127.0.0.1", port)).ok();
    (0..100).find_map(|_| {
        let listener = bind();
        if listener.is_none() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        listener
    })
}

#[test]
fn a_port_that_somebody_took_while_the_engine_was_down_is_chosen_anew() {
    let project = Project::empty(0);
    project.write("ksail.yaml", CHOSEN);
    project.apply_first();
    let _ports = ChosenPorts::lock();
    let ports = ["engine/main", "mirror/quay.io"].map(|address| port_of(&project, address));
    project.kill_engine();
    let holders = ports.map(held);
    let plan = project.run(&["plan"]).code(0);
    for port in ports {
        let why = format!("port {port}, which was chosen before, is held by");
        assert!(plan.out.contains(&why), "{plan}");
    }
    project.run(&["explain", "mirror/quay.io"]).code(0).says("is held by");
    project.apply();
    project.is_settled();
    drop(holders);
    // What was chosen stays, though the old one is free again.
    project.is_settled();
    assert!(
        ports
            .iter()
            .all(|port| ![port_of(&project, "engine/main"), port_of(&project, "mirror/quay.io")].contains(port))
    );
    project.run(&["destroy", "--auto-approve"]).code(0);
}

#[test]
fn an_undo_of_a_destroy_chooses_another_port_where_somebody_took_the_former_one() {
    let project = Project::empty(0);
    project.write("ksail.yaml", CHOSEN);
    project.apply_first();
    let _ports = ChosenPorts::lock();
    let [engine, mirror] = ["engine/main", "mirror/quay.io"].map(|address| port_of(&project, address));
    project.run(&["destroy", "--auto-approve"]).code(0);
    let holder = held(mirror);
    project.run(&["undo", "--auto-approve"]).code(0);
    drop(holder);
    assert_eq!(port_of(&project, "engine/main"), engine, "what is free is taken again");
    assert_ne!(port_of(&project, "mirror/quay.io"), mirror);
    project.is_settled();
    project.run(&["destroy", "--auto-approve"]).code(0);
}

#[test]
fn a_fixed_port_that_somebody_took_while_the_engine_was_down_is_told_by_the_plan() {
    let project = Project::applied();
    let _ports = ChosenPorts::lock();
    project.kill_engine();
    let _holder = held(project.registry_port).expect("the port");
    let registry = format!("port {} of dev/registry/local is in use", project.registry_port);
    project.run(&["plan"]).code(1).says("KS0205").says(&registry).says("fixed here").says("hint:");
}

#[test]
fn a_port_that_another_resource_has_is_refused() {
    let project = Project::applied();
    let engine = port_of(&project, "engine/main");
    let file = project.read("ksail.yaml").replace(&project.registry_port.to_string(), &engine.to_string());
    project.write("ksail.yaml", &file);
    let shared = format!("port {engine} of dev/registry/local is that of dev/engine/main too");
    project.run(&["plan"]).code(1).says("KS0205").says(&shared).says("fixed here");
}

#[test]
fn a_copied_folder_gets_an_engine_of_its_own() {
    let project = Project::empty(0);
    project.write("ksail.yaml", CHOSEN);
    project.apply_first();
    let _ports = ChosenPorts::lock();
    let before = project.engine().addresses("dev");
    let copy = Project::empty(0);
    let copied = std::process::Command::new("cp")
        .args(["-r", &format!("{}/.", project.path().display()), &copy.path().display().to_string()])
        .status();
    assert!(copied.unwrap().success());
    let original = format!("is held by the embedded engine in {}", project.engine_folder().display());
    copy.run(&["plan"]).code(0).says(&original);
    copy.apply();
    // Where the volume lies now is seen once the engine of the copy runs.
    copy.apply();
    copy.is_settled();
    project.is_settled();
    assert_ne!(copy.engine_pid(), project.engine_pid());
    copy.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(project.engine().addresses("dev"), before, "the original keeps what it has");
    project.is_settled();
}
