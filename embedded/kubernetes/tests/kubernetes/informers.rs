//! client-go's informers, as controllers have them: they are told of all that becomes of objects, also of what happened while the
//! server was away.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use ksail_embedded_kubernetes::Settings;
use ksail_test_real::variable;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::harness::{Client, Served};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";
const FOLLOWED: [(&str, &str); 3] = [("pods", PODS), ("deployments", DEPLOYMENTS), ("things", THINGS)];
/// How long something may take that is to be told. A client that lost its server pauses for up to half a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// The program that follows, and what it has told.
struct Informers {
    child: Child,
    input: ChildStdin,
    lines: UnboundedReceiver<Value>,
    told: Vec<Value>,
}

impl Informers {
    fn start(program: &str, kubeconfig: &Path) -> Self {
        let mut child = Command::new(program)
            .arg(kubeconfig)
            .arg("things.v1.example.com")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (send, lines) = unbounded_channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = send.send(serde_json::from_str(&line).unwrap());
            }
        });
        let input = child.stdin.take().unwrap();
        Self { child, input, lines, told: Vec::new() }
    }

    /// Reads until something is told that was not before a mark.
    async fn until(&mut self, since: usize, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        if let Some(found) = self.told[since..].iter().find(|line| is(line)) {
            return found.clone();
        }
        let reading = async {
            loop {
                let line = self.lines.recv().await?;
                self.told.push(line);
                if let Some(line) = self.told.last().filter(|line| is(line)) {
                    return Some(line.clone());
                }
            }
        };
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Some(line)) => line,
            _ => panic!("{what} is not told: {:#?}", &self.told[since..]),
        }
    }

    /// Waits for an event of an object whose name begins so.
    async fn event(&mut self, since: usize, event: &str, resource: &str, name: &str) {
        let begins = format!("default/{name}");
        self.until(since, &format!("{event} {resource} {begins}"), |line| {
            line["event"] == event
                && line["resource"] == resource
                && line["name"].as_str().is_some_and(|name| name.starts_with(&begins))
        })
        .await;
    }

    /// The requests for a resource, by their queries.
    fn requests(&self, path: &str) -> Vec<String> {
        let path = path.replace("/namespaces/default", "");
        let of = |line: &Value| {
            let (asked, query) = line["name"].as_str()?.split_once('?').unwrap_or((line["name"].as_str()?, ""));
            (line["event"] == "request" && asked == path).then(|| query.to_owned())
        };
        self.told.iter().filter_map(of).collect()
    }

    /// What the caches hold, by resource.
    async fn caches(&mut self) -> BTreeMap<String, Value> {
        self.input.write_all(b"\n").unwrap();
        let since = self.told.len();
        let mut caches = BTreeMap::new();
        for (resource, _) in FOLLOWED {
            let of = |line: &Value| line["event"] == "cache" && line["resource"] == resource;
            let cache = self.until(since, &format!("the cache of {resource}"), of).await;
            caches.insert(resource.to_owned(), cache["versions"].clone());
        }
        caches
    }

    /// Waits until the caches hold what the server has.
    async fn are_as(&mut self, client: &Client) {
        let agreeing = async {
            loop {
                let mut server = BTreeMap::new();
                for (resource, path) in FOLLOWED {
                    let list = client.get(path).await.body;
                    let versions = list["items"].as_array().unwrap().iter().map(|item| {
                        let metadata = &item["metadata"];
                        (format!("default/{}", metadata["name"].as_str().unwrap()), metadata["resourceVersion"].clone())
                    });
                    server.insert(resource.to_owned(), Value::Object(versions.collect()));
                }
                // Where there are none the program leaves them out.
                server
                    .values_mut()
                    .filter(|held| held.as_object().unwrap().is_empty())
                    .for_each(|held| *held = Value::Null);
                if self.caches().await == server {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, agreeing).await.expect("the caches become what the server has");
    }
}

impl Drop for Informers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn scale(client: &Client, replicas: u32) {
    let patch = json!({"spec": {"replicas": replicas}});
    let path = format!("{DEPLOYMENTS}/web");
    let answer = client.ask("PATCH", &path, "application/merge-patch+json", Some(&patch)).await;
    assert_eq!(answer.code, 200, "{:?}", answer.body);
    client.until(&path, |answer| answer.body["status"]["readyReplicas"] == replicas).await;
}

async fn thing(client: &Client, name: &str) {
    let thing =
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": {"size": 1}});
    let answer = client.post(THINGS, &thing).await;
    assert_eq!(answer.code, 201, "{:?}", answer.body);
}

async fn furnish(client: &Client) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    let made = client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    assert_eq!(made.code, 201, "{made:?}");
    client.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await;
    let web = json!({"metadata": {"name": "web"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}}});
    client.post(DEPLOYMENTS, &web).await;
    scale(client, 1).await;
    thing(client, "one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informers_are_told_of_all_that_happens_and_of_what_happened_while_they_were_away() {
    let Some(program) = variable("KSAIL_TEST_INFORMERS", "`testbed/clients.sh env` sets it") else { return };
    let folder = tempfile::tempdir().unwrap();
    let cluster = folder.path().join("cluster");
    let served = Served::open(&cluster).await;
    let address = served.address;
    furnish(&served.client).await;
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, &served.kubeconfig).unwrap();
    let mut informers = Informers::start(&program, &kubeconfig);
    informers.until(0, "synced", |line| line["event"] == "synced").await;
    for (resource, name) in [("pods", "web-"), ("deployments", "web"), ("things", "one")] {
        informers.event(0, "add", resource, name).await;
    }
    // They are filled by watches, as is the default of client-go: what is there comes first, and a bookmark ends it.
    for (resource, path) in FOLLOWED {
        let requests = informers.requests(path);
        assert!(requests.iter().all(|query| query.contains("watch=true")), "{resource} was listed: {requests:?}");
        assert!(requests[0].contains("sendInitialEvents=true"), "{resource}: {requests:?}");
    }

    let since = informers.told.len();
    scale(&served.client, 2).await;
    informers.event(since, "update", "deployments", "web").await;
    informers.event(since, "add", "pods", "web-").await;
    let patch = json!({"spec": {"size": 2}});
    let path = format!("{THINGS}/one");
    let patched = served.client.ask("PATCH", &path, "application/merge-patch+json", Some(&patch)).await;
    assert_eq!(patched.body["spec"], json!({"size": 2}), "{patched:?}");
    informers.event(since, "update", "things", "one").await;
    thing(&served.client, "two").await;
    informers.event(since, "add", "things", "two").await;
    served.client.delete(&format!("{THINGS}/two")).await;
    informers.event(since, "delete", "things", "two").await;
    informers.are_as(&served.client).await;

    // Much happens while the server is not where they know it.
    served.stop().await;
    let elsewhere = Served::open(&cluster).await;
    let since = informers.told.len();
    scale(&elsewhere.client, 1).await;
    elsewhere.client.until(PODS, |answer| answer.body["items"].as_array().is_some_and(|pods| pods.len() == 1)).await;
    thing(&elsewhere.client, "three").await;
    elsewhere.client.delete(&format!("{THINGS}/one")).await;
    elsewhere.stop().await;
    let served = Served::at(&cluster, Settings::default(), address).await;
    informers.event(since, "delete", "pods", "web-").await;
    informers.event(since, "update", "deployments", "web").await;
    informers.event(since, "add", "things", "three").await;
    informers.event(since, "delete", "things", "one").await;
    informers.are_as(&served.client).await;

    // A restart alone is no event of any object.
    let since = informers.told.len();
    served.stop().await;
    let served = Served::at(&cluster, Settings::default(), address).await;
    thing(&served.client, "four").await;
    informers.event(since, "add", "things", "four").await;
    informers.are_as(&served.client).await;
    let lost: Vec<&Value> = informers.told[since..].iter().filter(|line| line["event"] == "delete").collect();
    assert!(lost.is_empty(), "{lost:?}");
    drop(informers);
    served.stop().await;
}
