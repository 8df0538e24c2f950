//! Objects on a real API server through the whole engine: all kinds, faults on the way there, watches that end, and what is
//! deleted and what is not.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ksail_test_proxy::{Fault, Proxy};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::kubernetes::{Cluster, unique};
use crate::support::project::Project;
use crate::support::wait_until;

/// The objects of the provider's tests, and what stands for the names in them.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../providers/kubernetes/tests");
/// The objects that are not deleted before somebody lets them go.
const HELD: [&str; 2] = [", finalizers: [example.com/one, example.com/another]", ", finalizers: [example.com/holds]"];

/// A project whose way to the cluster leads through a proxy.
struct Faulty {
    project: Project,
    proxy: Proxy,
    _runtime: Runtime,
}

impl Faulty {
    fn before(cluster: &Cluster, name: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let proxy = runtime.block_on(Proxy::before(&cluster.kubeconfig)).expect("a proxy");
        let mut project = cluster.project(name, "");
        let kubeconfig = proxy.kubeconfig(project.home()).expect("a kubeconfig");
        project.set_env("KUBECONFIG", &kubeconfig.display().to_string());
        Self { project, proxy, _runtime: runtime }
    }

    /// Of all requests to a path by a method, the first meets the fault.
    fn each_fails_once(&self, fault: Fault) {
        let mut met = HashSet::new();
        self.proxy.choose(
            move |asked| {
                if met.insert((asked.method.clone(), asked.path.clone())) { fault } else { Fault::None }
            },
        );
    }
}

/// ConfigMaps and Secrets in the namespace that is always there.
fn some(name: &str, count: usize) -> String {
    let of = |index: usize| {
        let (kind, field) = if index.is_multiple_of(5) { ("Secret", "stringData") } else { ("ConfigMap", "data") };
        format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}-{index}, namespace: default}}\n{field}: {{value: x}}\n"
        )
    };
    (0..count).map(of).collect::<Vec<_>>().join("---\n")
}

/// How many ConfigMaps and Secrets of these there are, by the server.
fn there(cluster: &Cluster, name: &str) -> usize {
    let names = cluster.kubectl(&["get", "configmap,secret", "-n", "default", "-o", "name"]);
    names.lines().filter(|line| line.contains(&format!("/{name}-"))).count()
}

#[track_caller]
fn every_request_fails_once(fault: Fault) {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("fault");
    let faulty = Faulty::before(&cluster, &name);
    faulty.project.write("k8s/some.yaml", &some(&name, 20));
    faulty.each_fails_once(fault);
    faulty.project.apply();
    assert_eq!(there(&cluster, &name), 20, "{fault:?}");
    faulty.project.is_settled();
    faulty.project.write("k8s/some.yaml", &some(&name, 20).replace("value: x", "value: changed"));
    faulty.each_fails_once(fault);
    faulty.project.apply();
    faulty.project.is_settled();
    faulty.each_fails_once(fault);
    faulty.project.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(there(&cluster, &name), 0, "{fault:?}");
}

#[test]
fn an_apply_gets_over_resets() {
    every_request_fails_once(Fault::Reset);
}

#[test]
fn an_apply_gets_over_lost_replies() {
    every_request_fails_once(Fault::LostReply);
}

#[test]
fn an_apply_waits_as_a_busy_server_asks() {
    every_request_fails_once(Fault::TooMany);
}

#[test]
fn an_apply_gets_over_a_server_that_is_down_for_a_moment() {
    every_request_fails_once(Fault::Down);
}

#[test]
fn an_apply_gets_over_faults_after_which_nobody_knows() {
    every_request_fails_once(Fault::Internal);
}

#[test]
fn an_apply_gets_over_slow_requests() {
    every_request_fails_once(Fault::Delay(Duration::from_millis(300)));
}

/// The first watches meet the fault; then the pod becomes ready.
#[track_caller]
fn a_wait_ends_right(fault: Fault, times: usize) {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("watch");
    let faulty = Faulty::before(&cluster, &name);
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{automountServiceAccountToken: false, containers: [{{name: a, image: 'example.com/a:1'}}]}}\n"
    );
    faulty.project.write("k8s/pod.yaml", &pod);
    let met = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&met);
    faulty.proxy.choose(move |asked| {
        let mut met = counted.lock().expect("the count");
        if asked.is_watch() && *met < times {
            *met += 1;
            return fault;
        }
        Fault::None
    });
    let running = faulty.project.start(&["apply", "--auto-approve"]);
    let mut noise = 0;
    wait_until("the watches", || {
        noise += 1;
        // The watch has something to tell.
        let patch = format!("{{\"metadata\":{{\"annotations\":{{\"noise\":\"{noise}\"}}}}}}");
        if running.has_said("creat") {
            cluster.kubectl_may_fail(&["patch", "pod", &name, "-n", "default", "--type", "merge", "-p", &patch]);
        }
        *met.lock().expect("the count") >= times
    });
    let status = r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
    cluster.kubectl(&[
        "patch",
        "pod",
        &name,
        "-n",
        "default",
        "--subresource",
        "status",
        "--type",
        "merge",
        "-p",
        status,
    ]);
    running.end().code(0);
    faulty.project.is_settled();
    faulty.project.run(&["destroy", "--auto-approve"]).code(0);
}

#[test]
fn an_apply_waits_through_watches_that_are_cut() {
    a_wait_ends_right(Fault::Cut(0), 3);
    a_wait_ends_right(Fault::Cut(1), 2);
}

#[test]
fn an_apply_waits_through_watches_that_are_too_old() {
    a_wait_ends_right(Fault::Gone, 2);
    a_wait_ends_right(Fault::Expired(1), 2);
}

#[test]
fn an_apply_waits_through_a_watch_that_falls_silent() {
    a_wait_ends_right(Fault::Silent(1), 1);
}

#[test]
fn an_apply_waits_through_a_watch_that_tells_bookmarks_alone() {
    a_wait_ends_right(Fault::Bookmarked(1), 2);
}

#[test]
fn what_leaves_the_file_is_deleted_and_what_is_not_recorded_never_is() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("prune");
    let project = cluster.project(&name, "");
    project.write("k8s/some.yaml", &some(&name, 6));
    project.apply();
    // One of ours is copied with all its marks, by hand: it is labelled as ours, and no state knows it.
    let ours = cluster.kubectl(&["get", "configmap", &format!("{name}-1"), "-n", "default", "-o", "json"]);
    let mut copy: Value = serde_json::from_str(&ours).expect("JSON");
    let copied = format!("{name}-copy");
    copy["metadata"]["name"] = copied.as_str().into();
    for field in ["uid", "resourceVersion", "managedFields", "creationTimestamp"] {
        copy["metadata"].as_object_mut().expect("a map").remove(field);
    }
    project.write("copy.json", &copy.to_string());
    cluster.kubectl(&["create", "-f", &project.path().join("copy.json").display().to_string()]);
    let is_there = |object: &str| {
        !cluster.kubectl(&["get", "configmap", object, "-n", "default", "--ignore-not-found", "-o", "name"]).is_empty()
    };
    project.write("k8s/some.yaml", &some(&name, 4));
    assert_eq!(
        project.changes(&[]),
        [
            format!("{name}/object/ConfigMap/default/{name}-4: delete"),
            format!("{name}/object/Secret/default/{name}-5: delete")
        ]
    );
    project.apply();
    assert!(!is_there(&format!("{name}-4")) && is_there(&format!("{name}-3")) && is_there(&copied));
    project.is_settled();
    // One of another lineage that took the name of ours in the meantime is not ours to delete.
    cluster.kubectl(&["delete", "configmap", &format!("{name}-3"), "-n", "default"]);
    copy["metadata"]["name"] = format!("{name}-3").into();
    copy["metadata"]["labels"]["ksail.io/lineage"] = "another".into();
    project.write("copy.json", &copy.to_string());
    cluster.kubectl(&["create", "-f", &project.path().join("copy.json").display().to_string()]);
    project.write("k8s/some.yaml", &some(&name, 3));
    project.run(&["apply", "--auto-approve"]);
    assert!(is_there(&format!("{name}-3")), "it belongs to another lineage");
    project.run(&["destroy", "--auto-approve"]);
    assert!(is_there(&copied) && is_there(&format!("{name}-3")) && !is_there(&format!("{name}-1")));
    cluster.kubectl(&["delete", "configmap", &copied, &format!("{name}-3"), "-n", "default"]);
}

/// The files of the corpus with names of their own. Answers how many objects they hold.
fn corpus(cluster: &Cluster, project: &Project, name: &str) -> usize {
    let owner = cluster.kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]);
    let request = std::fs::read_to_string(Path::new(CORPUS).join("kubernetes/csr.txt")).expect("the request");
    let mut count = 2;
    for entry in std::fs::read_dir(Path::new(CORPUS).join("corpus")).expect("the corpus") {
        let path = entry.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a text");
        let text = text
            .replace("$NS", name)
            .replace("$P", name)
            .replace("$OWNER", owner.trim())
            .replace("$LARGE", &"long ".repeat(1000))
            .replace("$CSR", request.trim())
            // The name of an IPAddress is one, so no other may be unique. That of the provider's own test may be there.
            .replace("$IP", &format!("10.202.{}.9", std::process::id() % 250));
        count += text.lines().filter(|line| line.starts_with("kind: ")).count();
        project.write(&format!("k8s/{}", path.file_name().and_then(|name| name.to_str()).expect("a name")), &text);
    }
    let namespace =
        |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{plain: x}}}}\n");
    project.write("k8s/0.yaml", &format!("{}---\n{}", namespace(name), namespace(&format!("{name}-limits"))));
    count
}

/// Objects by kind, namespace and name, without what moves by itself.
fn by_name(list: &str) -> BTreeMap<String, Value> {
    let list: Value = serde_json::from_str(list).expect("a list");
    let object = |mut object: Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        for moving in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(moving);
        }
        let name =
            [&object["apiVersion"], &object["kind"], &object["metadata"]["namespace"], &object["metadata"]["name"]];
        let name = name.map(text).join(" ");
        object.as_object_mut().expect("an object").remove("status");
        (name, object)
    };
    list["items"].as_array().expect("items").iter().cloned().map(object).collect()
}

#[test]
fn objects_of_all_kinds_are_applied_quiet_drifted_and_destroyed() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("all");
    let project = cluster.project(&name, "");
    let count = corpus(&cluster, &project, &name);
    let folder = project.path().join("k8s").display().to_string();
    project.run(&["plan"]).code(0).says(&format!("{count} to add"));
    project.apply();
    project.is_settled();
    // What kubectl reads in the same files would change nothing.
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--field-manager=check",
        "-R",
        "-f",
        &folder,
        "-o",
        "json",
    ];
    let would_be = by_name(&cluster.kubectl(&apply));
    let is = by_name(&cluster.kubectl(&["get", "-R", "-f", &folder, "-o", "json"]));
    assert_eq!(is.len(), count);
    // In a declaration null is nothing; kubectl sends it, and in custom kinds it may stand in the way of a default.
    let nulls = format!(" Thing {name} nulls");
    let others: Vec<_> = is
        .iter()
        .filter(|(name, object)| !name.ends_with(&nulls) && would_be.get(*name) != Some(object))
        .map(|(name, object)| format!("{name}:\n{object}\n{:?}", would_be.get(name).map(Value::to_string)))
        .collect();
    assert!(others.is_empty(), "{}", others.join("\n"));
    cluster.kubectl(&["label", "--overwrite", "-R", "-f", &folder, "plain=drifted"]);
    let owned = format!(
        "{count} resources are blocked: the outside would refuse it: metadata.labels.plain is owned by kubectl-label"
    );
    project.run(&["plan", "--detailed-exitcode"]).code(3).says(&owned);
    cluster.kubectl(&["label", "--overwrite", "-R", "-f", &folder, "plain=x"]);
    project.is_settled();
    for file in ["k8s/config.yaml", "k8s/custom.yaml"] {
        let text = HELD.iter().fold(project.read(file), |text, held| text.replace(held, ""));
        project.write(file, &text);
    }
    assert_eq!(project.changes(&[]).len(), 2);
    project.apply();
    let lineage = project.run(&["state", "pull"]).code(0).json()["lineage"].as_str().expect("a lineage").to_owned();
    project.run(&["destroy", "--auto-approve"]).code(0);
    let kinds =
        cluster.kubectl(&["api-resources", "--verbs=list,patch", "-o", "name"]).lines().collect::<Vec<_>>().join(",");
    let left = cluster.kubectl(&["get", &kinds, "-A", "-l", &format!("ksail.io/lineage={lineage}"), "-o", "name"]);
    assert!(left.is_empty(), "{left}");
}
