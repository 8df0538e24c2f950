//! Every field of the format as KSail's users know it is read.

use ksail_compiler::json_schema;
use serde_json::{Value, json};

use crate::world::{judged, read, with_spec};

/// The list of all fields: `path: type words`.
const FIELDS: &str = include_str!("../fields.txt");

/// A document that has the field with this value.
fn document(path: &str, value: &Value) -> String {
    let mut out = value.clone();
    for part in path.split('.').rev() {
        out = match part.strip_suffix("[]") {
            Some(name) => json!({ name: [out] }),
            None => json!({ part.replace("<key>", "a.b/c"): out }),
        };
    }
    for (key, given) in [("apiVersion", "ksail.io/v1alpha1"), ("kind", "Cluster")] {
        out.as_object_mut().unwrap().entry(key).or_insert(json!(given));
    }
    out.to_string()
}

/// Values that the described type takes.
fn values(described: &str) -> Vec<Value> {
    let (kind, rest) = described.split_once(' ').unwrap_or((described, ""));
    match kind {
        "boolean" => vec![json!(true), json!(false)],
        "integer" => vec![json!(0), json!(7)],
        _ if described.contains("alt(") => vec![json!("Price"), json!(["LeastWaste", "random"]), json!([])],
        _ if rest.starts_with('/') => {
            vec![if rest.contains("ns|us") { json!("5m") } else { json!("a-b") }]
        }
        _ if rest.contains('|') => {
            let words = rest.split(" = ").next().unwrap();
            let mut values = Vec::new();
            for word in words.split('|') {
                values.extend([json!(word), json!(word.to_lowercase()), json!(word.to_uppercase())]);
            }
            if words.contains("Enabled") {
                values.extend([json!(true), json!(false)]);
            }
            values
        }
        _ if rest.starts_with("Cluster") || rest.starts_with("ksail.io") => vec![json!(rest)],
        "string" => vec![json!("x")],
        other => panic!("a type that the test does not know: {other}"),
    }
}

#[test]
fn every_field_is_read() {
    let mut fields = 0;
    for line in FIELDS.lines() {
        let (path, described) = line.split_once(": ").unwrap();
        fields += 1;
        for value in values(described.trim()) {
            let text = document(path, &value);
            let loaded = read(&text);
            assert_eq!(loaded.diagnostics, [], "{text}");
            // It reached the types: the field is there again when they are written.
            let pointer = format!("/{}", path.replace("[]", "/0").replace('.', "/").replace("<key>", "a.b~1c"));
            let config = serde_json::to_value(&loaded.config).unwrap();
            assert!(config.pointer(&pointer).is_some_and(|value| !value.is_null()), "{pointer} in {config}");
        }
    }
    assert!(fields > 130, "{fields}");
}

/// The part of the schema that a listed path leads to.
fn schema_at<'a>(schema: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(schema, |schema, part| {
        let name = part.trim_end_matches("[]");
        let below = if name == "<key>" { &schema["additionalProperties"] } else { &schema["properties"][name] };
        if part.ends_with("[]") { &below["items"] } else { below }
    })
}

#[test]
fn patterns_and_bounds_are_those_of_the_format() {
    let schema = json_schema();
    for line in FIELDS.lines() {
        let (path, described) = line.split_once(": ").unwrap();
        let ours = schema_at(&schema, path);
        assert!(ours.is_object(), "{path}");
        if let Some(pattern) = described.split_once(" /").and_then(|(_, pattern)| pattern.strip_suffix('/')) {
            assert_eq!(ours["pattern"], pattern, "{path}");
        }
        if described.contains("minimum 0") {
            assert_eq!(ours["minimum"], 0, "{path}");
        }
    }
}

/// Typical files of KSail's users.
const TYPICAL: [(&str, &str); 5] = [
    (
        "vanilla",
        "  cluster:
    distribution: Vanilla
    distributionConfig: kind.yaml
    connection:
      context: kind-kind
    cni: Cilium
    metricsServer: Enabled
    certManager: Enabled
    policyEngine: Kyverno
    localRegistry:
      registry: localhost:5050
    gitOpsEngine: Flux
    vanilla:
      mirrorsDir: kind/mirrors
  workload:
    sourceDirectory: k8s
",
    ),
    (
        "k3s",
        "  cluster:
    distribution: K3s
    distributionConfig: k3d.yaml
    cni: Calico
    gitOpsEngine: ArgoCD
    localRegistry:
      registry: localhost:5050
",
    ),
    (
        "talos",
        "  cluster:
    distribution: Talos
    provider: Hetzner
    controlPlanes: 1
    workers: 2
    talos:
      iso: 125127
  provider:
    hetzner:
      controlPlaneServerType: cx23
      workerServerType: cx23
      location: fsn1
      networkCidr: 10.0.0.0/16
      placementGroupStrategy: Spread
",
    ),
    ("eks", "  cluster:\n    distribution: EKS\n    provider: AWS\n"),
    ("kwok", "  cluster:\n    distribution: KWOK\n    distributionConfig: kwok/\n    gitOpsEngine: ArgoCD\n"),
];

#[test]
fn typical_files_have_no_errors_and_say_what_is_not_built() {
    for (name, spec) in TYPICAL {
        let said = judged(&with_spec(spec));
        assert!(!said.contains("error:"), "{name}: {said}");
        insta::assert_snapshot!(format!("typical_{name}"), said);
    }
}
