//! The simulated outside: its script, its hosts, its log, and its folder.

use std::sync::Arc;
use std::time::Duration;

use ksail_conformance::Method;
use ksail_conformance::world::{Ending, Moment, SimulatedConnector, Thing, World};
use ksail_model::{Address, Observation, Ownership, ProviderConfig, Readiness, UnknownReason, Value};
use ksail_provider::{
    CallContext, CallError, CallErrorKind, Connector, Deleted, HostSession, Provider, Target, WaitRequest,
};

use crate::faults::{context, creation, deletion};
use crate::subject::target;

fn thing(kind: &str, name: &str) -> Target {
    target(kind, name, Value::map([("size", Value::from(1_i64))]), Ownership::Owned)
}

#[tokio::test(start_paused = true)]
async fn scripted_failures_are_taken_once_each_and_by_address_first() {
    let world = World::new("s");
    let (one, other) = (thing("network", "one"), thing("network", "other"));
    world.at(&one.address, |own| {
        own.fail_next(Method::Create, 2, CallError::transient("busy"));
        own.fail_next(Method::Observe, 1, CallError::unreachable("no route"));
    });
    let provider = world.provider();
    assert!(provider.create(&context(), &creation(&other)).await.is_ok());
    for _ in 0..2 {
        let error = provider.create(&context(), &creation(&one)).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Transient);
    }
    let made = provider.create(&context(), &creation(&one)).await.unwrap();
    assert!(made.seen.attributes.field("id").is_some());
    let seen = provider.observe(&context(), &[one.clone(), other.clone()]).await.unwrap().observations;
    assert!(matches!(seen[0], Observation::Unknown(UnknownReason::Unreachable { .. })), "{seen:?}");
    assert!(seen[1].seen().is_some());
    let seen = provider.observe(&context(), std::slice::from_ref(&one)).await.unwrap().observations;
    assert!(seen[0].seen().is_some());
}

#[tokio::test(start_paused = true)]
async fn another_scope_hides_what_was_there() {
    let world = World::new("first");
    let provider = world.provider();
    let one = thing("network", "one");
    provider.create(&context(), &creation(&one)).await.unwrap();
    world.set_scope("second").unwrap();
    let reply = provider.observe(&context(), std::slice::from_ref(&one)).await.unwrap();
    assert_eq!((&*reply.scope.0, &reply.observations[0]), ("second", &Observation::Absent));
    assert_eq!(world.things().unwrap().len(), 1);
    world.set_scope("first").unwrap();
    let reply = provider.observe(&context(), &[one]).await.unwrap();
    assert!(reply.observations[0].seen().is_some());
}

#[tokio::test(start_paused = true)]
async fn readiness_comes_with_time_and_waits_return_then() {
    let world = World::new("s");
    let one = thing("registry", "one");
    world.at(&one.address, |own| own.ready_after = Some(Duration::from_secs(2)));
    let provider = world.provider();
    let made = provider.create(&context(), &creation(&one)).await.unwrap();
    assert!(!made.seen.readiness.is_ready());
    let request = WaitRequest { target: one };
    let short = CallContext { timeout: Duration::from_secs(1), ..context() };
    let waited = provider.wait(&short, &request).await.unwrap();
    assert!(matches!(waited.seen.readiness, Readiness::NotReady(_)));
    assert!(provider.wait(&context(), &request).await.unwrap().seen.readiness.is_ready());
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_order_and_how_much_at_once() {
    let world = World::new("s");
    world.all(|all| all.latency = Some(Duration::from_millis(10)));
    let provider = world.provider();
    let things: Vec<Target> = (0..5).map(|number| thing("network", &format!("n{number}"))).collect();
    futures::future::join_all(things.iter().map(|of| {
        let provider = provider.clone();
        async move { provider.create(&context(), &creation(of)).await.unwrap() }
    }))
    .await;
    provider.delete(&context(), &deletion(&things[0])).await.unwrap();
    assert_eq!((world.most_at_once(Method::Create), world.most_mutating_at_once()), (5, 5));
    let calls = world.calls();
    let deletion = calls.last().unwrap();
    assert_eq!((deletion.method, deletion.ending), (Method::Delete, Some(Ending::Answered)));
    assert!(calls[..5].iter().all(|call| call.ended.unwrap() < deletion.begun && call.effected < call.ended));
    // A call whose caller drops it is noted too.
    let pending = provider.create(&context(), &creation(&thing("network", "late"))).await;
    drop(pending);
    let call = context();
    let request = creation(&thing("network", "dropped"));
    let dropped = tokio::time::timeout(Duration::from_millis(1), provider.create(&call, &request)).await;
    assert!(dropped.is_err());
    assert_eq!(world.calls().last().unwrap().ending, Some(Ending::Dropped));
}

#[tokio::test(start_paused = true)]
async fn a_hook_sees_each_moment() {
    let world = World::new("s");
    let moments: Arc<std::sync::Mutex<Vec<Moment>>> = Arc::default();
    let sink = Arc::clone(&moments);
    world.set_hook(Some(Arc::new(move |_, _, moment| sink.lock().unwrap().push(moment))));
    world.provider().create(&context(), &creation(&thing("network", "one"))).await.unwrap();
    assert_eq!(*moments.lock().unwrap(), [Moment::Begun, Moment::Effected, Moment::Ended]);
}

#[tokio::test(start_paused = true)]
async fn a_session_lives_and_dies_with_its_host() {
    let world = World::new("s");
    let connector = SimulatedConnector::of("sim", &world);
    let config = ProviderConfig { kind: "sim".to_owned(), ..ProviderConfig::default() };
    let engine = thing("engine", "main");
    world.at(&engine.address, |own| own.ready_after = Some(Duration::from_secs(1)));
    let outer = connector.connect("sim", &config, None).await.unwrap();
    let made = outer.create(&context(), &creation(&engine)).await.unwrap();
    let session = HostSession { address: engine.address.clone(), attributes: made.seen.attributes.clone() };
    let inner = connector.connect("sim", &config, Some(&session)).await.unwrap();
    let content = thing("network", "inside");
    let early = inner.create(&context(), &creation(&content)).await.unwrap_err();
    assert_eq!(early.kind, CallErrorKind::Unreachable, "{early}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let inside = inner.create(&context(), &creation(&content)).await.unwrap();
    assert_eq!(Some(inside.scope.0.to_string()), made.seen.id);
    assert_eq!(connector.sessions()[1].host, Some(engine.address.clone()));
    assert_eq!(outer.delete(&context(), &deletion(&engine)).await, Ok(Deleted::Gone));
    assert!(world.things().unwrap().is_empty(), "the contents outlived their host");
    let gone = inner.observe(&context(), &[content]).await.unwrap_err();
    assert_eq!(gone.kind, CallErrorKind::Unreachable);
    assert!(connector.connect("other", &config, None).await.is_err());
    let nameless = HostSession { address: engine.address, attributes: Value::empty_map() };
    assert!(connector.connect("sim", &config, Some(&nameless)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn fields_that_are_not_ours_are_given_back() {
    let world = World::new("s");
    let fields = Value::map([("size", Value::from(9_i64)), ("colour", Value::from("red"))]);
    world.put(Thing::foreign("network", "dev-one", fields.clone())).unwrap();
    let provider = world.provider();
    let one = Target { ownership: Ownership::Fields, ..thing("network", "one") };
    let made = provider.create(&context(), &creation(&one)).await.unwrap();
    assert_eq!(made.seen.fields, Value::map([("size", Value::from(1_i64))]));
    assert_eq!(provider.delete(&context(), &deletion(&one)).await, Ok(Deleted::Released));
    assert_eq!(world.things().unwrap()[0].fields, fields);
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_owes_is_asked_for() {
    let provider = World::new("s").provider();
    let unresolved = Target { spec: Some(Value::map([("size", Value::Unknown)])), ..thing("network", "one") };
    let error = provider.create(&context(), &creation(&unresolved)).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    let (password, _) = crate::subject::secret("password", "text-text", "f");
    let unsent = Target { spec: Some(Value::map([("password", password)])), ..thing("network", "one") };
    let error = provider.create(&context(), &creation(&unsent)).await.unwrap_err();
    assert!(error.message.contains("has no text"), "{error}");
    let mut stranger = creation(&thing("network", "one"));
    stranger.mark.address = Address::new("dev", "network", &["two"]);
    assert!(provider.create(&context(), &stranger).await.is_err());
}

#[tokio::test]
async fn a_folder_is_shared_and_survives() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(folder.path(), "first").unwrap();
    let one = thing("network", "a name/with#odd characters");
    world.provider().create(&context(), &creation(&one)).await.unwrap();
    let other = World::in_folder(folder.path(), "ignored").unwrap();
    assert_eq!(other.scope().unwrap(), "first");
    assert_eq!(other.things().unwrap(), world.things().unwrap());
    // Creations of one identity at once, as two processes would make them.
    let two = thing("network", "two");
    let tasks = (0..8).map(|_| {
        let (folder, two) = (folder.path().to_owned(), two.clone());
        tokio::task::spawn_blocking(move || {
            let world = World::in_folder(folder, "first").unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async { world.provider().create(&context(), &creation(&two)).await.unwrap().seen.id })
        })
    });
    let ids: Vec<_> = futures::future::join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(other.duplicates().unwrap().is_empty());
    assert_eq!(other.remove("network", "dev-two").unwrap(), 1);
    assert_eq!(world.things().unwrap().len(), 1);
    let leftovers = std::fs::read_dir(folder.path()).unwrap().flatten();
    let temporary = leftovers.filter(|entry| entry.file_name().to_string_lossy().starts_with(".new-"));
    assert_eq!(temporary.count(), 0);
}

/// Names the folder to the child process of the next test.
const CHILD_FOLDER: &str = "KSAIL_CONFORMANCE_CHILD_FOLDER";

/// The file by which the child says that it has begun.
const CHILD_LIVES: &str = "child-lives";

/// Not a test of its own: what the child process of the next one runs.
#[tokio::test]
async fn child_that_creates_and_deletes() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let provider = World::in_folder(&folder, "s").unwrap().provider();
    std::fs::write(std::path::Path::new(&folder).join(CHILD_LIVES), "").unwrap();
    let things: Vec<Target> = (0..4).map(|number| thing("network", &format!("n{number}"))).collect();
    loop {
        for one in &things {
            provider.create(&context(), &creation(one)).await.unwrap();
        }
        for one in &things {
            provider.delete(&context(), &deletion(one)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_folder_is_whole_after_every_kill() {
    /// How many processes are killed.
    const KILLS: u64 = 25;
    let folder = tempfile::tempdir().unwrap();
    let world = World::in_folder(folder.path(), "s").unwrap();
    let mut rng = fastrand::Rng::with_seed(9);
    let mut caught = 0;
    for _ in 0..KILLS {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "world::child_that_creates_and_deletes"])
            .env(CHILD_FOLDER, folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let lives = folder.path().join(CHILD_LIVES);
        let begun = async {
            while !lives.exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), begun).await.expect("the child begins");
        tokio::time::sleep(Duration::from_micros(rng.u64(0..20_000))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let there = world.things().expect("every file reads");
        caught += usize::from(!there.is_empty());
        assert!(there.len() <= 4, "{there:?}");
        assert!(world.duplicates().unwrap().is_empty());
        for number in 0..4 {
            let one = thing("network", &format!("n{number}"));
            world.provider().create(&context(), &creation(&one)).await.unwrap();
            world.provider().delete(&context(), &deletion(&one)).await.unwrap();
        }
        assert!(world.things().unwrap().is_empty());
        std::fs::remove_file(lives).unwrap();
    }
    assert!(caught > 0, "no child was killed between a creation and a deletion");
}
