//! The engine process as a resource, with a real process: this test binary, run again as the engine.

#![expect(clippy::print_stdout, reason = "the engine says to its log why it ended")]

mod conformance;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use ksail_kinds::{EngineSpec, Spec as _};
use ksail_model::{Address, Identity, Mark, Observation, Ownership, Readiness};
use ksail_provider::{
    CallContext, CallErrorKind, CreateRequest, DeleteRequest, Deleted, Provider, Target, UpdateRequest, WaitRequest,
};
use ksail_provider_embedded::EmbeddedProvider;
use tokio_util::sync::CancellationToken;

/// Not a test of its own: what the script in [`World::program`] runs as the engine.
#[test]
fn engine_process() {
    let Ok(arguments) = std::env::var("ENGINE_ARGUMENTS") else { return };
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let ["__engine", "--folder", folder, "--nonce-file", nonce, "--port", port] = arguments.as_slice() else {
        panic!("{arguments:?}");
    };
    let options = ksail_embedded::EngineOptions {
        folder: folder.into(),
        nonce: std::fs::read_to_string(nonce).unwrap(),
        port: port.parse().unwrap(),
        version: std::env::var("ENGINE_VERSION").unwrap(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Err(error) = runtime.block_on(ksail_embedded::run(options, CancellationToken::new())) {
        println!("engine failed: {error}");
        std::process::exit(1);
    }
}

struct World {
    folder: tempfile::TempDir,
    provider: EmbeddedProvider,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let provider = EmbeddedProvider::new(Self::program(folder.path(), "1.0.0"), folder.path().join("state"));
        Self { folder, provider }
    }

    /// A program that takes the arguments of `ksail __engine`.
    fn program(folder: &Path, version: &str) -> PathBuf {
        let path = folder.join(format!("ksail-{version}"));
        let test = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\nENGINE_VERSION={version} ENGINE_ARGUMENTS=\"$*\" exec {} --exact engine_process --nocapture\n",
            test.display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    fn engine(&self) -> PathBuf {
        self.folder.path().join("state/dev/engine")
    }

    async fn observe(&self, target: &Target) -> Observation {
        self.provider.observe(&context(), std::slice::from_ref(target)).await.unwrap().observations.remove(0)
    }

    async fn delete(&self, target: &Target) -> Deleted {
        self.provider.delete(&context(), &delete(target)).await.unwrap()
    }
}

/// A port that nobody had a moment ago, and that is given once. They lie below those of outgoing connections.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 12_000).unwrap();
    let next = || 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next).take(12_000).find(is_free).expect("there is a free port")
}

fn context() -> CallContext {
    CallContext {
        lineage: "l1".to_owned(),
        operation: Some("o1".to_owned()),
        timeout: Duration::from_secs(60),
        cancel: CancellationToken::new(),
    }
}

fn target(version: &str, port: u16, running: bool) -> Target {
    Target {
        address: Address::new("dev", "engine", &["main"]),
        kind_version: 1,
        identity: Identity::named("dev/engine"),
        id: None,
        spec: Some(EngineSpec { version: version.to_owned(), port, running }.to_value()),
        ownership: Ownership::Owned,
    }
}

fn mark(lineage: &str) -> Mark {
    Mark {
        lineage: lineage.to_owned(),
        address: Address::new("dev", "engine", &["main"]),
        operation: "o1".to_owned(),
        generation: 1,
    }
}

fn create(target: &Target) -> CreateRequest {
    CreateRequest { target: target.clone(), mark: mark("l1"), secrets: BTreeMap::new() }
}

fn delete(target: &Target) -> DeleteRequest {
    DeleteRequest {
        target: target.clone(),
        mark: mark("l1"),
        adopted: false,
        attributes: ksail_model::Value::empty_map(),
    }
}

fn update(target: &Target, current: ksail_model::Value) -> UpdateRequest {
    UpdateRequest { target: target.clone(), mark: mark("l1"), current, changed: vec![], secrets: BTreeMap::new() }
}

fn running(observation: &Observation) -> bool {
    observation.seen().unwrap().fields.field("running").unwrap().as_bool().unwrap()
}

/// Ends the engine the hard way, by the pid that holds its socket's peer.
fn kill_engine(folder: &Path) {
    let needle = folder.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let ours = environment.split(|byte| *byte == 0).any(|variable| {
            variable.starts_with(b"ENGINE_ARGUMENTS=") && String::from_utf8_lossy(variable).contains(needle)
        });
        if ours {
            let pid = entry.file_name().to_str().unwrap().to_owned();
            assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        }
    }
    while std::fs::File::open(folder.join("lock")).unwrap().try_lock_shared().is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_made_once_observed_quietly_and_deleted() {
    let world = World::new();
    let target = target("1.0.0", free_port(), true);
    assert_eq!(world.observe(&target).await, Observation::Absent);
    let first = world.provider.create(&context(), &create(&target)).await.unwrap();
    assert_eq!(first.seen.readiness, Readiness::Ready);
    assert_eq!(first.seen.mark, Some(mark("l1")));
    assert_eq!(Some(&first.seen.fields), target.spec.as_ref());
    let again = world.provider.create(&context(), &create(&target)).await.unwrap();
    assert_eq!(again, first, "a repeated create adopts");
    assert_eq!(world.observe(&target).await.seen(), Some(&first.seen));
    let waited = world.provider.wait(&context(), &WaitRequest { target: target.clone() }).await.unwrap();
    assert_eq!(waited, first);
    let owned = world.provider.list_owned(&context()).await.unwrap();
    assert_eq!((owned.len(), owned[0].identity.name.as_str()), (1, "dev/engine"));
    assert_eq!(world.delete(&target).await, Deleted::Gone);
    assert_eq!(world.delete(&target).await, Deleted::WasAbsent);
    assert_eq!(world.observe(&target).await, Observation::Absent);
    assert_eq!(std::fs::read_dir(world.folder.path().join("state/dev")).unwrap().count(), 0, "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_is_seen_and_started_again_with_its_identity() {
    let world = World::new();
    let target = target("1.0.0", free_port(), true);
    let first = world.provider.create(&context(), &create(&target)).await.unwrap();
    kill_engine(&world.engine());
    let seen = world.observe(&target).await;
    assert!(!running(&seen));
    assert_eq!(seen.seen().unwrap().attributes, first.seen.attributes, "attributes do not change with the state");
    let current = seen.seen().unwrap().fields.clone();
    let updated = world.provider.update(&context(), &update(&target, current)).await.unwrap();
    assert_eq!(updated, first);
    assert_eq!(world.delete(&target).await, Deleted::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_and_port_restart_it_in_place() {
    let mut world = World::new();
    let old = target("1.0.0", free_port(), true);
    let first = world.provider.create(&context(), &create(&old)).await.unwrap();
    std::fs::write(world.engine().join("volumes/kept"), "x").unwrap();
    world.provider =
        EmbeddedProvider::new(World::program(world.folder.path(), "2.0.0"), world.folder.path().join("state"));
    let new = target("2.0.0", free_port(), true);
    let updated = world.provider.update(&context(), &update(&new, first.seen.fields)).await.unwrap();
    assert_eq!(Some(&updated.seen.fields), new.spec.as_ref());
    assert_eq!(updated.seen.id, first.seen.id);
    let stopped = target("2.0.0", new.spec.as_ref().unwrap().field("port").unwrap().as_i64().unwrap() as u16, false);
    let seen = world.provider.update(&context(), &update(&stopped, updated.seen.fields)).await.unwrap();
    assert_eq!(Some(&seen.seen.fields), stopped.spec.as_ref());
    assert!(world.provider.ports_in_use(&context(), &[free_port()]).await.unwrap().is_empty());
    assert_eq!(world.delete(&stopped).await, Deleted::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_refused_and_leaves_nothing() {
    let world = World::new();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let target = target("1.0.0", port, true);
    let error = world.provider.create(&context(), &create(&target)).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains(&port.to_string()), "{error}");
    assert_eq!(world.observe(&target).await, Observation::Absent);
    let in_use = world.provider.ports_in_use(&context(), &[port]).await.unwrap();
    assert!(in_use[0].port == port && in_use[0].lineage.is_none(), "{in_use:?}");
    assert!(in_use[0].holder.contains(&format!("pid {}", std::process::id())), "{in_use:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_engine_is_neither_taken_nor_deleted() {
    let world = World::new();
    let target = target("1.0.0", free_port(), true);
    let foreign = CreateRequest { mark: mark("other"), ..create(&target) };
    world.provider.create(&context(), &foreign).await.unwrap();
    for error in [
        world.provider.create(&context(), &create(&target)).await.unwrap_err(),
        world.provider.delete(&context(), &delete(&target)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, CallErrorKind::NotOurs);
    }
    assert!(running(&world.observe(&target).await));
    let foreign = DeleteRequest { mark: mark("other"), ..delete(&target) };
    assert_eq!(world.provider.delete(&context(), &foreign).await.unwrap(), Deleted::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_call_left_is_finished_or_swept() {
    let world = World::new();
    let target = target("1.0.0", free_port(), true);
    // A call that is dropped at once, or at any later moment, can be repeated.
    for wait in [0, 1, 3, 10, 30, 100] {
        let (context, request) = (context(), create(&target));
        let _ = tokio::time::timeout(Duration::from_millis(wait), world.provider.create(&context, &request)).await;
        let applied = world.provider.create(&context, &request).await.unwrap();
        assert_eq!(applied.seen.readiness, Readiness::Ready);
        let request = delete(&target);
        let _ = tokio::time::timeout(Duration::from_millis(wait), world.provider.delete(&context, &request)).await;
        world.provider.delete(&context, &request).await.unwrap();
        assert_eq!(world.observe(&target).await, Observation::Absent);
    }
    let state = world.folder.path().join("state/dev");
    std::fs::create_dir_all(state.join(".deleted-x")).unwrap();
    std::fs::create_dir_all(state.join(".making-x")).unwrap();
    assert_eq!(world.delete(&target).await, Deleted::WasAbsent);
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_deadline_and_broken_files() {
    let world = World::new();
    let target = target("1.0.0", free_port(), true);
    let cancelled = context();
    cancelled.cancel.cancel();
    let error = world.provider.create(&cancelled, &create(&target)).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Cancelled);
    assert_eq!(world.observe(&target).await, Observation::Absent);
    std::fs::create_dir_all(world.engine()).unwrap();
    std::fs::write(world.engine().join("engine.json"), "{").unwrap();
    assert!(matches!(world.observe(&target).await, Observation::Unknown(_)), "what cannot be read is not absent");
    let error = world.provider.create(&context(), &create(&target)).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.hint.is_some());
}
