//! Manifests as declared objects: which there are, where they live, what they need, and what of Secrets is kept.

use std::fmt::Write as _;

use ksail_compiler::{Compiled, manifest_text};
use ksail_model::{Diagnostic, Path, Strength};

use crate::world::{World, built, judged, sources, with_spec};

const HEAD: &str = "  cluster:\n    distribution: None\n    provider: Kubernetes\n  manifests:\n    - app.yaml\n";

fn world(manifest: &str) -> World {
    World { manifests: [("app.yaml".to_owned(), manifest.to_owned())].into(), ..World::default() }
}

fn compiled(manifest: &str) -> Result<Compiled, Vec<Diagnostic>> {
    built(&sources(&with_spec(HEAD)), &world(manifest))
}

fn errors(manifest: &str) -> String {
    let errors = compiled(manifest).map(drop).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// `from → to (condition, soft)` of all edges, without cluster and kind of resource.
fn edges(manifest: &str) -> String {
    let compiled = compiled(manifest).unwrap();
    let short = |address: &ksail_model::Address| address.name().to_owned();
    let mut text = String::new();
    for declaration in compiled.graph.declarations.values() {
        for edge in &declaration.edges {
            let soft = if edge.strength == Strength::Soft { ", soft" } else { "" };
            let _ = writeln!(text, "{} → {} ({}{soft})", short(&declaration.address), short(&edge.to), edge.condition);
        }
    }
    text
}

fn object(version: &str, kind: &str, name: &str, namespace: &str, rest: &str) -> String {
    let namespace = if namespace.is_empty() { String::new() } else { format!(", namespace: '{namespace}'") };
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\n{rest}\n---\n")
}

#[test]
fn documents_and_lists_are_objects_with_places() {
    let manifest = "apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n\
                    ---\n---\nkind: ClusterRole\napiVersion: rbac.authorization.k8s.io/v1\nmetadata:\n  name: b\n  namespace: dropped\n  uid: x\n\
                    rules:\n  - verbs: [get]\nstatus: {x: 1}\n";
    let compiled = compiled(manifest).unwrap();
    let names: Vec<&str> = compiled.graph.declarations.keys().map(|address| address.as_str()).collect();
    assert_eq!(names, ["dev/object/ConfigMap/default/a", "dev/object/rbac.authorization.k8s.io.ClusterRole/_/b"]);
    let role = compiled.graph.declarations.values().nth(1).unwrap();
    assert_eq!(
        role.spec.to_string(),
        "{apiVersion: \"rbac.authorization.k8s.io/v1\", fieldManager: \"ksail\", kind: \"ClusterRole\", metadata: {name: \"b\"}, rules: [{verbs: [\"get\"]}]}"
    );
    assert_eq!(role.origins.of(&Path::parse("rules[0].verbs").unwrap()).unwrap().to_string(), "app.yaml:14:3");
    let map = compiled.graph.declarations.values().next().unwrap();
    let namespace = map.origins.of(&Path::parse("metadata.namespace").unwrap()).unwrap().to_string();
    assert_eq!(namespace, "default of metadata.namespace");
    assert_eq!(map.identity.name, "ConfigMap/default/a");
}

#[test]
fn edges_come_from_what_fields_mean() {
    let pod = "serviceAccountName: run\n      imagePullSecrets: [{name: pull}]\n      volumes: [{name: v, configMap: {name: conf}}, {name: p, persistentVolumeClaim: {claimName: data}}]\n      containers: [{name: c, envFrom: [{secretRef: {name: env, optional: true}}]}]";
    let deployment =
        format!("spec:\n  selector: {{}}\n  template:\n    metadata: {{labels: {{app: x}}}}\n    spec:\n      {pod}");
    let all = [
        object("v1", "Namespace", "n", "", ""),
        object("v1", "ServiceAccount", "run", "n", ""),
        object("v1", "ConfigMap", "conf", "n", ""),
        object("v1", "Secret", "env", "n", ""),
        object("v1", "Secret", "pull", "n", ""),
        object("v1", "PersistentVolumeClaim", "data", "n", "spec: {storageClassName: fast}"),
        object("storage.k8s.io/v1", "StorageClass", "fast", "", ""),
        object("apps/v1", "Deployment", "web", "n", &deployment),
        object("v1", "Service", "web", "n", "spec: {selector: {app: x}}"),
        object("rbac.authorization.k8s.io/v1", "RoleBinding", "may", "n", "roleRef: {kind: Role, name: role}\nsubjects: [{kind: ServiceAccount, name: run}]"),
        object("rbac.authorization.k8s.io/v1", "Role", "role", "n", ""),
        object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "hook", "", "webhooks: [{clientConfig: {service: {name: web, namespace: 'n'}}, rules: [{apiGroups: [example.com]}]}]"),
        object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.com", "", "spec: {group: example.com, scope: Cluster, names: {kind: Widget}}"),
        object("example.com/v1", "Widget", "one", "ignored", ""),
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: late\n  namespace: 'n'\n  annotations: {ksail.io/after: 'apps.Deployment/n/web, ConfigMap/n/conf'}\n".to_owned(),
    ];
    insta::assert_snapshot!(edges(&all.concat()));
}

#[test]
fn values_of_secrets_are_references() {
    let manifest = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {raw: aHVzaA==}\nstringData:\n  env: ${TOKEN}\n  part: x-${TOKEN}\n  open: hush-hush\n";
    let mut world = world(manifest);
    world.env.insert("TOKEN".to_owned(), "x".to_owned());
    let compiled = built(&sources(&with_spec(HEAD)), &world).unwrap();
    let declaration = compiled.graph.declarations.values().next().unwrap();
    let secrets: Vec<String> = declaration
        .spec
        .secrets()
        .into_iter()
        .map(|(path, secret)| format!("{path}: {}", secret.parts.iter().map(ToString::to_string).collect::<String>()))
        .collect();
    assert_eq!(
        secrets,
        [
            "data.raw: data.raw of app.yaml",
            "stringData.env: ${TOKEN}",
            "stringData.open: stringData.open of app.yaml",
            "stringData.part: stringData.part of app.yaml",
        ]
    );
    let everything = format!("{compiled:?}");
    assert!(!everything.contains("hush") && !everything.contains("aHVzaA"), "{everything}");
    assert_eq!(manifest_text(manifest, 0, &Path::parse("stringData.open").unwrap()).unwrap(), "hush-hush");
    assert!(manifest_text(manifest, 1, &Path::root()).is_err());
    assert!(errors(manifest).contains("`TOKEN` is not set"), "{}", errors(manifest));
}

#[test]
fn what_is_no_object_is_told_with_its_place() {
    let check = |manifest: &str, wanted: &str| {
        let found = errors(manifest);
        assert!(found.contains(wanted), "{manifest}: {found}");
    };
    check("a: 1", "app.yaml:1:1: `apiVersion` is missing");
    check("- 1", "a manifest holds a list, not an object");
    check("apiVersion: v1\nkind: X\nmetadata: {generateName: x}", "app.yaml:3:1: `metadata.name` is missing");
    check("apiVersion: [v1", "not readable as YAML");
    let twice = object("v1", "ConfigMap", "a", "default", "") + &object("v1", "ConfigMap", "a", "", "");
    check(&twice, "ConfigMap/default/a stands twice in the manifests");
    let after = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {ksail.io/after: Pod/x/y}}";
    check(after, "`Pod/x/y`, which ConfigMap/default/a shall come after, is not declared");
    assert!(built(&sources(&with_spec(HEAD)), &World::default()).is_err(), "no such file");
}

#[test]
fn manifests_need_a_cluster_and_a_cluster_has_no_engine() {
    let docker = "  cluster: {distribution: None, provider: Docker}\n  manifests: [app.yaml]\n";
    assert!(judged(&with_spec(docker)).contains("needs a cluster that a kubeconfig reaches"));
    let mirrors = format!("{HEAD}  mirrors: [{{host: docker.io}}]\n");
    assert!(judged(&with_spec(&mirrors)).contains("`spec.mirrors` needs an engine"));
}
