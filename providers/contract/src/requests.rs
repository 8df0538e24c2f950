//! What crosses the contract.

use std::collections::BTreeMap;

use ksail_model::{Address, Identity, Mark, Observation, Ownership, Path, Scope, Seen, Value};
use serde::{Deserialize, Serialize};

use crate::SecretText;

/// The resource that a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its address (its kind stands there).
    pub address: Address,
    /// The version of the spec's shape.
    pub kind_version: u32,
    /// What finds it.
    pub identity: Identity,
    /// The id that the outside gave it, if it is known.
    pub id: Option<String>,
    /// The declared spec or the one last applied, so that a provider can tell which fields to report.
    pub spec: Option<Value>,
    /// Whose it is.
    pub ownership: Ownership,
}

/// What a batch observation gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObserveReply {
    /// Which outside answered.
    pub scope: Scope,
    /// One observation a target, in the targets' order.
    pub observations: Vec<Observation>,
}

/// What to preview: a change of an existing resource, or a creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewRequest {
    /// The resource, with the declared spec.
    pub target: Target,
    /// Its fields now; `None` if it would be created.
    pub current: Option<Value>,
    /// What it needs of what the same plan makes before it.
    #[serde(default)]
    pub comes_after: Vec<Identity>,
}

/// A creation. The mark is written onto the thing, in the same call that makes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateRequest {
    /// The resource, with its spec; all references are resolved, secrets stand as references with
    /// fingerprints.
    pub target: Target,
    /// Lineage, address, operation and generation to write onto it.
    pub mark: Mark,
    /// The texts of the secrets in the spec, by path.
    pub secrets: BTreeMap<Path, SecretText>,
}

/// A change in place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpdateRequest {
    /// The resource, with the wanted spec.
    pub target: Target,
    /// The mark as it shall be afterwards.
    pub mark: Mark,
    /// Our fields as last seen.
    pub current: Value,
    /// Which fields differ. Nothing else may be changed, also where the spec says otherwise: an ignored secret that was
    /// changed outside stands in the spec as it was declared, for nobody here knows its text.
    pub changed: Vec<Path>,
    /// The texts of the secrets in the spec, by path.
    pub secrets: BTreeMap<Path, SecretText>,
}

/// A deletion. All that it needs stands here: the declaration may be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// The resource, with the spec last applied.
    pub target: Target,
    /// The lineage and generation whose mark the thing must carry. A thing without it is not touched, unless it
    /// was adopted (then `adopted` is true and the id must match).
    pub mark: Mark,
    /// Whether it became ours by import and may lack the mark.
    pub adopted: bool,
    /// Attributes as recorded.
    pub attributes: Value,
}

/// What a deletion found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deleted {
    /// It was there and is gone.
    Gone,
    /// It was not there.
    WasAbsent,
    /// It stays for others (shared ownership); our mark on it is gone.
    Released,
}

/// Wait until ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitRequest {
    /// The resource, with the wanted spec.
    pub target: Target,
}

/// A deletion or a change that shall be foretold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastRequest {
    /// The resource: with the spec last applied if it goes, with the declared one if it changes.
    pub target: Target,
    /// What shall become of it.
    pub what: Forecast,
}

/// What shall become of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forecast {
    /// It goes, if only to be made anew.
    Deletion,
    /// It changes in place, in a field that is changed on one resource after the other.
    Change,
}

/// A thing as it is after a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Which outside it is in.
    pub scope: Scope,
    /// The thing.
    pub seen: Seen,
}

/// A port that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortInUse {
    /// The port of the engine's machine.
    pub port: u16,
    /// What holds it, in words; at least that something does.
    pub holder: String,
    /// The lineage of what holds it, where that carries a mark.
    pub lineage: Option<String>,
}

/// A thing that carries a mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// Its kind (`network`, `registry`).
    pub kind: String,
    /// What finds it.
    pub identity: Identity,
    /// The thing, with its mark.
    pub seen: Seen,
    /// A label with the declared spec's digest may be absent; what the provider can tell of the spec is
    /// `seen.fields`. This is the ownership by which it was made.
    pub ownership: Ownership,
}
