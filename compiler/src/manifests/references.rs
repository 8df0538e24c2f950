//! What objects of custom kinds name, by the shape of their fields.
//!
//! Nobody tells what the fields of a custom kind mean, but most say it by their names: `sourceRef: {kind, name}`,
//! `secretRef: {name}`, `secretName`. An edge comes of it only where such an object is declared, it is soft, and it waits for no
//! more than that the object exists: one that was not meant costs no more than a little order.

use ksail_model::{Path, Step, Value};

/// Something that a field names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    /// The group, where it is said.
    pub(super) group: Option<&'a str>,
    pub(super) kind: &'a str,
    /// The namespace, where it is said; else that of the object.
    pub(super) namespace: Option<&'a str>,
    pub(super) name: &'a str,
    /// The field.
    pub(super) path: Path,
}

/// What a reference without a kind leads to, by the end of its key in lower case; the group too.
const BY_REFERENCE: &[(&str, &str, &str)] = &[
    ("secretref", "", "Secret"),
    ("secretkeyref", "", "Secret"),
    ("configmapref", "", "ConfigMap"),
    ("configmapkeyref", "", "ConfigMap"),
    ("serviceaccountref", "", "ServiceAccount"),
];
/// The same for keys that hold the name itself.
const BY_NAME: &[(&str, &str, &str)] = &[
    ("secretname", "", "Secret"),
    ("configmapname", "", "ConfigMap"),
    ("serviceaccountname", "", "ServiceAccount"),
    ("storageclassname", "storage.k8s.io", "StorageClass"),
];
/// The group whose references have defaults of their own.
const GATEWAY: &str = "gateway.networking.k8s.io";
const BY_GATEWAY: &[(&str, &str, &str)] = &[
    ("parentrefs", GATEWAY, "Gateway"),
    ("backendrefs", "", "Service"),
    ("backendref", "", "Service"),
    ("certificaterefs", "", "Secret"),
];

/// Whether the fields of a group's kinds are read by their shape.
pub(super) fn are_read(group: &str) -> bool {
    group == GATEWAY || (group.contains('.') && !group.ends_with(".k8s.io"))
}

/// What the fields below `spec` name.
pub(super) fn named<'a>(group: &str, object: &'a Value) -> Vec<Named<'a>> {
    let mut found = Vec::new();
    if let Some(spec) = object.field("spec") {
        let defaults = if group == GATEWAY { BY_GATEWAY } else { &[] };
        walk(spec, &Path::key("spec"), defaults, &mut found);
    }
    found
}

type Defaults = &'static [(&'static str, &'static str, &'static str)];

fn walk<'a>(value: &'a Value, path: &Path, defaults: Defaults, found: &mut Vec<Named<'a>>) {
    match value {
        Value::Map(map) => {
            for (key, value) in map {
                let path = path.child_key(key.clone());
                field(key, value, &path, defaults, found);
                walk(value, &path, defaults, found);
            }
        }
        Value::List(list) => {
            for (index, value) in list.iter().enumerate() {
                walk(value, &path.child(Step::Index(index)), defaults, found);
            }
        }
        _ => {}
    }
}

fn field<'a>(key: &str, value: &'a Value, path: &Path, defaults: Defaults, found: &mut Vec<Named<'a>>) {
    let key = key.to_ascii_lowercase();
    let by =
        |table: Defaults| table.iter().find(|(end, _, _)| key.ends_with(end)).map(|(_, group, kind)| (*group, *kind));
    match value {
        Value::String(name) => {
            if let Some((group, kind)) = by(BY_NAME).filter(|_| !name.is_empty()) {
                found.push(Named { group: Some(group), kind, namespace: None, name, path: path.clone() });
            }
        }
        Value::List(list) => {
            for (index, element) in list.iter().enumerate() {
                reference(&key, element, &path.child(Step::Index(index)), by(defaults), found);
            }
        }
        value => reference(&key, value, path, by(defaults).or_else(|| by(BY_REFERENCE)), found),
    }
}

/// A map that names something, under a key that says so.
fn reference<'a>(
    key: &str,
    value: &'a Value,
    path: &Path,
    default: Option<(&'static str, &'static str)>,
    found: &mut Vec<Named<'a>>,
) {
    let text = |field: &str| value.field(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(name) = text("name") else { return };
    let namespace = text("namespace");
    let is_reference = key.ends_with("ref") || key.ends_with("refs") || key.ends_with("from");
    match (text("kind").filter(|_| is_reference), default) {
        (Some(kind), _) => {
            let of_version = text("apiVersion").map(|version| version.rsplit_once('/').map_or("", |(group, _)| group));
            // An empty group is the core one, where it is said at all.
            let said = ["group", "apiGroup"].iter().find_map(|key| value.field(key).and_then(Value::as_str));
            found.push(Named { group: of_version.or(said), kind, namespace, name, path: path.clone() });
        }
        (None, Some((group, kind))) => {
            found.push(Named { group: Some(group), kind, namespace, name, path: path.clone() });
        }
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(group: &str, spec: serde_json::Value, wanted: &[&str]) {
        let object = Value::from(json!({"spec": spec}));
        let told: Vec<String> = named(group, &object)
            .iter()
            .map(|it| {
                let group = it.group.map_or("?".to_owned(), str::to_owned);
                format!("{}: {group}.{}/{}/{}", it.path, it.kind, it.namespace.unwrap_or("_"), it.name)
            })
            .collect();
        assert_eq!(told, wanted);
    }

    #[test]
    fn fields_name_objects_by_their_shape() {
        check(
            "kustomize.toolkit.fluxcd.io",
            json!({"sourceRef": {"kind": "GitRepository", "name": "app", "namespace": "flux"}, "path": "./x", "prune": true,
                "decryption": {"secretRef": {"name": "age"}}, "serviceAccountName": "deployer",
                "postBuild": {"substituteFrom": [{"kind": "ConfigMap", "name": "vars"}]}}),
            &[
                "spec.decryption.secretRef: .Secret/_/age",
                "spec.postBuild.substituteFrom[0]: ?.ConfigMap/_/vars",
                "spec.serviceAccountName: .ServiceAccount/_/deployer",
                "spec.sourceRef: ?.GitRepository/flux/app",
            ],
        );
        check(
            "cert-manager.io",
            json!({"secretName": "tls", "issuerRef": {"name": "ca", "kind": "ClusterIssuer", "group": "cert-manager.io"},
                "acme": {"privateKeySecretRef": {"name": "key"}}}),
            &[
                "spec.acme.privateKeySecretRef: .Secret/_/key",
                "spec.issuerRef: cert-manager.io.ClusterIssuer/_/ca",
                "spec.secretName: .Secret/_/tls",
            ],
        );
        check(
            "gateway.networking.k8s.io",
            json!({"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}),
            &[
                "spec.parentRefs[0]: gateway.networking.k8s.io.Gateway/_/edge",
                "spec.rules[0].backendRefs[0]: .Service/_/web",
            ],
        );
    }

    #[test]
    fn names_of_other_things_are_none() {
        check(
            "example.com",
            json!({"kind": "Service", "name": "web", "items": [{"kind": "Secret", "name": "x"}], "reference": {"name": "x"},
                "ref": {"branch": "main"}, "template": {"name": "t", "kind": "Job"}, "secretName": ""}),
            &[],
        );
    }
}
