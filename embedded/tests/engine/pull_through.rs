//! Pull-through: against a plain registry, and against one that asks for a token and redirects.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response};
use base64::Engine as _;

use crate::harness::{Client, Engine, config, digest, manifest};

#[tokio::test(flavor = "multi_thread")]
async fn content_is_kept_for_when_the_upstream_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let upstream_port = engine.registry("upstream", &[]).await;
    let upstream = Client::new(upstream_port);
    let layer = vec![7_u8; 3 * 1024 * 1024];
    let (first, layer_digest) = upstream.push_image("lib/x", "v1", &layer).await;
    let url = format!("REGISTRY_PROXY_REMOTEURL=http://127.0.0.1:{upstream_port}");
    let mirror = Client::new(engine.registry("mirror", &[&url]).await);

    assert_eq!(mirror.get("/v2/lib/x/manifests/v1").await.headers()["Docker-Content-Digest"], first.as_str());
    let blob = format!("/v2/lib/x/blobs/{layer_digest}");
    let readers = (0..8).map(|_| async { mirror.get(&blob).await.bytes().await.unwrap() });
    for bytes in futures::future::join_all(readers).await {
        assert_eq!(digest(&bytes), layer_digest);
    }
    let (second, _) = upstream.push_image("lib/x", "v1", b"newer").await;
    assert_eq!(mirror.get("/v2/lib/x/manifests/v1").await.headers()["Docker-Content-Digest"], second.as_str());
    assert_eq!(mirror.get("/v2/lib/x/manifests/none").await.status(), 404);
    let push = mirror.http.post(mirror.url("/v2/lib/x/blobs/uploads/")).send().await.unwrap();
    assert_eq!(push.status(), 405);

    engine.docker.stop_container("upstream", None).await.unwrap();
    assert_eq!(mirror.get("/v2/lib/x/manifests/v1").await.headers()["Docker-Content-Digest"], second.as_str());
    assert_eq!(mirror.get(&format!("/v2/lib/x/manifests/{first}")).await.status(), 200);
    assert_eq!(mirror.get(&blob).await.bytes().await.unwrap().len(), layer.len());
    assert_eq!(mirror.get("/v2/lib/x/tags/list").await.status(), 200);
    assert_eq!(mirror.get("/v2/lib/y/manifests/v1").await.status(), 502, "what was never seen is not invented");
    engine.stop().await;
}

/// A registry that takes only a token of its token service, and redirects blobs to another origin.
struct Fake {
    manifest: Vec<u8>,
    layer: Vec<u8>,
    config: Vec<u8>,
    blob_calls: AtomicU32,
    token_calls: AtomicU32,
    /// The headers of requests at the other origin.
    elsewhere: Mutex<Vec<HeaderMap>>,
    truncate: bool,
}

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn reply(status: u16, headers: &[(&str, String)], body: impl Into<Body>) -> Response<Body> {
    let mut builder = Response::builder().status(status);
    for (key, value) in headers {
        builder = builder.header(*key, value);
    }
    builder.body(body.into()).unwrap()
}

async fn fake(truncate: bool) -> (Arc<Fake>, SocketAddr) {
    let (layer, config) = (vec![3_u8; 400_000], config());
    let manifest = manifest((&digest(&config), config.len()), (&digest(&layer), layer.len()), None);
    let (blob_calls, token_calls) = (AtomicU32::new(0), AtomicU32::new(0));
    let fake =
        Arc::new(Fake { manifest, layer, config, blob_calls, token_calls, elsewhere: Mutex::default(), truncate });
    let storage = Arc::clone(&fake);
    let elsewhere = serve(Router::new().fallback(move |request: Request| {
        let fake = Arc::clone(&storage);
        async move {
            fake.elsewhere.lock().unwrap().push(request.headers().clone());
            let bytes = if request.uri().path().ends_with(&digest(&fake.layer)) { &fake.layer } else { &fake.config };
            let bytes = if fake.truncate { vec![0; bytes.len()] } else { bytes.clone() };
            reply(200, &[], bytes)
        }
    }))
    .await;
    let main = Arc::clone(&fake);
    let router = Router::new().fallback(move |request: Request| {
        let fake = Arc::clone(&main);
        async move { main_reply(&fake, &request.into_parts().0, elsewhere) }
    });
    let address = serve(router).await;
    (fake, address)
}

fn main_reply(fake: &Fake, request: &Parts, elsewhere: SocketAddr) -> Response<Body> {
    let path = request.uri.path();
    let authorization = request.headers.get("Authorization").and_then(|value| value.to_str().ok());
    let host = request.headers["Host"].to_str().unwrap();
    if path == "/token" {
        fake.token_calls.fetch_add(1, Ordering::SeqCst);
        let basic = base64::engine::general_purpose::STANDARD.encode("user:pass");
        if authorization != Some(&format!("Basic {basic}")) {
            return reply(401, &[], "no");
        }
        assert_eq!(request.uri.query(), Some("service=fake&scope=repository%3Ap%2Fq%3Apull"));
        return reply(200, &[], r#"{"token": "t0k", "expires_in": 300}"#);
    }
    if authorization != Some("Bearer t0k") {
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="fake",scope="repository:p/q:pull""#);
        return reply(401, &[("WWW-Authenticate", challenge)], "");
    }
    if path == "/v2/p/q/manifests/v1" || path == format!("/v2/p/q/manifests/{}", digest(&fake.manifest)) {
        let headers = [("Docker-Content-Digest", digest(&fake.manifest))];
        return reply(200, &headers, fake.manifest.clone());
    }
    if let Some(digest) = path.strip_prefix("/v2/p/q/blobs/") {
        fake.blob_calls.fetch_add(1, Ordering::SeqCst);
        return reply(307, &[("Location", format!("http://{elsewhere}/data/{digest}"))], "");
    }
    reply(404, &[], "")
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_and_credentials_stay_with_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let (fake, address) = fake(false).await;
    let url = format!("REGISTRY_PROXY_REMOTEURL=http://{address}");
    let env = [&url, "REGISTRY_PROXY_USERNAME=user", "REGISTRY_PROXY_PASSWORD=pass"];
    let mirror = Client::new(engine.registry("mirror", &env).await);
    assert_eq!(mirror.get("/v2/p/q/manifests/v1").await.bytes().await.unwrap(), fake.manifest);
    let blob = format!("/v2/p/q/blobs/{}", digest(&fake.layer));
    let readers = (0..6).map(|_| async { mirror.get(&blob).await.bytes().await.unwrap() });
    for bytes in futures::future::join_all(readers).await {
        assert_eq!(bytes, fake.layer);
    }
    assert_eq!(fake.blob_calls.load(Ordering::SeqCst), 1, "concurrent readers share one fetch");
    assert_eq!(fake.token_calls.load(Ordering::SeqCst), 1, "a token is used again");
    let elsewhere = fake.elsewhere.lock().unwrap().clone();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|headers| !headers.contains_key("Authorization")));

    let env = [&url, "REGISTRY_PROXY_USERNAME=user", "REGISTRY_PROXY_PASSWORD=wrong-password"];
    let denied = Client::new(engine.registry("denied", &env).await);
    let reply = denied.get("/v2/p/q/manifests/v1").await;
    assert_eq!(reply.status(), 403);
    let text = reply.text().await.unwrap();
    assert!(text.contains("credentials") && !text.contains("wrong-password"), "{text}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_of_its_digest_is_never_complete() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let (fake, address) = fake(true).await;
    let url = format!("REGISTRY_PROXY_REMOTEURL=http://{address}");
    let env = [&url, "REGISTRY_PROXY_USERNAME=user", "REGISTRY_PROXY_PASSWORD=pass"];
    let mirror = Client::new(engine.registry("mirror", &env).await);
    let blob = format!("/v2/p/q/blobs/{}", digest(&fake.layer));
    for _ in 0..2 {
        let request = mirror.http.get(mirror.url(&blob)).send().await.unwrap();
        let failed = !request.status().is_success();
        assert!(failed || request.bytes().await.is_err());
    }
    engine.stop().await;
}
