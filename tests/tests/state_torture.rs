//! Writers of a shared state as real processes, stopped past their lease and continued, killed, and with clocks that are an
//! hour off: what one was told is durable is there, once; and no two were ever told of the same place in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ksail_records::Backend as _;
use ksail_state_object::S3Place;
use ksail_state_postgres::{PostgresObjects, PostgresPlace};
use ksail_state_remote::{RemoteBackend, RemoteOptions, Store};
use ksail_test_real::{tell, variable};
use rustix::process::{Pid, Signal, kill_process};

/// The writers, with how far their clocks are ahead.
const WRITERS: [i64; 5] = [0, 3_600_000, -3_600_000, 0, 0];
/// Their lease.
const LEASE: Duration = Duration::from_secs(1);
/// How long a stopped one is stopped: past its lease, and past what a waiter waits.
const STOPPED: Duration = Duration::from_millis(2_400);
/// How long they are tortured, where `KSAIL_TEST_TORTURE_SECONDS` does not say.
const SECONDS: u64 = 20;
/// How long the last turns may take.
const END: Duration = Duration::from_secs(60);

fn real(name: &str) -> Option<String> {
    variable(name, "testbed/state.sh up; testbed/state.sh env")
}

fn start(url: &str, endpoint: &str, folder: &Path, writer: usize) -> Child {
    Command::new(env!("CARGO_BIN_EXE_state-torture"))
        .args([url, &folder.display().to_string(), &format!("w{writer}")])
        .args([LEASE.as_millis().to_string(), WRITERS[writer].to_string()])
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test-secret")
        .stdin(Stdio::null())
        .stderr(std::fs::OpenOptions::new().append(true).create(true).open(folder.join("errors")).unwrap())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let _ = kill_process(pid, signal);
}

fn torture(url: &str, endpoint: &str, store: Arc<dyn Store>) {
    let folder = tempfile::tempdir().unwrap();
    let seconds = std::env::var("KSAIL_TEST_TORTURE_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    let mut writers: Vec<Child> =
        (0..WRITERS.len()).map(|writer| start(url, endpoint, folder.path(), writer)).collect();
    let (mut stops, mut kills) = (0, 0);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(fastrand::u64(20..600)));
        let chosen = fastrand::usize(..writers.len());
        if fastrand::bool() {
            // Several at once, so that the holder is mostly among them.
            let stopped: BTreeSet<usize> = (0..3).map(|_| fastrand::usize(..writers.len())).collect();
            stopped.iter().for_each(|writer| signal(&writers[*writer], Signal::STOP));
            std::thread::sleep(STOPPED);
            stopped.iter().for_each(|writer| signal(&writers[*writer], Signal::CONT));
            stops += stopped.len();
        } else {
            signal(&writers[chosen], Signal::KILL);
            let _ = writers[chosen].wait();
            writers[chosen] = start(url, endpoint, folder.path(), chosen);
            kills += 1;
        }
    }
    std::fs::write(folder.path().join("stop"), "").unwrap();
    let began = Instant::now();
    for (writer, child) in writers.iter_mut().enumerate() {
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > END {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let errors = || std::fs::read_to_string(folder.path().join("errors")).unwrap_or_default();
        assert!(status.success(), "w{writer} ended with {status}:\n{}", errors());
    }
    let acked = verify(folder.path(), store);
    tell(&format!("{url}: {acked} entries by {} writers, {stops} stopped, {kills} killed", WRITERS.len()));
    assert!(acked > 20, "the writers hardly got a turn: {acked} entries");
}

/// Checks what the writers were told against what is there.
fn verify(folder: &Path, store: Arc<dyn Store>) -> usize {
    let mut at: BTreeMap<u64, String> = BTreeMap::new();
    for writer in 0..WRITERS.len() {
        let text = std::fs::read_to_string(folder.join(format!("w{writer}.acked"))).unwrap_or_default();
        for line in text.lines() {
            let (sequence, what) = line.split_once(' ').unwrap();
            let other = at.insert(sequence.parse().unwrap(), what.to_owned());
            assert_eq!(other, None, "two writers were told of place {sequence}: {what}");
        }
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (snapshot, history) = runtime.block_on(async {
        let here = tempfile::tempdir().unwrap();
        let backend = RemoteBackend::new(store, RemoteOptions::new(here.path().to_owned()));
        let state = backend.read().await.unwrap().state.expect("there is a state");
        (state.into_snapshot(), backend.history(usize::MAX).await.unwrap())
    });
    let last = at.keys().last().copied().unwrap_or(0);
    assert!(snapshot.sequence >= last, "the log ends at {}, a writer was told of {last}", snapshot.sequence);
    let records: BTreeSet<String> = snapshot.records.keys().map(ToString::to_string).collect();
    for (sequence, what) in &at {
        let (key, what) = what.rsplit_once(' ').unwrap();
        if what == "applied" {
            assert!(records.contains(key), "{key}, durable at {sequence}, is lost");
        }
    }
    let serials: Vec<u64> = history.iter().rev().map(|operation| operation.serial).collect();
    let ids: BTreeSet<&str> = history.iter().map(|operation| operation.header.id.as_str()).collect();
    assert_eq!(ids.len(), history.len(), "an operation is in the history twice");
    let sealed = snapshot.serial - u64::from(snapshot.operation.is_some());
    let expected: Vec<u64> = (1..=sealed).collect();
    assert_eq!(serials, expected, "the history has a gap, or an operation twice");
    at.len()
}

fn unique() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("torture-{:x}", now.as_nanos())
}

#[test]
fn on_s3() {
    let Some(endpoint) = real("KSAIL_TEST_S3_ENDPOINT") else { return };
    put_bucket(&endpoint);
    let url = format!("s3://ksail-torture/{}", unique());
    let env = |name: &str| match name {
        "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
        "AWS_ACCESS_KEY_ID" => Some("test".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("test-secret".to_owned()),
        _ => None,
    };
    let store = ksail_state_object::open(&S3Place::parse(&url).unwrap(), "dev", &env).unwrap();
    torture(&url, &endpoint, Arc::new(store));
}

#[test]
fn on_postgres() {
    let Some(server) = real("KSAIL_TEST_POSTGRES_URL") else { return };
    let url = format!("{server}?prefix={}", unique());
    let place = PostgresPlace::parse(&url, &|_| None).unwrap();
    torture(&url, "", Arc::new(PostgresObjects::new(&place, "dev")));
}

/// Makes the bucket.
fn put_bucket(endpoint: &str) {
    use std::io::{Read as _, Write as _};
    let host = endpoint.strip_prefix("http://").expect("a server on this machine");
    let mut stream = std::net::TcpStream::connect(host).expect("the server listens");
    write!(stream, "PUT /ksail-torture HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.contains(" 200 ") || answer.contains(" 409 "), "{answer}");
}
