//! The contract's suite on the real engine.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{ContainerCreateBody, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{CreateContainerOptions, ListImagesOptions};
use ksail_conformance::suite::{Breakage, Case, Change, Gap, Limits, Outside, Setup, Subject, run_all_ways};
use ksail_kinds::{ContainerSpec, ImageSource, MirrorSpec, NetworkSpec, RegistrySpec, Restart, Spec as _};
use ksail_model::{Fingerprint, Identity, Mark, Path, Secret, Value};
use ksail_provider::{CallContext, CreateRequest, Provider, Target};
use ksail_provider_docker::{DockerProvider, Endpoint};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, REGISTRY, free_port, mark_labels, network_spec, texts, volume_spec};
use crate::images::{archive, image, import};

const PASSWORD: &str = "hush-hush-hush";
const OTHER_PASSWORD: &str = "whisper-whisper";
/// How long a fake engine keeps silent.
const SILENCE: Duration = Duration::from_secs(600);

/// The real engine, with an upstream registry that mirrors of all checks share.
struct Real {
    engine: Engine,
    folder: tempfile::TempDir,
    network: String,
    upstream: Target,
    next: AtomicU32,
}

/// What one check made is under this prefix.
struct Place {
    engine: Engine,
    folder: PathBuf,
    network: String,
    upstream: String,
}

fn secret(fingerprint: &str) -> Value {
    let mut secret = Secret::env("TOKEN");
    secret.fingerprint = Some(Fingerprint(fingerprint.to_owned()));
    Value::Secret(secret)
}

fn change(spec: Value, secrets: &[(&str, &str)], changed: &str) -> Option<Change> {
    Some(Change { spec, secrets: texts(secrets), changed: vec![Path::parse(changed).unwrap()] })
}

impl Real {
    fn registry(&self, engine: &Engine) -> RegistrySpec {
        RegistrySpec {
            image: REGISTRY.to_owned(),
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
            upstream: format!("http://{}:5000", self.upstream.identity.name),
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

    fn container_case(&self, engine: &Engine) -> Case {
        let spec = ContainerSpec {
            image: REGISTRY.to_owned(),
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

    async fn image_case(&self, engine: &Engine, number: u32) -> Case {
        let reference = format!("reg.example/ksail-test/conformance-{number}:1");
        let file = format!("{number}.tar");
        let digest = archive(engine, &reference, &self.folder.path().join(&file)).await;
        let target = image("c", &reference, ImageSource::Archive { path: file, digest });
        let absent = image("c", "reg.example/ksail-test/absent:1", ImageSource::Pull {});
        Case::new(target, absent)
    }
}

#[async_trait]
impl Subject for Real {
    fn name(&self) -> String {
        "docker on a real engine".to_owned()
    }

    fn kinds(&self) -> Vec<String> {
        ["network", "volume", "image", "container", "registry", "mirror"].map(str::to_owned).to_vec()
    }

    async fn fresh(&self, kind: &str) -> Result<Setup, Gap> {
        let engine = Engine::at(self.engine.socket.clone());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let case = match kind {
            "network" => {
                let mut case = self.case(&engine, kind, network_spec().to_value());
                let internal = NetworkSpec { internal: true, ..network_spec() };
                case.replacement = change(internal.to_value(), &[], "internal");
                case
            }
            "volume" => self.case(&engine, kind, volume_spec().to_value()),
            "image" => self.image_case(&engine, number).await,
            "container" => self.container_case(&engine),
            "registry" => self.registry_case(&engine),
            _ => self.mirror_case(&engine),
        };
        let provider = DockerProvider::new(Endpoint::socket(&engine.socket)).project(self.folder.path());
        let lineage = engine.lineage.clone();
        let outside = Place {
            engine,
            folder: self.folder.path().to_owned(),
            network: self.network.clone(),
            upstream: self.upstream.identity.name.clone(),
        };
        Ok(Setup { provider: Arc::new(provider), lineage, case, outside: Box::new(outside) })
    }

    fn limits(&self) -> Limits {
        Limits { rounds: 3, settle: Duration::from_millis(500), ..Limits::default() }
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
                let body = ContainerCreateBody { image: Some(REGISTRY.to_owned()), labels, ..Default::default() };
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
            "image" => {
                let images = self.engine.docker.list_images(None::<ListImagesOptions>).await.map_err(Gap::broken)?;
                images.into_iter().flat_map(|image| image.repo_tags).collect()
            }
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
        let provider = DockerProvider::new(Endpoint::socket(&self.engine.socket)).project(&self.folder);
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
        let path = self.folder.join(format!("{}.sock", self.engine.lineage));
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
        // A mirror asks its upstream before it listens.
        self.engine.docker.pause_container(&self.upstream).await.map_err(Gap::broken)
    }

    async fn clean_up(&self) -> Result<(), Gap> {
        // It is paused only where it was held back.
        let _ = self.engine.docker.unpause_container(&self.upstream).await;
        self.engine.clean_except(&[self.upstream.as_str(), self.network.as_str()]).await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_provider_conforms_on_a_real_engine() {
    let Some(engine) = Engine::real().await else { return };
    let upstream = engine.registry("upstream").await;
    engine.wait(&upstream, Duration::from_secs(30)).await;
    let network = engine.name("upstream-network");
    let folder = tempfile::tempdir().unwrap();
    let real = Real { engine, folder, network, upstream, next: AtomicU32::new(0) };
    let report = run_all_ways(&real).await;
    real.engine.clean().await;
    use std::io::Write as _;
    let _ = write!(std::io::stdout(), "{report}");
    report.assert_conforms();
}
