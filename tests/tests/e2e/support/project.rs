//! A project in a folder of its own, and runs of the binary in it.

use std::fmt::Write as _;
use std::fs;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::engine::Engine;
use super::{ChosenPorts, binary, engine_pids, free_port, signal};

/// The longest that one command may take.
const COMMAND: Duration = Duration::from_secs(300);

/// A project. What it started ends with it.
pub(crate) struct Project {
    folder: TempDir,
    home: TempDir,
    env: Vec<(String, String)>,
    pub(crate) registry_port: u16,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) command: String,
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A command that runs.
pub(crate) struct Running {
    child: Child,
    command: String,
    out: std::thread::JoinHandle<String>,
    err: std::thread::JoinHandle<String>,
    /// What it said on standard error so far.
    pub(crate) said: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Run {
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Something in its output or its messages.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text) || self.err.contains(text), "`{text}` is missing in {self}");
        self
    }

    #[track_caller]
    pub(crate) fn says_not(self, text: &str) -> Self {
        assert!(!self.out.contains(text) && !self.err.contains(text), "`{text}` is in {self}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self}"))
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ended with {:?}\n--- out\n{}\n--- err\n{}", self.command, self.code, self.out, self.err)
    }
}

fn gather(
    mut from: impl std::io::Read + Send + 'static,
    said: Option<std::sync::Arc<std::sync::Mutex<String>>>,
) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = from.read(&mut some) {
            all.extend(&some[..count]);
            if let Some(said) = &said {
                said.lock().expect("the text").push_str(&String::from_utf8_lossy(&some[..count]));
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    })
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = std::sync::Arc::default();
        let out = gather(child.stdout.take().expect("a pipe"), None);
        let err = gather(child.stderr.take().expect("a pipe"), Some(std::sync::Arc::clone(&said)));
        Self { child, command: name, out, err, said }
    }

    pub(crate) fn signal(&self, what: Signal) {
        signal(i32::try_from(self.child.id()).expect("a pid"), what);
    }

    pub(crate) fn has_said(&self, text: &str) -> bool {
        self.said.lock().expect("the text").contains(text)
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    #[track_caller]
    pub(crate) fn end(mut self) -> Run {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                break status;
            }
            if began.elapsed() > COMMAND {
                let _ = self.child.kill();
                let said = self.said.lock().expect("the text").clone();
                panic!("`{}` did not end within {} s; it said\n{said}", self.command, COMMAND.as_secs());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let [out, err] = [self.out, self.err].map(|thread| thread.join().expect("its output"));
        Run { command: self.command, code: status.code(), out, err }
    }
}

/// The two mirrors of the quickstart, with ports of their own.
pub(crate) const MIRRORS: [&str; 2] = ["docker.io", "ghcr.io"];

impl Project {
    /// An embedded engine with a registry and the given mirrors; further lines of `spec` follow. Its ports are fixed, and of no
    /// other test.
    pub(crate) fn new(mirrors: &[&str], more: &str) -> Self {
        let project = Self::empty(free_port());
        project.declare(mirrors, more);
        project
    }

    /// The quickstart's declarations, not yet applied.
    pub(crate) fn quickstart() -> Self {
        Self::new(&MIRRORS, "")
    }

    /// The quickstart's declarations, applied.
    pub(crate) fn applied() -> Self {
        let project = Self::quickstart();
        project.apply_first();
        project
    }

    /// A folder with nothing in it.
    pub(crate) fn empty(registry_port: u16) -> Self {
        let [folder, home] = ["ksail-e2e-", "ksail-home-"]
            .map(|prefix| tempfile::Builder::new().prefix(prefix).tempdir().expect("a folder"));
        Self { folder, home, env: Vec::new(), registry_port }
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.retain(|(have, _)| have != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn unset_env(&mut self, name: &str) {
        self.env.retain(|(have, _)| have != name);
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The identity that opens the vault, as `KSAIL_AGE_KEY` takes it.
    pub(crate) fn identity(&self) -> String {
        fs::read_to_string(self.home().join("config/ksail/age.key")).expect("the identity")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a file of the project");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Writes the file: a mirror is `host` or `host=upstream`.
    pub(crate) fn declare(&self, mirrors: &[&str], more: &str) {
        let mut text = format!(
            "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\nspec:\n  cluster:\n    provider: Embedded\n    \
             distribution: None\n    localRegistry:\n      registry: localhost:{}\n",
            self.registry_port
        );
        if !mirrors.is_empty() {
            text.push_str("  mirrors:\n");
        }
        for mirror in mirrors {
            let (host, upstream) = mirror.split_once('=').unwrap_or((mirror, ""));
            let _ = writeln!(text, "    - host: {host}\n      port: {}", self.mirror_port(host));
            if !upstream.is_empty() {
                let _ = writeln!(text, "      upstream: {upstream}");
            }
        }
        text.push_str(more);
        self.write("ksail.yaml", &text);
    }

    /// The port of a mirror: the same one each time.
    pub(crate) fn mirror_port(&self, host: &str) -> u16 {
        let path = self.home().join(format!("port-of-{host}"));
        if let Some(port) = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok()) {
            return port;
        }
        let port = free_port();
        fs::write(path, port.to_string()).expect("a note of the port");
        port
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(self.path()).args(arguments);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("KSAIL")
                || name.starts_with("DOCKER")
                || name == "KUBECONFIG"
                || name.ends_with("_PROXY")
                || name.ends_with("_proxy")
            {
                command.env_remove(name.as_ref());
            }
        }
        command.env("HOME", self.home()).env("XDG_CONFIG_HOME", self.home().join("config")).env("COLUMNS", "300");
        command.env_remove("DOCKER_CONFIG").envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments))
    }

    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.start(arguments).end()
    }

    /// An apply that chooses a port for the engine.
    #[track_caller]
    pub(crate) fn apply_first(&self) -> Run {
        let _ports = ChosenPorts::lock();
        self.apply()
    }

    #[track_caller]
    pub(crate) fn apply(&self) -> Run {
        self.run(&["apply", "--auto-approve"]).code(0)
    }

    /// Nothing is left to do.
    #[track_caller]
    pub(crate) fn is_settled(&self) {
        self.run(&["plan", "--detailed-exitcode"]).code(0).says("No changes");
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path().join(".ksail/dev")
    }

    pub(crate) fn engine_folder(&self) -> PathBuf {
        self.state().join("engine")
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::at(&self.engine_folder().join("docker.sock"))
    }

    pub(crate) fn engine_pids(&self) -> Vec<i32> {
        engine_pids(self.path())
    }

    /// The one engine's pid.
    #[track_caller]
    pub(crate) fn engine_pid(&self) -> i32 {
        let pids = self.engine_pids();
        assert_eq!(pids.len(), 1, "engines: {pids:?}");
        pids[0]
    }

    pub(crate) fn kill_engine(&self) {
        for pid in self.engine_pids() {
            signal(pid, Signal::KILL);
        }
        super::wait_until("the end of the engine", || self.engine_pids().is_empty());
    }

    /// The operations, newest first.
    #[track_caller]
    pub(crate) fn history(&self) -> Vec<Value> {
        let run = self.run(&["state", "history", "--format", "json"]).code(0);
        run.json().as_array().cloned().expect("a list")
    }

    /// The lineage of the state.
    #[track_caller]
    pub(crate) fn lineage(&self) -> String {
        let run = self.run(&["state", "pull"]).code(0);
        run.json()["lineage"].as_str().expect("a lineage").to_owned()
    }

    /// What a plan would do: address and actions as in Terraform's JSON, without what stays.
    #[track_caller]
    pub(crate) fn changes(&self, arguments: &[&str]) -> Vec<String> {
        let mut all = vec!["plan", "--format", "json"];
        all.extend(arguments);
        let plan = self.run(&all).json();
        changes_of(&plan)
    }
}

/// `address: action,action` of all that changes in a plan's JSON.
pub(crate) fn changes_of(plan: &Value) -> Vec<String> {
    plan["resource_changes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|change| {
            let actions: Vec<&str> =
                change["change"]["actions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let address = change["address"].as_str().unwrap_or_default();
            format!("{address}: {}", actions.join(","))
        })
        .filter(|line| !line.ends_with(": no-op"))
        .collect()
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("KSAIL_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.path().display());
            self.folder.disable_cleanup(true);
            return;
        }
        // The engine ends by itself when its folder is gone; nobody shall wait for that.
        for pid in self.engine_pids() {
            signal(pid, Signal::KILL);
        }
    }
}
