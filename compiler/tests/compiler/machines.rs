//! A cluster whose nodes are containers of a Docker Engine, and the file of kind.

use ksail_compiler::{Compiled, as_made_by_kind};
use ksail_model::{Address, Declaration, Ownership, Path, Value};

use crate::world::{World, built, sources, with_spec};

const HEAD: &str = "  cluster:\n    provider: Docker\n    distribution: Vanilla\n";
const KIND: &str = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n";

fn with_kind(file: &str) -> World {
    World { manifests: [("kind.yaml".to_owned(), format!("{KIND}{file}"))].into(), ..World::default() }
}

fn compiled(spec: &str, world: &World) -> Compiled {
    built(&sources(&with_spec(&format!("{HEAD}{spec}"))), world).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn refused(spec: &str, world: &World) -> String {
    let errors = built(&sources(&with_spec(&format!("{HEAD}{spec}"))), world).map(drop).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn get<'a>(compiled: &'a Compiled, address: &str) -> &'a Declaration {
    let known = &compiled.graph.declarations;
    known.get(&Address::parse(address).unwrap()).unwrap_or_else(|| panic!("{address} in {:?}", known.keys()))
}

#[test]
fn nodes_are_machines_with_what_makes_them_nodes() {
    let compiled = compiled("    workers: 1\n", &World::default());
    let hosts: Vec<(&str, Option<&str>)> = compiled
        .graph
        .declarations
        .values()
        .map(|one| (one.address.without_cluster(), one.host.as_ref().map(Address::without_cluster)))
        .collect();
    let cluster = Some("cluster/main");
    assert_eq!(
        hosts,
        [
            ("addon/cni", cluster),
            ("addon/storage", cluster),
            ("bootstrap/control-plane-0", Some("machine/control-plane-0")),
            ("bootstrap/worker-0", Some("machine/worker-0")),
            ("cluster/main", None),
            ("etcd-member/control-plane-0", cluster),
            ("image/docker.io%2Fkindest%2Fnode:v1.36.4", None),
            ("kubeconfig/main", None),
            ("machine/control-plane-0", None),
            ("machine/worker-0", None),
            ("network/main", None),
            ("node/control-plane-0", cluster),
            ("node/worker-0", cluster),
            ("volume/control-plane-0", None),
            ("volume/worker-0", None),
        ]
    );
    let outputs: Vec<&str> = compiled.graph.outputs.keys().map(String::as_str).collect();
    assert_eq!(outputs, ["context", "kubeconfig", "kubernetes"]);
    let worker = get(&compiled, "dev/machine/worker-0");
    assert_eq!(worker.identity.name, "dev-worker");
    assert!(worker.spec.field("port").is_none() && worker.choices.is_empty());
    assert_eq!(get(&compiled, "dev/machine/control-plane-0").choices.len(), 1);
    let needs: Vec<&str> =
        get(&compiled, "dev/bootstrap/worker-0").edges.iter().map(|edge| edge.to.without_cluster()).collect();
    assert_eq!(needs, ["bootstrap/control-plane-0"], "it joins as soon as it can, and waits for nothing else");
    let node = get(&compiled, "dev/node/worker-0").spec.to_string();
    assert!(node.contains("providerID: \"kind://docker/dev/dev-worker\""), "{node}");
}

#[test]
fn the_api_is_published_where_the_file_of_kind_says() {
    let world = with_kind("networking: {apiServerAddress: 0.0.0.0}\n");
    let one = compiled("", &world);
    let text = |compiled: &Compiled, address: &str, path: &str| {
        get(compiled, address).spec.get(&Path::parse(path).unwrap()).map(ToString::to_string).unwrap_or_default()
    };
    assert_eq!(text(&one, "dev/machine/control-plane-0", "api_address"), "\"0.0.0.0\"");
    assert_eq!(text(&one, "dev/cluster/main", "address"), "\"0.0.0.0\"");
    assert!(
        get(&one, "dev/bootstrap/control-plane-0").spec.to_string().contains("certSANs: [\"localhost\", \"0.0.0.0\"]")
    );
    let several = compiled("    controlPlanes: 3\n", &world);
    assert_eq!(text(&several, "dev/load-balancer/main", "address"), "\"0.0.0.0\"");
    assert_eq!(text(&several, "dev/machine/control-plane-0", "api_address"), "");
}

/// A field of a declaration, as it is written.
fn told(compiled: &Compiled, address: &str, path: &str) -> String {
    get(compiled, address).spec.get(&Path::parse(path).unwrap()).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_cluster_of_ipv6_has_it_everywhere() {
    let v6 = compiled("    workers: 1\n", &with_kind("networking: {ipFamily: ipv6}\n"));
    let subnet = told(&v6, "dev/network/main", "ipv6_subnet");
    let prefix = subnet.trim_matches('"').strip_suffix("/64").unwrap();
    assert_eq!(told(&v6, "dev/network/main", "ipv6_given"), format!("\"{prefix}1:0/112\""));
    assert!(!told(&v6, "dev/network/main", "subnet").is_empty(), "engines have IPv4 beside it");
    assert_eq!(told(&v6, "dev/machine/worker-0", "ipv6_address"), format!("\"{prefix}a\""));
    assert_eq!(told(&v6, "dev/machine/worker-0", "ipv6"), "true");
    assert_eq!(told(&v6, "dev/machine/control-plane-0", "api_address"), "\"::1\"");
    assert_eq!(told(&v6, "dev/cluster/main", "address"), "\"::1\"");
    assert_eq!(told(&v6, "dev/etcd-member/control-plane-0", "peer"), format!("\"https://[{prefix}2]:2380\""));
    assert_eq!(told(&v6, "dev/addon/cni", "pod_subnet"), "\"fd00:10:244::/56\"");
    let config = told(&v6, "dev/bootstrap/control-plane-0", "config");
    assert!(config.contains(&format!("advertiseAddress: \"{prefix}2\"")), "{config}");
    assert!(config.contains("certSANs: [\"localhost\", \"::1\"]"), "{config}");
    let several = compiled("    controlPlanes: 3\n", &with_kind("networking: {ipFamily: ipv6}\n"));
    let backends = told(&several, "dev/load-balancer/main", "backends");
    assert!(backends.contains(&format!("\"[{prefix}3]:6443\"")), "{backends}");
    assert_eq!(told(&several, "dev/load-balancer/main", "ipv6"), "true");
    // Nothing of it stands where nobody asked for it.
    let plain = compiled("    controlPlanes: 3\n", &World::default());
    for declaration in plain.graph.declarations.values() {
        assert!(!declaration.spec.to_string().contains("ipv6"), "{}", declaration.address);
    }
}

#[test]
fn a_cluster_of_both_families_has_both_and_says_which_is_first() {
    let address = |network: &str, path: &str| {
        let dual = compiled("", &with_kind(&format!("networking: {{ipFamily: dual{network}}}\n")));
        told(&dual, "dev/bootstrap/control-plane-0", path)
    };
    let first = |network: &str| address(network, "config[1].localAPIEndpoint.advertiseAddress");
    assert!(first("").starts_with("\"10."), "{}", first(""));
    let turned = ", serviceSubnet: \"fd00:1::/112,10.1.0.0/16\"";
    assert!(first(turned).starts_with("\"fd"), "{}", first(turned));
    let registration = address(turned, "config[1].nodeRegistration");
    let node_ip = registration.split("node-ip\", value: \"").nth(1).and_then(|rest| rest.split('"').next());
    let (first, second) = node_ip.and_then(|both| both.split_once(',')).unwrap_or_else(|| panic!("{registration}"));
    assert!(first.starts_with("fd") && second.starts_with("10."), "{registration}");
}

#[test]
fn a_published_port_that_is_not_given_is_chosen_and_told() {
    let ports = "nodes:\n- role: control-plane\n- role: worker\n  extraPortMappings:\n  - {containerPort: 30000, hostPort: 30000}\n  - {containerPort: 80}\n";
    let compiled = compiled("", &with_kind(ports));
    let worker = get(&compiled, "dev/machine/worker-0");
    let chosen: Vec<String> = worker.choices.iter().map(|choice| format!("{choice:?}")).collect();
    assert_eq!(chosen.len(), 1, "{chosen:?}");
    assert!(chosen[0].contains("8080"), "{chosen:?}");
    assert_eq!(worker.spec.get(&Path::parse("ports[1].host").unwrap()), Some(&ksail_model::Value::Null));
    assert!(compiled.graph.outputs.contains_key("ports-worker-0"), "{:?}", compiled.graph.outputs.keys());
    assert!(!compiled.graph.outputs.contains_key("ingress"), "it is not known yet");
}

#[test]
fn several_control_planes_stand_behind_a_load_balancer() {
    let compiled = compiled("    controlPlanes: 3\n    workers: 1\n", &World::default());
    let edges = |address: &str| -> Vec<String> {
        get(&compiled, address).edges.iter().map(|edge| edge.to.without_cluster().to_owned()).collect()
    };
    let first = get(&compiled, "dev/machine/control-plane-0").spec.to_string();
    assert!(!first.contains("port:") && !first.contains("aliases"), "the load balancer has both: {first}");
    let balancer = get(&compiled, "dev/load-balancer/main");
    assert_eq!((balancer.identity.name.as_str(), balancer.choices.len()), ("dev-external-load-balancer", 1));
    assert_eq!(balancer.spec.field("backends").unwrap().as_map().unwrap().len(), 3);
    assert_eq!(
        edges("dev/bootstrap/control-plane-0"),
        ["load-balancer/main", "machine/control-plane-1", "machine/control-plane-2"]
    );
    assert_eq!(edges("dev/bootstrap/control-plane-2"), ["bootstrap/control-plane-1"]);
    assert_eq!(edges("dev/bootstrap/worker-0"), ["bootstrap/control-plane-0"], "while the others join");
    assert_eq!(
        edges("dev/etcd-member/control-plane-2"),
        ["bootstrap/control-plane-2", "load-balancer/main", "etcd-member/control-plane-1"]
    );
    let join = get(&compiled, "dev/bootstrap/control-plane-1").spec.to_string();
    assert!(join.contains("controlPlaneEndpoint: \"dev-external-load-balancer:6443\""), "{join}");
    // Machines know the API by the same name where it is the only control plane's.
    let alone = built(&sources(&with_spec(HEAD)), &World::default()).unwrap();
    let only = get(&alone, "dev/machine/control-plane-0").spec.to_string();
    assert!(only.contains("aliases: [\"dev-external-load-balancer\"]"), "{only}");
}

#[test]
fn a_control_plane_takes_workloads_only_where_it_is_alone() {
    let takes = |spec: &str| {
        let compiled = compiled(spec, &World::default());
        get(&compiled, "dev/bootstrap/control-plane-0").spec.field("takes_workloads").is_some()
    };
    assert!(takes(""));
    assert!(!takes("    workers: 1\n"));
}

#[test]
fn taints_are_told_at_registration_and_belong_to_the_node_afterwards() {
    let rules = "    workers: 2\n  nodes:\n    - taints: [{key: a, effect: NoSchedule}, {key: b, value: \"\", effect: NoExecute}]\n    - name: worker-1\n      \
                 taints: [{key: a, value: x, effect: NoSchedule}]\n";
    let all = compiled(rules, &World::default());
    let taints = |address: &str, path: &str| {
        let taints = get(&all, address).spec.get(&Path::parse(path).unwrap()).cloned();
        taints.map_or_else(String::new, |taints| taints.to_string())
    };
    let of_first = r#"[{effect: "NoSchedule", key: "a"}, {effect: "NoExecute", key: "b"}]"#;
    let of_second = r#"[{effect: "NoExecute", key: "b"}, {effect: "NoSchedule", key: "a", value: "x"}]"#;
    for (node, expected) in [("control-plane-0", of_first), ("worker-0", of_first), ("worker-1", of_second)] {
        assert_eq!(taints(&format!("dev/node/{node}"), "spec.taints"), expected);
        assert_eq!(taints(&format!("dev/bootstrap/{node}"), "taints"), expected);
        // They change on the node, and make no bootstrap another one.
        assert_eq!(get(&all, &format!("dev/bootstrap/{node}")).lifecycle.ignore, [Path::key("taints")]);
    }
    // One that shall take no workloads takes none, even where it is alone.
    let own = "  nodes:\n    - taints: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]\n";
    let alone = compiled(own, &World::default());
    assert!(get(&alone, "dev/bootstrap/control-plane-0").spec.field("takes_workloads").is_none());
}

#[test]
fn the_file_of_kind_is_read_where_it_is() {
    let file = "nodes:\n- role: control-plane\n  image: kindest/node:v1.35.1@sha256:00\n- role: worker\n  image: kindest/node:v1.35.1@sha256:00\n  \
                extraPortMappings: [{containerPort: 80, hostPort: 8080, listenAddress: 127.0.0.1}]\n  labels: {zone: a}\n\
                networking: {disableDefaultCNI: true, podSubnet: 10.1.0.0/16, apiServerPort: 6500}\n\
                kubeadmConfigPatches:\n- \"kind: KubeletConfiguration\\nmaxPods: 60\\n\"\n";
    let compiled = compiled("", &with_kind(file));
    let machine = get(&compiled, "dev/machine/worker-0").spec.to_string();
    assert!(machine.contains("host: 8080") && machine.contains("kindest/node:v1.35.1@sha256:00"), "{machine}");
    let first = get(&compiled, "dev/machine/control-plane-0");
    assert!(first.spec.to_string().contains("port: 6500") && first.choices.is_empty());
    let bootstrap = get(&compiled, "dev/bootstrap/worker-0").spec.to_string();
    for part in ["maxPods: 60", "10.1.0.0/16", "kubernetesVersion: \"v1.35.1\"", "kubeadm.k8s.io/v1beta3", "zone=a"] {
        assert!(bootstrap.contains(part), "{part} in {bootstrap}");
    }
    let addons: Vec<&Address> =
        compiled.graph.declarations.keys().filter(|address| address.kind() == "addon").collect();
    assert_eq!(addons.len(), 1, "the network plugin is the user's own: {addons:?}");
    // What `ksail.yaml` says of counts goes before.
    let more = built(&sources(&with_spec(&format!("{HEAD}    workers: 3\n"))), &with_kind(file)).unwrap();
    get(&more, "dev/machine/worker-2");
}

#[test]
fn what_is_not_built_is_refused() {
    let world = World::default();
    assert!(refused("    vanilla: {mirrorsDir: kind/mirrors}\n", &world).contains("vanilla.mirrorsDir"));
    assert!(refused("    controlPlanes: 8\n", &world).contains("control-plane-7 is one node too many"));
    assert!(refused("", &with_kind("nodes: [{image: my/node:latest}]\n")).contains("tells no version"));
    assert!(refused("    distributionConfig: other.yaml\n", &world).contains("`other.yaml` cannot be read"));
}

#[test]
fn proxies_reach_every_machine_and_the_cluster_is_reached_past_them() {
    let proxy = |world: &World| {
        let compiled = compiled("    workers: 1\n    localRegistry: {}\n", world);
        get(&compiled, "dev/machine/worker-0").spec.field("proxy").cloned()
    };
    assert_eq!(proxy(&World::default()), None);
    assert_eq!(proxy(&World::with_env(&[("NO_PROXY", "x")])), None, "without a proxy there is nothing to go past");
    let found =
        proxy(&World::with_env(&[("https_proxy", "http://proxy:3128"), ("NO_PROXY", "corp.example, 10.96.0.0/16")]))
            .unwrap();
    assert_eq!(found.field("HTTPS_PROXY").and_then(ksail_model::Value::as_str), Some("http://proxy:3128"));
    let past = found.field("NO_PROXY").and_then(ksail_model::Value::as_str).unwrap();
    let parts: Vec<&str> = past.split(',').collect();
    assert_eq!(parts[..3], ["corp.example", "10.96.0.0/16", "10.244.0.0/16"], "{past}");
    for part in ["dev-control-plane", "dev-worker", "dev-local-registry", ".svc.cluster.local"] {
        assert!(parts.contains(&part), "{part} in {past}");
    }
    // A password stands nowhere.
    let secret = proxy(&World::with_env(&[("HTTP_PROXY", "http://me:hunter2@proxy:3128")])).unwrap();
    assert!(!format!("{secret:?}").contains("hunter2") && secret.secrets().len() == 1, "{secret:?}");
}

#[test]
fn control_planes_log_who_asked_for_what() {
    let files = |compiled: &Compiled, node: &str| {
        get(compiled, &format!("dev/bootstrap/{node}")).spec.field("files").map(ToString::to_string)
    };
    let plain = compiled("    workers: 1\n    audit: {}\n", &World::default());
    let policy = files(&plain, "control-plane-0").unwrap();
    assert!(policy.contains("var/lib/ksail/audit/policy.yaml") && policy.contains("level: Metadata"), "{policy}");
    assert_eq!(files(&plain, "worker-0"), None);
    assert!(get(&plain, "dev/bootstrap/control-plane-0").spec.to_string().contains("audit-log-path"));
    assert_eq!(files(&compiled("", &World::default()), "control-plane-0"), None);

    let asks = "    audit: {policy: audit.yaml}\n";
    let with =
        |text: &str| World { manifests: [("audit.yaml".to_owned(), text.to_owned())].into(), ..World::default() };
    let own = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Request}]\n";
    assert!(files(&compiled(asks, &with(own)), "control-plane-0").unwrap().contains("level: Request"));
    assert!(refused(asks, &World::default()).contains("`audit.yaml` cannot be used: there is no such file"));
    assert!(refused(asks, &with("kind: Policy\n")).contains("it says ``, `Policy`"));
    assert!(refused(asks, &with("apiVersion: audit.k8s.io/v1\nkind: Policy\n")).contains("it has no rules"));
}

#[test]
fn the_cluster_tells_tools_of_its_registry() {
    let spec = "    localRegistry: {registry: \"localhost:5050\"}\n";
    let hosting = "dev/object/ConfigMap/kube-public/local-registry-hosting";
    let told = compiled(spec, &World::default());
    let object = get(&told, hosting);
    assert_eq!(object.host, Some(Address::parse("dev/cluster/main").unwrap()));
    assert!(object.spec.to_string().contains("localRegistryHosting.v1"), "{}", object.spec);
    assert_eq!(object.edges.len(), 1);
    assert!(!compiled("", &World::default()).graph.declarations.contains_key(&Address::parse(hosting).unwrap()));
    // A manifest that declares it is the user's own word.
    let own = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: local-registry-hosting, namespace: kube-public}\ndata: {a: b}\n";
    let world = World { manifests: [("own.yaml".to_owned(), own.to_owned())].into(), ..World::default() };
    let own = compiled(&format!("{spec}  manifests: [{{path: own.yaml}}]\n"), &world);
    assert!(get(&own, hosting).spec.to_string().contains("a: "), "{}", get(&own, hosting).spec);
}

#[test]
fn mirrors_and_the_registry_answer_pulls_of_every_machine() {
    let spec = "    localRegistry: {registry: \"localhost:5050\"}\n    workers: 1\n  mirrors: [{host: docker.io}]\n";
    let compiled = compiled(spec, &World::default());
    let machine = get(&compiled, "dev/machine/worker-0").spec.field("registries").unwrap().to_string();
    for part in [
        "docker.io: \"http://dev-mirror-docker.io:5000\"",
        "localhost:5050: \"http://dev-local-registry:5000\"",
        "dev-local-registry:5000: \"http://dev-local-registry:5000\"",
    ] {
        assert!(
            machine
                .replace("\"localhost:5050\"", "localhost:5050")
                .replace("\"dev-local-registry:5000\"", "dev-local-registry:5000")
                .contains(part),
            "{part} in {machine}"
        );
    }
}

#[test]
fn what_kind_made_is_declared_as_kind_has_it() {
    let mut compiled = compiled("    workers: 1\n", &World::default());
    as_made_by_kind(&mut compiled.graph, "dev");
    let again = compiled.graph.clone();
    as_made_by_kind(&mut compiled.graph, "dev");
    assert_eq!(compiled.graph, again);
    let network = get(&compiled, "dev/network/main");
    assert_eq!(network.ownership, Ownership::Read, "other clusters are on it");
    assert_eq!(network.spec.field("subnet"), None);
    let mut v6 = self::compiled("", &with_kind("networking: {ipFamily: ipv6}\n"));
    as_made_by_kind(&mut v6.graph, "dev");
    assert!(!get(&v6, "dev/network/main").spec.to_string().contains("ipv6"));
    let machine = &get(&v6, "dev/machine/control-plane-0").spec;
    assert_eq!((machine.field("ipv6_address"), machine.field("ipv6")), (None, Some(&Value::from(true))));
    for machine in ["dev/machine/control-plane-0", "dev/machine/worker-0"] {
        let machine = get(&compiled, machine);
        assert_eq!((machine.spec.field("address"), machine.spec.field("aliases")), (None, None));
    }
    let members = compiled.graph.declarations.keys().filter(|address| address.kind() == "etcd-member");
    assert_eq!(members.count(), 0);
    let told = get(&compiled, "dev/bootstrap/worker-0").spec.to_plain_json().to_string();
    assert!(told.contains("dev-control-plane:6443"), "{told}");
    for ours in ["external-load-balancer", "kube-api-qps", "leader-elect", "encryptionAlgorithm", "node-ip", "10."] {
        let found = told.replace("10.244.0.0", "").replace("10.96.0.0", "").contains(ours);
        assert!(!found, "{ours} in {told}");
    }
    let kubeconfig = get(&compiled, "dev/kubeconfig/main");
    assert_eq!(kubeconfig.identity.name, "kind-dev");
    assert_eq!(kubeconfig.spec.field("context").and_then(Value::as_str), Some("kind-dev"));

    assert!(compiled.graph.declarations.keys().all(|address| address.kind() != "load-balancer"));
}

#[test]
fn several_control_planes_of_kind_are_known_by_name() {
    let mut several = self::compiled("    controlPlanes: 2\n", &World::default());
    as_made_by_kind(&mut several.graph, "dev");
    let again = several.graph.clone();
    as_made_by_kind(&mut several.graph, "dev");
    assert_eq!(several.graph, again);
    let balancer = &get(&several, "dev/load-balancer/main").spec;
    let backends = balancer.field("backends").unwrap().to_plain_json();
    let by_name = serde_json::json!({"dev-control-plane": "dev-control-plane:6443", "dev-control-plane2": "dev-control-plane2:6443"});
    assert_eq!(backends, by_name);
    let told = get(&several, "dev/bootstrap/control-plane-1").spec.to_plain_json().to_string();
    assert!(told.contains("dev-external-load-balancer:6443") && !told.contains("advertiseAddress"), "{told}");
    let member = &get(&several, "dev/etcd-member/control-plane-1").spec;
    assert_eq!(member.field("peer").and_then(Value::as_str), Some("https://dev-control-plane2:2380"));

    // Envoy of kind listens by IPv6 where there is nothing else; servers are looked up by the family that they listen by.
    for (families, ipv6) in [("ipv6", true), ("dual", false)] {
        let mut several =
            self::compiled("    controlPlanes: 2\n", &with_kind(&format!("networking: {{ipFamily: {families}}}\n")));
        as_made_by_kind(&mut several.graph, "dev");
        let balancer = &get(&several, "dev/load-balancer/main").spec;
        assert_eq!(balancer.field("ipv6").and_then(Value::as_bool).unwrap_or_default(), ipv6, "{families}");
    }
}
