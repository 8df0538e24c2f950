//! Clusters whose nodes are containers of a real Docker Engine, from a real node image.

mod compared;
mod facts;
mod families;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::docker::name;
use crate::support::engine::Engine;
use crate::support::project::Project;
use crate::support::{did_not_run, docker_socket, free_port};

mod adopted;
mod bootstraps;
mod control_planes;
mod days;
mod doctor;
mod images;
mod killed;
mod members;
mod mended;
mod pinned;
mod podman;
mod recovered;
mod taints;
mod told;
mod upgrades;
mod workloads;

const EXAMPLE: &str = include_str!("../../../examples/vanilla/ksail.yaml");
const KIND_FILE: &str = include_str!("../../../examples/vanilla/kind.yaml");
const WEB: &str = include_str!("../../../examples/vanilla/k8s/web.yaml");

/// What the user has before.
const CONTEXTS: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: work\n  cluster:\n    server: https://work:6443\ncontexts:\n- name: work\n  \
                        context:\n    cluster: work\n    user: me\ncurrent-context: work\nusers:\n- name: me\n  user:\n    token: mine\n";

/// An image that the test bed's engine has, for loading into nodes.
const LOADED: &str = "docker.io/library/registry:2.8.3";
/// How long a cluster may take until all that was down runs as before: pods that failed meanwhile are started at longer and longer
/// intervals.
const REST: Duration = Duration::from_secs(180);

/// What a failed test asks the first machine.
const HOW_IT_IS: &str = "export KUBECONFIG=/etc/kubernetes/admin.conf; date -u; uptime; kubectl get nodes,pods,deployments -A -o wide; \
                         kubectl get leases -n kube-system; kubectl get events -A --sort-by=.metadata.creationTimestamp | tail -n 40; \
                         for log in $(ls -t /var/log/pods/kube-system_kube-[acs]*/*/*.log | head -n 4); do echo \"$log\"; tail -n 12 \"$log\" | cut -c1-300; done";

/// A cluster of our own on the real engine.
pub(crate) struct World {
    pub(crate) project: Project,
    pub(crate) engine: Engine,
    pub(crate) cluster: String,
    pub(crate) version: String,
}

/// The version of the real node image that a variable names; says why there is none.
fn version_in(variable: &str) -> Option<String> {
    let image = std::env::var(variable).ok().filter(|image| !image.is_empty());
    if image.is_none() {
        did_not_run(&format!("{variable} names no node image (testbed/node-image.sh up; testbed/node-image.sh env)"));
    }
    image?.split_once(':').map(|(_, version)| version.to_owned())
}

/// The version that clusters are made in.
fn node_version() -> Option<String> {
    version_in("KSAIL_TEST_NODE_IMAGE")
}

/// Real kind; says why there is none.
fn kind_program() -> Option<PathBuf> {
    let kind = std::env::var_os("KSAIL_TEST_KIND").filter(|path| !path.is_empty());
    if kind.is_none() {
        did_not_run("KSAIL_TEST_KIND names no kind (testbed/node-image.sh up; testbed/node-image.sh env)");
    }
    kind.map(PathBuf::from)
}

/// The file's rule by which the image of HAProxy is that of the test bed; says why there is none.
fn balancer_rule() -> Option<String> {
    let image = std::env::var("KSAIL_TEST_BALANCER_IMAGE").ok().filter(|image| !image.is_empty());
    if image.is_none() {
        did_not_run("KSAIL_TEST_BALANCER_IMAGE names no image of HAProxy (testbed/node-image.sh up)");
    }
    let image = image?;
    Some(format!("  images:\n    - from: docker.io/library/haproxy:3.2-alpine\n      to: docker.io/{image}\n"))
}

/// What kubectl says in a machine of a control plane.
#[track_caller]
fn kubectl_in(engine: &Engine, machine: &str, arguments: &[&str]) -> String {
    let command = [&["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"], arguments].concat();
    let (code, said) = engine.exec(machine, &command);
    assert_eq!(code, 0, "{command:?}: {said}");
    said
}

/// The members of etcd by name, with their ids, as that of a machine tells.
#[track_caller]
fn etcd_members(engine: &Engine, machine: &str) -> Vec<(String, String)> {
    let pod = format!("etcd-{machine}");
    let pki = "/etc/kubernetes/pki/etcd";
    // By its name: etcd listens by one family of addresses.
    let flags = [
        "--endpoints=https://localhost:2379".to_owned(),
        format!("--cacert={pki}/ca.crt"),
        format!("--cert={pki}/healthcheck-client.crt"),
        format!("--key={pki}/healthcheck-client.key"),
    ];
    let mut command = vec!["exec", "-n", "kube-system", &pod, "--", "etcdctl"];
    command.extend(flags.iter().map(String::as_str));
    command.extend(["member", "list"]);
    let said = kubectl_in(engine, machine, &command);
    let member = |line: &str| {
        let parts: Vec<&str> = line.trim().split(", ").collect();
        assert_eq!((parts[1], parts.last()), ("started", Some(&"false")), "started, and no learner: {line}");
        (parts[2].to_owned(), parts[0].to_owned())
    };
    let mut members: Vec<(String, String)> = said.lines().filter(|line| line.contains(", ")).map(member).collect();
    members.sort();
    members
}

impl World {
    /// The example under a name and with ports of its own, in the version of the node image.
    pub(crate) fn example() -> Option<Self> {
        let (socket, version) = (docker_socket()?, node_version()?);
        let engine = Engine::at(&socket);
        let cluster = name("v");
        let mut project = Project::empty(free_port());
        project.set_env("DOCKER_HOST", &format!("unix://{}", socket.display()));
        let upstream = crate::docker::upstream(&engine);
        let mirror = format!(
            "- host: docker.io\n      port: {}\n      upstream: {upstream}\n",
            project.mirror_port("docker.io")
        );
        let file = EXAMPLE
            .replace("name: vanilla", &format!("name: {cluster}"))
            .replace("localhost:5050", &format!("localhost:{}", project.registry_port))
            .replace("v1.36.4", &version)
            .replace("- host: docker.io\n", &mirror);
        project.write("ksail.yaml", &file);
        let kind = KIND_FILE.replace("nodes:\n", &format!("networking:\n  apiServerPort: {}\nnodes:\n", free_port()));
        project.write("kind.yaml", &kind);
        std::fs::create_dir(project.path().join("k8s")).expect("a folder");
        project.write("k8s/web.yaml", WEB);
        Some(Self { project, engine, cluster, version })
    }

    pub(crate) fn control_plane(&self) -> String {
        format!("{}-control-plane", self.cluster)
    }

    /// What kubectl says in the first machine.
    #[track_caller]
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl_in(&self.engine, &self.control_plane(), arguments)
    }

    /// The nodes that are ready and take pods.
    #[track_caller]
    pub(crate) fn ready_nodes(&self) -> Vec<String> {
        let path = r#"jsonpath={range .items[*]}{.metadata.name} {.spec.unschedulable} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
        let said = self.kubectl(&["get", "nodes", "-o", path]);
        let ready = said.lines().filter(|line| line.ends_with(" True") && !line.contains("true"));
        let mut nodes: Vec<String> = ready.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
        nodes.sort();
        nodes
    }

    pub(crate) fn nodes(&self, workers: usize) -> Vec<String> {
        let number = |index: usize| if index == 0 { String::new() } else { (index + 1).to_string() };
        let workers = (0..workers).map(|index| format!("{}-worker{}", self.cluster, number(index)));
        std::iter::once(self.control_plane()).chain(workers).collect()
    }

    pub(crate) fn uid(&self, node: &str) -> String {
        self.kubectl(&["get", "node", node, "-o", "jsonpath={.metadata.uid}"])
    }

    pub(crate) fn workers(&self, workers: usize) {
        let kind = self.project.read("kind.yaml");
        let head = kind.split("  - role: worker").next().expect("a beginning").to_owned();
        let tail = kind.split_once("kubeadmConfigPatches").expect("patches").1.to_owned();
        let nodes = "  - role: worker\n".repeat(workers);
        self.project.write("kind.yaml", &format!("{head}{nodes}kubeadmConfigPatches{tail}"));
    }

    /// A node that was down since then is ready once its kubelet has said so, and a plan that comes before waits for it. What ran
    /// on it counts as it did before until the kubelet has started it again, so that is waited for first.
    fn comes_to_rest(&self, workers: usize, node: &str, since: &str) {
        let runs_again = || self.runs_since(node, since);
        self.rests(&self.nodes(workers), &runs_again);
    }

    /// Whether all containers of pods on a node were started since then, and are ready.
    fn runs_since(&self, node: &str, since: &str) -> bool {
        let path = r#"jsonpath={range .items[*]}{range .status.containerStatuses[*]}{.ready} {.state.running.startedAt}{"\n"}{end}{end}"#;
        let field = format!("spec.nodeName={node}");
        let said = self.kubectl(&["get", "pods", "-A", "--field-selector", &field, "-o", path]);
        said.lines().all(|line| line.strip_prefix("true ").is_some_and(|started| started >= since))
    }

    fn rests(&self, nodes: &[String], run_again: &dyn Fn() -> bool) {
        let began = Instant::now();
        let plan = || self.project.command(&["plan", "--detailed-exitcode"]).output().expect("a plan");
        while !(run_again() && self.ready_nodes() == nodes && plan().status.code() == Some(0)) {
            assert!(began.elapsed() < REST, "no rest within {} s: {:?}", REST.as_secs(), plan());
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The time as Kubernetes writes it.
    fn now(&self) -> String {
        let (code, said) = self.engine.exec(&self.control_plane(), &["date", "-u", "+%Y-%m-%dT%H:%M:%SZ"]);
        assert_eq!(code, 0, "{said}");
        said.trim().to_owned()
    }

    fn contexts(&self) -> String {
        std::fs::read_to_string(self.project.home().join(".kube/config")).expect("a kubeconfig")
    }

    /// The user works with another cluster so far.
    fn has_contexts(&self) {
        std::fs::create_dir_all(self.project.home().join(".kube")).expect("a folder");
        std::fs::write(self.project.home().join(".kube/config"), CONTEXTS).expect("a kubeconfig");
    }

    /// As a user types it, with kubectl from this machine; and nothing of the credentials is anywhere else.
    #[track_caller]
    fn is_reached_by_its_user(&self) {
        self.project.is_settled();
        let text = self.contexts();
        assert!(text.contains(&format!("current-context: ksail-{}", self.cluster)), "{text}");
        let file = self.project.run(&["output", "kubeconfig"]).code(0).out;
        assert_eq!(std::path::Path::new(file.trim()), self.project.home().join(".kube/config"));
        let key = text.lines().find_map(|line| line.trim().strip_prefix("client-key-data: ")).expect("a key");
        let shown = self.project.run(&["state", "pull"]).code(0).out;
        assert!(!shown.contains(key), "a credential is in the state");
        let Some(kubectl) = std::env::var_os("KSAIL_TEST_KUBECTL").filter(|path| !path.is_empty()) else { return };
        let path = "jsonpath={.data.localRegistryHosting\\.v1}";
        let run = Command::new(kubectl)
            .args(["get", "configmap", "local-registry-hosting", "-n", "kube-public", "-o", path])
            .env_remove("KUBECONFIG")
            .env("HOME", self.project.home())
            .output()
            .expect("kubectl runs");
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(said.contains(&format!("host: \"localhost:{}\"", self.project.registry_port)), "{run:?}");
        let within = format!("hostFromClusterNetwork: \"{}-local-registry:5000\"", self.cluster);
        assert!(said.contains(&within), "{said}");
    }

    /// Nothing is left of it by the engine's own listing.
    pub(crate) fn is_gone(&self) {
        assert_eq!(self.engine.addresses(&self.cluster), [""; 0]);
        assert_eq!(self.engine.owner_tags(&self.cluster), [""; 0]);
    }
}

impl Drop for World {
    /// A test that failed says how its cluster was; and none leaves anything on the engine, which others use too.
    fn drop(&mut self) {
        let state = self.engine.is_running(&self.control_plane());
        if std::thread::panicking() && state == Some(true) {
            let (_, said) = self.engine.exec(&self.control_plane(), &["sh", "-c", HOW_IT_IS]);
            eprintln!("{said}");
        }
        if std::thread::panicking() || state.is_some() {
            let _ = self.project.command(&["destroy", "--auto-approve"]).output();
        }
    }
}

#[test]
fn a_cluster_is_made_grows_shrinks_is_repaired_and_is_destroyed_to_nothing() {
    let Some(world) = World::example() else { return };
    world.taints_one_worker();
    let plan = world.project.run(&["plan", "--detailed-exitcode"]).code(2);
    plan.says(&format!("{}/bootstrap/worker-1 will be created", world.cluster));
    world.project.apply();
    world.project.is_settled();
    world.was_tainted_from_its_first_moment();
    assert_eq!(world.ready_nodes(), world.nodes(2));
    assert_eq!(
        world.kubectl(&["get", "nodes", "-l", "zone=a", "-o", "name"]).trim(),
        format!("node/{}-worker", world.cluster)
    );
    assert!(world.kubectl(&["version", "-o", "json"]).contains(&world.version));
    let limit = world.kubectl(&["get", "node", &world.nodes(0)[0], "-o", "jsonpath={.status.allocatable.pods}"]);
    assert_eq!(limit.trim(), "60", "kubeadmConfigPatches reach the kubelet");
    let (code, hosts) =
        world.engine.exec(&world.control_plane(), &["cat", "/etc/containerd/certs.d/docker.io/hosts.toml"]);
    assert!(code == 0 && hosts.contains(&format!("http://{}-mirror-docker.io:5000", world.cluster)), "{hosts}");

    // A mirror, taints, labels and pods for nodes that run: no machine is made anew.
    let id = |node: &String| world.engine.inspect(node)["Id"].clone();
    let before: Vec<_> = world.nodes(2).iter().map(id).collect();
    world.declares_another_mirror();
    world.declares_stores();
    world.taints_the_other_worker();
    let plan = world.project.run(&["plan"]).code(0).says("4 to add, 5 to change, 0 to destroy");
    plan.says("registries").says(&format!("{}/machine/worker-1 will be updated in-place", world.cluster));
    world.project.apply();
    world.project.is_settled();
    assert_eq!(world.nodes(2).iter().map(id).collect::<Vec<_>>(), before);
    world.taints_are_kept_apart();
    world.pods_talk_across(&world.nodes(2));
    world.declares_what_is_pulled(&world.nodes(2)[2]);

    // A worker more, and away with it: emptied first.
    world.workers(3);
    world.project.run(&["plan"]).code(0).says("5 to add, 0 to change, 0 to destroy");
    world.project.apply();
    world.was_pulled_through_the_mirror();
    assert_eq!(world.ready_nodes(), world.nodes(3));
    world.goes_once_its_budget_lets_it(3);
    assert_eq!(world.engine.is_running(&format!("{}-worker3", world.cluster)), None);
    assert!(world.engine.volume(&format!("{}-worker3-var", world.cluster)).is_none());

    // Containers removed by hand: the nodes come back as what they were.
    for node in [format!("{}-worker2", world.cluster), world.control_plane()] {
        let (before, since) = (world.uid(&node), world.now());
        world.engine.remove_container(&node);
        world.project.run(&["plan", "--detailed-exitcode"]).code(2).says("0 to add, 1 to change, 0 to destroy");
        world.project.apply();
        world.comes_to_rest(2, &node, &since);
        world.project.is_settled();
        assert_eq!(world.uid(&node), before);
    }
    // One that was stopped is started.
    let (node, since) = (format!("{}-worker", world.cluster), world.now());
    world.engine.stop_container(&node);
    world.project.run(&["plan", "--detailed-exitcode"]).code(2);
    world.project.apply();
    world.comes_to_rest(2, &node, &since);
    world.project.is_settled();

    world.project.run(&["destroy", "--auto-approve"]).code(0);
    world.is_gone();
}

#[test]
fn kind_sees_what_was_made() {
    let Some(world) = World::example() else { return };
    let Some(kind) = kind_program() else { return };
    world.workers(1);
    world.has_contexts();
    let before = world.contexts();
    world.project.apply();
    world.is_reached_by_its_user();
    let host = std::env::var("KSAIL_TEST_DOCKER_HOST").expect("the engine");
    let kind = |arguments: &[&str]| {
        let run = Command::new(&kind).args(arguments).env("DOCKER_HOST", &host).output().expect("kind runs");
        assert!(run.status.success(), "kind {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).into_owned()
    };
    assert!(kind(&["get", "clusters"]).lines().any(|line| line == world.cluster));
    let mut nodes: Vec<String> = kind(&["get", "nodes", "--name", &world.cluster]).lines().map(str::to_owned).collect();
    nodes.sort();
    assert_eq!(nodes, world.nodes(1));
    let kubeconfig = kind(&["get", "kubeconfig", "--name", &world.cluster]);
    let endpoint = world.project.run(&["output", "kubernetes"]).code(0).out;
    assert!(kubeconfig.contains(&format!("server: {}", endpoint.trim())), "{endpoint}");

    // Images go in from the engine and from an archive, to every node.
    let archive = world.project.path().join("image.tar").display().to_string();
    let docker = |arguments: &[&str]| {
        let run = Command::new("docker").args(arguments).env("DOCKER_HOST", &host).output().expect("docker runs");
        assert!(run.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    };
    let tags = ["from-engine", "from-archive"].map(|source| format!("ksail-test/{}:{source}", world.cluster));
    for tag in &tags {
        docker(&["tag", LOADED, tag]);
    }
    docker(&["save", "--output", &archive, &tags[1]]);
    kind(&["load", "docker-image", &tags[0], "--name", &world.cluster]);
    kind(&["load", "image-archive", &archive, "--name", &world.cluster]);
    docker(&["image", "rm", &tags[0], &tags[1]]);
    for node in world.nodes(1) {
        let (_, images) = world.engine.exec(&node, &["ctr", "--namespace=k8s.io", "images", "list", "--quiet"]);
        for tag in &tags {
            assert!(images.lines().any(|image| image == format!("docker.io/{tag}")), "{node}: {images}");
        }
    }
    let logs = world.project.path().join("logs");
    let mut export = Command::new(kind_program().expect("kind"));
    export.args(["export", "logs", "--name", &world.cluster]).arg(&logs).env("DOCKER_HOST", &host);
    let said = String::from_utf8_lossy(&export.output().expect("kind runs").stderr).into_owned();
    // The image of the test bed has no crictl, which kind lists images with; nothing else fails.
    assert_eq!(said.matches("failed with error").count(), said.matches("crictl images").count(), "{said}");
    for node in world.nodes(1) {
        for log in ["kubelet.log", "containerd.log", "kubernetes-version.txt"] {
            let path = logs.join(&node).join(log);
            assert!(std::fs::metadata(&path).is_ok_and(|file| file.len() > 0), "{}", path.display());
        }
    }
    world.state_is_lost_and_recovered(1);
    world.project.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(world.contexts(), before, "the user's kubeconfig is given back");
    world.is_gone();
}
