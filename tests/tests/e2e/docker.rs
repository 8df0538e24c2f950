//! The same on a real Docker Engine.

use crate::support::engine::Engine;
use crate::support::project::Project;
use crate::support::{docker_socket, free_port};

const EXAMPLE: &str = include_str!("../../../examples/docker-registries/ksail.yaml");

/// A project of `examples/docker-registries` with a name and ports of its own.
pub(crate) fn example(cluster: &str, socket: &std::path::Path) -> Project {
    let mut project = Project::empty(free_port());
    let upstream = upstream(&Engine::at(socket));
    let mut file = EXAMPLE
        .replace("name: registries", &format!("name: {cluster}"))
        .replace("localhost:5050", &format!("localhost:{}", project.registry_port));
    for host in ["docker.io", "ghcr.io"] {
        let more = format!(
            "- host: {host}
      port: {}
      upstream: {upstream}
",
            project.mirror_port(host)
        );
        file = file.replace(
            &format!(
                "- host: {host}
"
            ),
            &more,
        );
    }
    project.write("ksail.yaml", &file);
    project.set_env("DOCKER_HOST", &format!("unix://{}", socket.display()));
    project.set_env("GHCR_USER", "robot");
    project.set_env("GHCR_TOKEN", "a-token");
    project
}

/// An upstream that the containers of an engine reach and that answers like an empty registry: a real mirror asks its upstream
/// at its start, and this machine may have no internet.
pub(crate) fn upstream(engine: &Engine) -> String {
    let listener = std::net::TcpListener::bind(("0.0.0.0", free_port())).expect("a port for the upstream");
    let port = listener.local_addr().expect("its port").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                use std::io::{Read as _, Write as _};
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Length: 2\r\n\
                      Connection: close\r\n\r\n{}",
                );
            });
        }
    });
    format!("http://{}:{port}", engine.gateway())
}

pub(crate) fn name(prefix: &str) -> String {
    format!("{prefix}{:08x}", fastrand::u32(..))
}

pub(crate) fn unprotect(project: &Project) {
    let file = project.read("ksail.yaml").replace("protect: true", "protect: false");
    project.write("ksail.yaml", &file);
    project.apply();
}

#[test]
fn the_docker_example_lives_is_lost_recovered_and_destroyed_to_nothing() {
    let Some(socket) = docker_socket() else { return };
    let engine = Engine::at(&socket);
    let cluster = name("e2e");
    let project = example(&cluster, &socket);
    project.run(&["plan", "--detailed-exitcode"]).code(2);
    project.apply();
    project.is_settled();
    let all = engine.addresses(&cluster);
    assert_eq!(all.len(), 7, "{all:?}");

    engine.remove_container(&format!("{cluster}-mirror-docker.io"));
    engine.stop_container(&format!("{cluster}-mirror-ghcr.io"));
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("2 drifted");
    project.apply();
    assert_eq!(engine.addresses(&cluster), all);
    project.is_settled();

    project.run(&["destroy", "--auto-approve"]).code(6).says("local-registry");
    std::fs::remove_dir_all(project.path().join(".ksail")).unwrap();
    project.run(&["plan"]).code(3).says("ksail state recover");
    project.run(&["state", "recover", "--auto-approve"]).code(0);
    // The key that fingerprints secrets was lost with the state: whether the secret is the same cannot be told.
    assert_eq!(project.changes(&[]), [format!("{cluster}/mirror/ghcr.io: delete,create")]);
    project.apply();
    project.is_settled();
    assert_eq!(engine.addresses(&cluster), all);

    unprotect(&project);
    project.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(engine.addresses(&cluster), [""; 0]);
    assert_eq!(engine.owner_tags(&cluster), [""; 0]);
}

#[test]
fn a_lost_state_stays_lost_until_it_is_recovered_whatever_was_begun_beside_it() {
    let Some(socket) = docker_socket() else { return };
    let engine = Engine::at(&socket);
    let cluster = name("lost");
    let project = example(&cluster, &socket);
    project.apply();
    let (lineage, all) = (project.lineage(), engine.marked(&cluster));
    std::fs::remove_dir_all(project.path().join(".ksail")).unwrap();
    // A pipeline on a new clone makes nothing, not even what is shared.
    project.run(&["apply", "--auto-approve"]).code(3).says("ksail state recover").says("0 to add");
    assert!(!project.path().join(".ksail").join(&cluster).join("snapshot.json").exists());
    assert_eq!(engine.marked(&cluster), all);

    // Somebody may insist.
    project.run(&["apply", "--target", "image", "--auto-approve"]).code(0).says("1 to add");
    let stray = project.lineage();
    assert_ne!(stray, lineage);
    project.run(&["plan"]).code(3).says(&lineage);
    let recover = format!("ksail state recover --lineage {lineage}");
    project.run(&["state", "recover", "--auto-approve"]).code(1).says("KS0406").says(&recover);
    project.run(&["state", "recover", "--lineage", &lineage]).code(1).says("KS0304").says("is released");
    project
        .run(&["state", "recover", "--lineage", &lineage, "--auto-approve"])
        .code(0)
        .says("1 to destroy")
        .says("begun beside the lost one is kept in");
    assert_eq!(project.lineage(), lineage);
    assert_eq!(engine.marked(&cluster), all);
    assert!(engine.owners(&stray).is_empty(), "the stray state holds nothing any more");
    project.apply();
    project.is_settled();
    unprotect(&project);
    project.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(engine.addresses(&cluster), [""; 0]);
}

#[test]
fn a_cluster_whose_name_begins_with_anothers_is_left_alone() {
    let Some(socket) = docker_socket() else { return };
    let engine = Engine::at(&socket);
    let short = name("foo");
    let long = format!("{short}-bar");
    let (first, second) = (example(&short, &socket), example(&long, &socket));
    first.apply();
    second.apply();
    let others = engine.marked(&long);
    assert_eq!(others.len(), 7);
    unprotect(&first);
    first.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(engine.addresses(&short), [""; 0]);
    assert_eq!(engine.marked(&long), others);
    second.is_settled();
    unprotect(&second);
    second.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(engine.addresses(&long), [""; 0]);
    assert_eq!([engine.owner_tags(&short), engine.owner_tags(&long)].concat(), [""; 0]);
}

#[test]
fn a_network_made_by_hand_is_imported_by_its_id_and_used_by_its_name() {
    let Some(socket) = docker_socket() else { return };
    let engine = Engine::at(&socket);
    let cluster = name("e2e");
    let network = format!("{cluster}-by-hand");
    let made = engine.call("POST", "/networks/create", &serde_json::json!({ "Name": network, "Driver": "bridge" }));
    assert_eq!(made.0, 201, "{}", made.1);
    let id = made.1["Id"].as_str().unwrap();
    let project = example(&cluster, &socket);
    project.run(&["import", "network/main", id, "--auto-approve"]).code(0).says("imported");
    project.apply();
    project.is_settled();
    let networks = engine.inspect(&format!("{cluster}-local-registry"))["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().keys().collect::<Vec<_>>(), [&network]);
    assert_eq!(engine.call("GET", &format!("/networks/{cluster}"), &serde_json::Value::Null).0, 404);
    unprotect(&project);
    project.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(
        engine.call("GET", &format!("/networks/{id}"), &serde_json::Value::Null).0,
        404,
        "adopted, so it goes too"
    );
}
