//! Custom resource definitions: established as soon as they are written, and served from then on.

use std::sync::Arc;

use ksail_kubernetes_schema::{Column, Resource, Subresource, custom_types};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{self, Api};
use crate::registry::{Custom, Kind, Of, Registry};

/// Where definitions are kept.
pub(crate) const STORE: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// Holds a definition that was deleted until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Sets the status of a definition: its names are accepted and it is established at once.
pub(crate) fn prepare(definition: &mut Value, before: Option<&Value>) {
    let names = definition["spec"]["names"].clone();
    let old = before.map_or(Value::Null, |before| before["status"].clone());
    let time = |kind: &str| {
        let conditions = old["conditions"].as_array().into_iter().flatten();
        let had = conditions
            .filter(|condition| condition["type"] == kind)
            .find_map(|condition| condition["lastTransitionTime"].as_str());
        had.map_or_else(api::now, str::to_owned)
    };
    let stored =
        definition["spec"]["versions"].as_array().into_iter().flatten().filter(|version| version["storage"] == true);
    let stored: Vec<&str> = stored.filter_map(|version| version["name"].as_str()).collect();
    let mut versions: Vec<String> =
        old["storedVersions"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    for version in stored {
        if !versions.iter().any(|had| had == version) {
            versions.push(version.to_owned());
        }
    }
    let mut conditions = vec![
        json!({"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found", "lastTransitionTime": time("NamesAccepted")}),
        json!({"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "the initial names have been accepted", "lastTransitionTime": time("Established")}),
    ];
    let others = old["conditions"].as_array().into_iter().flatten();
    conditions.extend(
        others
            .filter(|condition| {
                !["NamesAccepted", "Established"].contains(&condition["type"].as_str().unwrap_or_default())
            })
            .cloned(),
    );
    definition["status"] = json!({"acceptedNames": names, "storedVersions": versions, "conditions": conditions});
}

const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// How versions are ordered: stable before beta before alpha, newer first.
fn rank(version: &str) -> (u8, i64, i64, String) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let (major, rest) = match rest.find(|of: char| !of.is_ascii_digit()) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        let major: i64 = major.parse().ok()?;
        if rest.is_empty() {
            return Some((0, -major, 0));
        }
        let (kind, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            (Some(minor), _) => (1, minor),
            (_, Some(minor)) => (2, minor),
            _ => return None,
        };
        Some((kind, -major, -minor.parse::<i64>().ok()?))
    };
    let (kind, major, minor) = parse().unwrap_or((3, 0, 0));
    (kind, major, minor, version.to_owned())
}

#[derive(Deserialize)]
struct OnlyRevision {
    metadata: OnlyRevisionOf,
}

#[derive(Deserialize)]
struct OnlyRevisionOf {
    uid: String,
    generation: i64,
}

/// The resources of a definition, one a served version, the preferred one first.
fn kinds(definition: &Value) -> Vec<Kind> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let mut versions: Vec<&Value> =
        spec["versions"].as_array().into_iter().flatten().filter(|version| version["served"] == true).collect();
    versions.sort_by_key(|version| rank(version["name"].as_str().unwrap_or_default()));
    versions
        .into_iter()
        .map(|version| {
            let name = text(&version["name"]);
            let mut types = custom_types();
            let schema = version["schema"]["openAPIV3Schema"].clone();
            let of = types.add_schema(&schema);
            let mut subresources = Vec::new();
            if version["subresources"].get("status").is_some() {
                subresources.push(Subresource {
                    name: "status".to_owned(),
                    group: group.clone(),
                    version: name.clone(),
                    kind: text(&spec["names"]["kind"]),
                    verbs: ["get", "patch", "update"].map(str::to_owned).into(),
                });
            }
            let scale = version["subresources"].get("scale").cloned();
            if scale.is_some() {
                subresources.push(Subresource {
                    name: "scale".to_owned(),
                    group: "autoscaling".to_owned(),
                    version: "v1".to_owned(),
                    kind: "Scale".to_owned(),
                    verbs: ["get", "patch", "update"].map(str::to_owned).into(),
                });
            }
            let printer_columns = version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default();
            let resource = Resource {
                group: group.clone(),
                version: name.clone(),
                plural: plural.clone(),
                singular: text(&spec["names"]["singular"]),
                kind: text(&spec["names"]["kind"]),
                namespaced: spec["scope"] == "Namespaced",
                verbs: VERBS.map(str::to_owned).into(),
                short_names: texts(&spec["names"]["shortNames"]),
                categories: texts(&spec["names"]["categories"]),
                subresources,
                columns: columns(&printer_columns),
                of,
            };
            Kind {
                api_version: format!("{group}/{name}"),
                store: format!("{group}/{plural}").into(),
                types: Of::Custom(Arc::new(types)),
                custom: Some(Custom {
                    definition: text(&definition["metadata"]["name"]),
                    revision: (
                        text(&definition["metadata"]["uid"]),
                        definition["metadata"]["generation"].as_i64().unwrap_or_default(),
                    ),
                    scale,
                    printer_columns,
                    schema,
                }),
                resource,
            }
        })
        .collect()
}

fn columns(printer: &[Value]) -> Vec<Column> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = Column { name: "Name".to_owned(), of: "string".to_owned(), format: "name".to_owned(), priority: 0 };
    let own = printer.iter().map(|column| Column {
        name: text(&column["name"]),
        of: text(&column["type"]),
        format: text(&column["format"]),
        priority: column["priority"].as_i64().and_then(|priority| i32::try_from(priority).ok()).unwrap_or_default(),
    });
    let mut all: Vec<Column> = std::iter::once(name).chain(own).collect();
    if printer.is_empty() {
        all.push(Column { name: "Age".to_owned(), of: "date".to_owned(), format: String::new(), priority: 0 });
    }
    all
}

impl Api {
    /// Serves what the definitions in the store define. Definitions that did not change keep their types.
    pub(crate) fn load_definitions(&self) {
        let (_, definitions) = self.store.list(STORE, None);
        let before = self.registry();
        let mut registry = Registry::builtin();
        for ((_, name), entry) in definitions {
            let known = serde_json::from_slice::<OnlyRevision>(&entry.json).ok().map(|only| {
                let revision = (only.metadata.uid, only.metadata.generation);
                before.of_definition(&name, &revision)
            });
            match known.filter(|known| !known.is_empty()) {
                Some(known) => known.into_iter().for_each(|kind| registry.add(kind)),
                None => kinds(&entry.object()).into_iter().for_each(|kind| registry.add(Arc::new(kind))),
            }
        }
        self.set_registry(registry);
    }
}
