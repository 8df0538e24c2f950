//! Objects on a real API server, by the built binary.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ksail_test_real::tell;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::did_not_run;
use crate::support::project::Project;

const EXAMPLE: &str = include_str!("../../../examples/existing-cluster/ksail.yaml");
const NAMESPACE: &str = include_str!("../../../examples/existing-cluster/k8s/namespace.yaml");
const WEB: &str = include_str!("../../../examples/existing-cluster/k8s/web.yaml");
/// Must be found in no byte that is written.
const CANARY: &str = "canary-of-the-database";
const OTHER_CANARY: &str = "canary-in-the-manifest";
/// How many kills are made where `KSAIL_TEST_KILLS` does not say.
const KILLS: u32 = 100;
/// How many are then made on the embedded engine, whose number the variable is.
const EMBEDDED_KILLS: u32 = 200;
/// Of so many commands, one may be over before its kill.
const RUNS_PER_KILL: u32 = 4;
/// The bounds of the time within which a kill comes.
const KILL_MIN: Duration = Duration::from_millis(30);
const KILL_MAX: Duration = Duration::from_millis(600);

/// The cluster, past ksail.
pub(crate) struct Cluster {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) kubectl: PathBuf,
}

impl Cluster {
    pub(crate) fn real() -> Option<Self> {
        let path = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        match (path("KSAIL_TEST_KUBECONFIG"), path("KSAIL_TEST_KUBECTL")) {
            (Some(kubeconfig), Some(kubectl)) => Some(Self { kubeconfig, kubectl }),
            _ => {
                did_not_run(
                    "KSAIL_TEST_KUBECONFIG names no cluster (testbed/kubernetes.sh up; testbed/kubernetes.sh env)",
                );
                None
            }
        }
    }

    #[track_caller]
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let run = Command::new(&self.kubectl).arg("--kubeconfig").arg(&self.kubeconfig).args(arguments).output();
        let run = run.expect("kubectl runs");
        assert!(run.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).into_owned()
    }

    /// Whether it ended well does not matter.
    pub(crate) fn kubectl_may_fail(&self, arguments: &[&str]) {
        let run = Command::new(&self.kubectl).arg("--kubeconfig").arg(&self.kubeconfig).args(arguments).output();
        drop(run.expect("kubectl runs"));
    }

    /// The names of objects in a namespace, by kind.
    pub(crate) fn names(&self, kinds: &str, namespace: &str) -> Vec<String> {
        let out = self.kubectl(&["get", kinds, "-n", namespace, "-o", "name"]);
        out.lines().map(str::to_owned).collect()
    }

    pub(crate) fn project(&self, cluster: &str, more: &str) -> Project {
        let mut project = Project::empty(0);
        project.set_env("KUBECONFIG", &self.kubeconfig.display().to_string());
        project.write("ksail.yaml", &format!("{}{more}", EXAMPLE.replace("name: shop", &format!("name: {cluster}"))));
        std::fs::create_dir(project.path().join("k8s")).expect("a folder");
        project
    }
}

pub(crate) fn unique(prefix: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    format!("{prefix}-{:x}", now.as_nanos() & 0xffff_ffff_ffff)
}

/// The example in a namespace of its own. There are no nodes, so no pods.
pub(crate) fn example(cluster: &Cluster, name: &str) -> Project {
    let mut project = cluster.project(name, "");
    project.set_env("SHOP_DATABASE_PASSWORD", CANARY);
    let own = |text: &str| {
        text.replace("name: shop", &format!("name: {name}")).replace("namespace: shop", &format!("namespace: {name}"))
    };
    project.write("k8s/namespace.yaml", &own(NAMESPACE));
    let secret = format!("stringData:\n  open: {OTHER_CANARY}\n");
    project.write("k8s/web.yaml", &own(WEB).replace("replicas: 2", "replicas: 0").replace("stringData:\n", &secret));
    project
}

/// Files below a folder that hold a text.
pub(crate) fn holding(folder: &std::path::Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_example_is_applied_quiet_changed_and_destroyed_without_a_secret_written() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("shop");
    let mut project = example(&cluster, &name);
    let silent = |run: crate::support::project::Run| run.says_not(CANARY).says_not(OTHER_CANARY);
    silent(project.run(&["plan", "--detailed-exitcode"]).code(2)).says("6 to add");
    project.run(&["plan", "--out", "plan.json"]).code(0);
    silent(project.run(&["apply", "plan.json"]).code(0));
    silent(project.run(&["plan", "--detailed-exitcode"]).code(0)).says("No changes");
    let secret = cluster.kubectl(&["get", "secret", "database", "-n", &name, "-o", "jsonpath={.data.password}"]);
    assert_eq!(secret, base64_of(CANARY));
    // The same, written otherwise, is no change; another value is one.
    let web = project.read("k8s/web.yaml");
    project.write("k8s/web.yaml", &web.replace("cpu: 1000m", "cpu: 1"));
    project.run(&["plan", "--detailed-exitcode"]).code(0).says("No changes");
    project.write("k8s/web.yaml", &web.replace("LOG_LEVEL: info", "LOG_LEVEL: debug"));
    assert_eq!(project.changes(&[]), [format!("{name}/object/ConfigMap/{name}/settings: update")]);
    project.apply();
    project.is_settled();
    // A rotated secret is a change of the Secret alone.
    project.set_env("SHOP_DATABASE_PASSWORD", "canary-of-the-database-rotated");
    assert_eq!(project.changes(&[]), [format!("{name}/object/Secret/{name}/database: update")]);
    silent(project.apply());
    project.is_settled();
    let text = [CANARY, OTHER_CANARY].map(|canary| holding(&project.path().join(".ksail"), canary));
    assert!(text.iter().all(Vec::is_empty), "{text:?}");
    assert!(holding(project.path(), CANARY).is_empty());
    // The order comes from what objects mean.
    project.run(&["explain", &format!("object/apps.Deployment/{name}/web")]).code(0).says("its pods read the Secret");
    silent(project.run(&["destroy", "--auto-approve"]).code(0)).says("6 steps done");
    assert!(cluster.kubectl(&["get", "namespace", &name, "--ignore-not-found", "-o", "name"]).is_empty());
}

pub(crate) fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn drift_is_shown_and_what_another_owns_is_left_to_them() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("drift");
    let project = example(&cluster, &name);
    project.apply();
    cluster.kubectl(&["delete", "serviceaccount", "web", "-n", &name]);
    cluster.kubectl(&[
        "patch",
        "configmap",
        "settings",
        "-n",
        &name,
        "--type",
        "merge",
        "-p",
        r#"{"data":{"LOG_LEVEL":"trace","THEIRS":"x"}}"#,
    ]);
    cluster.kubectl(&[
        "patch",
        "service",
        "web",
        "-n",
        &name,
        "--type",
        "merge",
        "-p",
        r#"{"metadata":{"labels":{"theirs":"x"}}}"#,
    ]);
    project
        .run(&["plan", "--detailed-exitcode"])
        .code(3)
        .says("data.LOG_LEVEL is owned by kubectl-patch")
        .says("ksail.io/conflicts: take")
        .says("was deleted outside of ksail")
        .says_not("THEIRS")
        .says_not("theirs");
    let web = project.read("k8s/web.yaml");
    let take = "  name: settings\n  annotations: {ksail.io/conflicts: take}\n";
    project.write("k8s/web.yaml", &web.replacen("  name: settings\n", take, 1));
    project.apply();
    project.is_settled();
    let log = cluster.kubectl(&["get", "configmap", "settings", "-n", &name, "-o", "jsonpath={.data}"]);
    assert_eq!(log, r#"{"LOG_LEVEL":"info","THEIRS":"x"}"#);
    project.run(&["destroy", "--auto-approve"]).code(0);
}

#[test]
fn what_kubectl_made_is_refused_until_it_is_imported_and_then_removed_fields_go() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("import");
    let project = example(&cluster, &name);
    cluster.kubectl(&["create", "namespace", &name]);
    let made = project.path().join("made.yaml");
    std::fs::write(
        &made,
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: {name}}}\ndata: {{LOG_LEVEL: warn, OLD: x}}\n"),
    )
    .expect("a manifest");
    cluster.kubectl(&["apply", "-f", &made.display().to_string()]);
    project.run(&["plan", "--detailed-exitcode"]).code(3).says("not ours").says("import");
    for (address, id) in [("Namespace/_", name.as_str()), (format!("ConfigMap/{name}").as_str(), "settings")] {
        let address = format!("{address}/{id}");
        project.run(&["import", &format!("object/{address}"), &address, "--auto-approve"]).code(0);
    }
    let data = cluster.kubectl(&["get", "configmap", "settings", "-n", &name, "-o", "jsonpath={.data}"]);
    assert_eq!(data, r#"{"LOG_LEVEL":"info"}"#);
    project.apply();
    project.is_settled();
    // The state is lost, and found again by the marks.
    std::fs::remove_dir_all(project.path().join(".ksail").join(&name)).expect("the state is lost");
    project.run(&["plan", "--detailed-exitcode"]).code(3);
    project.run(&["destroy", "--auto-approve"]);
    cluster.kubectl(&["delete", "namespace", &name, "--wait=false"]);
}

#[test]
fn with_rights_to_look_alone_a_plan_works() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("looker");
    let mut project = example(&cluster, &name);
    cluster.kubectl(&["create", "serviceaccount", &name, "-n", "default"]);
    cluster.kubectl(&["create", "clusterrole", &name, "--verb=get,list", "--resource=*.*"]);
    cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        &name,
        &format!("--clusterrole={name}"),
        &format!("--serviceaccount=default:{name}"),
    ]);
    let token = cluster.kubectl(&["create", "token", &name, "-n", "default"]);
    let looker = project.home().join("looker.kubeconfig");
    std::fs::copy(&cluster.kubeconfig, &looker).expect("a kubeconfig");
    let as_looker = Cluster { kubeconfig: looker, kubectl: cluster.kubectl.clone() };
    as_looker.kubectl(&["config", "set-credentials", "looker", &format!("--token={}", token.trim())]);
    as_looker.kubectl(&["config", "set-context", "--current", "--user=looker"]);
    project.set_env("KUBECONFIG", &as_looker.kubeconfig.display().to_string());
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("6 to add");
    project.run(&["apply", "--auto-approve"]).code(3).says("kubectl auth can-i");
    // What is there and would change is shown as it is declared, and the plan says so.
    project.set_env("KUBECONFIG", &cluster.kubeconfig.display().to_string());
    project.apply();
    project.set_env("KUBECONFIG", &as_looker.kubeconfig.display().to_string());
    let web = project.read("k8s/web.yaml");
    project.write("k8s/web.yaml", &web.replace("LOG_LEVEL: info", "LOG_LEVEL: debug"));
    let plan = project.run(&["plan", "--detailed-exitcode"]).code(2);
    plan.says(&format!("what would become of {name}/object/ConfigMap/{name}/settings could not be tried"));
    project.set_env("KUBECONFIG", &cluster.kubeconfig.display().to_string());
    project.run(&["destroy", "--auto-approve"]).code(0);
    for kind in ["clusterrole", "clusterrolebinding"] {
        cluster.kubectl(&["delete", kind, &name]);
    }
    cluster.kubectl(&["delete", "serviceaccount", &name, "-n", "default"]);
}

/// Many objects, so that a kill falls between them.
pub(crate) fn many(name: &str, count: usize, value: &str) -> String {
    let mut text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    for index in 0..count {
        let kind = if index % 5 == 0 { "Secret" } else { "ConfigMap" };
        let field = if index % 5 == 0 { "stringData" } else { "data" };
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: o{index}, namespace: {name}}}\n{field}: {{value: '{value}'}}\n"
        ));
    }
    text
}

#[test]
fn kills_at_random_moments_leave_no_object_behind_and_none_twice() {
    let Some(cluster) = Cluster::real() else { return };
    let asked = std::env::var("KSAIL_TEST_KILLS").ok().and_then(|text| text.parse::<u32>().ok());
    let kills = asked.map_or(KILLS, |count| (count * KILLS).div_ceil(EMBEDDED_KILLS));
    let name = unique("kills");
    let project = cluster.project(&name, "");
    let mut random = fastrand::Rng::new();
    tell(&format!("kills of commands on the API server: seed {}", random.get_seed()));
    let (mut cut, mut round) = (0, 0);
    while cut < kills {
        assert!(round < kills * RUNS_PER_KILL, "only {cut} of {round} commands were cut");
        let count = if round % 4 == 3 { 20 } else { 60 };
        project.write("k8s/many.yaml", &many(&name, count, &round.to_string()));
        let command = if round % 5 == 4 { "destroy" } else { "apply" };
        let running = project.start(&[command, "--auto-approve"]);
        std::thread::sleep(KILL_MIN + (KILL_MAX - KILL_MIN) * random.u32(..1000) / 1000);
        running.signal(Signal::KILL);
        if running.end().code.is_none() {
            cut += 1;
        }
        project.run(&[command, "--auto-approve"]).code(0);
        let left = cluster.kubectl(&[
            "get",
            "configmap,secret",
            "-n",
            &name,
            "--ignore-not-found",
            "-l",
            "ksail.io/lineage",
            "-o",
            "name",
        ]);
        let expected = if command == "destroy" { 0 } else { count };
        assert_eq!(left.lines().count(), expected, "round {round}: {left}");
        if command == "apply" {
            project.is_settled();
        }
        round += 1;
    }
    tell(&format!("kills of commands on the API server: {cut} of {round} commands were cut"));
    project.run(&["destroy", "--auto-approve"]).code(0);
    assert!(cluster.names("configmap", &name).iter().all(|name| !name.contains("/o")));
}

#[test]
fn names_of_a_state_say_what_they_are() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("json");
    let project = example(&cluster, &name);
    let plan: Value = project.run(&["plan", "--format", "json"]).code(0).json();
    assert_eq!(plan["resource_changes"].as_array().map(Vec::len), Some(6));
}

#[test]
fn a_kubeconfig_with_an_exec_plugin_and_a_named_context_works() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("exec");
    let mut project = example(&cluster, &name);
    let given = std::fs::read_to_string(&cluster.kubeconfig).expect("the kubeconfig");
    let field = |name: &str| {
        let line = given.lines().find(|line| line.contains(name)).expect("the field");
        line.split_once(": ").expect("a value").1.trim().to_owned()
    };
    let pem = |name: &str| {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(field(name)).expect("base64");
        String::from_utf8(bytes).expect("a PEM")
    };
    let credential = serde_json::json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"clientCertificateData": pem("client-certificate-data"), "clientKeyData": pem("client-key-data")},
    });
    project.write("credential.json", &credential.to_string());
    let credential = project.path().join("credential.json");
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: not-there\nclusters:\n- name: c\n  cluster: {{server: '{}', certificate-authority-data: {}}}\n\
         users:\n- name: u\n  user:\n    exec: {{apiVersion: client.authentication.k8s.io/v1, command: cat, args: ['{}'], interactiveMode: Never}}\n\
         contexts:\n- name: named\n  context: {{cluster: c, user: u}}\n",
        field("server"),
        field("certificate-authority-data"),
        credential.display(),
    );
    project.write("exec.kubeconfig", &kubeconfig);
    project.unset_env("KUBECONFIG");
    let file = project.read("ksail.yaml");
    let connection = "  manifests:";
    let named = "    connection: {kubeconfig: exec.kubeconfig, context: named}\n  manifests:";
    project.write("ksail.yaml", &file.replace(connection, named));
    project.run(&["plan", "--detailed-exitcode"]).code(2).says("6 to add");
    project.write("ksail.yaml", &file.replace(connection, &named.replace("context: named", "context: other")));
    project.run(&["plan", "--detailed-exitcode"]).code(3).says("other");
}

/// Another control plane of the test-bed, which ends with this.
struct Second {
    cluster: Cluster,
    world: String,
}

impl Second {
    /// `None` where the test-bed of the first is not the one of this checkout.
    fn up(cluster: &Cluster) -> Option<Self> {
        let world = unique("second");
        let testbed = cluster.kubeconfig.ancestors().nth(3)?.to_owned();
        let second = Self {
            cluster: Cluster {
                kubeconfig: testbed.join("kubernetes").join(&world).join("kubeconfig"),
                kubectl: cluster.kubectl.clone(),
            },
            world,
        };
        second.testbed(&["up"]);
        Some(second)
    }

    #[track_caller]
    fn testbed(&self, arguments: &[&str]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../testbed/kubernetes.sh");
        let testbed = self.cluster.kubeconfig.ancestors().nth(3).expect("the test-bed");
        let run = Command::new(script)
            .args(arguments)
            .env("KSAIL_TESTBED", testbed)
            .env("KSAIL_TESTBED_WORLD", &self.world)
            .output()
            .expect("the test-bed runs");
        assert!(run.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.testbed(&["down"]);
    }
}

#[test]
fn another_cluster_behind_the_same_context_is_noticed_and_a_server_that_dies_in_an_apply_is_got_over() {
    let Some(cluster) = Cluster::real() else { return };
    let Some(second) = Second::up(&cluster) else { return };
    let name = unique("scope");
    let mut project = cluster.project(&name, "");
    project.write("k8s/many.yaml", &many(&name, 5, "x"));
    project.apply();
    project.set_env("KUBECONFIG", &second.cluster.kubeconfig.display().to_string());
    project.run(&["plan", "--detailed-exitcode"]).code(3).says("another outside answers");
    project.run(&["apply", "--auto-approve"]).code(3);
    assert!(second.cluster.kubectl(&["get", "namespace", &name, "--ignore-not-found", "-o", "name"]).is_empty());
    project.set_env("KUBECONFIG", &cluster.kubeconfig.display().to_string());
    project.run(&["destroy", "--auto-approve"]).code(0);

    let name = unique("crash");
    let project = second.cluster.project(&name, "");
    project.write("k8s/many.yaml", &many(&name, 300, "x"));
    let mut running = project.start(&["apply", "--auto-approve"]);
    crate::support::wait_until("the first objects", || running.has_said("/o1: created") || running.is_over());
    second.testbed(&["crash", "kube-apiserver"]);
    std::thread::sleep(Duration::from_secs(1));
    second.testbed(&["again", "kube-apiserver"]);
    let run = running.end();
    println!("the apply through the crash ended with {:?}", run.code);
    project.apply();
    project.is_settled();
    let left =
        second.cluster.kubectl(&["get", "configmap,secret", "-n", &name, "-l", "ksail.io/lineage", "-o", "name"]);
    assert_eq!(left.lines().count(), 300);
}
