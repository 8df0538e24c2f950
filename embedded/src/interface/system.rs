//! What the engine says of itself.

use axum::body::Body;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::query::read_json;
use super::reply::{ApiError, Reply, ok, typed};
use super::{API_VERSION, MIN_API_VERSION};
use crate::engine::Engine;
use crate::world::{architecture, now};
use ksail_registry_client::{Credentials, UpstreamError};

/// The operating system that the engine states.
const OPERATING_SYSTEM: &str = "ksail embedded engine (simulated)";

pub(super) fn ping() -> Reply {
    typed(StatusCode::OK, "text/plain; charset=utf-8", "OK")
}

fn text((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase", default)]
struct Login {
    username: String,
    password: String,
    serveraddress: String,
}

impl Engine {
    pub(super) fn api_version(&self) -> Reply {
        let version = self.version();
        ok(&json!({
            "Platform": {"Name": OPERATING_SYSTEM},
            "Components": [{"Name": "Engine", "Version": version, "Details": {
                "ApiVersion": text(API_VERSION), "MinAPIVersion": text(MIN_API_VERSION), "Arch": architecture(),
                "Os": "linux", "Experimental": "false", "GitCommit": "", "GoVersion": "", "KernelVersion": "", "BuildTime": "",
            }}],
            "Version": version, "ApiVersion": text(API_VERSION), "MinAPIVersion": text(MIN_API_VERSION),
            "GitCommit": "", "GoVersion": "", "Os": "linux", "Arch": architecture(), "KernelVersion": "", "BuildTime": "",
        }))
    }

    pub(super) async fn info(&self) -> Reply {
        let world = self.world.lock().await;
        let running = world.running.len();
        let mut info = json!({
            "ID": self.folder.id.to_string(), "Name": "ksail-embedded", "ServerVersion": self.version(),
            "Containers": world.containers.len(), "ContainersRunning": running, "ContainersPaused": 0,
            "ContainersStopped": world.containers.len() - running, "Images": world.images.len(),
            "Driver": "ksail-embedded", "DriverStatus": [["Simulated", "true"]],
            "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file"]},
            "SystemTime": now(), "LoggingDriver": "json-file", "OperatingSystem": OPERATING_SYSTEM, "OSType": "linux",
            "Architecture": std::env::consts::ARCH, "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {"InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"], "IndexConfigs": {}, "Mirrors": []},
            "NCPU": std::thread::available_parallelism().map_or(1, usize::from), "MemTotal": 0,
            "DockerRootDir": self.folder.path.display().to_string(), "Labels": ["dev.ksail.embedded=true"],
            "Runtimes": {"ksail-embedded": {"path": "ksail"}}, "DefaultRuntime": "ksail-embedded",
            "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false},
            "SecurityOptions": [], "CgroupDriver": "none", "CgroupVersion": "2",
            "Warnings": ["this engine is a simulation: it runs registries only"],
        });
        for flag in [
            "MemoryLimit",
            "SwapLimit",
            "CpuCfsPeriod",
            "CpuCfsQuota",
            "CPUShares",
            "CPUSet",
            "PidsLimit",
            "Debug",
            "OomKillDisable",
            "ExperimentalBuild",
            "LiveRestoreEnabled",
        ] {
            info[flag] = false.into();
        }
        for text in ["KernelVersion", "OSVersion", "HttpProxy", "HttpsProxy", "NoProxy", "InitBinary", "Isolation"] {
            info[text] = "".into();
        }
        ok(&info)
    }

    /// `docker login`: whether a registry accepts a user and password.
    pub(super) async fn check_login(&self, body: Body) -> Reply {
        let login: Login = read_json(body).await?;
        let host = login.serveraddress.trim_start_matches("https://").trim_start_matches("http://");
        let host = host.split('/').next().filter(|host| !host.is_empty()).unwrap_or("registry-1.docker.io");
        let host = if host == "index.docker.io" { "registry-1.docker.io" } else { host };
        let credentials = Credentials::Password { username: login.username, password: login.password };
        let upstream = super::pulls::reach(host, Some(credentials)).await?;
        match upstream.get(reqwest::Method::GET, "", "").await {
            Ok(_) => ok(&json!({"Status": "Login Succeeded", "IdentityToken": ""})),
            Err(UpstreamError::Denied { .. }) => {
                Err(ApiError::new(StatusCode::UNAUTHORIZED, format!("login attempt to {host} failed: unauthorized")))
            }
            Err(error) => Err(ApiError::server(error.to_string())),
        }
    }
}
