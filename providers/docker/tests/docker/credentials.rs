//! Credentials of `config.json` on their way to a registry: a helper program, the embedded engine, a registry that asks for
//! them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Response};
use base64::Engine as _;
use ksail_kinds::ImageSource;
use ksail_model::Digest;
use ksail_provider::{CallErrorKind, Provider as _};
use ksail_provider_docker::{DockerProvider, Endpoint};

use crate::engine::Engine;
use crate::images::image;
use crate::push::{Pushed, pushed};

const USER: &str = "somebody";
const PASSWORD: &str = "hush-hush-hush";
/// Names the folder of `config.json` to the test that is run with a helper on its PATH.
const FOLDER: &str = "KSAIL_TEST_CREDENTIALS";

/// A registry that gives `app` to the one user, and nothing to anybody else.
async fn registry() -> String {
    let image = Arc::new(pushed());
    let router = Router::new().fallback(move |request: Request| {
        let image = Arc::clone(&image);
        async move { reply(&image, request.uri().path(), request.headers()) }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("localhost:{port}")
}

fn reply(image: &Pushed, path: &str, headers: &HeaderMap) -> Response<Body> {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let known =
        headers.get("Authorization").is_some_and(|value| value.as_bytes() == format!("Basic {basic}").as_bytes());
    let blobs = [&image.config, &image.layer].map(|blob| (format!("/v2/app/blobs/{}", Digest::of_bytes(blob)), blob));
    let (status, body) = match path {
        _ if !known || path.starts_with("/v2/denied/") => (401, Vec::new()),
        "/v2/" => (200, Vec::new()),
        _ if path.starts_with("/v2/app/manifests/") => (200, image.manifest.clone()),
        _ => match blobs.iter().find(|(at, _)| at == path) {
            Some((_, blob)) => (200, (*blob).clone()),
            None => (404, Vec::new()),
        },
    };
    let builder = Response::builder().status(status).header("WWW-Authenticate", "Basic realm=\"test\"");
    builder.header("Content-Type", "application/vnd.oci.image.manifest.v1+json").body(body.into()).unwrap()
}

/// Not a test of its own: what the one below runs with a helper on its PATH.
#[tokio::test(flavor = "multi_thread")]
async fn pull_with_a_helper() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let engine = Engine::embedded().await;
    let settings = BTreeMap::from([("host".to_owned(), format!("unix://{}", engine.socket.display()))]);
    let environment = |name: &str| (name == "DOCKER_CONFIG").then(|| folder.clone());
    let provider = DockerProvider::new(Endpoint::resolve(&settings, &environment, None).unwrap());
    let registry = registry().await;
    let target = image("foo", &format!("{registry}/app:1"), ImageSource::Pull {});
    provider.create(&engine.context(), &engine.request(&target, &[])).await.unwrap();
    assert!(engine.see(&target).await.mark.is_some());
    let without =
        engine.try_create(&image("foo", &format!("{registry}/app:2"), ImageSource::Pull {})).await.unwrap_err();
    assert!(without.hint.as_deref().is_some_and(|hint| hint.contains("needs credentials")), "{without:?}");
    let denied = image("foo", &format!("{registry}/denied:1"), ImageSource::Pull {});
    let error = provider.create(&engine.context(), &engine.request(&denied, &[])).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("refuses the credentials")), "{error:?}");
    assert!(!format!("{error:?}").contains(PASSWORD));
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_helper_gives_what_the_registry_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("config.json"), r#"{"credsStore": "ksail-test"}"#, 0o600);
    let helper = format!(
        "#!/bin/sh\n[ \"$1\" = get ] || exit 1\nread -r server\nexec printf '%s' \
         '{{\"ServerURL\":\"x\",\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n"
    );
    write(&folder.path().join("docker-credential-ksail-test"), &helper, 0o700);
    let path = std::env::var("PATH").unwrap_or_default();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "credentials::pull_with_a_helper", "--nocapture"])
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}
