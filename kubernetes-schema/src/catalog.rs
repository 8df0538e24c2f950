//! The built-in groups, versions and resources.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::reader::GoType;
use crate::types::{Numbers, TypeId, Types, Zero};

/// The data, made by `cargo xtask kubernetes-schema`.
const DATA: &str = include_str!("../data/kubernetes.json");

/// A table's column.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Column {
    /// Its title.
    pub name: String,
    /// The type of its cells, as OpenAPI names it.
    #[serde(rename = "type")]
    pub of: String,
    /// The format of its cells.
    pub format: String,
    /// 0 is always shown; more is shown when asked for all.
    pub priority: i32,
}

/// A part of a resource with verbs of its own, such as `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// Its name.
    pub name: String,
    /// The group of what it takes and answers.
    pub group: String,
    /// The version of it.
    pub version: String,
    /// The kind of it.
    pub kind: String,
    /// The verbs, such as `get`.
    pub verbs: Vec<String>,
}

/// A resource of one group and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The group; empty for the core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The name in paths, such as `deployments`.
    pub plural: String,
    /// The singular name.
    pub singular: String,
    /// The kind of the objects.
    pub kind: String,
    /// Whether the objects live in namespaces.
    pub namespaced: bool,
    /// The verbs, such as `get`.
    pub verbs: Vec<String>,
    /// Short names, such as `deploy`.
    pub short_names: Vec<String>,
    /// Categories, such as `all`.
    pub categories: Vec<String>,
    /// Its subresources.
    pub subresources: Vec<Subresource>,
    /// The columns of its table.
    pub columns: Vec<Column>,
    /// The type of its objects within the catalog's types.
    pub of: TypeId,
}

impl Resource {
    /// A subresource by name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// `v1` or `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// A version of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its name.
    pub name: String,
    /// Its resources.
    pub resources: Vec<Resource>,
}

/// A group with its versions, the preferred one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name; empty for the core.
    pub name: String,
    /// Its versions.
    pub versions: Vec<Version>,
}

/// The built-in groups and types.
#[derive(Debug)]
pub struct Catalog {
    /// The version of the server that described them, such as `v1.36.3`.
    pub version: String,
    /// The groups in the order of their priority.
    pub groups: Vec<Group>,
    /// The types.
    pub types: Types,
    /// The types of kinds.
    kinds: HashMap<(String, String, String), TypeId>,
}

impl Catalog {
    /// The type of a kind.
    #[must_use]
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        self.kinds.get(&(group.to_owned(), version.to_owned(), kind.to_owned())).copied()
    }

    /// All resources.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.groups.iter().flat_map(|group| &group.versions).flat_map(|version| &version.resources)
    }
}

/// The catalog of the built-in groups. It is read at its first use, which takes some milliseconds.
pub fn builtin() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
        let data: Data = serde_json::from_str(DATA).expect("the committed data is what this version reads");
        data.catalog()
    });
    &CATALOG
}

/// The schemas of the built-in types as OpenAPI has them, without descriptions. Each call reads the data anew.
#[must_use]
pub fn builtin_types_json() -> Map<String, Value> {
    #[derive(Deserialize)]
    struct Only {
        types: Map<String, Value>,
    }
    let data: Only = serde_json::from_str(DATA).expect("the committed data is what this version reads");
    data.types
}

/// The types to which the schemas of custom resources are added: those of the metadata of objects.
#[must_use]
pub fn custom_types() -> Types {
    static BASE: LazyLock<Types> = LazyLock::new(|| {
        let data: Data = serde_json::from_str(DATA).expect("the committed data is what this version reads");
        let needed = ["ObjectMeta", "OwnerReference", "ManagedFieldsEntry", "FieldsV1", "Time"];
        let meta = |name: &String| {
            name.strip_prefix("io.k8s.apimachinery.pkg.apis.meta.v1.").is_some_and(|name| needed.contains(&name))
        };
        let named = data.types.into_iter().filter(|(name, _)| meta(name)).collect();
        let zeros = data.zeros.into_iter().map(|(name, zeros)| (name, zeros.read())).collect();
        let mut types = Types::default();
        types.add_named(&named, &zeros);
        types
    });
    BASE.clone()
}

#[derive(Deserialize)]
struct Data {
    version: String,
    groups: Vec<DataGroup>,
    types: Map<String, Value>,
    zeros: HashMap<String, DataZeros>,
    columns: HashMap<String, Vec<Column>>,
}

#[derive(Deserialize)]
struct DataZeros {
    #[serde(default)]
    omitted: Vec<String>,
    #[serde(default)]
    written: Vec<String>,
    #[serde(default)]
    numbers: Numbers,
}

#[derive(Deserialize)]
struct DataGroup {
    metadata: DataName,
    versions: Vec<DataVersion>,
}

#[derive(Deserialize)]
struct DataName {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct DataVersion {
    version: String,
    resources: Vec<DataResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataResource {
    resource: String,
    response_kind: DataKind,
    scope: String,
    singular_resource: String,
    verbs: Vec<String>,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    subresources: Vec<DataSubresource>,
}

#[derive(Deserialize)]
struct DataKind {
    group: String,
    version: String,
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataSubresource {
    subresource: String,
    response_kind: DataKind,
    verbs: Vec<String>,
}

impl Data {
    fn catalog(self) -> Catalog {
        let zeros = self.zeros.into_iter().map(|(name, zeros)| (name, zeros.read())).collect();
        let mut types = Types::default();
        types.add_named(&self.types, &zeros);
        let mut kinds = HashMap::new();
        for (name, schema) in &self.types {
            let Some(of) = types.named(name) else { continue };
            let known = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
            for kind in known.into_iter().flatten() {
                let text = |key: &str| kind.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                kinds.insert((text("group"), text("version"), text("kind")), of);
            }
        }
        let mut columns = self.columns;
        let groups = self.groups.into_iter().map(|group| group.read(&kinds, &mut columns)).collect();
        Catalog { version: self.version, groups, types, kinds }
    }
}

impl DataZeros {
    fn read(self) -> GoType {
        let omitted = self.omitted.into_iter().map(|field| (field, Zero::Omitted));
        let zeros = omitted.chain(self.written.into_iter().map(|field| (field, Zero::Written))).collect();
        GoType { zeros, numbers: self.numbers }
    }
}

impl DataGroup {
    fn read(
        self,
        kinds: &HashMap<(String, String, String), TypeId>,
        columns: &mut HashMap<String, Vec<Column>>,
    ) -> Group {
        let group = self.metadata.name;
        let mut read_resource = |version: &str, data: DataResource| {
            let or = |given: String, own: &str| if given.is_empty() { own.to_owned() } else { given };
            let subresources = data.subresources.into_iter().map(|sub| Subresource {
                name: sub.subresource,
                // An empty version is that of the resource itself; an empty group may be the core's.
                group: if sub.response_kind.version.is_empty() { group.clone() } else { sub.response_kind.group },
                version: or(sub.response_kind.version, version),
                kind: sub.response_kind.kind,
                verbs: sub.verbs,
            });
            let kind = data.response_kind.kind;
            let own = (group.clone(), version.to_owned(), kind.clone());
            Resource {
                subresources: subresources.collect(),
                columns: columns.remove(&format!("{group}/{version}/{}", data.resource)).unwrap_or_default(),
                of: kinds.get(&own).copied().unwrap_or(TypeId::ANY),
                group: own.0,
                version: own.1,
                plural: data.resource,
                singular: data.singular_resource,
                kind,
                namespaced: data.scope == "Namespaced",
                verbs: data.verbs,
                short_names: data.short_names,
                categories: data.categories,
            }
        };
        let versions = self.versions.into_iter().map(|version| {
            let resources = version.resources.into_iter().map(|data| read_resource(&version.version, data)).collect();
            Version { name: version.version, resources }
        });
        let versions = versions.collect();
        Group { versions, name: group }
    }
}
