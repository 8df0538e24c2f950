//! A cluster of the embedded engine: one plan for it, its nodes and all that goes into it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ksail_test_real::tell;
use rustix::process::Signal;

use crate::kills::{kills, seed, wait_for_operation};
use crate::kubeconfig;
use crate::support::project::Project;
use crate::support::{ChosenPorts, did_not_run, engine_pids, signal, wait_until};

const QUICKSTART: &str = include_str!("../../../examples/quickstart/ksail.yaml");
const SHOP: &str = include_str!("../../../examples/quickstart/k8s/shop.yaml");
/// What the quickstart makes: engine, network, image, two volumes, registry, mirror; cluster, its entries in the kubeconfig, three
/// nodes; five objects.
const RESOURCES: usize = 17;

/// The quickstart in a folder of its own, applied.
pub(crate) fn applied() -> Project {
    let project = written();
    let _ports = ChosenPorts::lock();
    project.apply();
    project
}

pub(crate) fn written() -> Project {
    let project = Project::empty(0);
    project.write("ksail.yaml", QUICKSTART);
    std::fs::create_dir(project.path().join("k8s")).expect("a folder");
    project.write("k8s/shop.yaml", SHOP);
    project
}

/// A real client on the project's cluster; says why where there is none.
pub(crate) struct Kubectl<'a> {
    program: PathBuf,
    project: &'a Project,
}

impl<'a> Kubectl<'a> {
    pub(crate) fn of(project: &'a Project) -> Option<Self> {
        let program = std::env::var_os("KSAIL_TEST_KUBECTL").filter(|path| !path.is_empty()).map(PathBuf::from);
        if program.is_none() {
            did_not_run("KSAIL_TEST_KUBECTL names no kubectl (testbed/kubernetes.sh up; testbed/kubernetes.sh env)");
        }
        Some(Self { program: program?, project })
    }

    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let kubeconfig = self.project.run(&["output", "kubeconfig"]).code(0).out;
        let run = Command::new(&self.program).arg("--kubeconfig").arg(kubeconfig.trim()).args(arguments).output();
        let run = run.expect("kubectl runs");
        assert!(run.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).into_owned()
    }

    /// On which nodes the pods of the web are that run.
    fn nodes_of_pods(&self) -> Vec<String> {
        let out = self.run(&[
            "get",
            "pods",
            "-n",
            "shop",
            "-l",
            "app=web",
            "--field-selector=status.phase=Running",
            "-o",
            "jsonpath={range .items[*]}{.spec.nodeName}{\"\\n\"}{end}",
        ]);
        out.lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_quickstart_is_one_plan_for_the_cluster_and_what_goes_into_it() {
    let project = written();
    let ports = ChosenPorts::lock();
    let plan = project.run(&["plan", "--detailed-exitcode"]).code(2);
    plan.says(&format!("Plan: {RESOURCES} to add, 0 to change, 0 to destroy."))
        .says("dev/object/apps.Deployment/shop/web");
    assert!(!project.path().join(".ksail").exists(), "a plan writes nothing");
    project.apply().says(&format!("Apply complete: {RESOURCES} steps done.")).says("SIMULATED");
    drop(ports);
    project.run(&["plan", "--detailed-exitcode"]).code(0).says("No changes");
    project.run(&["explain", "object/apps.Deployment/shop/web"]).code(0).says("cluster/main");
    let destroyed = project.run(&["destroy", "--auto-approve"]).code(0);
    // What is in the engine goes with it.
    destroyed.says(&format!("{RESOURCES} to destroy"));
    assert!(project.engine_pids().is_empty());
    assert_eq!(project.run(&["state", "list"]).code(0).out, "");
}

#[test]
fn a_real_client_finds_it_and_what_it_changes_is_drift() {
    let project = applied();
    let Some(kubectl) = Kubectl::of(&project) else { return };
    let nodes = kubectl.run(&["get", "nodes", "-o", "name"]);
    assert_eq!(nodes.lines().collect::<Vec<_>>(), ["node/dev-control-plane", "node/dev-worker", "node/dev-worker2"]);
    assert!(kubectl.run(&["version"]).contains("+ksail.embedded"));
    assert_eq!(kubectl.nodes_of_pods().len(), 2);
    // An edit of the file.
    let web = project.read("k8s/shop.yaml");
    project.write("k8s/shop.yaml", &web.replace("replicas: 2", "replicas: 3"));
    assert_eq!(project.changes(&[]), ["dev/object/apps.Deployment/shop/web: update"]);
    project.apply();
    assert_eq!(kubectl.nodes_of_pods().len(), 3);
    // An edit behind its back.
    kubectl.run(&["scale", "deployment/web", "-n", "shop", "--replicas=1"]);
    let drifted = project.run(&["plan", "--detailed-exitcode"]).code(3);
    drifted.says("1 drifted").says("spec.replicas is owned by kubectl");
    kubectl.run(&["annotate", "deployment/web", "-n", "shop", "team=shop"]);
    kubectl.run(&["delete", "service", "web", "-n", "shop"]);
    project
        .run(&["plan", "--detailed-exitcode"])
        .code(3)
        .says("dev/object/Service/shop/web was deleted outside of ksail");
}

#[test]
fn nodes_come_and_go_with_a_drain_and_are_upgraded() {
    let project = applied();
    let edit = |from: &str, to: &str| project.write("ksail.yaml", &project.read("ksail.yaml").replace(from, to));
    edit("workers: 2", "workers: 3");
    assert_eq!(project.changes(&[]), ["dev/node/worker-2: create"]);
    project.apply();
    edit("workers: 3", "workers: 1");
    assert_eq!(project.changes(&[]), ["dev/node/worker-1: delete", "dev/node/worker-2: delete"]);
    project.apply();
    if let Some(kubectl) = Kubectl::of(&project) {
        wait_until("both pods on the node that is left", || kubectl.nodes_of_pods() == ["dev-worker", "dev-worker"]);
    }
    project.is_settled();
    edit("workers: 1", "workers: 1\n    kubernetesVersion: v1.36.9");
    let upgrade = ["dev/cluster/main: update", "dev/node/control-plane-0: update", "dev/node/worker-0: update"];
    assert_eq!(project.changes(&[]), upgrade);
    project.apply();
    project.is_settled();
    if let Some(kubectl) = Kubectl::of(&project) {
        let versions = kubectl.run(&[
            "get",
            "nodes",
            "-o",
            "jsonpath={range .items[*]}{.status.nodeInfo.kubeletVersion}{\"\\n\"}{end}",
        ]);
        assert!(versions.lines().all(|version| version.starts_with("v1.36.9")), "{versions}");
    }
}

#[test]
fn taints_go_as_they_came_and_a_drain_that_was_cut_off_is_taken_back() {
    let project = applied();
    let file = project.read("ksail.yaml");
    let tainted = "  nodes:\n    - name: worker-1\n      taints: [{key: gpu, effect: NoSchedule}]\n";
    project.write("ksail.yaml", &format!("{file}{tainted}"));
    project.apply();
    project.write("ksail.yaml", &file);
    assert_eq!(project.changes(&[]), ["dev/node/worker-1: update"]);
    project.apply();
    project.is_settled();
    let Some(kubectl) = Kubectl::of(&project) else { return };
    let taints = |node: &str| kubectl.run(&["get", "node", node, "-o", "jsonpath={.spec.taints}"]);
    assert_eq!(taints("dev-worker2"), "");
    // What keeps workloads off a control plane goes with the last worker.
    assert!(taints("dev-control-plane").contains("NoSchedule"));
    project.write("ksail.yaml", &file.replace("workers: 2", "workers: 0"));
    project.apply();
    project.is_settled();
    assert_eq!(taints("dev-control-plane"), "");
    wait_until("both pods on the control plane", || {
        kubectl.nodes_of_pods() == ["dev-control-plane", "dev-control-plane"]
    });
    project.write("ksail.yaml", &file);
    project.apply();
    let cordoned = "{\"spec\":{\"unschedulable\":true}}";
    kubectl.run(&["patch", "node", "dev-worker", "--type=merge", "-p", cordoned, "--field-manager=ksail-drain"]);
    project.run(&["plan"]).says("a drain that was cut off");
    project.apply();
    project.is_settled();
    assert_eq!(kubectl.run(&["get", "node", "dev-worker", "-o", "jsonpath={.spec.unschedulable}"]), "");
}

#[test]
fn a_dead_engine_is_started_and_the_cluster_is_as_it_was() {
    let project = written();
    // The ports of a dead engine are free for others.
    let _ports = ChosenPorts::lock();
    project.apply();
    project.kill_engine();
    let plan = project.run(&["plan", "--detailed-exitcode"]).code(2);
    plan.says("1 to change").says("dev/engine/main");
    project.apply();
    project.is_settled();
}

/// How many commands are killed, where `KSAIL_TEST_KILLS` does not say.
const KILLS: u32 = 30;
/// Of so many runs, one may be over before its kill.
const RUNS_PER_KILL: u32 = 4;
/// One in so many kills takes the engine's process, and with it the API, too.
const ENGINE_TOO: u32 = 5;
/// Within which time after an operation's beginning a kill comes.
const WITHIN: Duration = Duration::from_millis(120);

/// What a command shall lead to: how many workers and pods, and what stands in the cluster then with a mark.
struct Goal {
    workers: usize,
    replicas: usize,
}

impl Goal {
    fn write(&self, project: &Project) {
        project.write("ksail.yaml", &QUICKSTART.replace("workers: 2", &format!("workers: {}", self.workers)));
        project.write("k8s/shop.yaml", &SHOP.replace("replicas: 2", &format!("replicas: {}", self.replicas)));
    }

    /// What the API shall list of what carries a mark.
    fn marked(&self) -> Vec<String> {
        let workers = ["node/dev-worker", "node/dev-worker2", "node/dev-worker3"];
        let others = [
            "configmap/settings",
            "deployment.apps/web",
            "job.batch/migrate",
            "namespace/shop",
            "node/dev-control-plane",
            "service/web",
        ];
        let mut all: Vec<String> =
            workers[..self.workers].iter().chain(&others).map(|name| (*name).to_owned()).collect();
        all.sort();
        all
    }
}

#[test]
fn kills_of_a_cluster_and_all_that_goes_into_it_lose_nothing() {
    let project = written();
    let wanted = kills(KILLS);
    let mut random = seed();
    let (mut cuts, mut runs, mut is_there) = (0, 0, false);
    kubeconfig::begin(&project);
    let _ports = ChosenPorts::lock();
    while cuts < wanted {
        assert!(runs < wanted * RUNS_PER_KILL, "only {cuts} of {runs} runs were cut");
        runs += 1;
        let goal = Goal { workers: random.usize(1..=3), replicas: random.usize(1..=4) };
        goal.write(&project);
        let destroys = is_there && random.u32(..4) == 0;
        is_there = !destroys;
        let command = [if destroys { "destroy" } else { "apply" }, "--auto-approve"];
        let mut running = project.start(&command);
        wait_for_operation(&mut running);
        let micros = u64::try_from(WITHIN.as_micros()).unwrap_or(u64::MAX);
        std::thread::sleep(Duration::from_micros(random.u64(..=micros)));
        running.signal(Signal::KILL);
        if random.u32(..ENGINE_TOO) == 0 {
            engine_pids(project.path()).into_iter().for_each(|pid| signal(pid, Signal::KILL));
        }
        let killed = running.end();
        cuts += u32::from(killed.code.is_none());
        let again = project.run(&command);
        assert!(again.code == Some(0), "run {runs} of {command:?} had said\n{}\n{again}", killed.err);
        kubeconfig::is_whole(&project, !destroys);
        if destroys {
            assert_eq!(project.run(&["state", "list"]).code(0).out, "", "run {runs} had said\n{}", killed.err);
            assert!(project.engine_pids().is_empty(), "run {runs} had said\n{}", killed.err);
            continue;
        }
        let plan = project.run(&["plan", "--detailed-exitcode"]);
        assert!(plan.code == Some(0), "run {runs} had said\n{}\nthen {again}\n{plan}", killed.err);
        if let Some(kubectl) = Kubectl::of(&project) {
            let kinds = "nodes,namespaces,configmaps,deployments,services,jobs";
            let listed = kubectl.run(&["get", kinds, "-A", "-l", "ksail.io/lineage", "-o", "name"]);
            let mut listed: Vec<&str> = listed.lines().collect();
            listed.sort_unstable();
            assert_eq!(listed, goal.marked(), "run {runs} had said\n{}", killed.err);
        }
    }
    tell(&format!("a cluster and all that goes into it: {cuts} real cuts, {runs} runs"));
    project.run(&["destroy", "--auto-approve"]).code(0);
}
