//! Clusters as a person asks for them day by day: which there are, how one does, how one is reached, and what its nodes say.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use ksail_compiler::format::Provider as ProviderName;
use ksail_kinds::{
    ClusterSpec, KubeconfigSpec, LoadBalancerSpec, MachineSpec, MirrorSpec, NODE, RegistrySpec, Spec as _,
};
use ksail_model::{Address, DeclaredGraph, Identity, Observation, ProviderConfig, Readiness, RecordKey, Value};
use ksail_provider::{CallContext, CallError};
use ksail_provider_docker::NodeContainer;
use ksail_records::Snapshot;
use tokio_util::sync::CancellationToken;

use crate::connector::docker;
use crate::error::{Error, codes};
use crate::outputs::{Outputs, outputs_of};
use crate::plan::{PlanOptions, observe};
use crate::platform::Platform;
use crate::settings::Settings;

/// How long an engine may take to tell what it has.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the logs of all nodes may take.
const LOGS_TIMEOUT: Duration = Duration::from_secs(600);

/// Whose a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterOwner {
    /// The state of the project that asks.
    This,
    /// Another state, by its lineage.
    Other(String),
    /// Nobody of ours: kind, or something like it.
    Foreign,
}

/// A cluster whose nodes are containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRow {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: ClusterOwner,
    /// Its nodes, by name.
    pub nodes: Vec<NodeContainer>,
}

/// How one part of a cluster does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartInfo {
    /// The resource.
    pub address: Address,
    /// What finds it outside.
    pub name: String,
    /// Whether it can be used.
    pub is_ready: bool,
    /// How it does, in words.
    pub status: String,
    /// Where it answers, if it tells.
    pub endpoint: Option<String>,
}

/// A project's cluster as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The stack's name.
    pub name: String,
    /// The provider that the file names.
    pub provider: String,
    /// The version of Kubernetes that was applied last.
    pub version: Option<String>,
    /// Its parts: engine, cluster, machines, nodes, registries and mirrors.
    pub parts: Vec<PartInfo>,
    /// The outputs of the last apply.
    pub outputs: Outputs,
}

/// How a cluster is reached by programs that read kubeconfigs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The file, if it is not that which such programs take by themselves.
    pub kubeconfig: Option<PathBuf>,
    /// The context, if it is not the current one.
    pub context: Option<String>,
    /// The program with which the user edits texts, if the file names one.
    pub editor: Option<String>,
}

/// The clusters of the engine that the environment names, whoever made them. `own` is the asking project's state.
///
/// # Errors
/// No engine answers.
pub async fn clusters(settings: &Settings, own: Option<&Snapshot>) -> Result<Vec<ClusterRow>, Error> {
    let engine = docker(settings, &ProviderConfig::default(), None).map_err(refused)?;
    let nodes = engine.nodes(&context(LOOK_TIMEOUT)).await.map_err(refused)?;
    let mut rows: BTreeMap<(String, Option<String>), Vec<NodeContainer>> = BTreeMap::new();
    for node in nodes.into_iter().filter(NodeContainer::is_node) {
        // What was imported bears no mark: the state alone knows it.
        let imported = own.filter(|own| node.lineage.is_none() && has_imported(own, &node.name));
        let owner = node.lineage.clone().or_else(|| imported.map(|own| own.lineage.clone()));
        rows.entry((node.cluster.clone(), owner)).or_default().push(node);
    }
    let lineage = own.map(|own| own.lineage.as_str());
    merge_imported(&mut rows);
    let row = |((name, owner), mut nodes): ((String, Option<String>), Vec<NodeContainer>)| {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let owner = match owner {
            Some(found) if lineage == Some(found.as_str()) => ClusterOwner::This,
            Some(found) => ClusterOwner::Other(found),
            None => ClusterOwner::Foreign,
        };
        ClusterRow { name, owner, nodes }
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Whether a state has a machine by import.
fn has_imported(own: &Snapshot, machine: &str) -> bool {
    let mut machines = own.records.iter().filter(|(key, _)| key.address.kind() == MachineSpec::KIND);
    machines.any(|(_, record)| record.adopted && record.declaration.identity.name == machine)
}

/// Nodes of one name that are somebody else's and of one state are one cluster, which was imported into that state.
fn merge_imported(rows: &mut BTreeMap<(String, Option<String>), Vec<NodeContainer>>) {
    let names: Vec<String> = rows.keys().filter(|(_, owner)| owner.is_none()).map(|(name, _)| name.clone()).collect();
    for name in names {
        let owners: Vec<_> = rows.keys().filter(|(other, owner)| *other == name && owner.is_some()).cloned().collect();
        if let [owner] = owners.as_slice()
            && let Some(theirs) = rows.remove(&(name, None))
        {
            rows.entry(owner.clone()).or_default().extend(theirs);
        }
    }
}

fn context(timeout: Duration) -> CallContext {
    CallContext { lineage: String::new(), operation: None, timeout, cancel: CancellationToken::new() }
}

pub(crate) fn refused(error: CallError) -> Error {
    let hint = error.hint.unwrap_or_else(|| "`ksail doctor` looks at what clusters need".to_owned());
    Error::new(codes::PROVIDER, error.message, hint)
}

impl Platform {
    /// How the project's cluster does now.
    pub async fn cluster_info(&self) -> Result<ClusterInfo, Error> {
        let mut snapshot = self.snapshot().await?.ok_or_else(nothing_applied)?;
        let outputs = outputs_of(&snapshot, &self.settings);
        let shown = [
            "engine",
            LoadBalancerSpec::KIND,
            ClusterSpec::KIND,
            MachineSpec::KIND,
            NODE,
            RegistrySpec::KIND,
            MirrorSpec::KIND,
        ];
        snapshot.records.retain(|key, _| shown.contains(&key.address.kind()));
        let place = self.place(&self.stack_name())?;
        let options = PlanOptions { timeout: Some(LOOK_TIMEOUT), ..PlanOptions::default() };
        let seen = observe(&DeclaredGraph::default(), &snapshot, &place.connector, &options).await;
        let version = snapshot.records.iter().find(|(key, _)| key.address.kind() == ClusterSpec::KIND);
        let version =
            version.and_then(|(_, record)| Some(record.declaration.spec.field("version")?.as_str()?.to_owned()));
        let parts = snapshot.records.iter().map(|(key, record)| {
            let (is_ready, status) = status(seen.get(key).map(|observed| &observed.observation));
            let endpoint = record.attributes.field("endpoint").and_then(Value::as_str).map(str::to_owned);
            let name = name_of(&record.declaration.identity);
            PartInfo { address: key.address.clone(), name, is_ready, status, endpoint }
        });
        Ok(ClusterInfo {
            name: snapshot.stack.clone(),
            provider: self.loaded.config.provider().to_string(),
            version,
            parts: parts.collect(),
            outputs,
        })
    }

    /// How the project's cluster is reached.
    ///
    /// # Errors
    /// The project has none, or it was not applied yet.
    pub async fn access(&self) -> Result<Access, Error> {
        let connection = &self.loaded.config.spec.cluster.connection;
        let editor = self.loaded.config.spec.editor.clone();
        if self.loaded.config.provider() == ProviderName::Kubernetes {
            let kubeconfig = connection.kubeconfig.as_deref().map(|file| self.settings.path(file));
            return Ok(Access { kubeconfig, context: connection.context.clone(), editor });
        }
        let snapshot = self.snapshot().await?.ok_or_else(nothing_applied)?;
        let key = RecordKey::current(Address::new(self.loaded.config.name(), KubeconfigSpec::KIND, &["main"]));
        let Some(record) = snapshot.records.get(&key) else {
            let message = "this state has no cluster that a kubeconfig leads to";
            let hint = "`distribution: Vanilla` declares one, and `ksail apply` makes it";
            return Err(Error::new(codes::NOT_FOUND, message, hint));
        };
        let text = |field: &str| record.fields.field(field).and_then(Value::as_str).map(str::to_owned);
        Ok(Access { kubeconfig: text("file").map(|file| self.settings.path(&file)), context: text("context"), editor })
    }

    /// Writes what the nodes of the project's cluster say into a folder, as `kind export logs` lays it out. Answers what could not be had,
    /// a sentence each.
    ///
    /// # Errors
    /// The engine does not answer, has no such nodes, or the folder cannot be written.
    pub async fn export_logs(&self, folder: &FilePath, cancel: CancellationToken) -> Result<Vec<String>, Error> {
        let provider = self.loaded.config.provider();
        if provider != ProviderName::Docker {
            let message = format!("provider {provider} has no nodes whose logs could be had");
            let hint = "`kubectl logs` tells what pods say; an embedded engine writes engine.log in the state's folder";
            return Err(Error::new(codes::NOT_FOUND, message, hint));
        }
        let engine = docker(&self.settings, &ProviderConfig::default(), None).map_err(refused)?;
        let context = CallContext { cancel, ..context(LOGS_TIMEOUT) };
        let name = self.loaded.config.name();
        let exported = engine.export_logs(&context, name, folder).await.map_err(refused)?;
        if exported.nodes.is_empty() {
            let message = format!("the engine has no nodes of a cluster `{name}`");
            return Err(Error::new(codes::NOT_FOUND, message, "`ksail cluster list` tells which clusters it has"));
        }
        let version = folder.join("ksail-version.txt");
        std::fs::write(&version, format!("ksail {}\n", crate::settings::VERSION)).map_err(|source| Error::Io {
            doing: "write",
            path: version,
            source,
        })?;
        Ok(exported.missing)
    }
}

fn nothing_applied() -> Error {
    let message = "nothing was applied yet: there is no state";
    Error::new(codes::NOT_FOUND, message, "`ksail apply` makes what the file declares")
}

/// What a person calls a thing: an object by its name alone, without its kind and namespace.
pub(crate) fn name_of(identity: &Identity) -> String {
    identity.name.rsplit('/').next().unwrap_or(&identity.name).to_owned()
}

/// Whether something can be used, and how it does.
fn status(observation: Option<&Observation>) -> (bool, String) {
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    match observation {
        Some(Observation::Present(seen)) => {
            let runs = seen.fields.field("running").and_then(Value::as_bool);
            match &seen.readiness {
                _ if runs == Some(false) => (false, "stopped".to_owned()),
                Readiness::Ready => (true, "ready".to_owned()),
                Readiness::NotReady(why) => (false, format!("not ready: {}", first(why))),
            }
        }
        Some(Observation::Absent) => (false, "gone".to_owned()),
        Some(Observation::Unknown(why)) => (false, format!("unknown: {}", first(&why.to_string()))),
        None => (false, "unknown".to_owned()),
    }
}
