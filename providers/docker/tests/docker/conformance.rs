//! The contract's suite, the same on the real engine and on the embedded one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{ContainerCreateBody, HostConfig, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions, UploadToContainerOptions};
use ksail_conformance::suite::{Breakage, Case, Change, Gap, Limits, Outside, Setup, Subject, Way, run_way};
use ksail_kinds::{
    ContainerSpec, ContainerdPatches, ImageSource, LoadBalancerSpec, MachineRole, MachineSpec, MirrorSpec, NetworkSpec,
    RegistrySpec, Restart, Spec as _,
};
use ksail_model::{Fingerprint, Identity, Mark, Path, Preview, Secret, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, ObserveReply, Owned, PortInUse,
    PreviewRequest, Provider, Target, UpdateRequest, WaitRequest,
};
use ksail_provider_docker::{DockerProvider, Endpoint};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Which, free_port, mark_labels, network_spec, on_every_engine, texts, volume_spec};
use crate::images::{archive, image, import};

const PASSWORD: &str = "hush-hush-hush";
const OTHER_PASSWORD: &str = "whisper-whisper";
const PROXY: &str = "http://me:hush-hush-hush@proxy:3128";
/// How long a fake engine keeps silent.
const SILENCE: Duration = Duration::from_secs(600);

/// How many of kind and way are checked at the same time. Most of a check is waiting.
const AT_ONCE: usize = 9;
/// The seed of the injected faults.
const SEED: u64 = 0x006b_7361_696c;
static PERMITS: Semaphore = Semaphore::const_new(AT_ONCE);
/// The same of Podman, where every start and stop of a container takes several programs and as many times the processor.
const AT_ONCE_ON_PODMAN: usize = 4;
static PODMANS_PERMITS: Semaphore = Semaphore::const_new(AT_ONCE_ON_PODMAN);
const KINDS: [&str; 6] = ["mirror", "registry", "container", "image", "network", "volume"];

/// What runs a program of its own, which the embedded engine does not: of HAProxy, in the image of the test bed.
const BALANCER: &str = "load-balancer";

/// What runs a node image, on Docker only: a machine without limits of its own does not start on every Podman.
const MACHINE: &str = "machine";
/// What a machine keeps is on a volume that all checks share: an engine copies the image's own `/var`, which is large, onto an empty one,
/// and no check looks at what is kept. With this file it is not empty.
const KEPT: &str = "keep";

fn node_image() -> Option<String> {
    let how = "testbed/node-image.sh up; testbed/node-image.sh env";
    ksail_test_real::variable("KSAIL_TEST_NODE_IMAGE", how).map(|image| format!("docker.io/{image}"))
}

fn balancer_image() -> Option<String> {
    let how = "testbed/node-image.sh up; testbed/node-image.sh env";
    ksail_test_real::variable("KSAIL_TEST_BALANCER_IMAGE", how).map(|image| format!("docker.io/{image}"))
}

/// One kind on an engine, with a network and an upstream registry for those that need them.
struct OneKind {
    engine: Engine,
    kind: &'static str,
    folder: Arc<tempfile::TempDir>,
    network: String,
    upstream: String,
}

/// Where one check works: what it makes carries the names of this engine's lineage.
struct Place {
    engine: Engine,
    folder: Arc<tempfile::TempDir>,
    upstream: String,
}

/// Makes a volume that is not empty: a container that is never started takes a file in.
async fn fill_volume(engine: &Engine, volume: &str) {
    let body = ContainerCreateBody {
        image: Some(engine.registry_image.to_owned()),
        host_config: Some(HostConfig { binds: Some(vec![format!("{volume}:/var")]), ..Default::default() }),
        ..Default::default()
    };
    let options = CreateContainerOptions { name: Some(engine.name("filler")), ..Default::default() };
    let filler = engine.docker.create_container(Some(options), body).await.unwrap().id;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    tar.append_data(&mut header, "keep", std::io::empty()).unwrap();
    let options = UploadToContainerOptions { path: "/var".to_owned(), ..Default::default() };
    let packed = bollard::body_full(tar.into_inner().unwrap().into());
    engine.docker.upload_to_container(&filler, Some(options), packed).await.unwrap();
    let options = RemoveContainerOptions { force: true, ..Default::default() };
    engine.docker.remove_container(&filler, Some(options)).await.unwrap();
}

fn secret(fingerprint: &str) -> Value {
    let mut secret = Secret::env("TOKEN");
    secret.fingerprint = Some(Fingerprint(fingerprint.to_owned()));
    Value::Secret(secret)
}

fn change(spec: Value, secrets: &[(&str, &str)], changed: &str) -> Option<Change> {
    Some(Change { spec, secrets: texts(secrets), changed: vec![Path::parse(changed).unwrap()] })
}

impl OneKind {
    async fn new(engine: Engine, kind: &'static str, folder: Arc<tempfile::TempDir>) -> Self {
        let network = engine.target("upstream", "network", &network_spec());
        let network = match kind {
            // The upstream's network is the kind's.
            "mirror" => {
                let upstream = engine.registry("upstream").await;
                engine.wait(&upstream, Duration::from_secs(60)).await;
                network.identity.name
            }
            "registry" | "container" | BALANCER | MACHINE => {
                engine.create(&network).await;
                network.identity.name
            }
            _ => String::new(),
        };
        if kind == MACHINE {
            fill_volume(&engine, &engine.name(KEPT)).await;
        }
        let upstream = engine.name("upstream-registry");
        Self { engine, kind, folder, network, upstream }
    }

    fn registry(&self, engine: &Engine) -> RegistrySpec {
        RegistrySpec {
            image: engine.registry_image.to_owned(),
            network: self.network.clone(),
            volume: engine.name("blobs"),
            address: "127.0.0.1".to_owned(),
            port: free_port(),
            running: true,
        }
    }

    fn case(&self, engine: &Engine, kind: &str, spec: Value) -> Case {
        let target = engine.target_of("c", kind, spec);
        let absent = Target { identity: Identity::named(engine.name("absent")), ..target.clone() };
        Case::new(target, absent)
    }

    fn registry_case(&self, engine: &Engine) -> Case {
        let spec = self.registry(engine);
        let mut case = self.case(engine, "registry", spec.to_value());
        case.change = change(RegistrySpec { running: false, ..spec.clone() }.to_value(), &[], "running");
        case.replacement = change(RegistrySpec { port: free_port(), ..spec }.to_value(), &[], "port");
        case
    }

    fn mirror_case(&self, engine: &Engine) -> Case {
        let like = self.registry(engine);
        let spec = MirrorSpec {
            host: "docker.io".to_owned(),
            upstream: format!("http://{}:5000", self.upstream),
            username: Value::from("me"),
            password: secret("f1"),
            image: like.image,
            network: like.network,
            volume: like.volume,
            address: like.address,
            port: like.port,
            running: true,
        };
        let mut case = self.case(engine, "mirror", spec.to_value());
        case.secrets = texts(&[("password", PASSWORD)]);
        let stopped = MirrorSpec { running: false, ..spec.clone() };
        case.change = change(stopped.to_value(), &[("password", PASSWORD)], "running");
        let rotated = MirrorSpec { password: secret("f2"), ..spec };
        case.replacement = change(rotated.to_value(), &[("password", OTHER_PASSWORD)], "password");
        case
    }

    fn balancer_case(&self, engine: &Engine) -> Case {
        let spec = LoadBalancerSpec {
            image: balancer_image().unwrap_or_default(),
            cluster: engine.name("cluster"),
            network: self.network.clone(),
            address: "127.0.0.1".to_owned(),
            port: free_port(),
            ipv6: false,
            backends: [("one".to_owned(), "192.0.2.1:6443".to_owned())].into(),
            running: true,
        };
        let mut case = self.case(engine, BALANCER, spec.to_value());
        case.change = change(LoadBalancerSpec { running: false, ..spec.clone() }.to_value(), &[], "running");
        case.replacement = change(LoadBalancerSpec { port: free_port(), ..spec }.to_value(), &[], "port");
        case
    }

    fn machine_case(&self, engine: &Engine) -> Case {
        let spec = MachineSpec {
            cluster: engine.name("cluster"),
            role: MachineRole::Worker,
            image: node_image().unwrap_or_default(),
            network: self.network.clone(),
            address: None,
            ipv6: false,
            ipv6_address: None,
            aliases: Vec::new(),
            volume: self.engine.name(KEPT),
            port: None,
            api_address: None,
            ports: Vec::new(),
            mounts: Vec::new(),
            dns_search: None,
            containerd: ContainerdPatches::default(),
            registries: [("docker.io".to_owned(), "http://mirror:5000".to_owned())].into(),
            proxy: [("HTTP_PROXY".to_owned(), secret("f1"))].into(),
            certificates: MachineSpec::VALID.to_owned(),
            running: true,
        };
        let mut case = self.case(engine, MACHINE, spec.to_value());
        let secrets = [("proxy.HTTP_PROXY", PROXY)];
        case.secrets = texts(&secrets);
        case.change = change(MachineSpec { running: false, ..spec.clone() }.to_value(), &secrets, "running");
        case.replacement = change(MachineSpec { role: MachineRole::ControlPlane, ..spec }.to_value(), &secrets, "role");
        case
    }

    fn container_case(&self, engine: &Engine) -> Case {
        let spec = ContainerSpec {
            image: engine.registry_image.to_owned(),
            command: Vec::new(),
            env: [("PLAIN".to_owned(), Value::from("x")), ("TOKEN".to_owned(), secret("f1"))].into(),
            mounts: Vec::new(),
            ports: Vec::new(),
            networks: vec![self.network.clone()],
            restart: Restart::No,
            running: true,
            health: None,
        };
        let mut case = self.case(engine, "container", spec.to_value());
        let secrets = [("env.TOKEN", PASSWORD)];
        case.secrets = texts(&secrets);
        case.change = change(
            ContainerSpec { networks: Vec::new(), running: false, ..spec.clone() }.to_value(),
            &secrets,
            "running",
        );
        let command = vec!["--version".to_owned()];
        case.replacement = change(ContainerSpec { command, ..spec }.to_value(), &secrets, "command");
        case
    }

    fn image_case(&self, engine: &Engine) -> Case {
        let reference = engine.image_name("image");
        let file = format!("{}.tar", engine.lineage);
        let digest = archive(&reference, &self.folder.path().join(&file));
        let target = image("c", &reference, ImageSource::Archive { path: file, digest });
        let absent = image("c", &engine.image_name("absent"), ImageSource::Pull {});
        Case::new(target, absent)
    }
}

#[async_trait]
impl Subject for OneKind {
    fn name(&self) -> String {
        format!("docker, {:?} engine", self.engine.which)
    }

    fn kinds(&self) -> Vec<String> {
        vec![self.kind.to_owned()]
    }

    async fn fresh(&self, kind: &str) -> Result<Setup, Gap> {
        let engine = self.engine.sibling();
        let case = match kind {
            "network" => {
                let mut case = self.case(&engine, kind, network_spec().to_value());
                let internal = NetworkSpec { internal: true, ..network_spec() };
                case.replacement = change(internal.to_value(), &[], "internal");
                case
            }
            "volume" => self.case(&engine, kind, volume_spec().to_value()),
            "image" => self.image_case(&engine),
            "container" => self.container_case(&engine),
            "registry" => self.registry_case(&engine),
            BALANCER => self.balancer_case(&engine),
            MACHINE => self.machine_case(&engine),
            _ => self.mirror_case(&engine),
        };
        let inner = DockerProvider::new(Endpoint::socket(&engine.socket)).project(self.folder.path());
        let lineage = engine.lineage.clone();
        let provider = Apart { inner, lineage: lineage.clone() };
        let outside = Place { engine, folder: Arc::clone(&self.folder), upstream: self.upstream.clone() };
        Ok(Setup { provider: Arc::new(provider), lineage, case, outside: Box::new(outside) })
    }

    fn limits(&self) -> Limits {
        let rounds = if self.engine.which == Which::Podman || self.kind == MACHINE { 1 } else { 3 };
        Limits { rounds, settle: Duration::from_millis(500), ..Limits::default() }
    }
}

/// The provider, whose list is without what the checks beside make at the same time: they come and go meanwhile, and one that
/// compares lists would take them for its own.
struct Apart {
    inner: DockerProvider,
    lineage: String,
}

#[async_trait]
impl Provider for Apart {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        self.inner.observe(context, targets).await
    }

    async fn preview(&self, context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        self.inner.preview(context, requests).await
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        self.inner.create(context, request).await
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        self.inner.update(context, request).await
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        self.inner.delete(context, request).await
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        self.inner.wait(context, request).await
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        let beside = |lineage: &str| lineage.starts_with("test-") && !lineage.starts_with(&self.lineage);
        let mut owned = self.inner.list_owned(context).await?;
        owned.retain(|one| !one.seen.mark.as_ref().is_some_and(|mark| beside(&mark.lineage)));
        Ok(owned)
    }

    async fn ports_in_use(&self, context: &CallContext, ports: &[u16]) -> Result<Vec<PortInUse>, CallError> {
        self.inner.ports_in_use(context, ports).await
    }
}

impl Place {
    async fn make(&self, target: &Target, labels: HashMap<String, String>) -> Result<Option<String>, Gap> {
        let name = target.identity.name.clone();
        let labels = Some(labels);
        match target.address.kind() {
            "network" => {
                let body = NetworkCreateRequest { name, labels, ..Default::default() };
                Ok(Some(self.engine.docker.create_network(body).await.map_err(Gap::broken)?.id))
            }
            "volume" => {
                let body = VolumeCreateRequest { name: Some(name), labels, ..Default::default() };
                Ok(Some(self.engine.docker.create_volume(body).await.map_err(Gap::broken)?.name))
            }
            _ => {
                let body = ContainerCreateBody {
                    image: Some(self.engine.registry_image.to_owned()),
                    labels,
                    ..Default::default()
                };
                let options = CreateContainerOptions { name: Some(name), ..Default::default() };
                let made = self.engine.docker.create_container(Some(options), body).await;
                Ok(Some(made.map_err(Gap::broken)?.id))
            }
        }
    }
}

#[async_trait]
impl Outside for Place {
    async fn count(&self, target: &Target) -> Result<usize, Gap> {
        let names = match target.address.kind() {
            "network" => self.engine.networks().await,
            "volume" => self.engine.volumes().await,
            "image" => self.engine.images().await,
            _ => self.engine.containers().await,
        };
        Ok(names.iter().filter(|name| **name == target.identity.name).count())
    }

    async fn make_unmarked(&self, target: &Target) -> Result<Option<String>, Gap> {
        if target.address.kind() == "image" {
            import(&self.engine, &target.identity.name).await;
            return Ok(None);
        }
        self.make(target, HashMap::new()).await
    }

    async fn make_marked(&self, target: &Target, mark: &Mark) -> Result<(), Gap> {
        let kind = target.address.kind();
        if kind != "image" {
            return self.make(target, mark_labels(kind, mark)).await.map(drop);
        }
        // The mark of an image is the provider's own matter.
        let provider = DockerProvider::new(Endpoint::socket(&self.engine.socket)).project(self.folder.path());
        let context = CallContext {
            lineage: mark.lineage.clone(),
            operation: None,
            timeout: crate::engine::CALL,
            cancel: CancellationToken::new(),
        };
        let request =
            CreateRequest { target: target.clone(), mark: mark.clone(), secrets: std::collections::BTreeMap::new() };
        provider.create(&context, &request).await.map(drop).map_err(Gap::broken)
    }

    async fn state(&self, target: &Target) -> Result<String, Gap> {
        let (docker, name) = (&self.engine.docker, &target.identity.name);
        match target.address.kind() {
            // As JSON, whose maps are in order.
            "network" => docker.inspect_network(name, None).await.map(|it| serde_json::json!(it).to_string()),
            "volume" => docker.inspect_volume(name).await.map(|it| serde_json::json!(it).to_string()),
            "image" => docker.inspect_image(name).await.map(|it| format!("{:?}", it.repo_tags)),
            _ => docker.inspect_container(name, None).await.map(|it| format!("{:?} {:?}", it.id, it.state)),
        }
        .map_err(Gap::broken)
    }

    async fn broken(&self, how: Breakage) -> Result<Arc<dyn Provider>, Gap> {
        let path = self.folder.path().join(format!("{}.sock", self.engine.lineage));
        let _ = std::fs::remove_file(&path);
        if how == Breakage::Silent {
            let listener = tokio::net::UnixListener::bind(&path).map_err(Gap::broken)?;
            tokio::spawn(async move {
                tokio::time::sleep(SILENCE).await;
                drop(listener);
            });
        }
        Ok(Arc::new(DockerProvider::new(Endpoint::socket(path))))
    }

    async fn hold_back(&self, target: &Target) -> Result<(), Gap> {
        if target.address.kind() != "mirror" {
            return Err(Gap::not_applicable("things of this kind cannot be held back"));
        }
        if self.engine.which == Which::Embedded {
            return Err(Gap::not_applicable("a mirror of the embedded engine is ready without its upstream"));
        }
        // A mirror asks its upstream before it listens.
        if self.engine.pause(&self.upstream).await {
            Ok(())
        } else {
            Err(Gap::not_applicable("nothing can be paused on this engine"))
        }
    }

    async fn clean_up(&self) -> Result<(), Gap> {
        // It is paused only where it was held back.
        let _ = self.engine.docker.unpause_container(&self.upstream).await;
        self.engine.clean().await;
        Ok(())
    }
}

async fn the_provider_conforms(engine: Engine) {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    // What faults and pipes do is the same for every engine, and Podman is slow: there each way is taken where the engine has a say in it.
    let is_podman = engine.which == Which::Podman;
    let ways = move |kind: &str| match kind {
        "registry" | "network" if is_podman => vec![Way::Direct, Way::Faulty(SEED)],
        _ if is_podman => vec![Way::Direct],
        MACHINE => vec![Way::Direct, Way::Faulty(SEED)],
        _ => vec![Way::Direct, Way::Faulty(SEED), Way::Pipe],
    };
    let balancer = if engine.which != Which::Embedded { balancer_image() } else { None };
    let machine = if engine.which == Which::Docker { node_image() } else { None };
    let kinds = machine.map(|_| MACHINE).into_iter().chain(KINDS).chain(balancer.map(|_| BALANCER));
    let runs = kinds.flat_map(|kind| ways(kind).into_iter().map(move |way| (kind, way))).map(|(kind, way)| {
        let (engine, folder) = (engine.sibling(), Arc::clone(&folder));
        tokio::spawn(async move {
            let permits = if engine.which == Which::Podman { &PODMANS_PERMITS } else { &PERMITS };
            let _permit = permits.acquire().await.unwrap();
            let started = std::time::Instant::now();
            let subject = OneKind::new(engine, kind, folder).await;
            let report = run_way(&subject, way).await;
            subject.engine.clean().await;
            (report, started.elapsed())
        })
    });
    let mut failures = Vec::new();
    for run in runs.collect::<Vec<_>>() {
        let (report, took) = run.await.unwrap();
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), "{report}{took:?}");
        assert!(!report.entries().is_empty());
        failures.extend(report.failures().map(ToString::to_string));
    }
    assert!(failures.is_empty(), "the provider does not conform:\n{}", failures.join("\n"));
}

on_every_engine!(the_provider_conforms);
