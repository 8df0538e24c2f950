//! `spec.workload` and `spec.chat`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::words::{ReasoningEffort, Verifier};

/// The manifests that run in the cluster, and how they get there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// The folder of manifests, relative to the project's.
    #[schemars(extend("x-ksail-default" = "k8s"))]
    pub source_directory: Option<String>,
    /// Whether manifests are validated before each push.
    pub validate_on_push: Option<bool>,
    /// The tag that pushes get.
    pub tag: Option<String>,
    /// The kustomization to begin with, relative to the source directory.
    pub kustomization_file: Option<String>,
    /// Settings of Flux.
    pub flux: Flux,
    /// What runs when watched files change.
    pub watch: Watch,
    /// How manifests are validated.
    pub validation: Validation,
    /// How manifests are scanned for weaknesses.
    pub scan: Scan,
}

/// Settings of Flux.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Flux {
    /// The version of the operator.
    pub operator_version: Option<String>,
    /// The version of Flux that the operator installs.
    pub distribution_version: Option<String>,
    /// How signatures of pushed artifacts are checked.
    pub verify: FluxVerify,
}

/// How signatures of artifacts are checked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FluxVerify {
    /// What checks them.
    pub provider: Option<Verifier>,
    /// The secret with the public keys.
    pub secret_ref: SecretReference,
    /// Identities that keyless signatures may have.
    #[serde(rename = "matchOIDCIdentity")]
    pub match_oidc_identity: Vec<OidcIdentity>,
}

/// A Kubernetes Secret by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretReference {
    /// Its name.
    pub name: Option<String>,
}

/// An identity that keyless signatures may have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcIdentity {
    /// A regular expression for the issuer.
    pub issuer: Option<String>,
    /// A regular expression for the subject.
    pub subject: Option<String>,
}

/// What runs when watched files change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Watch {
    /// Commands, in order.
    pub hooks: Vec<String>,
}

/// How manifests are validated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Validation {
    /// Kinds of objects that are passed over.
    pub skip_kinds: Vec<String>,
    /// Places of schemas beside the usual ones.
    pub schema_locations: Vec<String>,
    /// Whether Helm releases are rendered and validated too.
    pub helm_render: Option<bool>,
    /// The file of further rules.
    pub rules: Option<String>,
}

/// How manifests are scanned for weaknesses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Scan {
    /// The file of findings that are accepted.
    pub exceptions: Option<String>,
    /// The frameworks that are scanned for.
    pub frameworks: Vec<String>,
    /// The score below which a scan fails.
    pub compliance_threshold: Option<i64>,
}

/// The assistant of `ksail chat`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Chat {
    /// The model.
    pub model: Option<String>,
    /// How much it thinks before it answers.
    pub reasoning_effort: Option<ReasoningEffort>,
}
