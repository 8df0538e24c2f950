//! What stands in a cluster's way is told before anything is changed, with what to do about it.

use std::process::Command;

use serde_json::{Value, json};

use crate::machines::World;
use crate::support::project::Project;
use crate::support::{binary, did_not_run, docker_socket, free_port};

/// The checks of a name.
fn named<'a>(checks: &'a Value, name: &str) -> Vec<&'a Value> {
    let all = checks.as_array().unwrap_or_else(|| panic!("a list: {checks}"));
    all.iter().filter(|check| check["check"] == name).collect()
}

#[test]
fn the_doctor_looks_at_the_engine_and_its_machine() {
    let Some(socket) = docker_socket() else { return };
    let mut project = Project::empty(free_port());
    project.set_env("DOCKER_HOST", &format!("unix://{}", socket.display()));
    let run = project.run(&["doctor", "--format", "json"]);
    let checks = run.json();
    for name in ["engine", "cgroups", "limits", "disk", "size", "ports", "proxy", "dns"] {
        assert!(!named(&checks, name).is_empty(), "{name} in {checks}");
    }
    assert_eq!(named(&checks, "engine")[0]["verdict"], "good", "{checks}");
    let needs_remedy = |check: &&Value| check["verdict"] == "bad" || check["verdict"] == "warning";
    assert!(
        checks.as_array().unwrap().iter().filter(needs_remedy).all(|check| check["remedy"].is_string()),
        "{checks}"
    );
    let is_bad = checks.as_array().unwrap().iter().any(|check| check["verdict"] == "bad");
    assert_eq!(run.code, Some(i32::from(is_bad)));

    // A proxy is told without its password, and names are that one's to know.
    project.set_env("HTTPS_PROXY", "http://me:pass-of-the-proxy@proxy.example:3128");
    project.run(&["doctor"]).says("HTTPS_PROXY=http://proxy.example:3128").says_not("pass-of-the-proxy");

    // A port that the file fixes and another process has.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    project.declare(&[], "");
    let file = project.read("ksail.yaml").replace("Embedded", "Docker").replace("name: dev", "name: doctored");
    project.write("ksail.yaml", &file.replace(&project.registry_port.to_string(), &port.to_string()));
    let held = format!("port {port} is held by ");
    let us = format!("(pid {})", std::process::id());
    project.run(&["doctor"]).code(1).says(&held).says(&us).says("choose another one in the file");
    project.run(&["plan"]).code(1).says(&us).says("KS0205");
}

#[test]
fn without_an_engine_the_doctor_says_what_to_do() {
    let mut project = Project::empty(free_port());
    project.set_env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    project.run(&["doctor"]).code(1).says("BAD   engine").says("hint: start the engine");
    // Who needs none is told nothing of it.
    project.declare(&[], "");
    project.run(&["doctor"]).says("provider Embedded needs no Docker").says_not("BAD   engine");
}

#[test]
fn a_machine_without_ipv6_is_told_by_the_plan_that_needs_it() {
    let Some(world) = World::example() else { return };
    // The command in a network of its own, in which IPv6 is turned off. Its engine is reached by a file.
    let without_ipv6 = |arguments: &[&str]| {
        let inner = world.project.command(arguments);
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && exec \"$0\" \"$@\""]);
        command.arg(binary()).args(arguments).current_dir(world.project.path());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let run = command.output().expect("unshare runs");
        let said = [run.stdout, run.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        (run.status.code(), said)
    };
    if !Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success()) {
        did_not_run("a network without IPv6 needs root and unshare");
        return;
    }
    let (code, said) = without_ipv6(&["plan"]);
    assert_eq!(code, Some(0), "a cluster of IPv4 needs none: {said}");
    let kind = world.project.read("kind.yaml").replace("networking:\n", "networking:\n  ipFamily: dual\n");
    world.project.write("kind.yaml", &kind);
    let remedy = "sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0";
    let (code, said) = without_ipv6(&["plan"]);
    assert!(code == Some(1) && said.contains("KS0209") && said.contains(remedy), "{said}");
    let (code, said) = without_ipv6(&["doctor"]);
    assert!(code == Some(1) && said.contains(remedy), "{said}");
    world.project.run(&["plan"]).code(0).says("network/main will be created");
}

#[test]
fn a_subnet_that_is_taken_is_told_by_the_plan() {
    let Some(world) = World::example() else { return };
    let plan = world.project.run(&["plan", "--format", "json"]).json();
    let network = plan["resource_changes"]
        .as_array()
        .expect("changes")
        .iter()
        .find(|one| one["address"].as_str().is_some_and(|address| address.ends_with("/network/main")));
    let subnet = network.expect("the network")["change"]["after"]["subnet"].as_str().expect("a subnet").to_owned();
    let other = format!("{}-of-another", world.cluster);
    let body = json!({"Name": other, "IPAM": {"Config": [{"Subnet": subnet}]}});
    let (status, answer) = world.engine.call("POST", "/networks/create", &body);
    assert_eq!(status, 201, "{answer}");
    let run = world.project.run(&["plan"]);
    let (status, answer) = world.engine.call("DELETE", &format!("/networks/{other}"), &json!(null));
    assert_eq!(status, 204, "{answer}");
    let hint = format!("`docker network rm {other}`");
    run.code(3)
        .says(&format!("overlaps {subnet} of the network `{other}`"))
        .says(&hint)
        .says("network/main is blocked");
    world.project.run(&["plan"]).code(0);
}
