//! Patches of what kubeadm is told: merge patches (RFC 7386) and JSON patches (RFC 6902), as kind takes them.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::lists;
use crate::tree::Texts;
use crate::yaml;

/// A JSON patch, and which document it is for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JsonPatch {
    #[serde(default)]
    group: String,
    #[serde(default)]
    version: String,
    kind: String,
    /// Operations, as a text of YAML.
    patch: String,
}

/// One operation of a JSON patch.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Operation {
    Add { path: String, value: Json },
    Remove { path: String },
    Replace { path: String, value: Json },
    Move { from: String, path: String },
    Copy { from: String, path: String },
    Test { path: String, value: Json },
}

/// Operations for the documents of a kind.
#[derive(Debug, Clone, PartialEq)]
struct Operations {
    api_version: Option<String>,
    kind: String,
    operations: Vec<Operation>,
}

/// Patches, in the order in which they are applied: merge patches first.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Patches {
    merges: Vec<Map<String, Json>>,
    operations: Vec<Operations>,
}

/// The documents of a text of YAML.
fn documents(text: &str) -> Result<Vec<Json>, String> {
    let (documents, problems) = yaml::read_all(&Texts::default(), 0, text);
    match problems.first() {
        Some(problem) => Err(format!("a patch cannot be read: {}", problem.message)),
        None => Ok(documents.iter().map(crate::tree::Node::to_json).collect()),
    }
}

impl Patches {
    /// Reads the texts of patches.
    pub(super) fn read(merges: &[String], json: Vec<JsonPatch>) -> Result<Self, String> {
        let mut patches = Self::default();
        for text in merges {
            for document in documents(text)? {
                let Json::Object(map) = document else { return Err("a merge patch is a map".to_owned()) };
                if map.get("kind").and_then(Json::as_str).is_none() {
                    return Err("a patch names the `kind` that it is for".to_owned());
                }
                patches.merges.push(map);
            }
        }
        for patch in json {
            let operations = documents(&patch.patch)?.into_iter().next().unwrap_or_default();
            let operations: Vec<Operation> = serde_json::from_value(operations)
                .map_err(|error| format!("a JSON patch for {} cannot be used: {error}", patch.kind))?;
            let api_version = match (patch.group.as_str(), patch.version.as_str()) {
                (_, "") => None,
                ("", version) => Some(version.to_owned()),
                (group, version) => Some(format!("{group}/{version}")),
            };
            patches.operations.push(Operations { api_version, kind: patch.kind, operations });
        }
        Ok(patches)
    }

    /// The documents, patched.
    ///
    /// # Errors
    /// Why an operation cannot be carried out.
    pub(crate) fn apply(&self, documents: &mut [Json]) -> Result<(), String> {
        for patch in &self.merges {
            for document in
                documents.iter_mut().filter(|document| fits(document, patch.get("apiVersion"), &patch["kind"]))
            {
                let kept = [("apiVersion", document["apiVersion"].clone()), ("kind", document["kind"].clone())];
                let mut patch = patch.clone();
                lists::merge(document, &mut patch);
                merge(document, &Json::Object(patch));
                for (key, value) in kept {
                    document[key] = value;
                }
                // By this kind and kustomize name a document; kubeadm does not know it.
                document.as_object_mut().map(|map| map.remove("metadata"));
            }
        }
        for patch in &self.operations {
            let version = patch.api_version.clone().map(Json::from);
            let kind = Json::from(patch.kind.as_str());
            for document in documents.iter_mut().filter(|document| fits(document, version.as_ref(), &kind)) {
                for operation in &patch.operations {
                    operate(document, operation)
                        .map_err(|why| format!("a JSON patch for {} cannot be applied: {why}", patch.kind))?;
                }
            }
        }
        Ok(())
    }
}

fn fits(document: &Json, api_version: Option<&Json>, kind: &Json) -> bool {
    document["kind"] == *kind && api_version.is_none_or(|version| document["apiVersion"] == *version)
}

fn merge(target: &mut Json, patch: &Json) {
    let Json::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Json::Object(Map::new());
    }
    let Json::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Json::Null), value);
        }
    }
}

fn operate(document: &mut Json, operation: &Operation) -> Result<(), String> {
    match operation {
        Operation::Add { path, value } => add(document, path, value.clone()),
        Operation::Remove { path } => remove(document, path).map(drop),
        Operation::Replace { path, value } => {
            *document.pointer_mut(path).ok_or_else(|| nothing_at(path))? = value.clone();
            Ok(())
        }
        Operation::Move { from, path } => {
            let value = remove(document, from)?;
            add(document, path, value)
        }
        Operation::Copy { from, path } => {
            let value = document.pointer(from).cloned().ok_or_else(|| nothing_at(from))?;
            add(document, path, value)
        }
        Operation::Test { path, value } => match document.pointer(path) {
            Some(found) if found == value => Ok(()),
            _ => Err(format!("what is at `{path}` is not {value}")),
        },
    }
}

fn nothing_at(path: &str) -> String {
    format!("there is nothing at `{path}`")
}

/// A pointer's parent, and its last step as it is meant.
fn parted(path: &str) -> Result<(&str, String), String> {
    let (parent, last) = path.rsplit_once('/').ok_or_else(|| format!("`{path}` is no pointer"))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(document: &mut Json, path: &str, value: Json) -> Result<(), String> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let (parent, last) = parted(path)?;
    match document.pointer_mut(parent) {
        Some(Json::Object(map)) => {
            map.insert(last, value);
            Ok(())
        }
        Some(Json::Array(list)) if last == "-" => {
            list.push(value);
            Ok(())
        }
        Some(Json::Array(list)) => {
            let index: usize = last.parse().map_err(|_| nothing_at(path))?;
            if index > list.len() {
                return Err(nothing_at(path));
            }
            list.insert(index, value);
            Ok(())
        }
        _ => Err(nothing_at(parent)),
    }
}

fn remove(document: &mut Json, path: &str) -> Result<Json, String> {
    let (parent, last) = parted(path)?;
    let removed = match document.pointer_mut(parent) {
        Some(Json::Object(map)) => map.remove(&last),
        Some(Json::Array(list)) => {
            last.parse().ok().filter(|index| *index < list.len()).map(|index: usize| list.remove(index))
        }
        _ => None,
    };
    removed.ok_or_else(|| nothing_at(path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(merges: &[&str], operations: &str, kind: &str) -> Result<Vec<Json>, String> {
        let merges: Vec<String> = merges.iter().map(|text| (*text).to_owned()).collect();
        let json = JsonPatch {
            group: "kubeadm.k8s.io".to_owned(),
            version: "v1beta4".to_owned(),
            kind: kind.to_owned(),
            patch: operations.to_owned(),
        };
        let json = if operations.is_empty() { Vec::new() } else { vec![json] };
        let mut documents = vec![
            json!({"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "InitConfiguration", "nodeRegistration": {"a": 1, "list": [1, 2]}}),
            json!({"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "failSwapOn": false}),
        ];
        Patches::read(&merges, json)?.apply(&mut documents)?;
        Ok(documents)
    }

    #[test]
    fn merge_patches_reach_the_documents_of_their_kind() {
        let documents = patched(
            &[
                "kind: InitConfiguration\nmetadata: {name: config}\nnodeRegistration: {a: null, b: {c: d}, list: [3]}\n",
                "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1\nfailSwapOn: true\n",
            ],
            "",
            "",
        );
        let documents = documents.unwrap();
        assert_eq!(documents[0]["nodeRegistration"], json!({"b": {"c": "d"}, "list": [3]}));
        assert!(documents[0].get("metadata").is_none());
        assert_eq!(documents[1]["failSwapOn"], json!(false), "of another version");
    }

    #[test]
    fn json_patches_are_carried_out_in_order() {
        let operations = "- {op: add, path: /nodeRegistration/list/-, value: 3}\n- {op: add, path: /nodeRegistration/list/0, value: 0}\n\
                          - {op: replace, path: /nodeRegistration/a, value: x}\n- {op: move, from: /nodeRegistration/a, path: /nodeRegistration/k~1v}\n\
                          - {op: copy, from: /nodeRegistration/list, path: /copied}\n- {op: remove, path: /copied/1}\n- {op: test, path: /kind, value: InitConfiguration}\n";
        let documents = patched(&[], operations, "InitConfiguration").unwrap();
        assert_eq!(documents[0]["nodeRegistration"], json!({"k/v": "x", "list": [0, 1, 2, 3]}));
        assert_eq!(documents[0]["copied"], json!([0, 2, 3]));
        let refused = |operations: &str| patched(&[], operations, "InitConfiguration").unwrap_err();
        assert!(refused("- {op: remove, path: /no/such}").contains("nothing at `/no/such`"));
        assert!(refused("- {op: test, path: /kind, value: Other}").contains("is not \"Other\""));
        assert!(refused("- {op: paint, path: /kind}").contains("cannot be used"));
    }
}
