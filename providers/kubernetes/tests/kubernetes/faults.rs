//! A proxy between the provider and the real API server: it resets, delays, answers 429 and 500, and loses replies.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http_body_util::BodyExt as _;
use ksail_model::{Observation, Value};
use ksail_provider::{CallError, CallErrorKind, CreateRequest, DeleteRequest, Deleted, Provider as _, Target};
use ksail_provider_kubernetes::KubernetesProvider;
use serde_json::{Value as Json, json};

use crate::cluster::{Cluster, connection};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The connection ends before anything is passed on.
    Reset,
    /// It is passed on, and its reply is lost.
    LostReply,
    /// Too many requests; wait a second.
    TooMany,
    /// A server that is down for a moment.
    Down,
    /// A fault of the server after which nobody knows.
    Internal,
    /// It takes a while.
    Delay,
}

const ALL: [Fault; 6] = [Fault::Reset, Fault::LostReply, Fault::TooMany, Fault::Down, Fault::Internal, Fault::Delay];

struct Proxy {
    client: kube::Client,
    /// What happens to the next requests that change something.
    next: Mutex<Vec<Fault>>,
    /// One in so many requests meets a fault, whatever it is.
    every: AtomicUsize,
    count: AtomicUsize,
}

fn answer(status: u16, message: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status});
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    if status == 429 {
        response = response.header("retry-after", "1");
    }
    response.body(Body::from(body.to_string())).unwrap()
}

async fn pass(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    let changes = request.method() != "GET";
    let number = proxy.count.fetch_add(1, Ordering::Relaxed);
    let every = proxy.every.load(Ordering::Relaxed);
    let planned = if changes { proxy.next.lock().unwrap().pop() } else { None };
    let fault = planned.or_else(|| (every > 0 && number % every == 0).then(|| ALL[number / every % ALL.len()]));
    match fault {
        // A handler that panics ends its connection.
        Some(Fault::Reset) => panic!("a reset"),
        Some(Fault::TooMany) => return answer(429, "too many requests"),
        Some(Fault::Down) => return answer(503, "shutting down"),
        Some(Fault::Internal) => return answer(500, "etcdserver: request timed out"),
        Some(Fault::Delay) => tokio::time::sleep(Duration::from_millis(200)).await,
        Some(Fault::LostReply) | None => {}
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut onward = http::Request::builder().method(parts.method).uri(parts.uri.path_and_query().unwrap().as_str());
    for name in ["content-type", "accept"] {
        if let Some(value) = parts.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    let reply = proxy.client.send(onward.body(kube::client::Body::from(body.to_vec())).unwrap()).await.unwrap();
    assert!(fault != Some(Fault::LostReply), "a lost reply");
    let status = reply.status();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    Response::builder().status(status).header("content-type", "application/json").body(Body::from(body)).unwrap()
}

/// A provider that reaches the cluster through the proxy.
async fn through_proxy(cluster: &Cluster) -> (Arc<Proxy>, KubernetesProvider, PathBuf) {
    let proxy = Arc::new(Proxy {
        client: cluster.client.clone(),
        next: Mutex::default(),
        every: AtomicUsize::new(0),
        count: AtomicUsize::new(0),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(pass).with_state(Arc::clone(&proxy));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let path = std::env::temp_dir().join(format!("{}-{port}.kubeconfig", cluster.lineage));
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    let provider = KubernetesProvider::new(connection(&path));
    (proxy, provider, path)
}

fn config_map(cluster: &Cluster, name: &str) -> Target {
    let name = cluster.name(name);
    cluster.target(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"a": "1"}}))
}

fn create(cluster: &Cluster, target: &Target) -> CreateRequest {
    CreateRequest { target: target.clone(), mark: cluster.mark(target), secrets: BTreeMap::new() }
}

fn delete(cluster: &Cluster, target: &Target) -> DeleteRequest {
    DeleteRequest { target: target.clone(), mark: cluster.mark(target), adopted: false, attributes: Value::empty_map() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_means_what_it_is() {
    let Some(cluster) = Cluster::real().await else { return };
    let (proxy, provider, path) = through_proxy(&cluster).await;
    let target = config_map(&cluster, "fault");
    let mut told: Vec<(Fault, CallError)> = Vec::new();
    for fault in [Fault::Reset, Fault::TooMany, Fault::Down, Fault::Internal] {
        proxy.next.lock().unwrap().push(fault);
        told.push((fault, provider.create(&cluster.context(), &create(&cluster, &target)).await.unwrap_err()));
        assert_eq!(cluster.observe(&target).await, Observation::Absent, "{fault:?} made nothing");
    }
    let kinds: Vec<_> = told.iter().map(|(fault, error)| (*fault, error.kind, error.retry_after_ms)).collect();
    assert_eq!(
        kinds,
        [
            (Fault::Reset, CallErrorKind::Indeterminate, None),
            (Fault::TooMany, CallErrorKind::Transient, Some(1000)),
            (Fault::Down, CallErrorKind::Transient, None),
            (Fault::Internal, CallErrorKind::Indeterminate, None),
        ],
        "{told:?}"
    );
    proxy.next.lock().unwrap().push(Fault::LostReply);
    let lost = provider.create(&cluster.context(), &create(&cluster, &target)).await.unwrap_err();
    assert_eq!(lost.kind, CallErrorKind::Indeterminate);
    assert!(matches!(cluster.observe(&target).await, Observation::Present(_)), "it was made all the same");
    let again = provider.create(&cluster.context(), &create(&cluster, &target)).await.unwrap();
    assert_eq!(again.seen.fields, cluster.seen(&target).await.fields);
    proxy.next.lock().unwrap().push(Fault::LostReply);
    let lost = provider.delete(&cluster.context(), &delete(&cluster, &target)).await.unwrap_err();
    assert_eq!(lost.kind, CallErrorKind::Indeterminate);
    let gone = provider.delete(&cluster.context(), &delete(&cluster, &target)).await.unwrap();
    assert_eq!(gone, Deleted::WasAbsent);
    let _ = std::fs::remove_file(path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_calls_converge_through_all_faults() {
    let Some(cluster) = Cluster::real().await else { return };
    let (proxy, provider, path) = through_proxy(&cluster).await;
    proxy.every.store(3, Ordering::Relaxed);
    let targets: Vec<Target> = (0..30).map(|index| config_map(&cluster, &format!("f{index}"))).collect();
    for target in &targets {
        let mut made = Err(CallError::transient("not tried"));
        for _ in 0..12 {
            made = provider.create(&cluster.context(), &create(&cluster, target)).await;
            match &made {
                Ok(_) => break,
                Err(error) => assert!(
                    matches!(
                        error.kind,
                        CallErrorKind::Indeterminate | CallErrorKind::Transient | CallErrorKind::Unreachable
                    ),
                    "{error:?}"
                ),
            }
        }
        made.unwrap();
    }
    let mut reply = provider.observe(&cluster.context(), &targets).await;
    for _ in 0..12 {
        if reply.is_ok() {
            break;
        }
        reply = provider.observe(&cluster.context(), &targets).await;
    }
    let observations = reply.unwrap().observations;
    assert!(observations.iter().all(|seen| matches!(seen, Observation::Present(seen) if seen.mark.is_some())));
    for target in &targets {
        let mut gone = Err(CallError::transient("not tried"));
        for _ in 0..12 {
            gone = provider.delete(&cluster.context(), &delete(&cluster, target)).await;
            if gone.is_ok() {
                break;
            }
        }
        gone.unwrap();
    }
    let list = cluster
        .get(&format!("/api/v1/namespaces/default/configmaps?labelSelector=ksail.io/lineage={}", cluster.lineage))
        .await;
    assert_eq!(list.unwrap_or(Json::Null)["items"].as_array().map(Vec::len), Some(0));
    let _ = std::fs::remove_file(path);
}
