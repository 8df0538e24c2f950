//! Lists of kubeadm's configuration that a merge patch adds to, as kind does, where RFC 7386 would put the patch's list in the
//! place of the one that is there: a patch that sets one argument must not take away what else a program is told.

use serde_json::{Map, Value as Json, json};

/// Arguments of programs: lists of names and values from this version on, maps before, which a merge patch adds to by itself.
const ARGUMENTS: [&str; 2] = ["extraArgs", "kubeletExtraArgs"];
const VERSION_WITH_LISTS: &str = "v1beta4";
/// Names and addresses that a certificate is for.
const NAMES: &str = "certSANs";

/// Adds such lists of a patch to those of the document, and takes them out of the patch.
pub(super) fn merge(document: &mut Json, patch: &mut Map<String, Json>) {
    let has_lists = document["apiVersion"].as_str().is_some_and(|version| version.ends_with(VERSION_WITH_LISTS));
    if let Json::Object(document) = document {
        walk(document, patch, has_lists);
    }
}

fn walk(document: &mut Map<String, Json>, patch: &mut Map<String, Json>, has_lists: bool) {
    patch.retain(|key, value| {
        if has_lists && ARGUMENTS.contains(&key.as_str()) {
            add_arguments(document.entry(key.clone()).or_insert_with(|| json!([])), value);
            return false;
        }
        if key == NAMES {
            add_names(document.entry(key.clone()).or_insert_with(|| json!([])), value);
            return false;
        }
        if let (Json::Object(inner), false) = (value, ARGUMENTS.contains(&key.as_str()))
            && let Json::Object(below) = document.entry(key.clone()).or_insert_with(|| json!({}))
        {
            walk(below, inner, has_lists);
        }
        true
    });
}

/// One argument is known by its name: it is changed where it is, taken away where the patch has no value for it, or comes last.
fn add_arguments(there: &mut Json, patch: &Json) {
    // Patches of before, which name no version, have a map.
    let arguments: Vec<(String, Json)> = match patch {
        Json::Object(map) => map.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        Json::Array(list) => list
            .iter()
            .filter_map(|argument| Some((argument["name"].as_str()?.to_owned(), argument["value"].clone())))
            .collect(),
        _ => Vec::new(),
    };
    let Json::Array(list) = there else { return };
    for (name, value) in arguments {
        let position = list.iter().position(|argument| argument["name"] == *name);
        match (position, value) {
            (Some(position), Json::Null) => drop(list.remove(position)),
            (Some(position), value) => list[position]["value"] = value,
            (None, Json::Null) => {}
            (None, value) => list.push(json!({"name": name, "value": value})),
        }
    }
}

fn add_names(there: &mut Json, patch: &Json) {
    let Json::Array(list) = there else { return };
    for name in patch.as_array().into_iter().flatten() {
        if !list.contains(name) {
            list.push(name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(version: &str, arguments: &Json, patch: Json) -> (Json, Json) {
        let mut document =
            json!({"apiVersion": version, "apiServer": {"extraArgs": arguments, "certSANs": ["localhost"]}});
        let Json::Object(mut patch) = patch else { panic!("a map") };
        merge(&mut document, &mut patch);
        (document["apiServer"].clone(), Json::Object(patch))
    }

    #[test]
    fn one_argument_of_a_list_is_changed_and_the_others_stay() {
        let there = json!([{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]);
        let patch = json!({"apiServer": {"extraArgs": [
            {"name": "b", "value": "3"}, {"name": "c", "value": "4"}, {"name": "a", "value": null},
        ]}});
        let (found, rest) = merged("kubeadm.k8s.io/v1beta4", &there, patch);
        assert_eq!(found["extraArgs"], json!([{"name": "b", "value": "3"}, {"name": "c", "value": "4"}]));
        assert_eq!(rest, json!({"apiServer": {}}));
        let old = json!({"apiServer": {"extraArgs": {"c": "4"}}});
        let (found, _) = merged("kubeadm.k8s.io/v1beta4", &there, old);
        assert_eq!(found["extraArgs"][2], json!({"name": "c", "value": "4"}), "a map, as before v1beta4");
    }

    #[test]
    fn a_map_of_arguments_is_left_to_the_merge_patch() {
        let patch = json!({"apiServer": {"extraArgs": {"b": "3"}}});
        let (found, rest) = merged("kubeadm.k8s.io/v1beta3", &json!({"a": "1"}), patch.clone());
        assert_eq!((found["extraArgs"].clone(), rest), (json!({"a": "1"}), patch));
    }

    #[test]
    fn names_of_a_certificate_are_added_once() {
        let patch = json!({"apiServer": {"certSANs": ["localhost", "my-host"]}});
        let (found, rest) = merged("kubeadm.k8s.io/v1beta3", &json!({}), patch);
        assert_eq!((found["certSANs"].clone(), rest), (json!(["localhost", "my-host"]), json!({"apiServer": {}})));
    }
}
