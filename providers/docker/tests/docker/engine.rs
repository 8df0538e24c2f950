//! The engines, a real one and the embedded one, and what the tests ask of them past the provider.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use bollard::query_parameters::{
    ListContainersOptions, ListImagesOptions, ListVolumesOptions, RemoveContainerOptions, RemoveImageOptions,
    RemoveVolumeOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use ksail_kinds::{NetworkSpec, RegistrySpec, Spec, VolumeSpec};
use ksail_model::{Address, Identity, Mark, Observation, Ownership, Path, Seen, Value};
use ksail_provider::{
    CallContext, CallError, CreateRequest, DeleteRequest, Deleted, Provider, SecretText, Target, UpdateRequest,
    WaitRequest,
};
use ksail_provider_docker::{DockerProvider, Endpoint};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The image of registries that the test-bed makes.
const REAL_REGISTRY: &str = "docker.io/library/registry:2.8.3";
/// How often it is looked whether the embedded engine answers, and the pause in between.
const START_LOOKS: u32 = 1000;
const START_PAUSE: Duration = Duration::from_millis(10);
/// How often images are listed where the engine fails meanwhile.
const LIST_LOOKS: u32 = 100;
/// Ports of tests lie from here on, below those that systems give to outgoing connections.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;
/// How long an ordinary call may take.
pub(crate) const CALL: Duration = Duration::from_secs(60);

/// One test at a time on each real engine: lists of everything are shared by all.
static DOCKERS_TURN: Mutex<()> = Mutex::const_new(());
static PODMANS_TURN: Mutex<()> = Mutex::const_new(());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Which engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// A dockerd.
    Docker,
    /// A `podman system service`.
    Podman,
    /// The embedded engine, in this process.
    Embedded,
}

/// Makes a test of each function that takes an [`Engine`] for every engine: on the real ones, where they are there, and on the
/// embedded one.
macro_rules! on_every_engine {
    ($($name:ident),+ $(,)?) => {
        mod on_docker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(engine) = $crate::engine::Engine::docker().await {
                    super::$name(engine).await;
                }
            })+
        }

        mod on_podman {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(engine) = $crate::engine::Engine::podman().await {
                    super::$name(engine).await;
                }
            })+
        }

        mod on_the_embedded_engine {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::engine::Engine::embedded().await).await;
            })+
        }
    };
}
pub(crate) use on_every_engine;

/// Keeps an embedded engine running.
struct Served {
    _cancel: DropGuard,
    _folder: tempfile::TempDir,
}

/// A lineage of its own on an engine; what it made is removed by [`Engine::clean`].
pub(crate) struct Engine {
    pub(crate) docker: Docker,
    pub(crate) provider: Arc<DockerProvider>,
    pub(crate) lineage: String,
    pub(crate) socket: PathBuf,
    pub(crate) which: Which,
    /// The image of registries there.
    pub(crate) registry_image: &'static str,
    _turn: Option<MutexGuard<'static, ()>>,
    _served: Option<Served>,
}

/// The socket of a real engine, which a variable names.
///
/// # Panics
/// Where there is none, and every test is required to run.
fn socket(variable: &str, script: &str) -> Option<PathBuf> {
    let host = std::env::var(variable).ok();
    let socket = host.and_then(|host| host.strip_prefix("unix://").map(PathBuf::from));
    if socket.is_none() {
        let how = format!("run testbed/{script} up, and eval what its env prints");
        ksail_test_real::did_not_run(&format!("{variable} names no engine: {how}"));
    }
    socket
}

impl Engine {
    /// Docker, when it is this test's turn; `None` says why it did not run.
    pub(crate) async fn docker() -> Option<Self> {
        let socket = socket("KSAIL_TEST_DOCKER_HOST", "docker.sh")?;
        Some(Self::real(socket, Which::Docker, &DOCKERS_TURN).await)
    }

    /// Podman, when it is this test's turn; `None` says why it did not run.
    pub(crate) async fn podman() -> Option<Self> {
        let socket = socket("KSAIL_TEST_PODMAN_HOST", "podman.sh")?;
        Some(Self::real(socket, Which::Podman, &PODMANS_TURN).await)
    }

    async fn real(socket: PathBuf, which: Which, turn: &'static Mutex<()>) -> Self {
        let turn = turn.lock().await;
        let mut engine = Self::at(socket, which);
        engine._turn = Some(turn);
        engine.remove(|name| name.starts_with("ksail-test-"), "test").await;
        engine
    }

    /// An embedded engine of this test's own.
    pub(crate) async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let options = ksail_embedded::EngineOptions {
            folder: folder.path().to_owned(),
            nonce: "nonce".to_owned(),
            port: free_port(),
            version: "0.0.0".to_owned(),
        };
        let run = tokio::spawn(ksail_embedded::run(options, cancel.clone()));
        for _ in 0..START_LOOKS {
            assert!(!run.is_finished(), "the embedded engine ended: {:?}", run.await);
            let socket = std::fs::read_to_string(folder.path().join("socket")).unwrap_or_default();
            if tokio::net::UnixStream::connect(&socket).await.is_ok() {
                let mut engine = Self::at(socket.into(), Which::Embedded);
                engine._served = Some(Served { _cancel: cancel.drop_guard(), _folder: folder });
                return engine;
            }
            tokio::time::sleep(START_PAUSE).await;
        }
        panic!("the embedded engine does not answer");
    }

    fn at(socket: PathBuf, which: Which) -> Self {
        // As long for every number, so that no lineage is the beginning of another.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let docker = Docker::connect_with_unix(&socket.to_string_lossy(), 60, API_DEFAULT_VERSION).unwrap();
        let provider = Arc::new(DockerProvider::new(Endpoint::socket(&socket)));
        let lineage = format!("test-{}-{number:05}", std::process::id());
        let registry_image = match which {
            Which::Docker | Which::Podman => REAL_REGISTRY,
            Which::Embedded => ksail_embedded::BUILTIN_IMAGE,
        };
        Self { docker, provider, lineage, socket, which, registry_image, _turn: None, _served: None }
    }

    /// A further lineage on the same engine, in the turn of this one.
    pub(crate) fn sibling(&self) -> Self {
        Self::at(self.socket.clone(), self.which)
    }

    /// A name that nothing else uses.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("ksail-{}-{what}", self.lineage)
    }

    pub(crate) fn context(&self) -> CallContext {
        self.context_of(CALL)
    }

    pub(crate) fn context_of(&self, timeout: Duration) -> CallContext {
        CallContext {
            lineage: self.lineage.clone(),
            operation: Some("op-1".to_owned()),
            timeout,
            cancel: CancellationToken::new(),
        }
    }

    pub(crate) fn mark(&self, target: &Target) -> Mark {
        Mark {
            lineage: self.lineage.clone(),
            address: target.address.clone(),
            operation: "op-1".to_owned(),
            generation: 1,
        }
    }

    pub(crate) fn request(&self, target: &Target, secrets: &[(&str, &str)]) -> CreateRequest {
        CreateRequest { target: target.clone(), mark: self.mark(target), secrets: texts(secrets) }
    }

    pub(crate) async fn try_create(&self, target: &Target) -> Result<Seen, CallError> {
        let request = self.request(target, &[]);
        self.provider.create(&self.context(), &request).await.map(|applied| applied.seen)
    }

    /// Makes it and checks that what was returned is what is observed.
    pub(crate) async fn create(&self, target: &Target) -> Seen {
        self.create_with(target, &[]).await
    }

    pub(crate) async fn create_with(&self, target: &Target, secrets: &[(&str, &str)]) -> Seen {
        let request = self.request(target, secrets);
        let made = self.provider.create(&self.context(), &request).await.unwrap().seen;
        let seen = self.see(target).await;
        assert_eq!(made.fields, seen.fields);
        assert_eq!(made.id, seen.id);
        assert_eq!(seen.mark, Some(request.mark));
        made
    }

    pub(crate) async fn observe(&self, target: &Target) -> Observation {
        let reply = self.provider.observe(&self.context(), std::slice::from_ref(target)).await.unwrap();
        reply.observations.into_iter().next().unwrap()
    }

    pub(crate) async fn see(&self, target: &Target) -> Seen {
        self.observe(target).await.seen().unwrap_or_else(|| panic!("{} is not there", target.address)).clone()
    }

    pub(crate) async fn update(&self, target: &Target, current: &Seen, changed: &str) -> Result<Seen, CallError> {
        let request = UpdateRequest {
            target: Target { id: current.id.clone(), ..target.clone() },
            mark: self.mark(target),
            current: current.fields.clone(),
            changed: vec![Path::parse(changed).unwrap()],
            secrets: BTreeMap::new(),
        };
        self.provider.update(&self.context(), &request).await.map(|applied| applied.seen)
    }

    pub(crate) fn deletion(&self, target: &Target, seen: Option<&Seen>) -> DeleteRequest {
        DeleteRequest {
            target: Target { id: seen.and_then(|seen| seen.id.clone()), ..target.clone() },
            mark: self.mark(target),
            adopted: false,
            attributes: Value::empty_map(),
        }
    }

    pub(crate) async fn delete(&self, target: &Target) -> Result<Deleted, CallError> {
        self.provider.delete(&self.context(), &self.deletion(target, None)).await
    }

    pub(crate) async fn wait(&self, target: &Target, timeout: Duration) -> Seen {
        let request = WaitRequest { target: target.clone() };
        self.provider.wait(&self.context_of(timeout), &request).await.unwrap().seen
    }

    /// Removes what this lineage made, and others with names that begin with it.
    pub(crate) async fn clean(&self) {
        let prefix = self.name("");
        self.remove(|name| name.starts_with(&prefix), &self.lineage).await;
    }

    /// Removes things by their names, and images by names or by the beginning of their owner's lineage.
    async fn remove(&self, ours: impl Fn(&str) -> bool, lineage: &str) {
        let containers = self.all_containers().await.into_iter().filter(|(_, name)| ours(name));
        let removed = containers.map(|(id, _)| async move {
            let options = RemoveContainerOptions { v: true, force: true, link: false };
            let _ = self.docker.remove_container(&id, Some(options)).await;
        });
        futures::future::join_all(removed).await;
        for network in self.docker.list_networks(None).await.unwrap() {
            if network.name.iter().any(|name| ours(name)) {
                let _ = self.docker.remove_network(&network.id.unwrap_or_default()).await;
            }
        }
        let volumes = self.docker.list_volumes(None::<ListVolumesOptions>).await.unwrap().volumes;
        for volume in volumes.unwrap_or_default().iter().filter(|volume| ours(&volume.name)) {
            let _ = self.docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await;
        }
        let owner = format!("ksail.io/owner/x{}", lineage.replace('-', "_2d"));
        for tag in self.images().await {
            if tag.rsplit('/').next().is_some_and(&ours) || tag.starts_with(&owner) {
                let _ = self.docker.remove_image(&tag, None::<RemoveImageOptions>, None).await;
            }
        }
    }

    /// A reference for an image that nothing else uses.
    pub(crate) fn image_name(&self, what: &str) -> String {
        format!("reg.example/{}:1", self.name(what))
    }

    /// Pauses a container. `false` says that this engine cannot: one without root has no cgroups of version 1 to do it with.
    pub(crate) async fn pause(&self, name: &str) -> bool {
        match self.docker.pause_container(name).await {
            Ok(()) => true,
            Err(error) if error.to_string().contains("cgroups not configured") => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Names of all containers.
    pub(crate) async fn containers(&self) -> Vec<String> {
        self.all_containers().await.into_iter().map(|(_, name)| name).collect()
    }

    /// The id and the name of every container. They are taken from the answer itself where the client library cannot read it, for
    /// Podman has states that it does not know.
    async fn all_containers(&self) -> Vec<(String, String)> {
        let all = ListContainersOptions { all: true, ..Default::default() };
        let containers = match self.docker.list_containers(Some(all)).await {
            Ok(containers) => serde_json::to_value(containers).unwrap(),
            Err(bollard::errors::Error::JsonDataError { contents, .. }) => serde_json::from_str(&contents).unwrap(),
            Err(error) => panic!("{error}"),
        };
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().trim_start_matches('/').to_owned();
        containers.as_array().unwrap().iter().map(|one| (text(&one["Id"]), text(&one["Names"][0]))).collect()
    }

    /// Names of all images. Podman fails where one goes meanwhile.
    pub(crate) async fn images(&self) -> Vec<String> {
        let mut looks = 0;
        loop {
            match self.docker.list_images(None::<ListImagesOptions>).await {
                Ok(images) => return images.into_iter().flat_map(|image| image.repo_tags).collect(),
                Err(error) => assert!(looks < LIST_LOOKS, "{error}"),
            }
            looks += 1;
            tokio::time::sleep(START_PAUSE).await;
        }
    }

    /// Names of all networks, each as often as it is there.
    pub(crate) async fn networks(&self) -> Vec<String> {
        self.docker.list_networks(None).await.unwrap().into_iter().filter_map(|network| network.name).collect()
    }

    /// Names of all volumes.
    pub(crate) async fn volumes(&self) -> Vec<String> {
        let reply = self.docker.list_volumes(None::<ListVolumesOptions>).await.unwrap();
        reply.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect()
    }

    /// A network, a volume and a registry on them, made by the provider.
    pub(crate) async fn registry(&self, cluster: &str) -> Target {
        let network = self.target(cluster, "network", &network_spec());
        let volume = self.target(cluster, "volume", &volume_spec());
        self.create(&network).await;
        self.create(&volume).await;
        let spec = RegistrySpec {
            image: self.registry_image.to_owned(),
            network: network.identity.name,
            volume: volume.identity.name,
            address: "127.0.0.1".to_owned(),
            port: free_port(),
            running: true,
        };
        let registry = self.target(cluster, "registry", &spec);
        self.create(&registry).await;
        registry
    }

    /// A target of a kind, with a name of its own.
    pub(crate) fn target(&self, cluster: &str, kind: &str, spec: &impl Spec) -> Target {
        self.target_of(cluster, kind, spec.to_value())
    }

    pub(crate) fn target_of(&self, cluster: &str, kind: &str, spec: Value) -> Target {
        target(cluster, kind, self.name(&format!("{cluster}-{kind}")), spec)
    }
}

pub(crate) fn target(cluster: &str, kind: &str, name: String, spec: Value) -> Target {
    Target {
        address: Address::new(cluster, kind, &["main"]),
        kind_version: 1,
        identity: Identity::named(name),
        id: None,
        spec: Some(spec),
        ownership: if kind == "image" { Ownership::Shared } else { Ownership::Owned },
    }
}

pub(crate) fn network_spec() -> NetworkSpec {
    NetworkSpec::bridge()
}

pub(crate) fn volume_spec() -> VolumeSpec {
    VolumeSpec { driver: "local".to_owned() }
}

pub(crate) fn texts(secrets: &[(&str, &str)]) -> BTreeMap<Path, SecretText> {
    secrets.iter().map(|(path, text)| (Path::parse(path).unwrap(), SecretText::new((*text).to_owned()))).collect()
}

/// A port that nobody had a moment ago, and that is given once.
pub(crate) fn free_port() -> u16 {
    static NEXT_PORT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap();
    let next = || FIRST_PORT + (first + NEXT_PORT.fetch_add(1, Ordering::Relaxed)) % PORTS;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next).take(PORTS.into()).find(is_free).expect("there is a free port")
}

/// The labels of a mark, written here a second time, so that a change of them is noticed.
pub(crate) fn mark_labels(kind: &str, mark: &Mark) -> HashMap<String, String> {
    HashMap::from([
        ("dev.ksail.lineage".to_owned(), mark.lineage.clone()),
        ("dev.ksail.address".to_owned(), mark.address.to_string()),
        ("dev.ksail.operation".to_owned(), mark.operation.clone()),
        ("dev.ksail.generation".to_owned(), mark.generation.to_string()),
        ("dev.ksail.kind".to_owned(), kind.to_owned()),
    ])
}
