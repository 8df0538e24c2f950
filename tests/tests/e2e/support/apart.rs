//! A Docker Engine of a test's own, that has no image and no way out: it runs in a network of its own, in which there is nothing else.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::engine::Engine;
use super::project::Project;
use super::{binary, did_not_run, docker_socket, signal};

/// How long it may take to answer, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Apart {
    folder: TempDir,
    daemon: Child,
}

impl Apart {
    /// Starts one; says why there is none.
    pub(crate) fn start() -> Option<Self> {
        let works = |program: &str, arguments: &[&str]| {
            let run = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
            run.is_ok_and(|status| status.success())
        };
        if !works("unshare", &["--net", "ip", "link", "set", "lo", "up"]) || !works("dockerd", &["--version"]) {
            did_not_run("an engine of its own needs root, unshare, ip and dockerd");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("ksail-engine-").tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut daemon = Command::new("unshare");
        daemon.args(["--net", "sh", "-c", "ip link set lo up; exec dockerd \"$@\"", "sh"]);
        // As the test bed's engine is set up.
        let settings = docker_socket()?.with_file_name("daemon.json");
        if settings.is_file() {
            daemon.arg("--config-file").arg(settings);
        }
        let host = format!("unix://{}", at("docker.sock"));
        for (flag, value) in [
            ("--data-root", at("data")),
            ("--exec-root", at("exec")),
            ("--pidfile", at("docker.pid")),
            ("--host", host),
            ("--default-address-pool", "base=10.213.0.0/16,size=24".to_owned()),
        ] {
            daemon.args([flag, &value]);
        }
        let log = std::fs::File::create(at("log")).expect("a log");
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let apart = Self { daemon: daemon.spawn().expect("unshare runs"), folder };
        let began = Instant::now();
        while !apart.socket().exists() || Engine::at(&apart.socket()).call("GET", "/info", &Value::Null).0 != 200 {
            let log = || std::fs::read_to_string(apart.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "the engine does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(apart)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Runs a command of a project in the engine's network, where its ports are.
    pub(crate) fn run(&self, project: &Project, arguments: &[&str]) -> Output {
        let inner = project.command(arguments);
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.daemon.id())).arg("--").arg(binary()).args(arguments);
        command.current_dir(project.path());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.output().expect("nsenter runs")
    }

    /// The names of its images, but those by which owners hold them.
    pub(crate) fn images(&self) -> Vec<String> {
        let (_, images) = Engine::at(&self.socket()).call("GET", "/images/json", &Value::Null);
        let tags = images.as_array().into_iter().flatten().flat_map(|image| image["RepoTags"].as_array().cloned());
        let names = tags.flatten().filter_map(|tag| tag.as_str().map(str::to_owned));
        let mut names: Vec<String> = names.filter(|name| !name.starts_with("ksail.io/")).collect();
        names.sort();
        names
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let engine = Engine::at(&self.socket());
        let (_, containers) = engine.call("GET", "/containers/json?all=1", &Value::Null);
        for id in containers.as_array().into_iter().flatten().filter_map(|one| one["Id"].as_str()) {
            engine.call("DELETE", &format!("/containers/{id}?force=1&v=1"), &Value::Null);
        }
        signal(i32::try_from(self.daemon.id()).expect("a pid"), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < PATIENCE && !self.daemon.try_wait().is_ok_and(|status| status.is_some()) {
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.daemon.kill();
    }
}
