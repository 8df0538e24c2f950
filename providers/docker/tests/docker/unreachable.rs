//! Engines that are not there, do not answer, or are too old. No real engine is needed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use ksail_provider::{CallContext, CallErrorKind, Provider as _};
use ksail_provider_docker::{DockerProvider, Endpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

fn context(timeout: Duration) -> CallContext {
    CallContext { lineage: "l".to_owned(), operation: None, timeout, cancel: CancellationToken::new() }
}

#[tokio::test]
async fn all_places_that_were_tried_are_named() {
    let home = tempfile::tempdir().unwrap();
    let runtime = home.path().join("run").display().to_string();
    let environment = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| runtime.clone());
    let endpoint = Endpoint::resolve(&BTreeMap::new(), &environment, Some(home.path())).unwrap();
    // A Docker that runs on this machine would answer.
    if Path::new("/var/run/docker.sock").exists() || Path::new("/run/podman/podman.sock").exists() {
        return;
    }
    let error = DockerProvider::new(endpoint).observe(&context(Duration::from_secs(5)), &[]).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unreachable);
    for place in ["/var/run/docker.sock", ".colima/default/docker.sock", ".orbstack", "/podman/podman.sock"] {
        assert!(error.message.contains(place), "{error:?}");
    }
    assert!(error.hint.is_some_and(|hint| hint.contains("DOCKER_HOST")));
}

#[tokio::test]
async fn a_silent_engine_is_left_at_the_deadline_and_on_cancellation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let provider = DockerProvider::new(Endpoint::socket(&path));
    let started = Instant::now();
    let error = provider.observe(&context(Duration::from_millis(300)), &[]).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Unreachable);
    assert!(error.message.contains(&path.display().to_string()), "{error:?}");
    let context = context(Duration::from_secs(600));
    let cancel = context.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    });
    let error = provider.list_owned(&context).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(300));
}

#[tokio::test]
async fn an_engine_that_is_too_old_is_refused_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0u8; 1024];
        let _ = stream.read(&mut request).await;
        let body = r#"{"Version":"19.03","ApiVersion":"1.40","MinAPIVersion":"1.12"}"#;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
        let reply = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(reply.as_bytes()).await.unwrap();
    });
    let provider = DockerProvider::new(Endpoint::socket(&path));
    let error = provider.list_owned(&context(Duration::from_secs(10))).await.unwrap_err();
    server.await.unwrap();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("1.40") && error.message.contains("1.41"), "{error:?}");
}
