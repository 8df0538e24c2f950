//! `spec.cluster`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::additions::Audit;
use super::autoscaler::Autoscaler;
use super::words::{Cni, Component, Distribution, GitOpsEngine, PolicyEngine, Provider, Toggle, Transport};

/// The cluster and the components that belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// The distribution's own file or folder, relative to the project's folder.
    #[schemars(extend("x-ksail-default-note" = "by distribution: `kind.yaml`, `k3d.yaml`, `talos`, `vcluster.yaml`, `kwok`, `eks.yaml`, `gke.yaml`, `aks.yaml`"))]
    pub distribution_config: Option<String>,
    /// How to reach the cluster.
    pub connection: Connection,
    /// What makes the cluster. `None` makes no cluster: only network, registries, mirrors and images.
    #[schemars(extend("x-ksail-default" = "Vanilla"))]
    pub distribution: Option<Distribution>,
    /// Where it runs. `Embedded` is the engine that ksail brings along, which needs nothing installed.
    #[schemars(extend("x-ksail-default-note" = "by distribution: AWS for EKS, GCP for GKE, Azure for AKS, else Docker"))]
    pub provider: Option<Provider>,
    /// The network plugin.
    #[schemars(extend("x-ksail-default" = "Default"))]
    pub cni: Option<Cni>,
    /// Storage for volumes of pods.
    #[schemars(extend("x-ksail-default" = "Default"))]
    pub csi: Option<Component>,
    /// Devices for containers by the Container Device Interface.
    #[schemars(extend("x-ksail-default" = "Default"))]
    pub cdi: Option<Component>,
    /// Metrics of nodes and pods for `kubectl top` and for autoscalers.
    #[schemars(extend("x-ksail-default" = "Default"))]
    pub metrics_server: Option<Component>,
    /// Addresses for services of type LoadBalancer.
    #[schemars(extend("x-ksail-default" = "Default"))]
    pub load_balancer: Option<Component>,
    /// Certificates by cert-manager.
    #[schemars(extend("x-ksail-default" = "Disabled"))]
    pub cert_manager: Option<Toggle>,
    /// Whether images must carry a valid signature.
    #[schemars(extend("x-ksail-default" = "Disabled"))]
    pub image_verification: Option<Toggle>,
    /// The engine that judges objects by policies.
    #[schemars(extend("x-ksail-default" = "None"))]
    pub policy_engine: Option<PolicyEngine>,
    /// The registry that workloads are pushed to. The section's presence alone (`localRegistry: {}`) makes one on this machine.
    pub local_registry: Option<LocalRegistry>,
    /// What applies the workloads from a source.
    #[schemars(extend("x-ksail-default" = "None"))]
    pub git_ops_engine: Option<GitOpsEngine>,
    /// Decryption of manifests in the cluster with SOPS.
    pub sops: Sops,
    /// The older spelling of `autoscaler.node.enabled`.
    pub node_autoscaling: Option<Toggle>,
    /// What grows and shrinks by itself.
    pub autoscaler: Autoscaler,
    /// A tar of images (as `docker save` writes, or an OCI layout); relative to the project's folder. Each node of a cluster on Docker gets them before workloads start; without nodes they are loaded onto the engine.
    pub import_images: Option<String>,
    /// How many nodes run the control plane.
    pub control_planes: Option<u32>,
    /// How many nodes run only workloads.
    pub workers: Option<u32>,
    /// The version of Kubernetes.
    pub kubernetes_version: Option<String>,
    /// Login by an OpenID Connect issuer.
    pub oidc: Oidc,
    /// The log of who asked the API server for what. The section's presence alone (`audit: {}`) turns it on.
    pub audit: Option<Audit>,
    /// Settings of the distribution Vanilla.
    pub vanilla: Vanilla,
    /// Settings of the distribution Talos.
    pub talos: Talos,
    /// Settings of the distribution EKS.
    pub eks: Eks,
}

/// How to reach the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Connection {
    /// The kubeconfig that is read, or that the entries of a cluster that is made here are merged into; relative to the project's folder.
    #[schemars(extend("x-ksail-default-note" = "as kubectl: `KUBECONFIG`, else `~/.kube/config`"))]
    pub kubeconfig: Option<String>,
    /// The context in the kubeconfig.
    #[schemars(extend("x-ksail-default-note" = "of a cluster that is made here `ksail-<name>`, else the current one"))]
    pub context: Option<String>,
    /// How long to wait for the cluster, such as `5m`.
    #[schemars(regex(pattern = r"^[0-9]+(ns|us|µs|ms|s|m|h)$"), extend("x-ksail-form" = "a duration such as `5m`"))]
    pub timeout: Option<String>,
}

/// The registry that workloads are pushed to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalRegistry {
    /// `[user:${TOKEN}@]host[:port][/path]`. Empty, or on `localhost`, a registry is made there; any other host is used as it is, and is the output `registry` without what stands before `@`.
    #[schemars(extend("x-ksail-credential" = "userinfo", "x-ksail-default-note" = "`localhost` and a free port from 5050"))]
    pub registry: Option<String>,
    /// Which environment variables hold its token.
    pub credentials: RegistryCredentials,
}

/// Which environment variables hold a registry's token.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryCredentials {
    /// The variable whose token both this machine and the cluster use.
    pub token_env_var: Option<String>,
    /// The variable whose token this machine uses.
    pub cli_token_env_var: Option<String>,
    /// The variable whose token the cluster uses.
    pub cluster_token_env_var: Option<String>,
}

/// Decryption with SOPS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Sops {
    /// The variable that holds the age key, in the older spelling of `env.var`.
    #[schemars(extend("x-ksail-default" = "SOPS_AGE_KEY"))]
    pub age_key_env_var: Option<String>,
    /// Whether the key is put into the cluster.
    #[schemars(extend("x-ksail-default" = "Default"))]
    pub enabled: Option<Component>,
    /// The key from an environment variable.
    pub env: SopsEnv,
    /// The key from a file of keys.
    pub extract: SopsExtract,
}

/// An age key from an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SopsEnv {
    /// The variable that holds the age key.
    pub var: Option<String>,
}

/// An age key from a file of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SopsExtract {
    /// The file.
    pub file: Option<String>,
    /// The public keys whose private keys are taken from it.
    pub public_keys: Vec<String>,
}

/// Login by an OpenID Connect issuer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Oidc {
    /// The issuer's URL.
    #[serde(rename = "issuerURL")]
    pub issuer_url: Option<String>,
    /// The id of the client that tokens are made for.
    #[serde(rename = "clientID")]
    pub client_id: Option<String>,
    /// Scopes that are asked for beside the usual ones.
    pub extra_scopes: Vec<String>,
    /// The claim that names the user.
    #[schemars(extend("x-ksail-default" = "email"))]
    pub username_claim: Option<String>,
    /// What stands before user names.
    #[schemars(extend("x-ksail-default" = "oidc:"))]
    pub username_prefix: Option<String>,
    /// The claim that names the groups.
    #[schemars(extend("x-ksail-default" = "groups"))]
    pub groups_claim: Option<String>,
    /// What stands before group names.
    #[schemars(extend("x-ksail-default" = "oidc:"))]
    pub groups_prefix: Option<String>,
    /// The file with the issuer's certificate authority.
    pub ca_file: Option<String>,
}

/// Settings of the distribution Vanilla.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Vanilla {
    /// The folder with a `<host>/hosts.toml` for each mirrored host.
    pub mirrors_dir: Option<String>,
}

/// Settings of the distribution Talos.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Talos {
    /// The version of Talos.
    pub version: Option<String>,
    /// The older spelling of `spec.cluster.controlPlanes`.
    pub control_planes: Option<u32>,
    /// The older spelling of `spec.cluster.workers`.
    pub workers: Option<u32>,
    /// The talosconfig that is read and written.
    pub config: Option<String>,
    /// The number of the ISO image at the cloud that servers boot from.
    pub iso: Option<u64>,
    /// The id of the Image Factory schematic.
    pub schematic_id: Option<String>,
    /// System extensions.
    pub extensions: Vec<String>,
    /// Ports of this machine that lead to the first control-plane container.
    pub extra_port_mappings: Vec<PortMapping>,
    /// Whether images of Talos must carry a valid signature.
    pub image_verification: Option<Toggle>,
    /// How long a node's pods have to leave it, such as `5m`.
    #[schemars(regex(pattern = r"^[0-9]+(ns|us|µs|ms|s|m|h)$"), extend("x-ksail-form" = "a duration such as `5m`"))]
    pub drain_timeout: Option<String>,
    /// How long to wait for storage to be healthy between nodes, such as `10m`.
    #[schemars(regex(pattern = r"^[0-9]+(ns|us|µs|ms|s|m|h)$"), extend("x-ksail-form" = "a duration such as `5m`"))]
    pub storage_health_timeout: Option<String>,
}

/// A port of this machine that leads to one of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PortMapping {
    /// The port in the container.
    pub container_port: Option<u16>,
    /// The port on this machine.
    pub host_port: Option<u16>,
    /// The protocol.
    #[schemars(extend("x-ksail-default" = "TCP"))]
    pub protocol: Option<Transport>,
}

/// Settings of the distribution EKS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Eks {
    /// Whether services of type LoadBalancer are served by the AWS Load Balancer Controller.
    #[serde(rename = "experimentalAWSLoadBalancerController")]
    pub experimental_aws_load_balancer_controller: Option<bool>,
    /// The service account that this controller runs as.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"), extend("x-ksail-form" = "a lower-case DNS name"))]
    pub aws_load_balancer_controller_service_account: Option<String>,
}
