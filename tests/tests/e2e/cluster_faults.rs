//! What goes wrong with a cluster and its objects, and where it is told.

use crate::cluster::{applied, written};
use crate::support::ChosenPorts;
use crate::support::project::Project;

const BUDGET: &str = "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  minAvailable: 2\n  \
                      selector:\n    matchLabels:\n      app: web\n";

fn edit(project: &Project, file: &str, from: &str, to: &str) {
    let text = project.read(file);
    assert!(text.contains(from), "{text}");
    project.write(file, &text.replace(from, to));
}

#[test]
fn a_drain_that_is_held_is_foretold_and_says_what_it_waits_for() {
    let project = applied();
    project.write("k8s/shop.yaml", &format!("{}{BUDGET}", project.read("k8s/shop.yaml")));
    project.apply();
    project.is_settled();
    edit(&project, "ksail.yaml", "workers: 2", "workers: 0");
    // On which of the nodes the pods are is the scheduler's business.
    let plan = project.run(&["plan"]).code(0);
    plan.says("evicts ")
        .says("shop/web-")
        .says("PodDisruptionBudget shop/web holds ")
        .says("2 of its pods must be healthy");
    let plan = project.run(&["plan", "--format", "json"]).code(0).json();
    assert!(plan.to_string().contains("PodDisruptionBudget shop/web"), "{plan}");
    let held = project.run(&["apply", "--auto-approve", "--timeout", "6s"]).code(3);
    held.says("destroying, and waits: ")
        .says(" must leave it: shop/web-")
        .says("disruption budget web needs 2 healthy pods");
    // What held it lets go.
    edit(&project, "k8s/shop.yaml", "minAvailable: 2", "minAvailable: 0");
    project.apply();
    project.is_settled();
}

#[test]
fn an_object_in_a_namespace_that_nothing_makes_is_told_by_the_plan() {
    const LOST: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: lost\n  namespace: shpo\ndata: {}\n";
    let project = written();
    project.write("k8s/lost.yaml", LOST);
    let ports = ChosenPorts::lock();
    let new = project.run(&["plan"]).code(3);
    new.says("there is no namespace shpo")
        .says("declared at k8s/lost.yaml:1:1")
        .says("hint: declare the Namespace too");
    std::fs::remove_file(project.path().join("k8s/lost.yaml")).expect("the manifest");
    project.apply();
    drop(ports);
    project.write("k8s/lost.yaml", LOST);
    project.run(&["plan"]).code(3).says("there is no namespace shpo").says("declared at k8s/lost.yaml:1:1");
    project.write("k8s/lost.yaml", &format!("{LOST}---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: shpo\n"));
    project.run(&["plan"]).code(0).says("2 to add");
    // What comes after something that may make it is left to the apply.
    let after =
        LOST.replace("  name: lost\n", "  name: lost\n  annotations:\n    ksail.io/after: batch.Job/shop/migrate\n");
    project.write("k8s/lost.yaml", &after);
    project.run(&["plan"]).code(0).says("1 to add");
}

#[test]
fn a_version_goes_up_one_minor_at_a_time() {
    let project = applied();
    let with = |version: &str| {
        let file = project.read("ksail.yaml");
        let lines = file.lines().filter(|line| !line.contains("kubernetesVersion"));
        let lines: Vec<&str> = lines.collect();
        let text =
            lines.join("\n").replace("    workers: 2", &format!("    kubernetesVersion: {version}\n    workers: 2"));
        project.write("ksail.yaml", &format!("{text}\n"));
    };
    with("v1.36.2");
    project.run(&["plan"]).code(1).says("KS0208").says("cannot go from v1.36.3 to v1.36.2").says("ksail.yaml:");
    with("v1.38.0");
    project.run(&["plan"]).code(1).says("KS0208").says("v1.37 first");
    with("v1.37.1");
    project.apply();
    project.is_settled();
    with("v1.36.3");
    project.run(&["plan"]).code(1).says("KS0208");
    project.run(&["plan", "--replace", "cluster"]).code(0).says("dev/cluster/main will be replaced, as requested");
}

#[test]
fn mistakes_of_a_file_are_told_before_there_is_a_cluster() {
    let project = written();
    edit(&project, "ksail.yaml", "    workers: 2", "    controlPlanes: 0\n    workers: 2");
    project.run(&["validate"]).code(0).says("`spec.cluster.controlPlanes: 0` makes one");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: login\n  namespace: shop\ndata:\n  good: aGk=\n  bad: not-so-base64!\n";
    project.write("k8s/secret.yaml", secret);
    let wrong = project.run(&["validate"]).code(1);
    wrong
        .says("k8s/secret.yaml:8:8")
        .says("the value of `data.bad` is not base64")
        .says("stringData")
        .says_not("not-so-base64");
    project.run(&["plan"]).code(1).says("k8s/secret.yaml:8:8");
}

#[test]
fn an_address_that_is_nearly_one_is_named() {
    let project = written();
    let _ports = ChosenPorts::lock();
    let check = |asked: &str, meant: &str| {
        project.run(&["explain", asked]).code(1).says(&format!("did you mean `{meant}`?"));
    };
    check("apps.Deployment/shop/wbe", "object/apps.Deployment/shop/web");
    check("object/apps.Deployment/shop/wep", "object/apps.Deployment/shop/web");
    check("Deployment/web", "object/apps.Deployment/shop/web");
    check("node/worker-7", "node/worker-0");
    check("dev/registry/locl", "registry/local");
    project.run(&["explain", "nothing/of/the/sort"]).code(1).says("it has cluster/main");
}
