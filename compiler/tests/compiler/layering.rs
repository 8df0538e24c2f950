//! Environments, `--set`, variables, origins.

use ksail_compiler::{Layering, Loaded, SourceFile, Sources, load, validate};
use ksail_model::Path;

use crate::world::{QUICKSTART, World, built, render, sources};

fn layered(overlay: &str, set: &[&str]) -> Sources {
    Sources {
        overlay: Some(SourceFile { name: "ksail.prod.yaml".to_owned(), text: overlay.to_owned() }),
        set: set.iter().map(|argument| (*argument).to_owned()).collect(),
        environment: Some("prod".to_owned()),
        ..sources(QUICKSTART)
    }
}

fn loaded(sources: &Sources) -> Loaded {
    load(sources, &World::default())
}

fn with_set(set: &[&str]) -> Loaded {
    let set = set.iter().map(|argument| (*argument).to_owned()).collect();
    loaded(&Sources { set, ..sources(QUICKSTART) })
}

fn origin(loaded: &Loaded, path: &str) -> String {
    loaded.origins.of(&Path::parse(path).unwrap()).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_complete_document_stands_alone() {
    let overlay = "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata: {name: other}\nspec:\n  cluster: {distribution: None}\n";
    let sources =
        Sources { base: SourceFile { name: "ksail.yaml".into(), text: "][".into() }, ..layered(overlay, &[]) };
    let loaded = loaded(&sources);
    assert_eq!(render(&loaded, &validate(&loaded)), "");
    assert!(matches!(loaded.layering, Layering::StandsAlone { .. }));
    assert_eq!(loaded.layering.to_string(), "ksail.prod.yaml is complete and stands alone; ksail.yaml is not used");
    assert_eq!(loaded.config.spec.mirrors.len(), 0);
    assert_eq!(origin(&loaded, "metadata.name"), "ksail.prod.yaml:3:18");
    assert_eq!(built(&sources, &World::default()).unwrap().stack, "other.prod");
}

#[test]
fn a_partial_document_is_laid_over() {
    let overlay = "spec:\n  editor: vim\n  cluster:\n    provider: Docker\n    localRegistry: null\n  mirrors:\n    - host: quay.io\n";
    let loaded = loaded(&layered(overlay, &[]));
    assert_eq!(render(&loaded, &validate(&loaded)), "");
    assert_eq!(loaded.layering.to_string(), "ksail.prod.yaml is partial and is laid over ksail.yaml");
    let spec = &loaded.config.spec;
    assert_eq!(spec.cluster.provider.unwrap().as_str(), "Docker");
    assert_eq!(spec.cluster.distribution.unwrap().as_str(), "None", "maps merge by key");
    assert_eq!(spec.cluster.local_registry, None, "null takes away");
    assert_eq!(
        spec.mirrors.iter().map(|mirror| mirror.host.as_str()).collect::<Vec<_>>(),
        ["quay.io"],
        "lists replace"
    );
    assert_eq!(origin(&loaded, "spec.cluster.provider"), "ksail.prod.yaml:4:15 (overlay)");
    assert_eq!(origin(&loaded, "spec.mirrors[0].host"), "ksail.prod.yaml:7:13 (overlay)");
    assert_eq!(origin(&loaded, "spec.cluster.distribution"), "ksail.yaml:8:19");
}

#[test]
fn partial_documents_of_every_sort() {
    for overlay in [
        "",
        "# nothing\n",
        "kind: Cluster\nspec: {editor: vim}\n",
        "apiVersion: ksail.io/v1alpha1\nkind: Cluster\n",
        "---\n",
    ] {
        let loaded = loaded(&layered(overlay, &[]));
        assert_eq!(render(&loaded, &validate(&loaded)), "", "{overlay}");
        assert!(matches!(loaded.layering, Layering::LaidOver { .. }), "{overlay}");
        assert_eq!(loaded.config.spec.mirrors.len(), 2);
    }
}

#[test]
fn errors_in_an_overlay_point_into_it() {
    let loaded = loaded(&layered("spec:\n  cluster:\n    providr: Docker\n", &[]));
    insta::assert_snapshot!("overlay_error", render(&loaded, &validate(&loaded)));
}

#[test]
fn flags_come_last() {
    let loaded = loaded(&layered(
        "spec: {cluster: {provider: Docker}, editor: vim}\n",
        &[
            "spec.cluster.provider=embedded",
            "spec.mirrors[0].host=quay.io",
            "spec.mirrors[2]={host: registry.k8s.io, port: 5099}",
            "spec.editor=",
            "spec.cluster.autoscaler.node.pools[0].labels[\"a.b/c\"]=d",
        ],
    ));
    assert_eq!(render(&loaded, &loaded.diagnostics), "");
    let spec = &loaded.config.spec;
    assert_eq!(spec.cluster.provider.unwrap().as_str(), "Embedded");
    let hosts: Vec<_> = spec.mirrors.iter().map(|mirror| mirror.host.as_str()).collect();
    assert_eq!(hosts, ["quay.io", "ghcr.io", "registry.k8s.io"]);
    assert_eq!(spec.editor, None);
    assert_eq!(spec.cluster.autoscaler.node.pools[0].labels["a.b/c"], "d");
    assert_eq!(origin(&loaded, "spec.cluster.provider"), "flag --set spec.cluster.provider=embedded");
}

#[test]
fn bad_flags_are_explained() {
    let loaded = with_set(&[
        "spec.cluster.provider",
        "cluster.provider=Docker",
        "spec.mirrors[9].host=a",
        "spec.mirrors.host=a",
        "spec.cluster.provider.x=a",
        "spec.mirrors[*].host=a",
        "spec.a[=x",
        "spec.cluster.workers=many",
        "spec.cluster.provider=Dockr",
        "spec.cluster.cni={a",
    ]);
    insta::assert_snapshot!("bad_flags", render(&loaded, &loaded.diagnostics));
}

#[test]
fn variables_are_expanded() {
    let text = "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata: {name: '${NAME:-dev}'}\nspec:\n  editor: a${UNSET}b${EMPTY:-c}$${D}${E:-e}\n  \
                cluster:\n    distribution: ${DIST}\n    workers: ${N}\n    certManager: ${ON}\n    kubernetesVersion: ${V}\n    cni: ${EMPTY}\n  \
                workload:\n    tag: \"${1x} $HOME\"\n";
    let world = World::with_env(&[("EMPTY", ""), ("DIST", "k3s"), ("N", "3"), ("ON", "true"), ("V", "1.34")]);
    let loaded = load(&sources(text), &world);
    insta::assert_snapshot!("variables", render(&loaded, &loaded.diagnostics));
    let config = &loaded.config;
    assert_eq!(config.name(), "dev");
    assert_eq!(config.spec.editor.as_deref(), Some("ab${D}e"));
    assert_eq!(config.distribution().as_str(), "K3s");
    assert_eq!(config.spec.cluster.workers, Some(3));
    assert_eq!(config.spec.cluster.cert_manager.unwrap().as_str(), "Enabled");
    assert_eq!(config.spec.cluster.kubernetes_version.as_deref(), Some("1.34"));
    assert_eq!(config.spec.cluster.cni, None);
    assert_eq!(config.spec.workload.tag.as_deref(), Some("${1x} $HOME"));
    assert_eq!(origin(&loaded, "spec.cluster.distribution"), "environment variable DIST");
}

#[test]
fn values_of_variables_are_not_shown_in_errors() {
    let text = QUICKSTART.replace(
        "provider: Embedded",
        "provider: ${CANARY}\n    workers: ${CANARY}\n    connection: {timeout: '${CANARY}'}",
    );
    let loaded = load(&sources(&text), &World::with_env(&[("CANARY", "hunter2canary")]));
    let said = render(&loaded, &loaded.diagnostics);
    assert_eq!(loaded.diagnostics.len(), 3, "{said}");
    assert!(!said.contains("hunter2canary"), "{said}");
}

#[test]
fn every_leaf_has_an_origin() {
    let loaded = loaded(&sources(QUICKSTART));
    for path in ["apiVersion", "kind", "metadata.name", "spec.cluster.provider", "spec.mirrors[1].host"] {
        assert!(origin(&loaded, path).starts_with("ksail.yaml:"), "{path}");
    }
    assert_eq!(origin(&loaded, "spec.state.path"), "default of spec.state.path");
    assert_eq!(origin(&loaded, "spec.cluster.cni"), "default of spec.cluster.cni");
}
