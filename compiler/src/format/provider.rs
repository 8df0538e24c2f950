//! `spec.provider`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use super::words::{PlacementStrategy, SelectorOperator, StageKind, Toggle};

/// Settings of each provider.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Providers {
    /// The engine that ksail brings along.
    pub embedded: EmbeddedSettings,
    /// Hetzner Cloud.
    pub hetzner: HetznerSettings,
    /// Sidero Omni.
    pub omni: OmniSettings,
    /// Amazon Web Services.
    pub aws: AwsSettings,
    /// Google Cloud.
    pub gcp: GcpSettings,
    /// Microsoft Azure.
    pub azure: AzureSettings,
    /// Another Kubernetes cluster.
    pub kubernetes: KubernetesSettings,
}

/// Settings of the engine that ksail brings along.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EmbeddedSettings {
    /// What becomes of nodes, pods, claims of volumes and services of its cluster, in the manner of KWOK; the first that matches one is
    /// taken. What none matches becomes ready at once.
    pub stages: Vec<Stage>,
}

/// A step in the life of what is simulated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stage {
    /// Its name, which what it has taken tells in a condition.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), extend("x-ksail-form" = "lower-case letters, digits and `-`"))]
    pub name: String,
    /// What it is about.
    pub kind: StageKind,
    /// Their namespace; any if none.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Labels that they must have.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    /// What must hold of their fields.
    #[serde(default)]
    pub match_expressions: Vec<StageRequirement>,
    /// How long after its last change one is taken.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9]+(ms|s|m|h)$"), extend("x-ksail-form" = "a duration such as `500ms` or `5s`", "x-ksail-default" = "0s"))]
    pub delay: Option<String>,
    /// What is merged into the status of one, as a strategic merge patch: conditions by their types, other lists as a whole, `null` removes. Left
    /// out, it becomes ready by itself after the delay.
    #[serde(default)]
    pub status: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What must hold of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageRequirement {
    /// The field, as a path such as `status.phase` or `metadata.annotations."example.com/slow"`.
    pub key: String,
    /// What it must be.
    pub operator: SelectorOperator,
    /// The texts that `In` and `NotIn` compare with.
    #[serde(default)]
    pub values: Vec<String>,
}

/// Settings of Hetzner Cloud.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HetznerSettings {
    /// The type of servers of the control plane.
    #[schemars(extend("x-ksail-default" = "cx23"))]
    pub control_plane_server_type: Option<String>,
    /// The type of servers of workers.
    #[schemars(extend("x-ksail-default" = "cx23"))]
    pub worker_server_type: Option<String>,
    /// The location.
    #[schemars(extend("x-ksail-default" = "fsn1"))]
    pub location: Option<String>,
    /// The private network's name.
    pub network_name: Option<String>,
    /// The private network's range.
    #[schemars(extend("x-ksail-default" = "10.0.0.0/16"))]
    pub network_cidr: Option<String>,
    /// The SSH key's name.
    pub ssh_key_name: Option<String>,
    /// The environment variable that holds the API token.
    #[schemars(extend("x-ksail-default" = "HCLOUD_TOKEN"))]
    pub token_env_var: Option<String>,
    /// How servers are spread over physical hosts.
    pub placement_group_strategy: Option<PlacementStrategy>,
    /// The placement group's name.
    pub placement_group: Option<String>,
    /// Locations to try where the first has no room, in order.
    pub fallback_locations: Vec<String>,
    /// Whether to go on without a placement group where it cannot be kept.
    pub placement_group_fallback_to_none: Option<bool>,
    /// Whether the API endpoint gets a floating IP.
    #[serde(rename = "floatingIPEnabled")]
    pub floating_ip_enabled: Option<bool>,
    /// The home location of the floating IP.
    #[serde(rename = "floatingIPLocation")]
    pub floating_ip_location: Option<String>,
    /// Whether a firewall guards what comes in.
    pub ingress_firewall: Option<Toggle>,
    /// How many servers there may be in all.
    pub server_limit: Option<u32>,
    /// Ranges that the firewall lets in.
    pub allowed_cidrs: Vec<String>,
    /// Whether workers have a public IPv4 address.
    #[serde(rename = "workerPublicIPv4")]
    pub worker_public_ipv4: Option<bool>,
    /// Whether workers have a public IPv6 address.
    #[serde(rename = "workerPublicIPv6")]
    pub worker_public_ipv6: Option<bool>,
    /// Whether control planes have a public IPv4 address.
    #[serde(rename = "controlPlanePublicIPv4")]
    pub control_plane_public_ipv4: Option<bool>,
    /// Whether control planes have a public IPv6 address.
    #[serde(rename = "controlPlanePublicIPv6")]
    pub control_plane_public_ipv6: Option<bool>,
    /// Names of node pools that the autoscaler owns.
    pub autoscaler_node_pool_names: Vec<String>,
}

/// Settings of Sidero Omni.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct OmniSettings {
    /// The URL of the Omni instance.
    pub endpoint: Option<String>,
    /// The environment variable that holds that URL.
    pub endpoint_env_var: Option<String>,
    /// The environment variable that holds the service account's key.
    pub service_account_key_env_var: Option<String>,
    /// The version of Talos.
    pub talos_version: Option<String>,
    /// The version of Kubernetes.
    pub kubernetes_version: Option<String>,
    /// The class that machines are taken from.
    pub machine_class: Option<String>,
    /// Ids of machines to take.
    pub machines: Vec<String>,
}

/// Settings of Amazon Web Services: which environment variables hold what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AwsSettings {
    /// The variable with the profile's name.
    pub profile_env_var: Option<String>,
    /// The variable with the region.
    pub region_env_var: Option<String>,
    /// The variable with the access key's id.
    pub access_key_id_env_var: Option<String>,
    /// The variable with the secret access key.
    pub secret_access_key_env_var: Option<String>,
    /// The variable with the session token.
    pub session_token_env_var: Option<String>,
}

/// Settings of Google Cloud: which environment variables hold what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct GcpSettings {
    /// The variable with the project.
    pub project_env_var: Option<String>,
    /// The variable with the location.
    pub location_env_var: Option<String>,
}

/// Settings of Azure: which environment variables hold what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AzureSettings {
    /// The variable with the subscription's id.
    pub subscription_id_env_var: Option<String>,
    /// The variable with the resource group.
    pub resource_group_env_var: Option<String>,
}

/// Settings of a Kubernetes cluster that hosts the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesSettings {
    /// The kubeconfig of the hosting cluster.
    pub kubeconfig: Option<String>,
    /// The environment variable that holds the kubeconfig's path.
    pub kubeconfig_env_var: Option<String>,
    /// The context in the kubeconfig.
    pub context: Option<String>,
    /// The environment variable that holds the context's name.
    pub context_env_var: Option<String>,
    /// The Gateway API class that leads to the hosted API server.
    pub gateway_class_name: Option<String>,
    /// The range of pods of the hosted cluster.
    pub pod_cidr: Option<String>,
    /// The range of services of the hosted cluster.
    pub service_cidr: Option<String>,
    /// Storage of the hosted control plane.
    pub persistence: KubernetesPersistence,
}

/// Storage of a hosted control plane.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesPersistence {
    /// Whether it outlives its pods.
    pub enabled: Option<bool>,
    /// The storage class of its volume.
    pub storage_class_name: Option<String>,
    /// The size of its volume, such as `5Gi`.
    pub size: Option<String>,
}
