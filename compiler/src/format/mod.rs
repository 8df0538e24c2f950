//! The types of the file: `ksail.io/v1alpha1`, kind `Cluster`. The JSON Schema, the reference page and the checks
//! of users' files are all made from these types and their comments.

mod additions;
mod autoscaler;
mod cluster;
mod provider;
mod words;
mod workload;

pub use additions::{
    ImageRewrite, ImportEntry, LifecycleRule, ManifestEntry, MirrorEntry, MovedEntry, NodeRule, RemovedEntry, State,
    StateHistory,
};
pub use autoscaler::{Autoscaler, NodeAutoscaler, NodePool, PodAutoscaler, Taint};
pub use cluster::{
    Cluster, Connection, Eks, LocalRegistry, Oidc, PortMapping, RegistryCredentials, Sops, SopsEnv, SopsExtract, Talos,
    Vanilla,
};
pub use provider::{
    AwsSettings, AzureSettings, EmbeddedSettings, GcpSettings, HetznerSettings, KubernetesPersistence,
    KubernetesSettings, OmniSettings, Providers, Stage, StageRequirement,
};
pub use words::{
    ApiVersion, Cni, Component, Distribution, DocumentKind, Expander, Expanders, GitOpsEngine, NodeRole,
    PlacementStrategy, PolicyEngine, Provider, ReasoningEffort, SelectorOperator, StageKind, StateBackend, TaintEffect,
    Toggle, Transport, Verifier,
};
pub use workload::{Chat, Flux, FluxVerify, OidcIdentity, Scan, SecretReference, Validation, Watch, Workload};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The cluster's name where the file gives none.
pub const DEFAULT_NAME: &str = "local";

/// The file `ksail.yaml`: one cluster and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The version of the format. Required in a document that stands alone.
    pub api_version: Option<ApiVersion>,
    /// The kind of document. Required in a document that stands alone.
    pub kind: Option<DocumentKind>,
    /// What names the cluster.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: Spec,
}

/// What names the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// The cluster's name. It begins every address, names the state, and is the prefix of the names of containers, volumes and
    /// networks.
    #[schemars(regex(pattern = r"^[a-z][a-z0-9-]*[a-z0-9]$|^[a-z]$"), extend("x-ksail-default" = "local", "x-ksail-form" = "lower-case letters, digits and `-`, beginning with a letter"))]
    pub name: Option<String>,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The command that opens files for editing.
    pub editor: Option<String>,
    /// The versions of ksail that may use this file, as a semver requirement such as `>=0.1, <0.3`. Another version refuses to plan.
    pub required_version: Option<String>,
    /// The cluster itself and what runs in it.
    pub cluster: Cluster,
    /// Settings of each provider; only those of the chosen one count.
    pub provider: Providers,
    /// Pull-through mirrors: registries that answer for a host and keep what they pulled.
    pub mirrors: Vec<MirrorEntry>,
    /// Rewrites of image references, for machines without the internet and for private registries. The longest prefix wins.
    pub images: Vec<ImageRewrite>,
    /// Objects of Kubernetes that are declared: files of manifests, folders of them, or patterns such as `apps/**/*.yaml`, relative
    /// to the project's folder. A file may hold several documents, and lists. Needs `provider: Kubernetes`, or `distribution: Vanilla` with
    /// `provider: Docker` or `Embedded`.
    pub manifests: Vec<ManifestEntry>,
    /// Labels and taints of nodes; an entry without `name` and `role` is about all of them.
    pub nodes: Vec<NodeRule>,
    /// Where the state is kept.
    pub state: State,
    /// Rules for the life of resources.
    pub lifecycle: Vec<LifecycleRule>,
    /// Resources that got another address, so that they are kept and not made anew.
    pub moved: Vec<MovedEntry>,
    /// Resources that are given up on purpose.
    pub removed: Vec<RemovedEntry>,
    /// Things that exist already and become ours.
    pub imports: Vec<ImportEntry>,
    /// The manifests that run in the cluster, and how they get there.
    pub workload: Workload,
    /// The assistant of `ksail chat`.
    pub chat: Chat,
}

impl Config {
    /// The cluster's name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or(DEFAULT_NAME)
    }

    /// The distribution: as given, else Vanilla.
    pub fn distribution(&self) -> Distribution {
        self.spec.cluster.distribution.unwrap_or(Distribution::Vanilla)
    }

    /// Whether it asks for a cluster of the embedded engine.
    pub(crate) fn has_embedded_cluster(&self) -> bool {
        self.provider() == Provider::Embedded && self.distribution() == Distribution::Vanilla
    }

    /// Whether it asks for a cluster whose nodes are containers of a Docker Engine.
    pub(crate) fn has_docker_cluster(&self) -> bool {
        self.provider() == Provider::Docker && self.distribution() == Distribution::Vanilla
    }

    /// Whether it asks for a cluster that this version makes.
    pub(crate) fn has_cluster(&self) -> bool {
        self.has_embedded_cluster() || self.has_docker_cluster()
    }

    /// The provider: as given, else the distribution's own cloud, else Docker.
    pub fn provider(&self) -> Provider {
        self.spec.cluster.provider.unwrap_or(match self.distribution() {
            Distribution::Eks => Provider::Aws,
            Distribution::Gke => Provider::Gcp,
            Distribution::Aks => Provider::Azure,
            _ => Provider::Docker,
        })
    }
}
