//! Opens sessions of the providers that this build knows.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use ksail_kinds::{ClusterSpec, MachineSpec, Spec as _};
use ksail_model::{Path, ProviderConfig};
use ksail_provider::{CallContext, CallError, Connector, HostSession, Provider};
use ksail_provider_docker::{DockerProvider, Endpoint};
use ksail_provider_embedded::{ClusterProvider, EmbeddedProvider};
use ksail_provider_kubeconfig::{KubeconfigProvider, MachineFiles, Places};
use ksail_provider_kubernetes::{Connection, Kept, KubeconfigSource, KubernetesProvider};

use crate::logged::Logged;
use crate::settings::Settings;

/// The providers of this build.
pub struct Connectors {
    settings: Settings,
    state_folder: PathBuf,
    clusters: Arc<Kept>,
}

impl Connectors {
    /// Providers for a project whose state is in this folder, with the clusters that are open already.
    pub const fn new(settings: Settings, state_folder: PathBuf, clusters: Arc<Kept>) -> Self {
        Self { settings, state_folder, clusters }
    }

    /// The cluster of a host: its kubeconfig is a file, or lies in its machines.
    fn cluster(&self, host: &HostSession) -> Result<KubernetesProvider, CallError> {
        let Ok(cluster) = told(host, "machines") else {
            let kubeconfig = vec![told(host, "kubeconfig")?.into()];
            return Ok(KubernetesProvider::new(Connection { kubeconfig, context: None }));
        };
        let engine = docker(&self.settings, &ProviderConfig::default(), None)?.in_cluster(cluster.clone());
        let source = MachineAccess { engine, cluster, endpoint: told(host, "endpoint")? };
        Ok(KubernetesProvider::told(Arc::new(source)))
    }
}

/// The cluster of the kubeconfig that is named, or else of those that kubectl would take.
pub(crate) fn kubernetes(settings: &Settings, kubeconfig: Option<&str>, context: Option<&str>) -> KubernetesProvider {
    let set = |name: &str| (settings.env)(name).filter(|value| !value.is_empty());
    let below_home = |path: &str| match (path.strip_prefix("~/"), settings.home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    };
    let kubeconfig = match (kubeconfig, set("KUBECONFIG")) {
        (Some(named), _) => vec![settings.project.join(below_home(named))],
        (None, Some(paths)) => std::env::split_paths(&paths).filter(|path| !path.as_os_str().is_empty()).collect(),
        (None, None) => vec![below_home("~/.kube/config")],
    };
    KubernetesProvider::new(Connection { kubeconfig, context: context.map(str::to_owned) })
}

/// The engine that settings and environment name, or the one that a host serves; or what lives in a machine or a cluster of it.
pub(crate) fn docker(
    settings: &Settings,
    config: &ProviderConfig,
    host: Option<&HostSession>,
) -> Result<DockerProvider, CallError> {
    let of_kind = |kind: &str| host.filter(|host| host.address.kind() == kind);
    let (machine, cluster) = (of_kind(MachineSpec::KIND), of_kind(ClusterSpec::KIND));
    let endpoint = match host.filter(|_| machine.is_none() && cluster.is_none()) {
        Some(host) => Endpoint::socket(told(host, "socket")?),
        None => Endpoint::resolve(&config.settings, &|name| (settings.env)(name), settings.home().as_deref())
            .map_err(|error| CallError::refused(error.to_string()))?,
    };
    let provider = DockerProvider::new(endpoint).project(settings.project.clone());
    Ok(match (machine, cluster) {
        (Some(machine), _) => provider.in_machine(told(machine, "name")?),
        (None, Some(cluster)) => provider.in_cluster(told(cluster, "machines")?),
        (None, None) => provider,
    })
}

/// The access to a cluster, read from one of its machines.
struct MachineAccess {
    engine: DockerProvider,
    cluster: String,
    endpoint: String,
}

#[async_trait]
impl KubeconfigSource for MachineAccess {
    fn place(&self) -> String {
        format!("the machines of {}", self.cluster)
    }

    async fn kubeconfig(&self, context: &CallContext) -> Result<Arc<str>, CallError> {
        self.engine.kubeconfig(context, Some(&self.endpoint)).await
    }
}

/// What lies in machines of the engine that clusters on Docker are made on.
struct EngineFiles {
    settings: Settings,
}

#[async_trait]
impl MachineFiles for EngineFiles {
    async fn kubeconfig(&self, context: &CallContext, cluster: &str) -> Result<Arc<str>, CallError> {
        let engine = docker(&self.settings, &ProviderConfig::default(), None)?.in_cluster(cluster);
        engine.kubeconfig(context, None).await
    }
}

/// What a host tells of itself.
fn told(host: &HostSession, attribute: &str) -> Result<String, CallError> {
    let told = host.attributes.get(&Path::key(attribute)).and_then(|told| told.as_str().map(str::to_owned));
    told.ok_or_else(|| CallError::refused(format!("{} tells no {attribute}", host.address)))
}

#[async_trait]
impl Connector for Connectors {
    async fn connect(
        &self,
        name: &str,
        config: &ProviderConfig,
        host: Option<&HostSession>,
    ) -> Result<Arc<dyn Provider>, CallError> {
        let inner: Arc<dyn Provider> = match config.kind.as_str() {
            "docker" => Arc::new(docker(&self.settings, config, host)?),
            "embedded" => match host {
                Some(engine) => Arc::new(ClusterProvider::new(told(engine, "socket")?.into(), told(engine, "id")?)),
                None => Arc::new(EmbeddedProvider::new(self.settings.program.clone(), self.state_folder.clone())),
            },
            "kubeconfig" => {
                let places = Places {
                    home: self.settings.home(),
                    project: std::path::absolute(&self.settings.project)
                        .unwrap_or_else(|_| self.settings.project.clone()),
                    kubeconfig: (self.settings.env)("KUBECONFIG"),
                    named: config.settings.get("kubeconfig").cloned(),
                };
                let machines = EngineFiles { settings: self.settings.clone() };
                Arc::new(KubeconfigProvider::new(places).machines(Arc::new(machines)))
            }
            "kubernetes" => {
                let named = |setting: &str| config.settings.get(setting).map(String::as_str);
                let provider = match host {
                    Some(cluster) => self.cluster(cluster)?,
                    None => kubernetes(&self.settings, named("kubeconfig"), named("context")),
                };
                Arc::new(provider.sharing(&self.clusters))
            }
            other => {
                let message = format!("provider {name} is of kind {other}, which this ksail does not know");
                return Err(CallError::refused(message));
            }
        };
        let session = host.map_or_else(|| name.to_owned(), |host| format!("{name} in {}", host.address));
        tracing::debug!(session, "session opened");
        Ok(Arc::new(Logged { session, inner }))
    }
}
