//! Patches of what kubeadm is told: merge patches (RFC 7386) and JSON patches (RFC 6902), as kind takes them.

use json_patch::{PatchErrorKind, PatchOperation};
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

/// Operations for the documents of a kind.
#[derive(Debug, Clone, PartialEq)]
struct Operations {
    api_version: Option<String>,
    kind: String,
    patch: json_patch::Patch,
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
            let operations: json_patch::Patch = serde_json::from_value(operations)
                .map_err(|error| format!("a JSON patch for {} cannot be used: {error}", patch.kind))?;
            let api_version = match (patch.group.as_str(), patch.version.as_str()) {
                (_, "") => None,
                ("", version) => Some(version.to_owned()),
                (group, version) => Some(format!("{group}/{version}")),
            };
            patches.operations.push(Operations { api_version, kind: patch.kind, patch: operations });
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
                json_patch::merge(document, &Json::Object(patch));
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
                operate(document, &patch.patch)
                    .map_err(|why| format!("a JSON patch for {} cannot be applied: {why}", patch.kind))?;
            }
        }
        Ok(())
    }
}

fn fits(document: &Json, api_version: Option<&Json>, kind: &Json) -> bool {
    document["kind"] == *kind && api_version.is_none_or(|version| document["apiVersion"] == *version)
}

fn operate(document: &mut Json, patch: &json_patch::Patch) -> Result<(), String> {
    let nothing_at = |path: &dyn std::fmt::Display| format!("there is nothing at `{path}`");
    json_patch::patch(document, patch).map_err(|error| match (patch.0.get(error.operation), error.kind) {
        (Some(PatchOperation::Test(test)), _) => format!("what is at `{}` is not {}", test.path, test.value),
        (Some(PatchOperation::Move(op)), PatchErrorKind::InvalidFromPointer) => nothing_at(&op.from),
        (Some(PatchOperation::Copy(op)), PatchErrorKind::InvalidFromPointer) => nothing_at(&op.from),
        _ => nothing_at(&error.path),
    })
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
