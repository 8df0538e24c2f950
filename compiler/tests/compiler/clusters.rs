//! The cluster of the embedded engine: its nodes, and the objects in it.

use ksail_compiler::Compiled;
use ksail_model::{Address, Choice, Declaration, Ownership, Path, Value};

use crate::world::{World, built, judged, render, sources, with_spec};

const HEAD: &str = "  cluster:\n    provider: Embedded\n";

fn compiled(spec: &str, world: &World) -> Compiled {
    built(&sources(&with_spec(spec)), world).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn get<'a>(compiled: &'a Compiled, address: &str) -> &'a Declaration {
    let known = &compiled.graph.declarations;
    known.get(&Address::parse(address).unwrap()).unwrap_or_else(|| panic!("{address} in {:?}", known.keys()))
}

#[test]
fn a_cluster_with_nodes_lives_in_the_engine_and_its_objects_in_it() {
    let manifests = [("app.yaml".to_owned(), "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}".to_owned())];
    let world = World { manifests: manifests.into(), ..World::default() };
    let spec = format!("{HEAD}    workers: 2\n    kubernetesVersion: \"1.35.1\"\n  manifests: [app.yaml]\n");
    let compiled = compiled(&spec, &world);
    let hosts: Vec<(&str, Option<&str>)> = compiled
        .graph
        .declarations
        .values()
        .map(|declaration| {
            (declaration.address.without_cluster(), declaration.host.as_ref().map(Address::without_cluster))
        })
        .collect();
    let (engine, cluster) = (Some("engine/main"), Some("cluster/main"));
    assert_eq!(
        hosts,
        [
            ("cluster/main", engine),
            ("engine/main", None),
            ("kubeconfig/main", None),
            ("network/main", engine),
            ("node/control-plane-0", cluster),
            ("node/worker-0", cluster),
            ("node/worker-1", cluster),
            ("object/Namespace/_/shop", cluster),
        ]
    );
    assert_eq!(get(&compiled, "dev/cluster/main").spec.to_string(), "{running: true, version: \"v1.35.1\"}");
    let worker = get(&compiled, "dev/node/worker-1");
    assert_eq!(worker.identity.name, "Node/_/dev-worker2");
    assert_eq!(
        worker.origins.of(&Path::parse("metadata.annotations").unwrap()).unwrap().to_string(),
        "ksail.yaml:8:14"
    );
    let control_plane = get(&compiled, "dev/node/control-plane-0").spec.to_string();
    assert!(
        control_plane.contains("taints: [{effect: \"NoSchedule\", key: \"node-role.kubernetes.io/control-plane\"}]")
    );
    let outputs: Vec<&String> = compiled.graph.outputs.keys().collect();
    assert_eq!(outputs, ["context", "kubeconfig", "kubernetes"]);
}

#[test]
fn entries_in_the_kubeconfig_are_named_by_the_connection_or_by_the_cluster() {
    let check = |connection: &str, context: &str, file: Option<&str>, proposed: &[&str]| {
        let compiled = compiled(&format!("{HEAD}{connection}"), &World::default());
        let found = get(&compiled, "dev/kubeconfig/main");
        assert_eq!((found.identity.name.as_str(), found.ownership), (context, Ownership::Fields));
        assert_eq!(found.edges[0].to.without_cluster(), "cluster/main");
        let text = |field: &str| found.spec.field(field).and_then(Value::as_str);
        assert_eq!((text("context"), text("user"), text("file")), (Some(context), Some(context), file));
        let choices = found.choices.iter().map(|choice| match choice {
            Choice::Text { proposed, .. } => proposed.as_str(),
            Choice::Port { .. } => "a port",
        });
        assert_eq!(choices.collect::<Vec<_>>(), proposed);
        let told: Vec<&str> =
            found.spec.references().iter().map(|reference| reference.address.without_cluster()).collect();
        assert_eq!(told, ["cluster/main", "cluster/main"]);
    };
    check("", "ksail-dev", None, &["~/.kube/config"]);
    check("    connection: {kubeconfig: a.yaml, context: b}\n", "b", Some("a.yaml"), &[]);
}

#[test]
fn a_control_plane_that_is_alone_takes_workloads() {
    let compiled = compiled(HEAD, &World::default());
    let node = get(&compiled, "dev/node/control-plane-0").spec.to_string();
    assert!(!node.contains("taints"), "{node}");
    assert!(node.contains("embedded.ksail.io/kubelet-version: \"v1.36.3\"") || node.contains("\"v1.36.3\""), "{node}");
}

#[test]
fn rules_put_labels_and_taints_on_nodes() {
    let rules = "  nodes:\n    - labels: {zone: a}\n    - role: Worker\n      taints: [{key: gpu, value: \"yes\", effect: NoExecute}]\n\
                 \x20   - name: worker-1\n      labels: {zone: b}\n";
    let compiled = compiled(&format!("{HEAD}    workers: 2\n{rules}"), &World::default());
    let spec = |name: &str| get(&compiled, &format!("dev/node/{name}")).spec.to_string();
    assert!(spec("control-plane-0").contains("zone: \"a\"") && !spec("control-plane-0").contains("gpu"));
    assert!(
        spec("worker-0").contains("zone: \"a\"")
            && spec("worker-0").contains("{effect: \"NoExecute\", key: \"gpu\", value: \"yes\"}")
    );
    assert!(spec("worker-1").contains("zone: \"b\""));
}

#[test]
fn nodes_must_be_there_and_versions_be_some() {
    let rules = "    kubernetesVersion: latest\n  nodes:\n    - name: worker-7\n    - taints: [{key: gpu}]\n";
    insta::assert_snapshot!(judged(&with_spec(&format!("{HEAD}{rules}"))));
    let elsewhere = "  cluster:\n    provider: Embedded\n    distribution: None\n  nodes:\n    - labels: {zone: a}\n";
    let loaded = ksail_compiler::load(&sources(&with_spec(elsewhere)), &World::default());
    let said = render(&loaded, &ksail_compiler::validate(&loaded));
    assert!(said.contains("`spec.nodes` needs nodes that ksail makes"), "{said}");
}

#[test]
fn objects_are_judged_before_there_is_a_server() {
    let manifest = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, lables: {a: b}}
spec:
  replicas: \"2\"
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      continers: []
      containers:
        - name: web
          imagePullPolicy: always
          env: [{name: A, value: 1}]
          ports: {containerPort: 80}
          resources: {limits: {cpu: 1, memory: 1Gi}}
---
apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: old}
---
apiVersion: apps/v1beta1
kind: Deployment
metadata: {name: old}
---
apiVersion: example.com/v1
kind: Thing
metadata: {name: any}
spec: {what: ever}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {a: 12345}
";
    let world = World { manifests: [("app.yaml".to_owned(), manifest.to_owned())].into(), ..World::default() };
    let errors =
        built(&sources(&with_spec(&format!("{HEAD}  manifests: [app.yaml]\n"))), &world).map(drop).unwrap_err();
    let told: Vec<String> = errors
        .iter()
        .map(|error| match &error.hint {
            Some(hint) => format!("{error} ({hint})"),
            None => error.to_string(),
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
    assert!(!told.join("").contains("12345"), "values of Secrets are told nowhere");
}

const STAGES: &str = "  provider:
    embedded:
      stages:
        - name: slow
          kind: pod
          namespace: shop
          matchLabels: {app: web}
          matchExpressions: [{key: .status.phase, operator: In, values: [Pending]}]
          delay: 2s
        - name: broken
          kind: Node
          status: {conditions: [{type: Ready, status: \"False\", reason: \"${WHY}\", message: null}]}
";

#[test]
fn stages_become_a_part_of_the_cluster() {
    let compiled = compiled(&format!("{HEAD}{STAGES}"), &World::with_env(&[("WHY", "NoNetwork")]));
    let cluster = get(&compiled, "dev/cluster/main");
    insta::assert_snapshot!(cluster.spec.to_string());
    let origin = |path: &str| cluster.origins.of(&Path::parse(path).unwrap()).unwrap().to_string();
    assert_eq!(origin("stages[0].delayMilliseconds"), "ksail.yaml:11:11");
    assert_eq!(origin("stages[1]"), "ksail.yaml:17:11");
}

#[test]
fn stages_are_judged() {
    let stages = "  provider:
    embedded:
      stages:
        - name: Broken
          kind: Pod
        - name: a
          kind: Service
        - name: b
          kind: Node
          namespace: shop
          delay: 25h
        - name: b
          kind: Pod
          matchExpressions:
            - {key: status.phas, operator: In}
            - {key: \"status..phase\", operator: Exists, values: [x]}
          status:
            phas: Running
            conditions:
              - {type: Ready, status: False}
              - {status: \"True\"}
            containerStatuses: {}
        - name: c
          kind: Pod
          status: ready
";
    insta::assert_snapshot!(judged(&with_spec(&format!("{HEAD}{stages}"))));
    let nowhere = "  cluster:\n    provider: Embedded\n    distribution: None\n";
    let said = judged(&with_spec(&format!("{nowhere}{STAGES}")));
    assert!(said.contains("`spec.provider.embedded.stages` needs a cluster"), "{said}");
    let elsewhere = "  cluster:\n    provider: Docker\n    distribution: None\n";
    let said = judged(&with_spec(&format!("{elsewhere}{STAGES}")));
    assert!(said.contains("`spec.provider.embedded` is for provider Embedded and has no effect"), "{said}");
}

#[test]
fn no_control_plane_is_one() {
    let zero = judged(&with_spec(&format!("{HEAD}    controlPlanes: 0\n")));
    assert!(zero.contains("warning") && zero.contains("`spec.cluster.controlPlanes: 0` makes one"), "{zero}");
    assert!(!judged(&with_spec(&format!("{HEAD}    controlPlanes: 1\n"))).contains("makes one"));
}
