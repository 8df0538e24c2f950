//! One object of a manifest.

use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use ksail_model::{Address, Path, Secret, SecretPart, Step, Value};

use super::{KIND, Scopes, namespace_path, scalar, secret_value};
use crate::tree::{Data, Entry, Node, Place};

/// The namespace of what names none and needs one.
const DEFAULT_NAMESPACE: &str = "default";
/// Stands in a name where there is no namespace.
const NO_NAMESPACE: &str = "_";
/// What the server writes into an object, and manifests that were read from a cluster still have.
const SERVER_FIELDS: [&str; 6] =
    ["creationTimestamp", "resourceVersion", "uid", "generation", "managedFields", "selfLink"];
/// kubectl's own note, which holds the whole object, values of Secrets among it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How deep the places of fields are kept. Below that, the nearest above counts.
const PLACES_DEPTH: usize = 2;
/// How annotations begin that are said to ksail, and those there are.
const OURS: &str = "ksail.io/";
pub(super) const AFTER: &str = "ksail.io/after";
pub(super) const READY: &str = "ksail.io/ready";
const WAIT: &str = "ksail.io/wait";
const CONFLICTS: &str = "ksail.io/conflicts";
/// What ksail writes onto objects, and manifests that were read from a cluster still have.
const MARKS: [&str; 5] =
    ["ksail.io/lineage", "ksail.io/address", "ksail.io/operation", "ksail.io/generation", "ksail.io/fingerprints"];

/// One object.
pub(crate) struct Object {
    pub(crate) group: String,
    pub(crate) kind: String,
    namespace: Option<String>,
    name: String,
    pub(crate) spec: Value,
    /// Where its upper fields stand.
    pub(crate) places: Vec<(Path, Place)>,
    /// What its annotations say to ksail, by their names, each with its place.
    said: Vec<(String, String, Place)>,
    /// What the values of a Secret are taken from, and where that stands.
    pub(super) sources: Vec<(SecretPart, Place)>,
    /// Keys whose values are not base64 where that must stand, with the values' places.
    pub(super) not_base64: Vec<(String, Place)>,
}

/// Why a document is no object.
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) hint: &'static str,
    pub(crate) place: Option<Place>,
}

fn problem(message: impl Into<String>, hint: &'static str, place: Option<Place>) -> Problem {
    Problem { message: message.into(), hint, place }
}

/// The annotations that are said to ksail. A name or a word that there is not says nothing, so it is an error.
fn said(node: &Node) -> Result<Vec<(String, String, Place)>, Problem> {
    let annotations = node.entry("metadata").and_then(|metadata| metadata.value.entry("annotations"));
    let Some(Data::Map(entries)) = annotations.map(|entry| &entry.value.data) else { return Ok(Vec::new()) };
    let mut said = Vec::new();
    for entry in entries.iter().filter(|entry| entry.key.starts_with(OURS) && !MARKS.contains(&entry.key.as_str())) {
        let Data::Scalar { text, .. } = &entry.value.data else { continue };
        let place = Some(entry.value.place);
        match (entry.key.as_str(), text.as_str()) {
            (AFTER | READY, _) | (WAIT, "true" | "false") | (CONFLICTS, "take") => {}
            (WAIT, _) => {
                return Err(problem(format!("`{WAIT}` cannot be `{text}`"), "it is \"true\" or \"false\"", place));
            }
            (CONFLICTS, _) => return Err(problem(format!("`{CONFLICTS}` cannot be `{text}`"), "it is `take`", place)),
            (name, _) => {
                let hint = "there are `ksail.io/after`, `ksail.io/ready`, `ksail.io/wait` and `ksail.io/conflicts`";
                return Err(problem(format!("there is no annotation `{name}`"), hint, Some(entry.key_place)));
            }
        }
        said.push((entry.key.clone(), text.clone(), entry.value.place));
    }
    Ok(said)
}

fn text_of<'a>(node: &'a Node, path: &[&str]) -> Option<&'a str> {
    let found = path.iter().try_fold(node, |node, key| node.entry(key).map(|entry| &entry.value))?;
    match &found.data {
        Data::Scalar { text, .. } if !found.is_null() && !text.is_empty() => Some(text),
        _ => None,
    }
}

/// Base64 as the server reads it: with padding, and without regard to bits that count for nothing.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The entries of a map within an object.
fn map_of<'a>(node: &'a Node, key: &str) -> &'a [Entry] {
    match node.entry(key).map(|entry| &entry.value.data) {
        Some(Data::Map(entries)) => entries,
        _ => &[],
    }
}

/// A value that is no base64: its key, and where it stands. The server reads it as Go does, for which line breaks do not count.
fn not_base64(part: &str, entry: &Entry) -> Option<(String, Place)> {
    let Data::Scalar { text, .. } = &entry.value.data else { return None };
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let is_wrong = !entry.value.is_null() && BASE64.decode(&text).is_err();
    is_wrong.then(|| (format!("{part}.{}", entry.key), entry.value.place))
}

impl Object {
    /// Reads an object from a document, or from a list within one.
    pub(crate) fn read(node: &Node, file: &str, document: usize, at: &Path) -> Result<Self, Problem> {
        let Data::Map(_) = node.data else {
            return Err(problem(
                format!("a manifest holds {}, not an object", node.type_name()),
                "an object is a map with apiVersion, kind and metadata",
                None,
            ));
        };
        let api_version = text_of(node, &["apiVersion"])
            .ok_or_else(|| problem("`apiVersion` is missing", "an object begins with apiVersion and kind", None))?;
        let kind = text_of(node, &["kind"])
            .ok_or_else(|| problem("`kind` is missing", "an object begins with apiVersion and kind", None))?;
        let Some(name) = text_of(node, &["metadata", "name"]) else {
            let place = node.entry("metadata").map(|entry| entry.key_place);
            let hint = match text_of(node, &["metadata", "generateName"]) {
                Some(_) => "a name that the server makes up cannot be found again: write `metadata.name`",
                None => "every object has `metadata.name`",
            };
            return Err(problem("`metadata.name` is missing", hint, place));
        };
        if api_version == "kustomize.config.k8s.io/v1beta1" {
            let hint = "name the files that it lists in `spec.manifests`";
            return Err(problem("kustomizations are not built yet", hint, None));
        }
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let is_secret = group.is_empty() && kind == "Secret";
        let mut object = Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: text_of(node, &["metadata", "namespace"]).map(str::to_owned),
            name: name.to_owned(),
            spec: Value::Null,
            places: Vec::new(),
            said: said(node)?,
            sources: Vec::new(),
            not_base64: Vec::new(),
        };
        object.collect_places(node, &Path::root());
        let spec = value(node);
        object.spec = cleaned(spec);
        if is_secret {
            object.hide_data(node, file, document, at)?;
        }
        if group.is_empty() && kind == "ConfigMap" {
            for entry in map_of(node, "binaryData") {
                object.not_base64.extend(not_base64("binaryData", entry));
            }
        }
        Ok(object)
    }

    fn collect_places(&mut self, node: &Node, path: &Path) {
        let Data::Map(entries) = &node.data else { return };
        for entry in entries {
            let below = path.child_key(entry.key.clone());
            self.places.push((below.clone(), entry.value.place));
            if below.steps().len() < PLACES_DEPTH {
                self.collect_places(&entry.value, &below);
            }
        }
    }

    /// Replaces the values of a Secret by references: to what they name where they are nothing but that, else to the manifest.
    fn hide_data(&mut self, node: &Node, file: &str, document: usize, at: &Path) -> Result<(), Problem> {
        let Value::Map(map) = &mut self.spec else { return Ok(()) };
        for part in ["data", "stringData"] {
            let Some(Data::Map(entries)) = node.entry(part).map(|entry| &entry.value.data) else { continue };
            let mut hidden = std::collections::BTreeMap::new();
            for entry in entries.iter().filter(|entry| !entry.value.is_null()) {
                let Data::Scalar { text, .. } = &entry.value.data else { continue };
                let place = entry.value.place;
                let named = secret_value::reference(text, part == "data").map_err(|(wrong, hint)| {
                    problem(format!("the value of `{part}.{}` {wrong}", entry.key), hint, Some(place))
                })?;
                if let Some(Value::Secret(secret)) = &named {
                    self.sources.extend(secret.parts.iter().map(|part| (part.clone(), place)));
                }
                if named.is_none() && part == "data" {
                    self.not_base64.extend(not_base64(part, entry));
                }
                let value = named.unwrap_or_else(|| {
                    let path = at.child_key(part).child_key(entry.key.clone());
                    let part = SecretPart::Manifest { file: file.to_owned(), document, path };
                    Value::Secret(Secret { parts: vec![part], fingerprint: None })
                });
                hidden.insert(entry.key.clone(), value);
            }
            map.insert(part.to_owned(), Value::map(hidden));
        }
        Ok(())
    }

    /// What an annotation says to ksail, and where.
    pub(crate) fn said(&self, annotation: &str) -> Option<(&str, Place)> {
        self.said.iter().find(|(name, _, _)| name == annotation).map(|(_, text, place)| (text.as_str(), *place))
    }

    /// Decides its namespace. Answers whether that was left out and is the default one.
    pub(crate) fn settle_namespace(&mut self, scopes: &Scopes) -> bool {
        let is_namespaced = scopes.is_namespaced(&self.group, &self.kind);
        match (is_namespaced, &self.namespace) {
            (Some(false), Some(_)) => {
                self.namespace = None;
                if let Some(Value::Map(metadata)) = self.spec.field("metadata").cloned() {
                    let kept = metadata.into_iter().filter(|(key, _)| key != "namespace");
                    self.spec.set(&Path::key("metadata"), Value::map(kept));
                }
                false
            }
            (Some(true), None) => {
                self.namespace = Some(DEFAULT_NAMESPACE.to_owned());
                self.spec.set(&namespace_path(), Value::from(DEFAULT_NAMESPACE));
                true
            }
            _ => false,
        }
    }

    /// The kind with its group.
    pub(crate) fn group_kind(&self) -> String {
        group_kind(&self.group, &self.kind)
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// What finds it: `apps.Deployment/web/shop`.
    pub(crate) fn name(&self) -> String {
        full_name(&self.group, &self.kind, self.namespace(), &self.name)
    }

    pub(crate) fn address(&self, cluster: &str) -> Address {
        Address::new(cluster, KIND, &[&self.group_kind(), self.namespace().unwrap_or(NO_NAMESPACE), &self.name])
    }

    pub(crate) fn text(&self, path: &[&str]) -> Option<&str> {
        at(&self.spec, path)?.as_str()
    }

    /// The group and kind that it defines, if it is a CustomResourceDefinition.
    pub(crate) fn defines(&self) -> Option<(&str, &str)> {
        if self.group != "apiextensions.k8s.io" || self.kind != "CustomResourceDefinition" {
            return None;
        }
        Some((self.text(&["spec", "group"])?, self.text(&["spec", "names", "kind"])?))
    }
}

pub(crate) fn group_kind(group: &str, kind: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{group}.{kind}") }
}

/// `apps.Deployment/web/shop`.
pub(crate) fn full_name(group: &str, kind: &str, namespace: Option<&str>, name: &str) -> String {
    format!("{}/{}/{name}", group_kind(group, kind), namespace.unwrap_or(NO_NAMESPACE))
}

/// The value at a path of keys.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.field(key))
}

/// A node as a value, with numbers as Kubernetes reads them. What is null is left out.
fn value(node: &Node) -> Value {
    match &node.data {
        Data::List(list) => Value::List(list.iter().map(value).collect()),
        Data::Map(entries) => Value::map(
            entries.iter().filter(|entry| !entry.value.is_null()).map(|entry| (entry.key.clone(), value(&entry.value))),
        ),
        Data::Scalar { text, plain } => scalar::value(text, *plain),
    }
}

/// Without what only the server writes.
fn cleaned(mut spec: Value) -> Value {
    if let Value::Map(map) = &mut spec {
        map.remove("status");
    }
    let Some(Value::Map(mut metadata)) = spec.field("metadata").cloned() else { return spec };
    for field in SERVER_FIELDS {
        metadata.remove(field);
    }
    for part in ["annotations", "labels"] {
        let Some(Value::Map(mut entries)) = metadata.get(part).cloned() else { continue };
        let removed = MARKS.iter().chain([&LAST_APPLIED]).filter(|written| entries.remove(**written).is_some()).count();
        match (removed, entries.is_empty()) {
            (0, _) => {}
            (_, true) => drop(metadata.remove(part)),
            (_, false) => drop(metadata.insert(part.to_owned(), Value::Map(entries))),
        }
    }
    spec.set(&Path::from(vec![Step::Key("metadata".to_owned())]), Value::Map(metadata));
    spec
}
