//! State that a team shares, on the built binary and real stores: applied here, planned there, killed, broken, moved.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ksail_test_real::{tell, variable};
use rustix::process::Signal;

use crate::support::engine::http;
use crate::support::project::{Project, Run};
use crate::support::proxy::{Fault, Proxy};
use crate::support::{ChosenPorts, wait_until};

/// The bucket of these tests.
const BUCKET: &str = "ksail-e2e-state";
/// Rounds of random faults.
const ROUNDS: u32 = 6;

fn real(name: &str) -> Option<String> {
    variable(name, "testbed/state.sh up; testbed/state.sh env")
}

fn unique(what: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    format!("{what}-{:x}-{}", now.as_nanos(), std::process::id())
}

/// A place in the S3 server, and the server's endpoint.
fn s3(what: &str) -> Option<(String, String)> {
    let endpoint = real("KSAIL_TEST_S3_ENDPOINT")?;
    let port = endpoint.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("its port");
    let (status, answer) = http(port, "PUT", &format!("/{BUCKET}"), "text/plain", b"");
    assert!(matches!(status, 200 | 409), "{status}: {}", String::from_utf8_lossy(&answer));
    Some((format!("s3://{BUCKET}/{}", unique(what)), endpoint))
}

/// A place in PostgreSQL.
fn postgres(what: &str) -> Option<String> {
    Some(format!("{}?prefix={}", real("KSAIL_TEST_POSTGRES_URL")?, unique(what)))
}

/// All places that there are.
fn places(what: &str) -> Vec<(String, String)> {
    let postgres = postgres(what).map(|place| (place, String::new()));
    s3(what).into_iter().chain(postgres).collect()
}

fn shares(project: &mut Project, place: &str, endpoint: &str) {
    project.set_env("KSAIL_STATE", place);
    project.set_env("AWS_ENDPOINT_URL", endpoint);
    project.set_env("AWS_ACCESS_KEY_ID", "test");
    project.set_env("AWS_SECRET_ACCESS_KEY", "test-secret-key");
}

/// A project whose state is shared.
fn project(place: &str, endpoint: &str) -> Project {
    let mut project = Project::new(&["docker.io"], "  state:\n    lease: 2s\n");
    shares(&mut project, place, endpoint);
    project
}

/// The same project on another machine.
fn elsewhere(project: &Project, place: &str, endpoint: &str) -> Project {
    let mut other = Project::empty(project.registry_port);
    other.write("ksail.yaml", &project.read("ksail.yaml"));
    shares(&mut other, place, endpoint);
    other
}

fn rescued(project: &Project, ending: &str) -> Vec<PathBuf> {
    let files = crate::support::files_below(&project.state().join("rescue"));
    files.into_iter().filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

#[test]
fn what_is_applied_here_is_known_there() {
    for (place, endpoint) in places("elsewhere") {
        let project = project(&place, &endpoint);
        project.apply_first();
        project.is_settled();
        assert!(!project.state().join("journal").exists(), "the state is not in the folder");
        let other = elsewhere(&project, &place, &endpoint);
        other.run(&["plan", "--detailed-exitcode", "--refresh=false"]).code(0).says("No changes");
        assert_eq!(other.history(), project.history());
        let operation = &other.history()[0];
        assert_eq!(operation["result"], "complete");
        assert!(operation["plan"]["nodes"].as_array().is_some_and(|nodes| !nodes.is_empty()), "{operation}");
        let lists = [&project, &other].map(|project| project.run(&["state", "list"]).code(0).out);
        assert_eq!(lists[0], lists[1]);
        other.run(&["state", "locks"]).code(0).says("not locked");
        for run in [other.run(&["plan", "-v"]), other.run(&["state", "pull"])] {
            run.says_not("test-secret-key").says_not("ksail-test@");
        }
        project.run(&["destroy", "--auto-approve"]).code(0);
        other.run(&["plan", "--destroy", "--detailed-exitcode", "--refresh=false"]).code(0);
    }
}

#[test]
fn a_rotated_secret_is_told_on_every_machine_that_has_the_identity() {
    for (place, endpoint) in places("secret") {
        let mut project = project(&place, &endpoint);
        let mirror = format!(
            "  state:\n    lease: 2s\n  mirrors:\n    - host: private.example.com\n      port: {}\n      username: robot\n      password: ${{CANARY_TOKEN}}\n",
            project.mirror_port("private.example.com")
        );
        project.declare(&[], &mirror);
        project.set_env("CANARY_TOKEN", "one-of-them");
        project.apply_first();
        project.is_settled();
        let mut other = elsewhere(&project, &place, &endpoint);
        other.set_env("CANARY_TOKEN", "one-of-them");
        let plan = ["plan", "--detailed-exitcode", "--refresh=false"];
        // Without the identity a changed secret could not be told: that is said, and nothing is guessed.
        other.run(&plan).code(1).says("KS0601").says("KSAIL_AGE_KEY");
        other.set_env("KSAIL_AGE_KEY", &project.identity());
        other.run(&plan).code(0).says("No changes");
        other.set_env("CANARY_TOKEN", "another-one");
        other.run(&plan).code(2).says("(sensitive value)").says_not("another-one").says_not("one-of-them");
        project.is_settled();
        project.run(&["destroy", "--auto-approve"]).code(0);
    }
}

/// Starts an apply and waits until it is at work, so that it holds the lease.
fn at_work(project: &Project) -> crate::support::project::Running {
    let running = project.start(&["apply", "--auto-approve"]);
    wait_until("the beginning of the operation", || running.has_said("begins"));
    running
}

#[test]
fn a_killed_apply_goes_on_at_once() {
    for (place, endpoint) in places("killed") {
        let project = project(&place, &endpoint);
        let _ports = ChosenPorts::lock();
        let running = at_work(&project);
        running.signal(Signal::KILL);
        running.end();
        // The lease of a process that is dead on this very machine holds nobody up.
        let began = Instant::now();
        project.apply();
        assert!(began.elapsed() < Duration::from_secs(20));
        project.is_settled();
        project.run(&["destroy", "--auto-approve"]).code(0);
    }
}

#[test]
fn a_stopped_holder_is_waited_out_and_writes_nothing_afterwards() {
    for (place, endpoint) in places("stopped") {
        let project = project(&place, &endpoint);
        let _ports = ChosenPorts::lock();
        let running = at_work(&project);
        running.signal(Signal::STOP);
        project.run(&["apply", "--auto-approve"]).code(5).says("KS0401").says("is locked by");
        let locks = project.run(&["state", "locks"]).code(0).says("apply").says("2 s");
        drop(locks);
        project.run(&["plan"]).says("is under way");
        project.run(&["apply", "--auto-approve", "--lock-timeout", "30s"]).code(0);
        let history = project.history();
        running.signal(Signal::CONT);
        let stale = running.end();
        assert_ne!(stale.code, Some(0), "{stale}");
        assert_eq!(project.history(), history, "the stale one wrote: {stale}");
        project.is_settled();
        project.run(&["destroy", "--auto-approve"]).code(0);
    }
}

#[test]
fn a_lock_is_broken_by_its_id() {
    for (place, endpoint) in places("broken") {
        let project = project(&place, &endpoint);
        let _ports = ChosenPorts::lock();
        let running = at_work(&project);
        running.signal(Signal::STOP);
        let held = project.run(&["state", "locks", "--format", "json"]).code(0).json();
        let id = held[0]["id"].as_str().expect("an id").to_owned();
        assert_eq!(held[0]["doing"], "apply");
        project.run(&["unlock", "another"]).code(1).says(&id);
        project.run(&["unlock", &id]).code(0).says("not locked");
        project.run(&["apply", "--auto-approve"]).code(0);
        running.signal(Signal::CONT);
        let stale = running.end();
        assert_ne!(stale.code, Some(0), "{stale}");
        project.is_settled();
        project.run(&["destroy", "--auto-approve"]).code(0);
    }
}

#[test]
fn credentials_that_expire_in_mid_apply_lose_nothing() {
    let Some((place, endpoint)) = s3("expired") else { return };
    let proxy = Proxy::before(&endpoint);
    let project = project(&place, &proxy.endpoint);
    let _ports = ChosenPorts::lock();
    let mut segments = 0;
    let mut expired = false;
    proxy.choose(move |method, path| {
        segments += usize::from(method == "PUT" && path.ends_with("-segment"));
        // Begin, context and the engine's intent are in the snapshot; its outcome is what cannot be stored.
        expired |= segments > 0;
        if expired { Fault::Expired } else { Fault::None }
    });
    let run = project.run(&["apply", "--auto-approve"]).code(1).says("KS0414").says("ExpiredToken").says("rescue");
    run.says_not("test-secret-key");
    assert_eq!(rescued(&project, "jsonl").len(), 1);
    let elsewhere_said = elsewhere(&project, &place, &endpoint).run(&["plan", "--refresh=false"]);
    drop(elsewhere_said.says("may still be under way"));
    proxy.choose(|_, _| Fault::None);
    project.run(&["plan"]).says("could not be stored");
    project.run(&["apply", "--auto-approve"]).code(0).says("stored now");
    assert!(rescued(&project, "jsonl").is_empty());
    project.is_settled();
    project.run(&["destroy", "--auto-approve"]).code(0);
}

#[test]
fn an_end_that_could_not_be_stored_is_stored_though_nothing_changes() {
    let Some((place, endpoint)) = s3("unsealed") else { return };
    let proxy = Proxy::before(&endpoint);
    let project = project(&place, &proxy.endpoint);
    let _ports = ChosenPorts::lock();
    let mut expired = false;
    proxy.choose(move |method, path| {
        // The history is written at the same time as the seal: one of them fails, or both.
        expired |= method == "PUT" && path.contains("/history/");
        if expired { Fault::Expired } else { Fault::None }
    });
    project.run(&["apply", "--auto-approve"]).code(1).says("ExpiredToken");
    let is_kept = !rescued(&project, "jsonl").is_empty();
    proxy.choose(|_, _| Fault::None);
    let again = project.run(&["apply", "--auto-approve"]).code(0).says("No changes");
    assert!(!is_kept || again.err.contains("stored now"), "{again}");
    assert!(rescued(&project, "jsonl").is_empty());
    project.is_settled();
    project.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(
        project.history().iter().map(|operation| operation["result"].clone()).collect::<Vec<_>>(),
        ["complete"; 2]
    );
}

#[test]
fn answers_that_are_lost_or_late_or_wrong_cost_only_time() {
    let Some((place, endpoint)) = s3("faults") else { return };
    let proxy = Proxy::before(&endpoint);
    let project = project(&place, &proxy.endpoint);
    let _ports = ChosenPorts::lock();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    proxy.choose(move |_, _| match random.u8(..100) {
        0..5 => Fault::Reset,
        5..10 => Fault::AnswerLost,
        10..14 => Fault::Error,
        14..18 => Fault::ErrorAfter,
        18..22 => Fault::Slow(150),
        _ => Fault::None,
    });
    for round in 0..ROUNDS {
        let mirrors: &[&str] = if round % 2 == 0 { &["docker.io", "ghcr.io"] } else { &["docker.io"] };
        project.declare(mirrors, "  state:\n    lease: 5s\n");
        // Five tries of each request: rarely is that not enough, and then the same command goes on.
        let converged = (0..3).any(|_| project.run(&["apply", "--auto-approve"]).code == Some(0));
        assert!(converged, "round {round}");
        // Whoever's answer to its release was lost left the lease to expire.
        project.run(&["plan", "--detailed-exitcode"]).code(0);
    }
    proxy.choose(|_, _| Fault::None);
    tell(&format!("{} faults of the store in {ROUNDS} rounds", proxy.faults()));
    let ids: Vec<String> = project.history().iter().map(|operation| operation["operation"].to_string()).collect();
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), ids.len(), "an operation is in the history twice");
    project.run(&["destroy", "--auto-approve"]).code(0);
}

#[test]
fn a_state_moves_with_its_history_and_seals_its_source() {
    let places = places("move");
    if places.is_empty() {
        return;
    }
    let mut project = Project::applied();
    project.declare(&["docker.io"], "");
    project.apply();
    let history = project.history();
    let pulled = project.run(&["state", "pull"]).code(0).out;
    let mut from: Option<String> = None;
    for (place, endpoint) in &places {
        project.set_env("AWS_ENDPOINT_URL", endpoint);
        if from.is_none() || !endpoint.is_empty() {
            shares(&mut project, "", endpoint);
            project.unset_env("KSAIL_STATE");
        }
        if let Some(from) = &from {
            project.set_env("AWS_ENDPOINT_URL", &places[0].1);
            project.set_env("KSAIL_STATE", from);
        }
        let moved = project.run(&["state", "migrate", "--to", place]).code(0);
        let moved = moved.says("sealed").says_not("ksail-test@");
        drop(moved);
        // The source says where it went; nothing there is used any more.
        for command in [&["plan"][..], &["apply", "--auto-approve"], &["state", "list"]] {
            project.run(command).code(1).says("KS0415").says("moved to").says_not("ksail-test@");
        }
        project.set_env("KSAIL_STATE", place);
        let now: Vec<_> = project.history().into_iter().map(without_plan).collect();
        let before: Vec<_> = history.iter().cloned().map(without_plan).collect();
        assert_eq!(now, before);
        assert_eq!(project.run(&["state", "pull"]).code(0).out, pulled);
        project.is_settled();
        from = Some(place.clone());
    }
    // A place that is taken is left alone.
    let other = Project::applied();
    let (place, endpoint) = &places[places.len() - 1];
    let mut other = other;
    shares(&mut other, "", endpoint);
    other.unset_env("KSAIL_STATE");
    other.run(&["state", "migrate", "--to", place]).code(1).says("already");
    other.is_settled();
    for project in [&project, &other] {
        project.run(&["destroy", "--auto-approve"]).code(0);
    }
}

fn without_plan(mut operation: serde_json::Value) -> serde_json::Value {
    operation["plan"] = serde_json::Value::Null;
    operation
}

#[test]
fn a_push_of_another_lineage_or_an_older_serial_is_refused() {
    for (place, endpoint) in places("push") {
        let project = project(&place, &endpoint);
        project.apply_first();
        let old = project.run(&["state", "pull"]).code(0).out;
        project.declare(&[], "");
        project.apply();
        project.write("old.json", &old);
        project.run(&["state", "push", "old.json"]).code(1).says("KS0406");
        let foreign = old.replace(&project.lineage(), "ffffffffffffffffffffffffffffffff");
        project.write("foreign.json", &foreign);
        project.run(&["state", "push", "foreign.json"]).code(1).says("KS0410");
        let now = project.run(&["state", "pull"]).code(0).out;
        project.write("now.json", &now);
        project.run(&["state", "push", "now.json"]).code(0);
        project.run(&["destroy", "--auto-approve"]).code(0);
    }
}

fn refused(run: Run, code: &str) {
    run.code(1).says(code).says("hint").says_not("hunter2").says_not("test-secret-key");
}

#[test]
fn a_place_that_cannot_be_used_is_named_without_secrets() {
    let mut project = Project::new(&[], "");
    let refuses = |project: &mut Project, place: &str, code: &str| {
        project.set_env("KSAIL_STATE", place);
        refused(project.run(&["state", "list"]), code);
    };
    refuses(&mut project, "ftp://host/x", "KS0409");
    refuses(&mut project, "s3://x", "KS0409");
    refuses(&mut project, "s3://key:hunter2@bucket/x", "KS0409");
    refuses(&mut project, "postgres://ann:hunter2@127.0.0.1:x/y", "KS0409");
    refuses(&mut project, "postgres://ann:hunter2@127.0.0.1:9/y?connect_timeout=1", "KS0411");
    project.unset_env("KSAIL_STATE");
    project.declare(&[], "  state:\n    path: postgres://ann:hunter2@127.0.0.1/y\n");
    refused(project.run(&["state", "list"]), "KS0122");
    project.declare(&[], "  state:\n    backend: Local\n    path: s3://bucket/x\n");
    refused(project.run(&["state", "list"]), "KS0140");
}
