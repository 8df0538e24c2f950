//! A server in front of the API server that answers some requests itself and passes all others on.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http_body_util::BodyExt as _;
use ksail_provider_kubernetes::KubernetesProvider;

use crate::cluster::{Cluster, connection};

/// What is answered to a request in the API server's place.
pub(crate) type Answer = Box<dyn Fn(&Parts) -> Option<(u16, String)> + Send + Sync>;

struct Front {
    client: kube::Client,
    answer: Answer,
}

async fn pass(State(front): State<Arc<Front>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Some((status, text)) = (front.answer)(&parts) {
        return Response::builder().status(status).body(Body::from(text)).unwrap();
    }
    let body = body.collect().await.unwrap().to_bytes();
    let mut onward = http::Request::builder().method(parts.method).uri(parts.uri.path_and_query().unwrap().as_str());
    for name in ["content-type", "accept"] {
        if let Some(value) = parts.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    let reply = front.client.send(onward.body(kube::client::Body::from(body.to_vec())).unwrap()).await.unwrap();
    let status = reply.status();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    Response::builder().status(status).header("content-type", "application/json").body(Body::from(body)).unwrap()
}

/// A provider that reaches the cluster through such a server, and its kubeconfig.
pub(crate) async fn behind(cluster: &Cluster, answer: Answer) -> (KubernetesProvider, PathBuf) {
    let front = Arc::new(Front { client: cluster.client.clone(), answer });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(pass).with_state(front);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let path = std::env::temp_dir().join(format!("{}-{port}.kubeconfig", cluster.lineage));
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    (KubernetesProvider::new(connection(&path)), path)
}
