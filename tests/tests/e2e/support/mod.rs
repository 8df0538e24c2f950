//! What the end-to-end tests share: the built binary, projects in folders of their own, and a client for engines.

pub(crate) mod apart;
pub(crate) mod engine;
pub(crate) mod project;
pub(crate) mod proxy;

pub(crate) use ksail_test_real::did_not_run;
use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Below the range that systems give out by themselves.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 10_000;
/// How long the tests wait for something that is about to happen.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The binary that the workspace's build left beside this test, or the one that `KSAIL_TEST_BINARY` names.
pub(crate) fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("KSAIL_TEST_BINARY") {
        return named.into();
    }
    let test = std::env::current_exe().expect("the test's own path");
    let found = test.ancestors().skip(1).map(|folder| folder.join("ksail")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no ksail beside {}: build it first with `cargo build`", test.display()))
}

/// A port that is free and that no other test of this process was given.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap_or(0);
    for _ in 0..PORTS {
        let port = FIRST_PORT + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free between {FIRST_PORT} and {}", FIRST_PORT + PORTS);
}

/// Ports that are chosen at planning are held only from the apply on: whoever has no engine, or kills it, takes this lock
/// so that no other test (of this process or another) is given the same port meanwhile.
pub(crate) struct ChosenPorts {
    _file: File,
}

impl ChosenPorts {
    pub(crate) fn lock() -> Self {
        let path = std::env::temp_dir().join("ksail-tests-ports.lock");
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path).expect("the lock's file");
        file.lock().expect("the lock of chosen ports");
        Self { _file: file }
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "{what} did not happen within {} s", SOON.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All files below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Pids of embedded engines whose folder is below this one, by what the system lists.
pub(crate) fn engine_pids(below: &Path) -> Vec<i32> {
    let below = below.to_string_lossy().into_owned();
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let is_dead = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
            (!is_dead && line.contains("\0__engine\0") && line.contains(&below)).then_some(pid)
        })
        .collect()
}

/// Sends a signal to a process that this test started.
pub(crate) fn signal(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// The socket of the real engine that the tests may use; says why, if there is none.
pub(crate) fn docker_socket() -> Option<PathBuf> {
    let host = std::env::var("KSAIL_TEST_DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let socket = host.as_deref().and_then(|host| host.strip_prefix("unix://")).map(PathBuf::from);
    if socket.is_none() {
        did_not_run("KSAIL_TEST_DOCKER_HOST names no unix:// socket (testbed/docker.sh up; testbed/docker.sh env)");
    }
    socket
}
