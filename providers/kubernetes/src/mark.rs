//! What stands on the objects that we make: the mark, and the fingerprints of their secrets.

use ksail_model::{Address, Mark};
use serde_json::{Map, Value as Json};

use crate::wire::{map_at, text};

/// The label by which all that a lineage made is found.
pub(crate) const LINEAGE: &str = "ksail.io/lineage";
const ADDRESS: &str = "ksail.io/address";
const OPERATION: &str = "ksail.io/operation";
const GENERATION: &str = "ksail.io/generation";
/// The fingerprints of secrets by their paths, as JSON.
pub(crate) const FINGERPRINTS: &str = "ksail.io/fingerprints";

/// kubectl's own note, which holds the whole object, values of Secrets among it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Annotations that are no field of a declaration: those of a mark, and a tool's note.
const ANNOTATIONS: [&str; 5] = [ADDRESS, OPERATION, GENERATION, FINGERPRINTS, LAST_APPLIED];

/// Writes a mark into an object that is to be applied.
pub(crate) fn write(object: &mut Map<String, Json>, mark: &Mark, fingerprints: Option<String>) {
    let metadata = map_at(object, "metadata");
    map_at(metadata, "labels").insert(LINEAGE.to_owned(), mark.lineage.clone().into());
    let annotations = map_at(metadata, "annotations");
    annotations.insert(ADDRESS.to_owned(), mark.address.as_str().into());
    annotations.insert(OPERATION.to_owned(), mark.operation.clone().into());
    annotations.insert(GENERATION.to_owned(), mark.generation.to_string().into());
    if let Some(fingerprints) = fingerprints {
        annotations.insert(FINGERPRINTS.to_owned(), fingerprints.into());
    }
}

/// The mark of an object, if it carries a whole one.
pub(crate) fn read(object: &Json) -> Option<Mark> {
    let annotation = |name| text(object, &["metadata", "annotations", name]);
    Some(Mark {
        lineage: text(object, &["metadata", "labels", LINEAGE])?.to_owned(),
        address: Address::parse(annotation(ADDRESS)?).ok()?,
        operation: annotation(OPERATION)?.to_owned(),
        generation: annotation(GENERATION)?.parse().ok()?,
    })
}

/// Takes a mark out of a set of owned fields (`fieldsV1`): it is no field of the declaration.
pub(crate) fn leave_out(owned: &mut Map<String, Json>) {
    let Some(metadata) = owned.get_mut("f:metadata").and_then(Json::as_object_mut) else { return };
    for (part, names) in [("f:labels", &[LINEAGE][..]), ("f:annotations", &ANNOTATIONS[..])] {
        let Some(fields) = metadata.get_mut(part).and_then(Json::as_object_mut) else { continue };
        for name in names {
            fields.remove(&format!("f:{name}"));
        }
        if fields.keys().all(|key| key == ".") {
            metadata.remove(part);
        }
    }
    if metadata.is_empty() {
        owned.remove("f:metadata");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mark_comes_back_and_is_no_field() {
        let mark = Mark {
            lineage: "l-1".to_owned(),
            address: Address::new("dev", "object", &["ConfigMap", "a", "b"]),
            operation: "op-1".to_owned(),
            generation: 3,
        };
        let mut object = Map::new();
        write(&mut object, &mark, None);
        assert_eq!(read(&Json::Object(object)), Some(mark));
        let mut owned = json!({
            "f:metadata": {
                "f:labels": {".": {}, "f:ksail.io/lineage": {}},
                "f:annotations": {
                    "f:ksail.io/address": {}, "f:mine": {},
                    "f:kubectl.kubernetes.io/last-applied-configuration": {},
                },
            },
        });
        leave_out(owned.as_object_mut().unwrap());
        assert_eq!(owned, json!({"f:metadata": {"f:annotations": {"f:mine": {}}}}));
    }
}
