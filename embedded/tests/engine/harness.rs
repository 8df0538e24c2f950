//! An engine in this process, and registries on it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use ksail_embedded::{BUILTIN_IMAGE, EngineError, EngineOptions};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub(crate) struct Engine {
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    pub(crate) docker: Docker,
    pub(crate) cancel: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), EngineError>>,
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn options(folder: &Path, port: u16) -> EngineOptions {
    EngineOptions { folder: folder.to_owned(), nonce: "nonce".to_owned(), port, version: "1.2.3".to_owned() }
}

pub(crate) fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// Waits for a condition, within a bound that only a broken engine reaches.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    for _ in 0..1000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not come about: {what}");
}

pub(crate) fn connect(folder: &Path) -> Docker {
    let socket = std::fs::read_to_string(folder.join("socket")).unwrap();
    Docker::connect_with_unix(&socket, 30, bollard::API_DEFAULT_VERSION).unwrap()
}

pub(crate) async fn answers(port: u16) -> bool {
    http().get(format!("http://127.0.0.1:{port}/")).send().await.is_ok()
}

impl Engine {
    pub(crate) async fn start(folder: &Path) -> Self {
        let (port, cancel) = (free_port(), CancellationToken::new());
        let task = tokio::spawn(ksail_embedded::run(options(folder, port), cancel.clone()));
        eventually("the engine answers", || answers(port)).await;
        let docker = connect(folder).negotiate_version().await.unwrap();
        Self { folder: folder.to_owned(), port, docker, cancel, task }
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// A registry on a port, with a volume of its own.
    pub(crate) async fn registry(&self, name: &str, env: &[&str]) -> u16 {
        let port = free_port();
        self.create(name, port, env).await;
        self.docker.start_container(name, None).await.unwrap();
        self.healthy(name).await;
        port
    }

    pub(crate) async fn healthy(&self, name: &str) {
        eventually("the registry is healthy", || async {
            let seen = self.docker.inspect_container(name, None).await.unwrap();
            seen.state.unwrap().health.unwrap().status.unwrap().as_ref() == "healthy"
        })
        .await;
    }

    pub(crate) async fn create(&self, name: &str, port: u16, env: &[&str]) -> String {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        self.docker.create_container(Some(options), body(name, port, env)).await.unwrap().id
    }
}

pub(crate) fn body(name: &str, port: u16, env: &[&str]) -> ContainerCreateBody {
    let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(port.to_string()) };
    ContainerCreateBody {
        image: Some(BUILTIN_IMAGE.to_owned()),
        env: Some(env.iter().map(|text| (*text).to_owned()).collect()),
        labels: Some([("app".to_owned(), name.to_owned())].into()),
        healthcheck: Some(HealthConfig { test: Some(vec!["CMD".to_owned(), "x".to_owned()]), ..Default::default() }),
        host_config: Some(HostConfig {
            binds: Some(vec![format!("{name}-data:/var/lib/registry")]),
            port_bindings: Some([("5000/tcp".to_owned(), Some(vec![binding]))].into()),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A registry by its port, as a client uses it.
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        Self { http: http(), base: format!("http://127.0.0.1:{port}") }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) }
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }

    pub(crate) async fn push_blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let url = self.url(&format!("/v2/{name}/blobs/uploads/?digest={digest}"));
        let reply = self.http.post(url).body(bytes.to_vec()).send().await.unwrap();
        assert_eq!(reply.status(), 201);
        digest
    }

    pub(crate) async fn put_manifest(&self, name: &str, reference: &str, bytes: Vec<u8>) -> reqwest::Response {
        let url = self.url(&format!("/v2/{name}/manifests/{reference}"));
        self.http.put(url).header("Content-Type", OCI_MANIFEST).body(bytes).send().await.unwrap()
    }

    /// Pushes an image of one layer; answers its manifest's and its layer's digest.
    pub(crate) async fn push_image(&self, name: &str, tag: &str, layer: &[u8]) -> (String, String) {
        let layer_digest = self.push_blob(name, layer).await;
        let config = config();
        let config_digest = self.push_blob(name, &config).await;
        let manifest = manifest((&config_digest, config.len()), (&layer_digest, layer.len()), None);
        let reply = self.put_manifest(name, tag, manifest.clone()).await;
        assert_eq!(reply.status(), 201);
        (digest(&manifest), layer_digest)
    }
}

pub(crate) fn config() -> Vec<u8> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let json = json!({"created": "2026-01-01T00:00:00Z", "architecture": architecture, "os": "linux",
        "config": {"Labels": {"l": "v"}}, "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]}});
    json.to_string().into_bytes()
}

pub(crate) fn manifest(config: (&str, usize), layer: (&str, usize), subject: Option<&str>) -> Vec<u8> {
    let mut json = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0, "size": config.1},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer.0, "size": layer.1}],
    });
    if let Some(subject) = subject {
        json["artifactType"] = "application/x.test".into();
        json["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 1});
    }
    json.to_string().into_bytes()
}
