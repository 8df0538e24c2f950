//! Declarations: what the user wants, compiled to resources with edges.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Address, Digest, Origin, Origins, Path, Value};

/// What finds a resource again. Fixed in the plan, before the call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The name by which the outside knows it (a container's name, an image reference).
    pub name: String,
    /// The id that an existing thing has, where one is to be adopted by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Identity {
    /// An identity by name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), id: None }
    }
}

/// How far a dependency must be before its dependent may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The call that makes it has returned.
    Exists,
    /// It is known to those who look it up (a CRD that is established).
    Established,
    /// It is ready by its kind's measure.
    Ready,
    /// It answers requests.
    Serving,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exists => "exists",
            Self::Established => "established",
            Self::Ready => "ready",
            Self::Serving => "serving",
        })
    }
}

/// Whether an edge must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// It must hold; a cycle of hard edges is an error.
    Hard,
    /// It yields in a cycle, and the plan says so.
    Soft,
    /// It is no need: of two that change a field which is changed in turn ([`FieldSchema::in_turn`](crate::FieldSchema::in_turn)),
    /// the holder comes second. Nothing that is made, deleted or changed otherwise waits for it.
    InTurn,
}

/// What happens to a dependent when its dependency is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForceOn {
    /// Nothing.
    Nothing,
    /// It is replaced too (a container whose network is made anew).
    Replace,
}

/// A dependency: the holder of the edge needs `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// What is needed.
    pub to: Address,
    /// How far it must be.
    pub condition: Condition,
    /// Whether the edge must hold.
    pub strength: Strength,
    /// What its replacement does to the holder.
    pub on_replace: ForceOn,
    /// Where the edge came from.
    pub origin: Origin,
}

impl Edge {
    /// Whether the holder cannot do without what the edge leads to, and does not only come after it.
    pub fn is_need(&self) -> bool {
        self.strength != Strength::InTurn
    }
}

/// Whose a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    /// Ours; deleted by us.
    Owned,
    /// Ensured by several stacks; released only when no other lineage's mark remains.
    Shared,
    /// Some fields of something that is not ours; given back on destroy. They carry our mark: fields of these names without it are
    /// not ours.
    Fields,
    /// Looked at only.
    Read,
}

/// What the user said of a resource's life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifecycle {
    /// Whether it may not be deleted or replaced; `None` where nothing is said. Stored in the record, so that it outlives
    /// its declaration and its rule: only an explicit `false` gives it up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protect: Option<bool>,
    /// On replacement the new one is made first, where the kind may coexist.
    pub create_before_destroy: bool,
    /// Fields whose changes and drift are left alone.
    pub ignore: Vec<Path>,
}

impl Lifecycle {
    /// Whether it may not be deleted or replaced.
    pub fn is_protected(&self) -> bool {
        self.protect == Some(true)
    }

    /// This, said of what is recorded with `recorded`: protection stays as it is until something else is said.
    #[must_use]
    pub fn over(self, recorded: &Self) -> Self {
        let protect = match self.protect {
            Some(protect) if protect != recorded.is_protected() => Some(protect),
            _ => recorded.protect,
        };
        Self { protect, ..self }
    }
}

/// A field that is chosen at planning, and kept from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "choose")]
pub enum Choice {
    /// A TCP port on the loopback address of the machine that the provider's engine runs on.
    Port {
        /// Where in the spec the port stands.
        path: Path,
        /// Ports to try first, in order.
        preferred: Vec<u16>,
    },
    /// A text that follows from the surroundings of whoever plans first.
    Text {
        /// Where in the spec the text stands.
        path: Path,
        /// What it is here and now.
        proposed: String,
        /// What decides it, as a fragment.
        why: String,
    },
}

impl Choice {
    /// Where in the spec it stands.
    pub const fn path(&self) -> &Path {
        match self {
            Self::Port { path, .. } | Self::Text { path, .. } => path,
        }
    }
}

/// What the user wants of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration {
    /// Its name in plans and state.
    pub address: Address,
    /// The version of the kind's spec.
    pub kind_version: u32,
    /// The provider that makes it, a key of [`DeclaredGraph::providers`].
    pub provider: String,
    /// What finds it outside.
    pub identity: Identity,
    /// The wanted fields, a map in the kind's shape; fields left out are the provider's to decide.
    pub spec: Value,
    /// What it lives in, if that is a resource of the graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Address>,
    /// What it needs; the host is needed (serving) without being named here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<Edge>,
    /// Whose it is.
    pub ownership: Ownership,
    /// What the user said of its life.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Fields still to be chosen; empty in a plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// Where each leaf came from.
    #[serde(default, skip_serializing_if = "Origins::is_empty")]
    pub origins: Origins,
}

impl Declaration {
    /// Whether it is found where another one is: by the same provider, in the same host, under the same name.
    pub fn is_in_place_of(&self, other: &Self) -> bool {
        (&self.provider, &self.host, &self.identity) == (&other.provider, &other.host, &other.identity)
    }

    /// Digest of what is wanted, secrets by reference; origins do not count, so that moving a line in the
    /// file changes nothing.
    pub fn digest(&self) -> Digest {
        let spec = self.spec.map_leaves(&mut |leaf| match leaf {
            Value::Secret(secret) => Some(Value::Secret(secret.reference())),
            _ => None,
        });
        let edges: Vec<_> = self.edges.iter().map(|edge| (&edge.to, edge.condition)).collect();
        Digest::of(&(
            (&self.address, self.kind_version, &self.provider, &self.identity),
            (&spec, &self.host, edges, self.ownership, &self.lifecycle),
        ))
    }
}

/// How to reach a provider. Nothing in here is secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProviderConfig {
    /// Which provider: `docker`, `embedded`.
    pub kind: String,
    /// Its settings, in the provider's shape (a Docker context, an endpoint).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// `spec.moved[]`: a resource got another address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The address in the state.
    pub from: Address,
    /// The address from now on.
    pub to: Address,
    /// Where it is said.
    pub origin: Origin,
}

/// `spec.removed[]`: a resource is no longer declared, on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The address in the state.
    pub from: Address,
    /// Whether it is deleted outside, or only forgotten.
    pub destroy: bool,
    /// Where it is said.
    pub origin: Origin,
}

/// `spec.imports[]`: something that exists becomes ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The address from now on; it must be declared.
    pub to: Address,
    /// The name or id outside.
    pub id: String,
    /// Where it is said.
    pub origin: Origin,
}

/// All that is declared. The engine takes any number of clusters in one graph.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeclaredGraph {
    /// The resources.
    pub declarations: BTreeMap<Address, Arc<Declaration>>,
    /// How to reach each provider that the declarations name.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Addresses that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<Move>,
    /// Resources given up on purpose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Removal>,
    /// Things that exist and become ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Import>,
    /// Named outputs: what a person wants to know after an apply (endpoints, registries).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Value>,
}
