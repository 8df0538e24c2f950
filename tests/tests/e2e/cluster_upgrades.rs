//! Another version of Kubernetes on a simulated cluster: node after node gives its pods away and takes some again.

use rustix::process::Signal;

use crate::cluster::{Kubectl, applied};
use crate::support::project::Project;
use crate::support::wait_until;

const NEXT: &str = "v1.36.9";
const NODES: [&str; 3] = ["control-plane-0", "worker-0", "worker-1"];

fn budget(available: u32) -> String {
    format!(
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  minAvailable: {available}\n  \
         selector:\n    matchLabels:\n      app: web\n"
    )
}

/// The quickstart with a budget for its two pods, of which so many must be there, and another version asked for.
fn asked_to_upgrade(available: u32) -> Project {
    let project = applied();
    project.write("k8s/budget.yaml", &budget(available));
    project.apply();
    project.is_settled();
    let file = project.read("ksail.yaml").replace("workers: 2", &format!("workers: 2\n    kubernetesVersion: {NEXT}"));
    project.write("ksail.yaml", &file);
    project
}

/// All nodes state the version and take pods.
fn is_upgraded(project: &Project) {
    project.is_settled();
    let Some(kubectl) = Kubectl::of(project) else { return };
    let fields = "{.metadata.name} {.status.nodeInfo.kubeletVersion} {.spec.unschedulable}";
    let path = format!("jsonpath={{range .items[*]}}{fields}{{\"\\n\"}}{{end}}");
    let said = kubectl.run(&["get", "nodes", "-o", &path]);
    let nodes: Vec<&str> = said.lines().map(str::trim).collect();
    let wanted = ["dev-control-plane", "dev-worker", "dev-worker2"].map(|node| format!("{node} {NEXT}"));
    assert_eq!(nodes, wanted);
}

#[test]
fn nodes_are_upgraded_one_by_one_and_their_pods_move() {
    let project = asked_to_upgrade(1);
    let pods = |project: &Project| {
        Kubectl::of(project).map(|kubectl| kubectl.run(&["get", "pods", "-n", "shop", "-l", "app=web", "-o", "name"]))
    };
    let before = pods(&project);
    project.run(&["plan"]).code(0).says("4 to change").says("evicts ").says("shop/web-");
    let graph = project.run(&["graph", "--format", "json"]).code(0).json();
    let in_turn = |edge: &&serde_json::Value| {
        edge["in_turn"] == true && edge["from"].as_str().is_some_and(|from| from.contains("/node/"))
    };
    assert_eq!(graph["edges"].as_array().expect("edges").iter().filter(in_turn).count(), 2);
    let said = project.apply().err;
    let at = |text: String| said.find(&text).unwrap_or_else(|| panic!("{text} is not said:\n{said}"));
    for pair in NODES.windows(2) {
        let (first, then) =
            (at(format!("dev/node/{}: updated in", pair[0])), format!("dev/node/{}: updating", pair[1]));
        assert!(first < at(then), "{said}");
    }
    is_upgraded(&project);
    let after = pods(&project);
    if let (Some(before), Some(after)) = (before, after) {
        assert_eq!(after.lines().count(), 2, "{after}");
        assert!(before.lines().all(|pod| !after.contains(pod)), "{before}{after}");
    }
}

#[test]
fn an_upgrade_that_a_budget_holds_stops_and_goes_on_when_it_may() {
    let project = asked_to_upgrade(2);
    project.run(&["plan"]).code(0).says("PodDisruptionBudget shop/web holds ");
    let held = project.run(&["apply", "--auto-approve", "--timeout", "6s"]).code(3);
    held.says("updating, and waits: ").says(" must leave it: shop/web-").says("it takes pods again");
    if let Some(kubectl) = Kubectl::of(&project) {
        assert_eq!(kubectl.run(&["get", "nodes", "-o", "jsonpath={.items[*].spec.unschedulable}"]), "");
    }
    project.write("k8s/budget.yaml", &budget(1));
    project.apply();
    is_upgraded(&project);
}

#[test]
fn an_upgrade_goes_on_after_a_kill_and_what_a_person_has_cordoned_stays_so() {
    let project = asked_to_upgrade(2);
    let mut applying = project.start(&["apply", "--auto-approve"]);
    wait_until("a drain that waits", || applying.has_said(" must leave it: ") || applying.is_over());
    applying.signal(Signal::KILL);
    assert_eq!(applying.end().code, None, "it was killed");
    project.write("k8s/budget.yaml", &budget(1));
    project.apply();
    is_upgraded(&project);

    let Some(kubectl) = Kubectl::of(&project) else { return };
    kubectl.run(&["cordon", "dev-worker2"]);
    let file = project.read("ksail.yaml");
    project.write("ksail.yaml", &file.replace(NEXT, "v1.36.10"));
    project.apply();
    project.is_settled();
    assert_eq!(kubectl.run(&["get", "node", "dev-worker2", "-o", "jsonpath={.spec.unschedulable}"]), "true");
    assert_eq!(kubectl.run(&["get", "node", "dev-worker", "-o", "jsonpath={.spec.unschedulable}"]), "");
}
