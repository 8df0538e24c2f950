//! The engine's life: restart, kill, a folder that vanishes, a port that is taken.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use bollard::models::{NetworkCreateRequest, VolumeCreateRequest};
use ksail_embedded::EngineError;
use tokio_util::sync::CancellationToken;

use crate::harness::{Client, Engine, answers, body, connect, eventually, free_port, options};

/// Not a test of its own: what [`spawn`] runs as the engine.
#[test]
fn engine_process() {
    let (Ok(folder), Ok(port)) = (std::env::var("ENGINE_FOLDER"), std::env::var("ENGINE_PORT")) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = options(Path::new(&folder), port.parse().unwrap());
    if std::env::var_os("ENGINE_NOISE").is_some() {
        std::thread::spawn(|| {
            use std::io::Write as _;
            // Past the harness, which keeps what tests print.
            let line = vec![b'x'; 64 * 1024];
            while std::io::stderr().write_all(&line).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        });
    }
    runtime.block_on(ksail_embedded::run(options, CancellationToken::new())).unwrap();
}

async fn spawn(folder: &Path, port: u16) -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "life::engine_process", "--nocapture"])
        .env("ENGINE_FOLDER", folder)
        .env("ENGINE_PORT", port.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the engine process answers", || answers(port)).await;
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_starts_again_what_ran_and_only_that() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let id = engine.docker.info().await.unwrap().id;
    let port = engine.registry("runs", &[]).await;
    engine.registry("stopped", &[]).await;
    engine.docker.stop_container("stopped", None).await.unwrap();
    let (image, _) = Client::new(port).push_image("a", "v1", b"kept").await;
    engine.stop().await;
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok(), "an engine that ended holds no port");

    let engine = Engine::start(folder.path()).await;
    assert_eq!(engine.docker.info().await.unwrap().id, id);
    engine.healthy("runs").await;
    assert_eq!(Client::new(port).get(&format!("/v2/a/manifests/{image}")).await.status(), 200);
    let stopped = engine.docker.inspect_container("stopped", None).await.unwrap();
    assert_eq!(stopped.state.unwrap().running, Some(false));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_kills_and_nothing_half_made_does() {
    let folder = tempfile::tempdir().unwrap();
    let (mut made, mut last_network) = (Vec::<String>::new(), None::<String>);
    let rounds = 12;
    for round in 0..rounds {
        let port = free_port();
        let mut child = spawn(folder.path(), port).await;
        let docker = connect(folder.path());
        let volumes = docker
            .list_volumes(None::<bollard::query_parameters::ListVolumesOptions>)
            .await
            .unwrap()
            .volumes
            .unwrap_or_default();
        let networks = docker.list_networks(None).await.unwrap();
        for name in &made {
            assert!(volumes.iter().any(|volume| volume.name == *name), "volume {name} was answered and is gone");
            docker.inspect_container(name, None).await.unwrap();
        }
        if let Some(name) = &last_network {
            let named = networks.iter().filter(|network| network.name.as_ref() == Some(name)).count();
            assert_eq!(named, 1, "network {name}");
        }
        let data = std::fs::read_dir(folder.path().join("volumes")).unwrap().count();
        assert_eq!(data, volumes.len(), "data without a record, or the other way round");
        let killer = tokio::task::spawn_blocking(move || {
            std::thread::sleep(std::time::Duration::from_millis(20 + 17 * round));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        // Until the kill; what was answered in full counts.
        for index in 0.. {
            let name = format!("n-{round}-{index}");
            let network = NetworkCreateRequest { name: name.clone(), ..Default::default() };
            let volume = VolumeCreateRequest { name: Some(name.clone()), ..Default::default() };
            let options = bollard::query_parameters::CreateContainerOptionsBuilder::default().name(&name).build();
            let mut container = body(&name, free_port(), &[]);
            container.host_config = None;
            // The pools of subnets are finite, so each network goes again when the next one comes. From the moment of the
            // request on, whether it is there is open.
            if let Some(name) = last_network.take() {
                let _ = docker.remove_network(&name).await;
            }
            if docker.create_network(network).await.is_ok() {
                last_network = Some(name.clone());
            }
            if docker.create_volume(volume).await.is_err()
                || docker.create_container(Some(options), container).await.is_err()
            {
                break;
            }
            made.push(name);
        }
        killer.await.unwrap();
    }
    ksail_test_real::tell(&format!("{rounds} kills of an engine under load"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_grows_is_rotated_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (log, former) = (folder.path().join("engine.log"), folder.path().join("engine.log.1"));
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
    let port = free_port();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "life::engine_process", "--nocapture"])
        .env("ENGINE_FOLDER", folder.path())
        .env("ENGINE_PORT", port.to_string())
        .env("ENGINE_NOISE", "1")
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    eventually("the log is rotated", || async { length(&former) > 1024 * 1024 }).await;
    eventually("what is said goes into the new file", || async { length(&log) > 0 }).await;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_folder_ends_it() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("engine");
    std::fs::create_dir(&folder).unwrap();
    let engine = Engine::start(&folder).await;
    let port = engine.registry("reg", &[]).await;
    std::fs::remove_dir_all(&engine.folder).unwrap();
    engine.task.await.unwrap().unwrap();
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    assert!(std::net::TcpListener::bind(("127.0.0.1", engine.port)).is_ok());
    assert!(!folder.exists(), "it does not come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_a_folder_and_clear_errors() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let run = async |options| ksail_embedded::run(options, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(run(options(folder.path(), free_port())).await, EngineError::Locked { .. }));
    let other = tempfile::tempdir().unwrap();
    let error = run(options(other.path(), engine.port)).await;
    assert!(matches!(error, EngineError::Port { .. }));
    assert!(error.to_string().contains(&engine.port.to_string()));
    engine.stop().await;
    let mut wrong = options(folder.path(), free_port());
    wrong.nonce = "another".to_owned();
    assert!(matches!(run(wrong).await, EngineError::OtherNonce { .. }));
    std::fs::write(other.path().join("engine.json"), r#"{"format": 9}"#).unwrap();
    assert!(matches!(run(options(other.path(), free_port())).await, EngineError::Newer { format: 9, .. }));
    std::fs::write(other.path().join("engine.json"), "{").unwrap();
    assert!(matches!(run(options(other.path(), free_port())).await, EngineError::Broken { .. }));
    assert!(matches!(run(options(&other.path().join("none"), free_port())).await, EngineError::File { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_path_gets_a_short_private_socket_and_the_socket_ends_it() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("x".repeat(120));
    std::fs::create_dir(&folder).unwrap();
    let engine = Engine::start(&folder).await;
    let socket = std::fs::read_to_string(folder.join("socket")).unwrap();
    assert!(socket.len() <= 100 && Path::new(&socket).exists());
    let reply = Command::new("curl")
        .args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-X",
            "POST",
            "--unix-socket",
            &socket,
            "http://e/ksail/shutdown",
        ])
        .output();
    match reply {
        Ok(reply) => {
            assert_eq!(String::from_utf8_lossy(&reply.stdout), "204");
            engine.task.await.unwrap().unwrap();
        }
        Err(error) => {
            ksail_test_real::did_not_run(&format!("curl, which asks it to end by its socket, is absent ({error})"));
            engine.stop().await;
        }
    }
    assert!(!Path::new(&socket).exists());
}
