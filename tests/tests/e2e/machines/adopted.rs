//! A cluster that real kind made is taken over as it is, lives on as one of ours, and goes with all that it was.

use std::process::Command;

use serde_json::Value;

use super::{World, kind_program, node_version};
use crate::docker::name;
use crate::support::engine::Engine;
use crate::support::project::Project;
use crate::support::{docker_socket, free_port, wait_until};

const KIND: &str = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\ncontainerdConfigPatches:\n- |\n  [debug]\n    level = \"info\"\nnodes:\n- role: control-plane\n";
const WORKER: &str = "- role: worker\n  labels:\n    tier: frontend\n";
const MAPPED: &str = "- role: control-plane\n  extraPortMappings:\n  - containerPort: 80\n    hostPort: 8099\n";
/// What kubeadm is told otherwise on nodes that kind made: of a program of the control plane, of kubelets and of kube-proxy.
const PATCHES: &str = "kubeadmConfigPatches:\n- |\n  kind: ClusterConfiguration\n  controllerManager:\n    extraArgs: {v: \"3\"}\n\
                       - |\n  kind: KubeletConfiguration\n  maxPods: 60\n\
                       - |\n  kind: KubeProxyConfiguration\n  metricsBindAddress: \"127.0.0.1:10249\"\n";
/// All of a machine that would be another if its container were.
const LASTING: [&str; 3] = ["/Id", "/State/StartedAt", "/State/Pid"];

/// A cluster of kind, and a project that declares it.
struct Adopted {
    world: World,
    kind: std::path::PathBuf,
}

impl Adopted {
    fn made_by_kind() -> Option<Self> {
        let (socket, version, kind) = (docker_socket()?, node_version()?, kind_program()?);
        let mut project = Project::empty(free_port());
        project.set_env("DOCKER_HOST", &format!("unix://{}", socket.display()));
        let cluster = name("k");
        let file = format!(
            "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata:\n  name: {cluster}\nspec:\n  cluster:\n    provider: Docker\n    \
             distribution: Vanilla\n    kubernetesVersion: {version}\n"
        );
        project.write("ksail.yaml", &file);
        let adopted = Self { world: World { project, engine: Engine::at(&socket), cluster, version }, kind };
        adopted.declares(1);
        adopted.world.has_contexts();
        let config = adopted.world.project.path().join("kind.yaml").display().to_string();
        let image = format!("kindest/node:{}", adopted.world.version);
        adopted.kind(&["create", "cluster", "--config", &config, "--image", &image, "--wait", "120s"]);
        wait_until("nodes that are ready", || adopted.world.ready_nodes() == adopted.world.nodes(1));
        Some(adopted)
    }

    fn declares(&self, workers: usize) {
        self.world.project.write("kind.yaml", &format!("{KIND}{}", WORKER.repeat(workers)));
    }

    #[track_caller]
    fn kind(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.kind);
        command.args(arguments).args(["--name", &self.world.cluster]);
        command.env("DOCKER_HOST", std::env::var("KSAIL_TEST_DOCKER_HOST").expect("the engine"));
        command.env("KUBECONFIG", self.world.project.home().join(".kube/config"));
        let run = command.output().expect("kind runs");
        assert!(run.status.success(), "kind {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).into_owned()
    }

    /// What stays of each machine as long as nobody touches it.
    fn lasting(&self) -> Vec<Option<Value>> {
        let of = |node: &String| {
            let container = self.world.engine.inspect(node);
            LASTING.map(|field| container.pointer(field).cloned())
        };
        self.world.nodes(1).iter().flat_map(of).collect()
    }

    /// The volumes of what nodes keep.
    fn volumes(&self) -> Vec<String> {
        let of = |node: &String| {
            let container = self.world.engine.inspect(node);
            let mounts = container["Mounts"].as_array().cloned().unwrap_or_default();
            let kept = mounts.iter().find(|mount| mount["Destination"] == "/var").expect("a volume");
            kept["Name"].as_str().expect("a name").to_owned()
        };
        self.world.nodes(1).iter().map(of).collect()
    }
}

impl Drop for Adopted {
    /// A test that failed leaves nothing on the engine, which others use too.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.world.project.command(&["destroy", "--auto-approve"]).output();
            let _ = Command::new(&self.kind)
                .args(["delete", "cluster", "--name", &self.world.cluster])
                .env("DOCKER_HOST", std::env::var("KSAIL_TEST_DOCKER_HOST").unwrap_or_default())
                .output();
        }
    }
}

#[test]
fn what_kind_made_is_taken_over_as_it_is() {
    let Some(adopted) = Adopted::made_by_kind() else { return };
    let (world, project) = (&adopted.world, &adopted.world.project);
    let (cluster, before, volumes) = (world.cluster.clone(), adopted.lasting(), adopted.volumes());
    let uid = world.uid(&world.nodes(1)[1]);

    // Not by itself, and only as a whole.
    project.run(&["plan"]).code(3).says("is not ours");
    project.run(&["import", "cluster/main", "other"]).code(1).says("let `metadata.name` be other");
    adopted.declares(0);
    let worker = format!("it has nodes that the file does not declare: {cluster}-worker");
    project.run(&["import", "cluster/main", &cluster]).code(1).says(&worker).says("workers: 1");
    adopted.declares(1);

    let import = project.run(&["import", "cluster/main", &cluster, "--auto-approve"]).code(0);
    import.says("1 to add, 4 to change, 0 to destroy, 13 to import");
    project.is_settled();
    let rows = project.run(&["cluster", "list", "--format", "json"]).code(0).json();
    let row = rows.as_array().expect("rows").iter().find(|row| row["name"] == *cluster).expect("its row").clone();
    assert_eq!((&row["this_project"], row["nodes"].as_array().map(Vec::len)), (&true.into(), Some(2)), "{row}");
    assert_eq!(adopted.lasting(), before, "nothing that runs was touched");
    assert_eq!(world.uid(&world.nodes(1)[1]), uid);
    let contexts = world.contexts();
    assert!(contexts.contains(&format!("current-context: kind-{cluster}")), "{contexts}");
    assert!(!contexts.contains(&format!("ksail-{cluster}")), "{contexts}");

    // A second state does not take it over too; a lost one finds what bears its mark, and the import the rest.
    std::fs::remove_dir_all(project.path().join(".ksail")).expect("the state is lost");
    project.run(&["import", "cluster/main", &cluster]).code(3).says("belongs to another state").says("0 to add");
    project.run(&["state", "recover", "--auto-approve"]).code(0);
    project.run(&["import", "cluster/main", &cluster, "--auto-approve"]).code(0).says("0 to destroy");
    project.is_settled();
    assert_eq!(adopted.lasting(), before);

    // It grows, and its nodes are labelled.
    adopted.declares(2);
    let file = project.read("ksail.yaml");
    project.write("ksail.yaml", &format!("{file}  nodes:\n    - role: worker\n      labels:\n        zone: a\n"));
    let grown = project.run(&["plan", "--detailed-exitcode"]).code(2);
    grown.says("4 to add, 1 to change, 0 to destroy");
    project.apply();
    project.is_settled();
    assert_eq!(world.ready_nodes(), world.nodes(2));
    assert_eq!(world.kubectl(&["get", "nodes", "-l", "zone=a,tier=frontend", "-o", "name"]).lines().count(), 2);
    assert_eq!(adopted.lasting(), before);

    // What would take another container is refused, and nothing of the plan touches the machine.
    let declared = project.read("kind.yaml");
    project.write("kind.yaml", &declared.replace("- role: control-plane\n", MAPPED));
    project.run(&["plan"]).code(3).says("takes another container").says("--replace volume/control-plane-0");
    project.write("kind.yaml", &declared);
    project.run(&["plan", "--replace", "machine/worker-0"]).code(1).says("--replace volume/worker-0");
    let anew = project.run(&["plan", "--replace", "volume/worker-0"]).code(0);
    anew.says(&format!("-> \"{cluster}-worker-var\"")).says("loses what was written to it");

    // It shrinks again: the worker that came last is emptied and goes.
    adopted.declares(1);
    project.apply();
    project.is_settled();
    assert_eq!(world.ready_nodes(), world.nodes(1));
    assert_eq!(world.engine.is_running(&format!("{cluster}-worker2")), None);
    assert_eq!(adopted.lasting(), before);

    // One that was stopped is started, with all that it was.
    let (node, since) = (format!("{cluster}-worker"), world.now());
    world.engine.stop_container(&node);
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("0 to add, 1 to change, 0 to destroy");
    project.apply();
    world.comes_to_rest(1, &node, &since);
    project.is_settled();

    told_otherwise(&adopted);

    project.run(&["destroy", "--auto-approve"]).code(0);
    world.is_gone();
    for node in world.nodes(1) {
        assert_eq!(world.engine.is_running(&node), None, "{node}");
    }
    for volume in volumes {
        assert!(world.engine.volume(&volume).is_none(), "{volume}");
    }
    let contexts = world.contexts();
    assert!(!contexts.contains(&cluster), "{contexts}");
    let (status, _) = world.engine.call("GET", "/networks/kind", &Value::Null);
    assert_eq!(status, 200, "the network is that of all clusters of kind");
}

/// A patch that comes is told to kubeadm on the nodes that kind made, where they are.
fn told_otherwise(adopted: &Adopted) {
    let (world, project) = (&adopted.world, &adopted.world.project);
    let (before, nodes) = (adopted.lasting(), world.nodes(1));
    let declared = project.read("kind.yaml");
    project.write("kind.yaml", &format!("{declared}{PATCHES}"));
    let plan = project.run(&["plan", "--detailed-exitcode"]).code(2);
    plan.says("0 to add, 2 to change, 0 to destroy").says("maxPods = 60");
    project.apply();
    world.rests(&nodes, &|| world.kubectl(&["get", "--raw=/readyz"]) == "ok");
    project.is_settled();
    world.is_told(&nodes[..1], "kube-controller-manager", "--v=3");
    let room = world.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].status.capacity.pods}"]);
    assert_eq!(room, "60 60");
    let kept = |name: &str| world.kubectl(&["get", "configmap", name, "-n", "kube-system", "-o", "yaml"]);
    assert!(kept("kube-proxy").contains("metricsBindAddress: 127.0.0.1:10249"));
    assert!(kept("kubelet-config").contains("maxPods: 60"));
    assert_eq!(adopted.lasting(), before, "no container was touched");
    // And back, as kind had told it.
    project.write("kind.yaml", &declared);
    project.apply();
    world.rests(&nodes, &|| world.kubectl(&["get", "--raw=/readyz"]) == "ok");
    project.is_settled();
    let (code, manifest) =
        world.engine.exec(&nodes[0], &["cat", "/etc/kubernetes/manifests/kube-controller-manager.yaml"]);
    assert!(code == 0 && !manifest.contains("--v=3"), "{manifest}");
    assert_eq!(adopted.lasting(), before);
}
