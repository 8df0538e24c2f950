//! The resources that are served: the built-in ones, and those that custom resource definitions add.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use ksail_kubernetes_schema::{Resource, TypeId, Types, builtin};
use serde_json::Value;

/// Types: the built-in ones, or those of a custom resource.
#[derive(Debug, Clone)]
pub(crate) enum Of {
    Builtin(&'static Types),
    Custom(Arc<Types>),
}

impl Deref for Of {
    type Target = Types;

    fn deref(&self) -> &Types {
        match self {
            Self::Builtin(types) => types,
            Self::Custom(types) => types,
        }
    }
}

/// What a custom resource definition adds to a resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct Custom {
    /// The name of the definition.
    pub(crate) definition: String,
    /// The definition's uid and generation, by which a changed one is told from the same.
    pub(crate) revision: (String, i64),
    /// Where scale finds its numbers, as the definition has it.
    pub(crate) scale: Option<Value>,
    /// The additional columns of its table, as the definition has them.
    pub(crate) printer_columns: Vec<Value>,
    /// Its schema, as the definition has it.
    pub(crate) schema: Value,
}

/// A resource that is served, in one version.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) resource: Resource,
    /// Where its objects are kept: `<group>/<plural>`, equal for all versions.
    pub(crate) store: Arc<str>,
    pub(crate) types: Of,
    pub(crate) custom: Option<Custom>,
    pub(crate) api_version: String,
}

impl Kind {
    pub(crate) fn of(&self) -> TypeId {
        self.resource.of
    }

    pub(crate) fn group(&self) -> &str {
        &self.resource.group
    }

    pub(crate) fn plural(&self) -> &str {
        &self.resource.plural
    }

    pub(crate) fn kind(&self) -> &str {
        &self.resource.kind
    }

    pub(crate) fn has_status(&self) -> bool {
        self.resource.subresource("status").is_some()
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }

    /// The path of the resource, or of an object.
    pub(crate) fn is_builtin(&self) -> bool {
        self.custom.is_none()
    }
}

/// Where the objects of a resource are kept. Events have one place for both groups that serve them.
fn place(group: &str, plural: &str) -> Arc<str> {
    let group = if plural == "events" && group == "events.k8s.io" { "" } else { group };
    format!("{group}/{plural}").into()
}

/// All resources.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry {
    /// Groups in the order of discovery, with their versions, the preferred one first.
    pub(crate) groups: Vec<(String, Vec<String>)>,
    kinds: HashMap<(String, String), BTreeMap<String, Arc<Kind>>>,
}

impl Registry {
    /// The built-in resources.
    pub(crate) fn builtin() -> Self {
        let catalog = builtin();
        let mut registry = Self::default();
        for resource in catalog.resources() {
            let kind = Kind {
                store: place(&resource.group, &resource.plural),
                types: Of::Builtin(&catalog.types),
                custom: None,
                api_version: resource.api_version(),
                resource: resource.clone(),
            };
            registry.add(Arc::new(kind));
        }
        registry
    }

    /// Adds a resource.
    pub(crate) fn add(&mut self, kind: Arc<Kind>) {
        let (group, version) = (kind.resource.group.clone(), kind.resource.version.clone());
        match self.groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, versions)) => {
                if !versions.contains(&version) {
                    versions.push(version.clone());
                }
            }
            None => self.groups.push((group.clone(), vec![version.clone()])),
        }
        self.kinds.entry((group, version)).or_default().insert(kind.resource.plural.clone(), kind);
    }

    /// The resource of a path.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.kinds.get(&(group.to_owned(), version.to_owned()))?.get(plural)
    }

    /// The resource of a kind.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kinds = self.kinds.get(&(group.to_owned(), version.to_owned()))?;
        kinds.values().find(|known| known.resource.kind == kind)
    }

    /// The resource in the version that a group prefers.
    pub(crate) fn preferred(&self, group: &str, plural: &str) -> Option<&Arc<Kind>> {
        let (_, versions) = self.groups.iter().find(|(name, _)| name == group)?;
        versions.iter().find_map(|version| self.find(group, version, plural))
    }

    /// The resource whose objects are kept in a place.
    pub(crate) fn by_store(&self, store: &str) -> Option<&Arc<Kind>> {
        let (group, plural) = store.split_once('/')?;
        self.preferred(group, plural)
    }

    /// The resources of one state of a definition, the preferred version first.
    pub(crate) fn of_definition(&self, name: &str, revision: &(String, i64)) -> Vec<Arc<Kind>> {
        let of = |kind: &&Arc<Kind>| {
            kind.custom.as_ref().is_some_and(|custom| custom.definition == name && custom.revision == *revision)
        };
        let versions =
            self.groups.iter().flat_map(|(group, versions)| versions.iter().map(move |version| (group, version)));
        let kinds = versions.filter_map(|(group, version)| self.of_version(group, version));
        kinds.flat_map(BTreeMap::values).filter(of).cloned().collect()
    }

    /// The resources of a version, by plural.
    pub(crate) fn of_version(&self, group: &str, version: &str) -> Option<&BTreeMap<String, Arc<Kind>>> {
        self.kinds.get(&(group.to_owned(), version.to_owned()))
    }
}
