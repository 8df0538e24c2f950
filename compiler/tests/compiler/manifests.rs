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
fn custom_kinds_come_after_what_their_fields_name() {
    let all = [
        object("source.toolkit.fluxcd.io/v1", "GitRepository", "app", "n", "spec: {secretRef: {name: git}}"),
        object(
            "kustomize.toolkit.fluxcd.io/v1",
            "Kustomization",
            "app",
            "n",
            "spec: {sourceRef: {kind: GitRepository, name: app}}",
        ),
        object("cert-manager.io/v1", "ClusterIssuer", "ca", "", "spec: {}"),
        object(
            "cert-manager.io/v1",
            "Certificate",
            "web",
            "n",
            "spec: {secretName: git, issuerRef: {kind: ClusterIssuer, name: ca}}",
        ),
        object(
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            "web",
            "n",
            "spec: {parentRefs: [{name: edge, namespace: m}]}",
        ),
        object("gateway.networking.k8s.io/v1", "Gateway", "edge", "m", "spec: {gatewayClassName: none}"),
        object("v1", "Secret", "git", "n", ""),
    ];
    let told = edges(&all.concat());
    let wanted = [
        "cert-manager.io.Certificate/n/web → Secret/n/git (exists, soft)",
        "cert-manager.io.Certificate/n/web → cert-manager.io.ClusterIssuer/default/ca (exists, soft)",
        "gateway.networking.k8s.io.HTTPRoute/n/web → gateway.networking.k8s.io.Gateway/m/edge (exists, soft)",
        "kustomize.toolkit.fluxcd.io.Kustomization/n/app → source.toolkit.fluxcd.io.GitRepository/n/app (exists, soft)",
        "source.toolkit.fluxcd.io.GitRepository/n/app → Secret/n/git (exists, soft)",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), wanted.map(|line| line.replace("/default/", "/_/")));
}

#[test]
fn values_of_secrets_are_references() {
    let manifest = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  raw: aHVzaA==\n  file: ${file:token.txt}\nstringData:\n  env: ${TOKEN}\n  file: ${file:token.txt}\n  exec: ${exec:op read x}\n  part: x-${TOKEN}\n  open: hush-hush\n";
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
            "data.file: file token.txt",
            "data.raw: data.raw of app.yaml",
            "stringData.env: ${TOKEN}",
            "stringData.exec: the output of op",
            "stringData.file: file token.txt",
            "stringData.open: stringData.open of app.yaml",
            "stringData.part: stringData.part of app.yaml",
        ]
    );
    let everything = format!("{compiled:?}");
    assert!(!everything.contains("hush") && !everything.contains("aHVzaA"), "{everything}");
    assert_eq!(manifest_text(manifest, 0, &Path::parse("stringData.open").unwrap()).unwrap(), "hush-hush");
    assert!(manifest_text(manifest, 1, &Path::root()).is_err());
    let told = errors(manifest);
    assert!(told.contains("app.yaml:8:8: the environment variable `TOKEN` is not set"), "{told}");
    let told = errors(&manifest.replace("token.txt", "gone.txt"));
    assert!(told.contains("app.yaml:6:9: there is no file gone.txt, and a Secret needs it"), "{told}");
    let told = errors(&manifest.replace("op read x", "op 'read hush"));
    assert!(told.contains("the value of `stringData.exec` is no command") && !told.contains("hush"), "{told}");
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

/// Three entries: what comes first, what comes after it, and a file within the first.
fn entries(rest: &str) -> Result<Compiled, Vec<Diagnostic>> {
    let head = HEAD.replace("    - app.yaml\n", rest);
    let config = |name: &str| object("v1", "ConfigMap", name, "n", "");
    let files = [
        ("base/namespace.yaml", object("v1", "Namespace", "n", "", "")),
        ("base/late.yaml", config("late")),
        ("apps/one.yaml", config("one") + &config("two")),
    ];
    let manifests = files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    built(&sources(&with_spec(&head)), &World { manifests, ..World::default() })
}

/// What each object waits for by `after` of its entry.
fn waits(rest: &str) -> Vec<String> {
    let compiled = entries(rest).unwrap();
    let mut all = Vec::new();
    for declaration in compiled.graph.declarations.values() {
        for edge in declaration.edges.iter().filter(|edge| edge.origin.to_string().contains("ksail.yaml:")) {
            all.push(format!(
                "{} → {} ({}) {}",
                declaration.address.name(),
                edge.to.name(),
                edge.condition,
                edge.origin
            ));
        }
    }
    all
}

#[test]
fn an_entry_comes_after_addresses_beginnings_and_other_entries() {
    let (one, two) = ("ConfigMap/n/one", "ConfigMap/n/two");
    let (late, namespace) = ("ConfigMap/n/late", "Namespace/_/n");
    let of = |after: &str| waits(&format!("    - base\n    - {{path: apps/, after: [{after}]}}\n"));
    let edge = |from: &str, to: &str, column: u32| format!("{from} → {to} (ready) ksail.yaml:11:{column}");
    let both = [edge(one, late, 29), edge(one, namespace, 29), edge(two, late, 29), edge(two, namespace, 29)];
    assert_eq!(of("base"), both);
    assert_eq!(of("./base/"), both);
    assert_eq!(of("dev/object/ConfigMap/n/late"), [edge(one, late, 29), edge(two, late, 29)]);
    // A beginning leaves out what is in the entry itself; the kind of resource may be left out.
    for text in ["object/ConfigMap", "ConfigMap/n", "ConfigMap/n/late"] {
        assert_eq!(of(text), [edge(one, late, 29), edge(two, late, 29)], "{text}");
    }
    assert_eq!(
        of("Namespace, ConfigMap/n/late"),
        [edge(one, late, 40), edge(one, namespace, 29), edge(two, late, 40), edge(two, namespace, 29)]
    );
    // A file of two entries belongs to both.
    let twice = "    - base\n    - apps\n    - {path: base/late.yaml, after: [apps]}\n";
    assert_eq!(
        waits(twice),
        [format!("{late} → {one} (ready) ksail.yaml:12:38"), format!("{late} → {two} (ready) ksail.yaml:12:38")]
    );
    assert_eq!(waits("    - base\n    - path: apps\n"), [""; 0]);
}

#[test]
fn what_an_entry_comes_after_must_be_there() {
    let check = |rest: &str, wanted: &str, hint: &str| {
        let errors = entries(rest).map(drop).unwrap_err();
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(told.concat().contains(wanted), "{rest}: {told:?}");
        let hints: Vec<&str> = errors.iter().filter_map(|error| error.hint.as_deref()).collect();
        assert!(hints.concat().contains(hint), "{rest}: {hints:?}");
    };
    let apps = |after: &str| format!("    - base\n    - {{path: apps, after: [{after}]}}\n");
    check(&apps("bsae"), "ksail.yaml:11:28: `bsae` names no object of the manifests, and no other entry", "`base`?");
    check(&apps("object/ConfigMap/n/lat"), "names no object", "`object/ConfigMap/n/late`?");
    check(&apps("object/Namespaces"), "names no object", "`object/Namespace`?");
    check(&apps("ConfigMap/n/one"), "all that `ConfigMap/n/one` names is in the entry itself", "ksail.io/after");
    check(&apps("object//x"), "names no object", "write an address");
    check("    - {after: [base]}\n", "`path` is missing", "");
    check("    - {path: base, afer: [x]}\n", "`afer`", "`after`");
    check("    - [base]\n", "a map", "");
}

#[test]
fn annotations_say_what_there_is_to_say() {
    let of = |annotation: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  annotations:\n    {annotation}\n")
    };
    let check = |annotation: &str, wanted: &str| {
        let told = errors(&of(annotation));
        assert!(told.contains(wanted), "{annotation}: {told}");
    };
    check("ksail.io/wiat: 'false'", "app.yaml:6:5: there is no annotation `ksail.io/wiat`");
    check("ksail.io/wait: 'no'", "app.yaml:6:20: `ksail.io/wait` cannot be `no`");
    check("ksail.io/conflicts: yes", "`ksail.io/conflicts` cannot be `yes`");
    check(
        "ksail.io/ready: status.ready",
        "app.yaml:6:21: `ksail.io/ready` of ConfigMap/default/a cannot be used: it is not about self",
    );
    check(
        "ksail.io/after: ConfigMap/default/b",
        "app.yaml:6:21: `ConfigMap/default/b`, which ConfigMap/default/a shall come after",
    );
    for good in ["ksail.io/ready: self.data.x == 'y'", "ksail.io/wait: 'false'", "example.com/after: x"] {
        compiled(&of(good)).unwrap();
    }
    // What was read from a cluster has marks, which are no declaration.
    let marked =
        compiled(&of("ksail.io/address: dev/object/ConfigMap/default/a\n  labels: {ksail.io/lineage: x, mine: y}"))
            .unwrap();
    let spec = marked.graph.declarations.values().next().unwrap().spec.to_string();
    assert!(!spec.contains("ksail.io") && spec.contains("mine"), "{spec}");
}

#[test]
fn what_is_no_base64_is_told_where_it_stands_and_not_shown() {
    let secret = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: a, namespace: b}}\ndata:\n  key: {value}\nstringData: {{c: not base64}}\n"
        )
    };
    for wrong in ["hunter2-x", "aGk", "aGk=x", "'aG k='"] {
        let errors = errors(&secret(wrong));
        assert!(errors.contains("app.yaml:5:8"), "{errors}");
        assert!(errors.contains("Secret: the value of `data.key` is not base64"), "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
    }
    for right in ["aGk=", "|\n    aGkg\n    aGk=", "\"\"", "aGl=", "${file:token.txt}"] {
        compiled(&secret(right)).unwrap_or_else(|errors| panic!("{right}: {errors:?}"));
    }
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: b}\nbinaryData: {x: '?'}\n";
    assert!(
        errors(map).contains("app.yaml:4:17: ConfigMap: the value of `binaryData.x` is not base64"),
        "{}",
        errors(map)
    );
}
