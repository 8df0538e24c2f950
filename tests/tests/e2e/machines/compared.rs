//! What ksail makes equals what real kind makes of the same file: both make it with the same image, under the same name and with the
//! same ports, one after the other.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::facts::{self, Facts};
use super::families::{self, Family};
use super::{balancer_rule, etcd_members, kind_program, kubectl_in, node_version};
use crate::docker::name;
use crate::support::engine::Engine;
use crate::support::project::Project;
use crate::support::{docker_socket, free_port};

/// What differs on purpose, and why. A path's `*` stands for any text.
const ON_PURPOSE: &[(&str, &str)] = &[
    ("container/*/Config/Labels/dev.ksail.*", "the mark by which it is known whose a machine is"),
    ("balancer/Labels/dev.ksail.*", "the same, of a load balancer"),
    ("container/*/6443/tcp/{\"HostIp\":\"::1\",*", "behind a load balancer no control plane is published itself"),
    ("container/*/Config/Image", "images are named in full"),
    (
        "container/*/Config/Env/KIND_EXPERIMENTAL_CONTAINERD_SNAPSHOTTER",
        "an experiment that kind's own environment turns on",
    ),
    (
        "container/*/HostConfig/Binds/*-var:/var",
        "what a machine keeps is on a volume with a name, so that it outlives the container",
    ),
    ("container/*/Mounts//var/*", "the same"),
    ("container/*/HostConfig/NetworkMode", "a cluster has a network of its own, so that its addresses can be fixed"),
    ("container/*/Networks/*", "the same"),
    (
        "container/*/Aliases/*-external-load-balancer",
        "the only control plane answers to the name of a load balancer, so that others can join it",
    ),
    ("*/controlPlaneEndpoint", "the same"),
    ("kubeadm/*/apiServerEndpoint", "the same"),
    ("*/kube-proxy/data/kubeconfig.conf/clusters/default/cluster/server", "the same"),
    ("*/env/CONTROL_PLANE_ENDPOINT/value", "the same"),
    ("object/ConfigMap/kube-system/ksail-*", "what is known of the cluster itself is kept in it"),
    ("*/kube-controller-manager/command/--kube-api-*", "a controller manager that may ask more often starts sooner"),
    ("kubeadm/*/controllerManager/extraArgs/kube-api-*", "the same"),
    ("*/kubeadm-config/data/ClusterConfiguration/controllerManager/extraArgs/kube-api-*", "the same"),
    ("*/command/--leader-elect-retry-period=*", "a lease that was refused at the start is asked for again sooner"),
    ("*/extraArgs/leader-elect-retry-period/*", "the same"),
    ("*/encryptionAlgorithm", "keys of elliptic curves are made in no time"),
    ("node/*/annotations/ksail.io/*", "the mark of the node's object"),
    ("node/*/labels/ksail.io/lineage", "the same"),
    (
        "object/*/metadata/annotations/kubectl.kubernetes.io/last-applied-configuration",
        "what a node image brings along is applied and not created, so that it can be applied again",
    ),
];

/// The files that are compared: what is said of them, what they say, and of which families the pods' addresses are then.
const SHAPES: [(&str, &str, &[Family]); 3] = [
    ("nothing is said", "", &[Family::V4]),
    ("all is said", RICH, &[Family::V4, Family::V6]),
    ("IPv6 alone", IPV6, &[Family::V6]),
];

/// With two control planes, so that load balancers and what joins them is compared too.
const IPV6: &str = "networking:\n  ipFamily: ipv6\nnodes:\n- role: control-plane\n- role: control-plane\n";

const RICH: &str = r#"
networking:
  ipFamily: dual
  apiServerAddress: 127.0.0.2
  podSubnet: 10.11.0.0/16,fd00:11::/56
  serviceSubnet: 10.12.0.0/16,fd00:12::/112
  kubeProxyMode: nftables
  dnsSearch: [a.example, b.example]
featureGates:
  HPAScaleToZero: true
  ContainerCheckpoint: false
runtimeConfig:
  api/alpha: "false"
  api/beta: "true"
containerdConfigPatches:
- |
  [debug]
    level = "debug"
containerdConfigPatchesJSON6902:
- |
  [{"op": "add", "path": "/metrics", "value": {"address": "127.0.0.1:1338"}}]
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  maxPods: 60
- |
  apiVersion: kubeadm.k8s.io/v1beta4
  kind: ClusterConfiguration
  metadata:
    name: config
  apiServer:
    certSANs: [my-host]
    extraArgs:
    - name: v
      value: "1"
kubeadmConfigPatchesJSON6902:
- group: kubeadm.k8s.io
  version: v1beta4
  kind: ClusterConfiguration
  patch: |
    - op: add
      path: /apiServer/certSANs/-
      value: another-host
nodes:
- role: control-plane
  extraPortMappings:
  - containerPort: 80
    hostPort: <port>
  - containerPort: 53
    hostPort: <port>
    listenAddress: 127.0.0.1
    protocol: UDP
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    nodeRegistration:
      kubeletExtraArgs:
      - name: node-labels
        value: ingress-ready=true
- role: worker
  labels:
    tier: frontend
    zone: b
  extraMounts:
  - hostPath: <folder>/read
    containerPath: /data
    readOnly: true
  - hostPath: <folder>/made
    containerPath: /files
    selinuxRelabel: true
- role: worker
  kubeadmConfigPatches:
  - |
    kind: JoinConfiguration
    nodeRegistration:
      taints: [{key: a, value: b, effect: NoSchedule}]
      kubeletExtraArgs:
        max-pods: "50"
  kubeadmConfigPatchesJSON6902:
  - group: kubelet.config.k8s.io
    version: v1beta1
    kind: KubeletConfiguration
    patch: |
      [{"op": "replace", "path": "/maxPods", "value": 55}]
"#;

/// Both programs on one file.
struct Both {
    project: Project,
    engine: Engine,
    cluster: String,
    kind: std::path::PathBuf,
}

impl Both {
    fn of(shape: &str) -> Option<Self> {
        let (socket, version, kind) = (docker_socket()?, node_version()?, kind_program()?);
        let mut project = Project::empty(free_port());
        project.set_env("DOCKER_HOST", &format!("unix://{}", socket.display()));
        let cluster = name("k");
        let mut file = format!("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n{shape}");
        let networking = format!("networking:\n  apiServerPort: {}\n", free_port());
        file = if shape.contains("networking:\n") {
            file.replace("networking:\n", &networking)
        } else {
            file + &networking
        };
        while file.contains("<port>") {
            file = file.replacen("<port>", &free_port().to_string(), 1);
        }
        std::fs::create_dir(project.path().join("read")).expect("a folder");
        project.write("kind.yaml", &file.replace("<folder>", &project.path().display().to_string()));
        let balancer = if shape == IPV6 { balancer_rule()? } else { String::new() };
        project.write(
            "ksail.yaml",
            &format!(
                "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata:\n  name: {cluster}\nspec:\n{balancer}  cluster:\n    \
                 provider: Docker\n    distribution: Vanilla\n    kubernetesVersion: {version}\n"
            ),
        );
        Some(Self { project, engine: Engine::at(&socket), cluster, kind })
    }

    #[track_caller]
    fn kind(&self, arguments: &[&str]) -> String {
        self.try_kind(arguments).unwrap_or_else(|why| panic!("kind {arguments:?}: {why}"))
    }

    /// What kind says; or, where it fails, what it says of that.
    fn try_kind(&self, arguments: &[&str]) -> Result<String, String> {
        let host = std::env::var("KSAIL_TEST_DOCKER_HOST").expect("the engine");
        let mut command = Command::new(&self.kind);
        command.args(arguments).args(["--name", &self.cluster]).env("DOCKER_HOST", host);
        let run = command.env("KUBECONFIG", self.project.path().join("kind.kubeconfig")).output().expect("kind runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if run.status.success() { Ok(text(&run.stdout)) } else { Err(text(&run.stderr)) }
    }

    /// Has kind make the cluster. Its balancer was seen to refuse connections for a moment while kind goes on, which kind gives up over,
    /// with nothing left: then it is asked once more.
    #[track_caller]
    fn kind_makes(&self, image: &str) {
        let file = self.project.path().join("kind.yaml").display().to_string();
        let create = ["create", "cluster", "--config", &file, "--image", image, "--wait", "120s"];
        match self.try_kind(&create) {
            Err(why) if why.contains("-external-load-balancer:6443") && why.contains("connection refused") => {
                eprintln!("kind is asked once more: {why}");
                self.kind(&create);
            }
            made => drop(made.unwrap_or_else(|why| panic!("kind {create:?}: {why}"))),
        }
    }

    /// A cluster of IPv6 with two control planes that kind made is adopted: what stands before them is the only container that is made
    /// anew. It gets another control plane and a worker, which speak IPv6 too, loses one again, and goes.
    fn is_taken_over(&self) {
        let nodes = |numbers: &[&str]| -> Vec<String> {
            numbers.iter().map(|number| format!("{}-control-plane{number}", self.cluster)).collect()
        };
        let lasting =
            || nodes(&["", "2"]).iter().map(|node| self.engine.inspect(node)["State"].clone()).collect::<Vec<_>>();
        let file = self.project.read("ksail.yaml");
        let with = |control_planes: usize, workers: usize| {
            let counts = format!("{file}    controlPlanes: {control_planes}\n    workers: {workers}\n");
            self.project.write("ksail.yaml", &counts);
        };
        with(1, 0);
        let import = ["import", "cluster/main", &self.cluster, "--auto-approve"];
        self.project.run(&import[..3]).code(1).says("`controlPlanes: 2`, `workers: 0`");
        with(2, 0);
        let before = lasting();
        self.project.run(&import).code(0).says("load-balancer/main must be replaced");
        self.project.is_settled();
        assert_eq!(lasting(), before, "no machine was touched");
        self.answers();

        with(1, 0);
        self.project.run(&["plan"]).code(1).says("keeps two at least");
        with(3, 1);
        self.project.apply();
        self.project.is_settled();
        let path = "jsonpath={.items[*].status.addresses[?(@.type==\"InternalIP\")].address}";
        let said = self.kubectl(&["get", "nodes", "-o", path]);
        assert!(said.split_whitespace().count() == 4 && said.contains(':') && !said.contains('.'), "{said}");
        assert_eq!(self.members(), nodes(&["", "2", "3"]));
        with(2, 0);
        self.project.apply();
        self.project.is_settled();
        assert_eq!(self.members(), nodes(&["", "2"]));
        assert_eq!(lasting(), before);
        self.answers();
        self.project.run(&["destroy", "--auto-approve"]).code(0);
        self.project.write("ksail.yaml", &file);
    }

    #[track_caller]
    fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl_in(&self.engine, &format!("{}-control-plane", self.cluster), arguments)
    }

    /// By way of what stands before the control planes, to which this access leads.
    #[track_caller]
    fn answers(&self) {
        let said = self.kubectl(&["get", "--raw=/readyz"]);
        assert_eq!(said.trim(), "ok");
    }

    /// The machines that are members of etcd.
    #[track_caller]
    fn members(&self) -> Vec<String> {
        let members = etcd_members(&self.engine, &format!("{}-control-plane", self.cluster));
        members.into_iter().map(|(name, _)| name).collect()
    }

    /// Another family is refused before anything is changed.
    fn keeps_its_families(&self) {
        let file = self.project.read("kind.yaml");
        self.project.write("kind.yaml", &file.replace("ipFamily: ipv6", "ipFamily: ipv4"));
        let plan = self.project.run(&["plan"]).code(3).says("a cluster keeps the families of its addresses");
        plan.says("0 to add, 0 to change, 0 to destroy");
        self.project.write("kind.yaml", &file);
    }

    /// What is there, with what kind says of it.
    fn facts(&self) -> Facts {
        let mut facts = facts::of(&self.engine, &self.cluster);
        let mut nodes: Vec<String> = self.kind(&["get", "nodes"]).lines().map(str::to_owned).collect();
        nodes.sort();
        facts.insert("kind/nodes".to_owned(), nodes.into());
        let mut kubeconfig = facts::documents(&self.kind(&["get", "kubeconfig"])).remove(0);
        for field in ["/clusters/0/cluster/certificate-authority-data", "/users/0/user/client-certificate-data"] {
            let data = kubeconfig.pointer_mut(field).expect("a certificate");
            *data = subject(data.as_str().unwrap_or_default()).into();
        }
        *kubeconfig.pointer_mut("/users/0/user/client-key-data").expect("a key") = "a key".into();
        facts.insert("kind/kubeconfig".to_owned(), kubeconfig);
        facts
    }
}

impl Drop for Both {
    /// A test that failed leaves nothing on the engine, which others use too.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.project.command(&["destroy", "--auto-approve"]).output();
            let _ = Command::new(&self.kind)
                .args(["delete", "cluster", "--name", &self.cluster])
                .env("DOCKER_HOST", std::env::var("KSAIL_TEST_DOCKER_HOST").unwrap_or_default())
                .output();
        }
    }
}

/// The names in a certificate: whatever of it is readable text and no other.
fn subject(data: &str) -> String {
    use base64::Engine as _;
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let pem = String::from_utf8(decode(data)).unwrap_or_default();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let bytes = decode(&body);
    let known = ["kubernetes-admin", "kubeadm:cluster-admins", "kubernetes"];
    let holds = |name: &&&str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    known.iter().filter(holds).copied().collect::<Vec<_>>().join(",")
}

/// Whether a path is one of those that a pattern means.
fn fits(pattern: &str, path: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == path };
    let Some(path) = path.strip_prefix(first) else { return false };
    rest.is_empty() || (0..=path.len()).filter(|at| path.is_char_boundary(*at)).any(|at| fits(rest, &path[at..]))
}

/// What differs, and which of the reasons were needed.
fn differences(of_kind: &Facts, ours: &Facts) -> (String, BTreeSet<&'static str>) {
    let paths: BTreeSet<&String> = of_kind.keys().chain(ours.keys()).collect();
    let (mut told, mut needed) = (String::new(), BTreeSet::new());
    for path in paths.into_iter().filter(|path| of_kind.get(*path) != ours.get(*path)) {
        let reasons: Vec<_> = ON_PURPOSE.iter().filter(|(pattern, _)| fits(pattern, path)).collect();
        if reasons.is_empty() {
            let show = |facts: &Facts| facts.get(path).map_or_else(|| "nothing".to_owned(), ToString::to_string);
            let _ = writeln!(told, "{path}\n    kind:  {}\n    ksail: {}", show(of_kind), show(ours));
        }
        needed.extend(reasons.iter().map(|(pattern, _)| *pattern));
    }
    (told, needed)
}

#[test]
fn what_is_made_equals_what_kind_makes() {
    let mut needed = BTreeSet::new();
    for (shape, text, families) in SHAPES {
        let Some(both) = Both::of(text) else { return };
        both.kind_makes(&format!("kindest/node:{}", node_version().expect("a version")));
        let of_kind = both.facts();
        if text == IPV6 {
            both.is_taken_over();
        } else {
            both.kind(&["delete", "cluster"]);
        }
        let made = both.project.path().join("made");
        if text.contains("<folder>/made") {
            std::fs::remove_dir(&made).expect("a folder that the engine made");
        }
        both.project.apply();
        both.project.is_settled();
        let ours = both.facts();
        assert!(!text.contains("<folder>/made") || Path::new(&made).is_dir());
        if families.contains(&Family::V6) {
            families::pods_answer(&both.engine, &both.cluster, families);
        }
        if text == IPV6 {
            both.keeps_its_families();
        }
        both.project.run(&["destroy", "--auto-approve"]).code(0);
        assert_eq!(both.engine.addresses(&both.cluster), [""; 0], "{shape}: nothing is left of it");
        let (told, on_purpose) = differences(&of_kind, &ours);
        assert!(told.is_empty(), "{shape}:\n{told}");
        assert!(of_kind.len() > 300, "{} fields are too few to have been read", of_kind.len());
        needed.extend(on_purpose);
    }
    let named: BTreeSet<&str> = ON_PURPOSE.iter().map(|(pattern, _)| *pattern).collect();
    assert_eq!(needed, named, "a difference that is none any more is taken off the list");
}
