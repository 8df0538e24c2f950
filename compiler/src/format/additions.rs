//! Sections that this format has beside those that KSail's users know.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::autoscaler::Taint;
use super::words::{NodeRole, StateBackend};

/// The log of who asked the API server for what. It lies on the control planes below `/var/log/kubernetes/audit`, where `ksail cluster logs`
/// finds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Audit {
    /// A file with an audit policy (`audit.k8s.io/v1`), relative to the project's folder. What it logs of requests may hold secrets.
    #[schemars(extend("x-ksail-default-note" = "who asked for what and when, never what was said, and no watches of the nodes' own"))]
    pub policy: Option<String>,
}

/// A pull-through mirror.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MirrorEntry {
    /// The registry host whose images it answers for, such as `docker.io` or `registry.example.com:5000`.
    #[schemars(regex(pattern = r"^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?$"), extend("x-ksail-form" = "a host such as `ghcr.io` or `registry.example.com:5000`, without a scheme"))]
    pub host: String,
    /// Where it pulls from: a URL with `https://` or `http://`, or a bare host. Left out, it is `https://registry-1.docker.io` for `docker.io` and
    /// `https://<host>` for every other. Credentials may stand in it: `https://user:${TOKEN}@registry.example.com`.
    #[serde(default)]
    #[schemars(extend("x-ksail-credential" = "userinfo", "x-ksail-default-note" = "by host"))]
    pub upstream: Option<String>,
    /// The user at the upstream, as text or as `${VAR}`.
    #[serde(default)]
    #[schemars(extend("x-ksail-credential" = "username"))]
    pub username: Option<String>,
    /// The password or token at the upstream, only ever as `${VAR}`.
    #[serde(default)]
    #[schemars(extend("x-ksail-credential" = "secret"))]
    pub password: Option<String>,
    /// The port on this machine. Left out, a free one is chosen when planning, and kept from then on.
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-ksail-default-note" = "a free one from 5051"))]
    pub port: Option<u16>,
}

/// Objects of Kubernetes that are declared. An entry that only has a path may be that path alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = or_its_path)]
pub struct ManifestEntry {
    /// A file, a folder with all below it, or a pattern such as `apps/**/*.yaml`, relative to the project's folder.
    pub path: String,
    /// What all objects of the entry wait for until it is ready, where their fields do not tell: addresses or the beginnings of
    /// some in whole parts, such as `object/Namespace` or `object/apps.Deployment/web/migrations`, or the path of another entry,
    /// for all of its objects. What of it is in the entry itself is left out.
    #[serde(default)]
    pub after: Vec<String>,
}

/// The schema of a map that may also be written as the text of its required field.
fn or_its_path(schema: &mut Schema) {
    let whole = std::mem::take(schema);
    schema.insert("anyOf".to_owned(), serde_json::json!([{"type": "string"}, whole]));
}

/// Labels and taints of some nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeRule {
    /// The node, as in its address: `worker-0`.
    pub name: Option<String>,
    /// All nodes of a role.
    pub role: Option<NodeRole>,
    /// Labels that they carry beside those of their role.
    pub labels: BTreeMap<String, String>,
    /// Taints that they carry beside that of a control plane.
    pub taints: Vec<Taint>,
}

/// A rewrite of image references.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRewrite {
    /// The beginning of full references that is replaced, in whole parts: `docker.io` or `docker.io/library`.
    pub from: String,
    /// What stands there instead: `registry.example.com/proxy`.
    pub to: String,
}

/// Where the state is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// The kind of store; it must be that of the path.
    #[schemars(extend("x-ksail-default" = "that of the path"))]
    pub backend: Option<StateBackend>,
    /// A folder, relative to the project's; or a store that a team shares: `s3://bucket/prefix`, `postgres://user@host/database`. Passwords come by the environment.
    #[schemars(extend("x-ksail-default" = ".ksail"))]
    pub path: Option<String>,
    /// The endpoint of an S3-compatible store that is not AWS.
    #[schemars(extend("x-ksail-default" = "AWS_ENDPOINT_URL, else that of AWS"))]
    pub endpoint: Option<String>,
    /// The region of the bucket.
    #[schemars(extend("x-ksail-default" = "AWS_REGION, else us-east-1"))]
    pub region: Option<String>,
    /// How long the lock of a shared store holds without being renewed, when its holder is gone.
    #[schemars(regex(pattern = r"^[0-9]+(s|m|h)$"), extend("x-ksail-form" = "a duration such as `30s`", "x-ksail-default" = "30s"))]
    pub lease: Option<String>,
    /// How much of the history a shared store keeps.
    pub history: StateHistory,
}

/// How much of the history a shared store keeps. A local folder keeps all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StateHistory {
    /// The newest so many operations.
    #[schemars(range(min = 1), extend("x-ksail-default" = 1000))]
    pub count: Option<u32>,
    /// Only operations that are not older than this when the newest is stored.
    #[schemars(regex(pattern = r"^[0-9]+(s|m|h)$"), extend("x-ksail-form" = "a duration such as `2160h`", "x-ksail-default" = "any age"))]
    pub age: Option<String>,
}

impl State {
    /// The place as it is written: a folder relative to the project's, or an address.
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or(".ksail")
    }
}

/// A rule for the life of resources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LifecycleRule {
    /// Which resources: an address or the beginning of one in whole parts, such as `volume` or `registry/local`; the cluster may be left out.
    pub r#match: String,
    /// Refuse every plan that deletes or replaces them. This outlives the declaration and the rule: the state keeps it until a rule says `false`.
    #[serde(default)]
    pub protect: Option<bool>,
    /// Where one is replaced, make the new one before the old one is deleted. Refused for kinds whose names or ports are fixed.
    #[serde(default)]
    pub create_before_destroy: Option<bool>,
    /// Fields whose changes and drift are left alone, as paths such as `running` or `env.LOG_LEVEL`. An update of something else sends
    /// them as they are outside; what is made anew is made as declared.
    #[serde(default)]
    pub ignore: Vec<String>,
}

/// A resource that got another address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MovedEntry {
    /// The address it had; the cluster may be left out.
    pub from: String,
    /// The address it has from now on; the cluster may be left out.
    pub to: String,
}

/// A resource that is given up on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemovedEntry {
    /// The address it had; the cluster may be left out.
    pub from: String,
    /// Whether it is deleted, or only forgotten and left as it is.
    #[serde(default)]
    #[schemars(extend("x-ksail-default" = true))]
    pub destroy: Option<bool>,
}

/// Something that exists already and becomes ours.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportEntry {
    /// The address it gets, which the file must declare; the cluster may be left out.
    pub to: String,
    /// Its name or id outside.
    pub id: String,
}
