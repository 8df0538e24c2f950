//! What users say of objects: order, readiness, secrets from elsewhere, and rights in one namespace only.

use crate::kubernetes::{Cluster, example, unique};
use crate::support::project::Project;

/// Must be found in no byte that is written.
const CANARY: &str = "canary-from-a-file";
const OTHER_CANARY: &str = "canary-from-a-command";

/// A project whose entries of manifests are these.
fn with_entries(cluster: &Cluster, name: &str, entries: &str) -> Project {
    let project = cluster.project(name, "");
    let file = project.read("ksail.yaml");
    project.write("ksail.yaml", &file.replace("    - k8s\n", entries));
    project
}

fn config_map(name: &str, namespace: &str, more: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: {namespace}\n{more}---\n")
}

/// The kubeconfig of a ServiceAccount.
fn login(cluster: &Cluster, project: &Project, namespace: &str, account: &str) -> Cluster {
    let token = cluster.kubectl(&["create", "token", account, "-n", namespace]);
    let path = project.home().join(format!("{account}.kubeconfig"));
    std::fs::copy(&cluster.kubeconfig, &path).expect("a kubeconfig");
    let login = Cluster { kubeconfig: path, kubectl: cluster.kubectl.clone() };
    login.kubectl(&["config", "set-credentials", account, &format!("--token={}", token.trim())]);
    login.kubectl(&["config", "set-context", "--current", &format!("--user={account}")]);
    login
}

#[test]
fn with_rights_in_one_namespace_only_plan_and_apply_work() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("within");
    let mut project = example(&cluster, &name);
    std::fs::remove_file(project.path().join("k8s/namespace.yaml")).expect("the namespace is not ours");
    cluster.kubectl(&["create", "namespace", &name]);
    cluster.kubectl(&["create", "serviceaccount", "deployer", "-n", &name]);
    let resources = "--resource=configmaps,secrets,services,serviceaccounts,deployments.apps";
    cluster.kubectl(&[
        "create",
        "role",
        "deployer",
        "-n",
        &name,
        "--verb=get,list,watch,create,patch,delete",
        resources,
    ]);
    let account = format!("--serviceaccount={name}:deployer");
    cluster.kubectl(&["create", "rolebinding", "deployer", "-n", &name, "--role=deployer", &account]);
    let deployer = login(&cluster, &project, &name, "deployer");
    project.set_env("KUBECONFIG", &deployer.kubeconfig.display().to_string());
    // A kind that only lives in the cluster is beyond these rights, and blocks nothing else.
    project.write("k8s/cluster.yaml", &format!("apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}}}\nspec: {{capacity: {{storage: 1Gi}}, accessModes: [ReadWriteOnce], hostPath: {{path: /x}}}}\n"));
    project.run(&["plan", "--detailed-exitcode"]).code(3).says("5 to add").says("forbidden");
    std::fs::remove_file(project.path().join("k8s/cluster.yaml")).expect("it goes again");
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("5 to add");
    project.apply();
    project.is_settled();
    let web = project.read("k8s/web.yaml");
    project.write("k8s/web.yaml", &web.replace("LOG_LEVEL: info", "LOG_LEVEL: debug"));
    assert_eq!(project.changes(&[]), [format!("{name}/object/ConfigMap/{name}/settings: update")]);
    project.apply();
    project.is_settled();
    // Another login that knows the cluster by more must not take it for another one without a word.
    project.set_env("KUBECONFIG", &cluster.kubeconfig.display().to_string());
    project.run(&["plan", "--detailed-exitcode"]).code(3).says("ca-");
    project.set_env("KUBECONFIG", &deployer.kubeconfig.display().to_string());
    project.run(&["destroy", "--auto-approve"]).code(0).says("5 steps done");
    cluster.kubectl(&["delete", "namespace", &name, "--wait=false"]);
}

#[test]
fn entries_come_after_others_and_expressions_say_when_that_is() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("after");
    let project = with_entries(&cluster, &name, "    - base\n    - {path: apps, after: [base]}\n");
    for folder in ["base", "apps"] {
        std::fs::create_dir(project.path().join(folder)).expect("a folder");
    }
    project.write("base/namespace.yaml", &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"));
    let ready = "  annotations: {ksail.io/ready: self.data.phase == 'Done'}\ndata: {phase: Waiting}\n";
    project.write("base/first.yaml", &config_map("first", &name, ready));
    project.write("apps/second.yaml", &config_map("second", &name, ""));
    let explained = project.run(&["explain", &format!("object/ConfigMap/{name}/second")]).code(0);
    explained.says(&format!("object/ConfigMap/{name}/first")).says("ksail.yaml:11:28");
    project
        .run(&["apply", "--auto-approve", "--timeout", "3s"])
        .code(3)
        .says("`self.data.phase == 'Done'` is not true yet");
    assert!(!cluster.names("configmap", &name).contains(&"configmap/second".to_owned()));
    project.write("base/first.yaml", &config_map("first", &name, &ready.replace("Waiting", "Done")));
    project.apply();
    project.is_settled();
    assert!(cluster.names("configmap", &name).contains(&"configmap/second".to_owned()));
    // An expression that is none is an error with its place.
    let bad = ready.replace("self.data.phase == 'Done'", "self.data.phase.upperAsci() == 'DONE'");
    project.write("base/first.yaml", &config_map("first", &name, &bad));
    let place = "base/first.yaml:6:33";
    project.run(&["plan"]).code(1).says(place).says("no function `upperAsci`").says("did you mean `upperAscii`?");
    project.write("base/first.yaml", &config_map("first", &name, &ready.replace("Waiting", "Done")));
    project.write("ksail.yaml", &project.read("ksail.yaml").replace("after: [base]", "after: [bse]"));
    project.run(&["plan"]).code(1).says("ksail.yaml:11:28").says("did you mean `base`?");
    project.run(&["destroy", "--auto-approve"]).code(1);
    project.write("ksail.yaml", &project.read("ksail.yaml").replace("after: [bse]", "after: [base]"));
    project.run(&["destroy", "--auto-approve"]).code(0).says("3 steps done");
}

/// Files below a folder that hold a text.
fn holds(project: &Project, text: &str) -> bool {
    !crate::kubernetes::holding(&project.path().join(".ksail"), text).is_empty()
}

#[test]
fn values_of_secrets_come_from_files_and_commands_and_are_written_nowhere() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("sources");
    let project = cluster.project(&name, "");
    let secret = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: all, namespace: {name}}}\n\
         stringData:\n  file: ${{file:secrets/token}}\n  command: ${{exec:./give 'a b'}}\ndata:\n  binary: ${{file:secrets/key.bin}}\n"
    );
    project.write("k8s/secret.yaml", &secret);
    project.run(&["plan"]).code(1).says("k8s/secret.yaml:9:9: there is no file secrets/token");
    std::fs::create_dir(project.path().join("secrets")).expect("a folder");
    project.write("secrets/token", &format!("{CANARY}\n"));
    std::fs::write(project.path().join("secrets/key.bin"), [0xff, 0xfe, b'\n']).expect("a file");
    // A command that writes down that it ran, and fails at first.
    let give = |code: u32| {
        format!("#!/bin/sh\necho \"$1\" >> ran\necho {OTHER_CANARY}\necho {OTHER_CANARY} >&2\nexit {code}\n")
    };
    project.write("give", &give(3));
    make_executable(&project, "give");
    let silent = |run: crate::support::project::Run| run.says_not(CANARY).says_not(OTHER_CANARY);
    silent(project.run(&["plan"]).code(1)).says("the command ./give gives no secret: it failed (exit status: 3)");
    project.write("give", &give(0));
    std::fs::remove_file(project.path().join("ran")).expect("it ran");
    silent(project.run(&["plan", "--detailed-exitcode"]).code(2));
    assert_eq!(project.read("ran"), "a b\n", "once a plan");
    silent(project.apply());
    assert_eq!(project.read("ran"), "a b\na b\na b\n", "and once more when it is applied");
    let value =
        |key: &str| cluster.kubectl(&["get", "secret", "all", "-n", &name, "-o", &format!("jsonpath={{.data.{key}}}")]);
    assert_eq!(value("file"), crate::kubernetes::base64_of(CANARY));
    assert_eq!(value("command"), crate::kubernetes::base64_of(OTHER_CANARY));
    assert_eq!(value("binary"), "//4K");
    project.is_settled();
    std::fs::write(project.path().join("secrets/key.bin"), [0xfe]).expect("a file");
    assert_eq!(project.changes(&[]), [format!("{name}/object/Secret/{name}/all: update")]);
    silent(project.apply());
    assert_eq!(value("binary"), "/g==");
    project.is_settled();
    // A plan that was kept is of the values of its time.
    project.write("secrets/token", "another");
    silent(project.run(&["plan", "--out", "plan.json"]).code(0));
    project.write("secrets/token", "yet another");
    silent(project.run(&["apply", "plan.json"]).code(4)).says("has another value");
    assert!(!holds(&project, CANARY) && !holds(&project, OTHER_CANARY));
    assert!(!project.read("plan.json").contains(OTHER_CANARY));
    project.run(&["destroy", "--auto-approve"]).code(0);
}

fn make_executable(project: &Project, file: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(project.path().join(file), mode).expect("it can be run");
}

const SCALED: &str = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: web, namespace: NAME}\n\
                      spec: {minReplicas: 2, maxReplicas: 4, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n---\n";
const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: NAME, annotations: {ksail.io/wait: 'false'}}\n\
                          spec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n\
                          \x20   spec: {containers: [{name: web, image: 'example.com/a:1'}]}\n---\n";

#[test]
fn what_an_autoscaler_and_flux_own_is_left_and_shown_as_theirs() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("theirs");
    let project = cluster.project(&name, "");
    let own = |text: &str| text.replace("NAME", &name);
    project.write("k8s/namespace.yaml", &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"));
    project.write("k8s/web.yaml", &own(&format!("{SCALED}{DEPLOYMENT}")));
    project.apply();
    // The real controller brings it to the fewest that its autoscaler allows.
    let replicas = || cluster.kubectl(&["get", "deployment", "web", "-n", &name, "-o", "jsonpath={.spec.replicas}"]);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(90);
    while replicas() != "2" {
        assert!(std::time::Instant::now() < until, "the autoscaler does nothing: {}", replicas());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    project.is_settled();
    let address = format!("object/apps.Deployment/{name}/web");
    let explained = project.run(&["explain", &address]).code(0);
    explained.says("Left to others:").says("spec.replicas of HorizontalPodAutoscaler web");
    // Another change leaves it alone, and says whose it is.
    project.write("k8s/web.yaml", &own(&format!("{SCALED}{DEPLOYMENT}")).replace("example.com/a:1", "example.com/a:2"));
    project.run(&["plan"]).code(0).says("left to others: spec.replicas of HorizontalPodAutoscaler web");
    project.apply();
    assert_eq!(replicas(), "2");
    // Declared all the same, the two would write it in turn.
    let declared = own(&format!("{SCALED}{DEPLOYMENT}")).replace("example.com/a:1", "example.com/a:2");
    project.write("k8s/web.yaml", &declared.replace("spec:\n  selector", "spec:\n  replicas: 1\n  selector"));
    let contested =
        format!("spec.replicas of {name}/{address} is declared here and set by HorizontalPodAutoscaler web");
    project.run(&["plan"]).code(0).says(&contested);
    project.apply();
    // Where it was ours and is taken, it is a conflict that names the owner.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(90);
    while replicas() != "2" {
        assert!(std::time::Instant::now() < until, "the autoscaler does nothing: {}", replicas());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let taken = project.run(&["plan"]).code(3);
    taken.says("spec.replicas is owned by kube-controller-manager").says("leave the field out");
    project.write("k8s/web.yaml", &declared);
    project.apply();
    assert_eq!(replicas(), "2");
    // Flux takes the object too.
    let labels = "kustomize.toolkit.fluxcd.io/name: apps, kustomize.toolkit.fluxcd.io/namespace: flux-system";
    let flux = project.path().join("flux.yaml");
    let theirs = own(DEPLOYMENT).replace("annotations: {ksail.io/wait: 'false'}", &format!("labels: {{{labels}}}"));
    std::fs::write(
        &flux,
        theirs
            .replace("example.com/a:1", "example.com/a:2")
            .replace("spec:\n  selector", "spec:\n  paused: true\n  selector"),
    )
    .expect("a manifest");
    let file = flux.display().to_string();
    cluster.kubectl(&["apply", "--server-side", "--field-manager=kustomize-controller", "-f", &file]);
    let plan = project.run(&["plan", "--detailed-exitcode"]).code(0);
    plan.says(&format!("{name}/{address} is managed by Flux (Kustomization flux-system/apps) too"));
    project.run(&["explain", &address]).code(0).says("spec.paused of Flux (Kustomization flux-system/apps)");
    project.run(&["destroy", "--auto-approve"]).code(0);
}

#[test]
fn a_recovery_speaks_of_the_lineages_of_its_own_file() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("shared");
    // Two projects of one name in one cluster, as in two repositories, and a copy of the first.
    let map = |project: &Project, what: &str| {
        let namespace = format!("{name}-{what}");
        let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n---\n");
        project.write("k8s/all.yaml", &(text + &config_map(what, &namespace, "")));
    };
    let projects = ["one", "two", "copy"].map(|_| cluster.project(&name, ""));
    let [one, two, copy] = &projects;
    for (project, what) in [(one, "one"), (two, "two"), (copy, "copy")] {
        map(project, what);
        project.apply();
    }
    let lineage = |what: &str| {
        let label = "jsonpath={.metadata.labels.ksail\\.io/lineage}";
        cluster.kubectl(&["get", "namespace", &format!("{name}-{what}"), "-o", label])
    };
    let (of_one, of_two, of_copy) = (lineage("one"), lineage("two"), lineage("copy"));
    // Only one of the three has what this file declares: it is not asked about the others.
    std::fs::remove_dir_all(one.path().join(".ksail").join(&name)).expect("the state is lost");
    let recovered = one.run(&["state", "recover", "--auto-approve"]).code(0);
    recovered.says("2 other lineages").says_not(&of_two);
    one.is_settled();
    // Where several may be meant, they are told with what they hold, and one is chosen.
    std::fs::remove_dir_all(two.path().join(".ksail").join(&name)).expect("the state is lost");
    let both = two.read("k8s/all.yaml") + "---\n" + &copy.read("k8s/all.yaml");
    two.write("k8s/all.yaml", &both);
    let asked = two.run(&["state", "recover", "--auto-approve"]).code(1);
    asked.says(&of_two).says(&of_copy).says_not(&of_one).says("--lineage").says(&format!("ConfigMap/{name}-two/two"));
    two.run(&["state", "recover", "--lineage", &of_two, "--auto-approve"]).code(0);
    map(two, "two");
    two.is_settled();
    for project in &projects {
        project.run(&["destroy", "--auto-approve"]).code(0);
    }
}
