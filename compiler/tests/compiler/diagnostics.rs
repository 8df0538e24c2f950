//! What a person reads when a file is wrong.

use ksail_compiler::load;

use crate::world::{QUICKSTART, World, built, judged, render, sources, with_spec};

/// Snapshots what `validate` says of each text.
macro_rules! bad {
    ($($name:ident: $text:expr;)+) => {
        $(#[test]
        fn $name() {
            let said = judged(&$text);
            assert!(!said.is_empty());
            insta::assert_snapshot!(stringify!($name), said);
        })+
    };
}

bad! {
    several_errors_at_once: with_spec(
        "  cluster:
    distributon: Vanilla
    provider: Dokcer
    workers: three
    controlPlanes: -1
    certManager: maybe
    connection:
      timeout: soon
  workload: k8s
  mirors: []
");
    a_misspelt_distribution_is_not_the_default_one: with_spec("  cluster:\n    distributon: None\n    provider: Embedded\n");
    a_misspelt_key_is_not_missing: with_spec("  cluster:\n    distribution: None\n    provider: Embedded\n  mirrors:\n    - hst: ghcr.io\n");
    unknown_keys_name_their_place: "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nspec:\n  gitOpsEngine: Flux\n  cluster:\n    sourceDirectory: k8s\n    zzz: 1\nstatus: {}\n";
    keys_of_another_case: with_spec("  cluster:\n    gitopsEngine: Flux\n    CNI: Cilium\n");
    duplicate_keys: with_spec("  cluster:\n    cni: Cilium\n    provider: Docker\n    cni: Calico\n");
    wrong_types: with_spec(
        "  editor: 5
  cluster:
    kubernetesVersion: 1.34
    importImages: [a.tar]
    workers: \"2\"
    cni: {a: b}
    talos:
      extensions: siderolabs/x
    eks:
      experimentalAWSLoadBalancerController: Enabled
  workload:
    validateOnPush: 1
");
    missing_envelope: "metadata:\n  name: dev\nspec:\n  cluster:\n    distribution: None\n";
    wrong_envelope: "apiVersion: ksail.io/v1\nkind: Clusters\nmetadata:\n  name: Dev_1\nspec: {cluster: {distribution: None}}\n";
    empty_file: "";
    reserved_name: with_spec("  cluster: {distribution: None}\n").replace("dev", "host");
    a_list: "- a\n- b\n";
    syntax: "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nspec:\n  cluster: [a\n  b: }\n";
    tabs: "apiVersion: ksail.io/v1alpha1\nspec:\n\tcluster: {}\n";
    two_documents: format!("{QUICKSTART}---\n{QUICKSTART}");
    merge_of_a_text: with_spec("  cluster:\n    <<: text\n    distribution: None\n");
    unknown_tag: with_spec("  cluster:\n    distribution: !secret None\n");
    unknown_anchor: with_spec("  cluster: *nowhere\n");
    matrix: with_spec("  cluster:\n    distribution: Vanilla\n    provider: AWS\n");
    embedded_is_no_machine: with_spec("  cluster:\n    provider: Embedded\n    distribution: K3s\n");
    nothing_runs_without_a_cluster: with_spec(
        "  cluster:
    distribution: None
    cni: Cilium
    metricsServer: true
    certManager: Disabled
    gitOpsEngine: Flux
    controlPlanes: 1
");
    mirrors: with_spec(
        "  cluster: {distribution: None}
  mirrors:
    - host: docker.io
    - host: Docker.io
    - upstream: https://a.example
    - host: https://ghcr.io
    - host: a.example
      upstream: ftp://a.example
    - host: b.example
      username: me
    - host: c.example
      upstream: u:${T}@c.example
      password: ${T}
");
    equal_ports: with_spec(
        "  cluster:\n    distribution: None\n    localRegistry:\n      registry: localhost:5051\n  mirrors:\n    - host: docker.io\n      port: 5051\n    - host: ghcr.io\n      port: 70000\n");
    bad_registry: with_spec("  cluster:\n    distribution: None\n    localRegistry:\n      registry: localhost:port\n");
    images: with_spec(
        "  cluster: {distribution: None}\n  images:\n    - from: docker.io\n      to: r.example\n    - from: docker.io/\n      to: https://r.example\n    - from: ghcr.io\n");
    required_version: with_spec("  requiredVersion: newest\n  cluster: {distribution: None}\n");
    pools: with_spec(
        "  cluster:
    distribution: Talos
    autoscaler:
      node:
        pools:
          - {name: a, min: 3, max: 1}
          - {name: a}
          - {name: A_B, taints: [{effect: NoShedule}]}
");
    two_spellings: with_spec("  cluster:\n    distribution: Talos\n    workers: 2\n    talos:\n      workers: 3\n");
    sections_without_effect: with_spec("  cluster:\n    distribution: None\n    talos:\n      version: v1\n  provider:\n    hetzner:\n      location: fsn1\n");
    lifecycle: with_spec(
        "  cluster: {distribution: None}
  lifecycle:
    - match: /volume
    - match: volume
      ignore: ['', 'a[', running]
    - protect: true
  moved:
    - {from: registry, to: registry/local}
    - {from: volume/a, to: volume/a}
  removed:
    - {from: volume/a}
  imports:
    - {to: network/main, id: a}
    - {to: dev/network/main, id: b}
");
}

#[test]
fn a_switch_of_yes_is_explained() {
    let said = judged(&with_spec("  cluster:\n    certManager: yes\n"));
    assert!(said.contains("write `Enabled` or `Disabled`"), "{said}");
}

#[test]
fn aliases_cannot_grow_without_end() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let alias = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", ")));
    }
    assert!(judged(&text).contains("[KS0101]"));
    let deep = "[".repeat(5000);
    assert!(judged(&deep).contains("[KS0100]"));
    let large = format!("#{}", "x".repeat(2 << 20));
    assert!(judged(&large).contains("[KS0101]"));
}

#[test]
fn anchors_and_merge_keys_are_followed() {
    let text = with_spec(
        "  cluster: &base\n    distribution: None\n    localRegistry: &registry {registry: \"localhost:5050\"}\n  workload:\n    flux: &flux {operatorVersion: a}\n",
    );
    assert_eq!(judged(&text), "");
    let merged = with_spec(
        "  cluster:\n    <<: [{distribution: None, editor: x}, {distribution: K3s, provider: Docker}]\n    provider: Embedded\n",
    );
    let said = judged(&merged);
    assert!(said.contains("`spec.cluster` has no key `editor`"), "{said}");
    let config = crate::world::read(&merged).config;
    assert_eq!(config.distribution().as_str(), "None", "the first of what is merged wins");
    assert_eq!(config.provider().as_str(), "Embedded", "the map itself wins over what is merged");
}

#[test]
fn plan_refuses_what_is_not_built_in_one_error() {
    let text = with_spec(
        "  editor: vim\n  cluster:\n    distribution: Talos\n    provider: Hetzner\n    cni: Cilium\n    csi: Disabled\n    certManager: true\n  workload:\n    tag: v1\n  chat:\n    model: m\n",
    );
    let errors = built(&sources(&text), &World::default()).unwrap_err();
    assert_eq!(errors.len(), 1);
    insta::assert_snapshot!("not_built", render(&load(&sources(&text), &World::default()), &errors));
}

#[test]
fn harmless_fields_do_not_stop_a_plan() {
    let text = QUICKSTART.replace(
        "    localRegistry:",
        "    connection: {context: x, timeout: 5m}\n    distributionConfig: kind.yaml\n    cni: Default\n    certManager: false\n    localRegistry:",
    ) + "  editor: vim\n  chat: {model: m}\n  workload: {sourceDirectory: k8s, validation: {skipKinds: [Secret]}}\n";
    assert_eq!(judged(&text), "");
    assert_eq!(built(&sources(&text), &World::default()).unwrap().warnings, []);
}

/// A text that is cut or garbled anywhere gives diagnostics, never a panic.
#[test]
fn torn_texts_are_survived() {
    let text = format!(
        "{QUICKSTART}      password: ${{TOKEN}}\n  lifecycle: [{{match: volume, ignore: [driver]}}]\n  images: &a [{{from: a, to: b}}]\n"
    );
    let world = World::default();
    for (at, _) in text.char_indices().step_by(5) {
        for garbage in ["", "{", "]", ": ", "\n- ", "&a ", "*a ", "'", "${", "\t", "<<: ", "|\n", "\u{e9}\u{1f600}"] {
            for rest in [&text[at..], ""] {
                let torn = format!("{}{garbage}{rest}", &text[..at]);
                let loaded = load(&sources(&torn), &world);
                let _ = render(&loaded, &ksail_compiler::validate(&loaded));
                let _ = built(&sources(&torn), &world);
            }
        }
    }
}
