//! The suite of all backends on the in-memory store of `object_store`, and on a real S3 server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ksail_records::{Backend, StateError};
use ksail_state_object::{ObjectStoreObjects, S3Place, open};
use ksail_state_remote::{Put, RemoteBackend, RemoteOptions, Store, StoreErrorKind, Version};
use object_store::memory::InMemory;

/// The bucket that the tests make.
const BUCKET: &str = "ksail-test-state";

/// The real server's endpoint; where there is none, why the test did not run.
fn endpoint() -> Option<String> {
    ksail_test_real::variable("KSAIL_TEST_S3_ENDPOINT", "testbed/state.sh up; testbed/state.sh env")
}

fn env(endpoint: &str) -> impl Fn(&str) -> Option<String> + use<> {
    let endpoint = endpoint.to_owned();
    move |name| match name {
        "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
        "AWS_ACCESS_KEY_ID" => Some("test".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("test-secret".to_owned()),
        _ => None,
    }
}

async fn make_bucket(endpoint: &str) {
    let client = reqwest_client();
    let answer = client.put(format!("{endpoint}/{BUCKET}")).send().await.expect("the server answers");
    assert!(answer.status().is_success() || answer.status().as_u16() == 409, "{}", answer.status());
}

fn reqwest_client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

/// A prefix that no other run of the tests uses.
fn unique(number: usize) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("t{:x}-{}-{number}", now.as_nanos(), std::process::id())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_in_memory() {
    ksail_state_suite::run(|| {
        let memory = Arc::new(InMemory::new());
        let folder = tempfile::tempdir().unwrap();
        Box::new(move || {
            let store = ObjectStoreObjects::new(Arc::clone(&memory) as _, "team/dev", "memory://team/dev".to_owned());
            let options = RemoteOptions::new(folder.path().to_owned());
            Box::new(RemoteBackend::new(Arc::new(store), options)) as Box<dyn Backend>
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_on_a_real_server() {
    let Some(endpoint) = endpoint() else { return };
    make_bucket(&endpoint).await;
    let mut number = 0;
    ksail_state_suite::run(|| {
        number += 1;
        let place = S3Place::parse(&format!("s3://{BUCKET}/{}", unique(number))).unwrap();
        let env = env(&endpoint);
        let folder = tempfile::tempdir().unwrap();
        Box::new(move || {
            let store = open(&place, "dev", &env).unwrap();
            let options = RemoteOptions::new(folder.path().to_owned());
            Box::new(RemoteBackend::new(Arc::new(store), options)) as Box<dyn Backend>
        })
    })
    .await;
}

async fn conditions(store: &dyn Store) {
    let first = Bytes::from_static(b"first");
    let Put::Stored(version) = store.put_if_absent("log/1", first.clone()).await.unwrap() else { panic!("absent") };
    assert_eq!(store.put_if_absent("log/1", Bytes::from_static(b"other")).await.unwrap(), Put::Conflict);
    assert_eq!(store.get("log/1").await.unwrap(), Some((first, version.clone())));
    let wrong = Version("\"0000\"".to_owned());
    assert_eq!(store.put_if_version("log/1", Bytes::from_static(b"no"), &wrong).await.unwrap(), Put::Conflict);
    let second = Bytes::from_static(b"second");
    let Put::Stored(newer) = store.put_if_version("log/1", second.clone(), &version).await.unwrap() else {
        panic!("the version is the right one")
    };
    assert_ne!(newer, version);
    assert_eq!(store.put_if_version("log/1", Bytes::from_static(b"no"), &version).await.unwrap(), Put::Conflict);
    assert_eq!(store.put_if_version("log/none", Bytes::from_static(b"no"), &version).await.unwrap(), Put::Conflict);
    assert_eq!(store.get("log/none").await.unwrap(), None);
    for key in ["log/2", "log/3", "history/1"] {
        store.put_if_absent(key, Bytes::from_static(b"x")).await.unwrap();
    }
    let keys = |listed: Vec<ksail_state_remote::Listed>| -> Vec<String> {
        listed.into_iter().map(|object| object.key).collect()
    };
    assert_eq!(keys(store.list("log/", None).await.unwrap()), ["log/1", "log/2", "log/3"]);
    assert_eq!(keys(store.list("log/", Some("log/1")).await.unwrap()), ["log/2", "log/3"]);
    let listed = store.list("log/", None).await.unwrap();
    assert_eq!(listed[0].version, newer);
    store.delete(&["log/1".to_owned(), "log/none".to_owned(), "log/2".to_owned()]).await.unwrap();
    assert_eq!(keys(store.list("log/", None).await.unwrap()), ["log/3"]);
}

#[tokio::test]
async fn conditions_hold_in_memory() {
    conditions(&ObjectStoreObjects::new(Arc::new(InMemory::new()), "a/b", "memory".to_owned())).await;
}

#[tokio::test]
async fn conditions_hold_on_a_real_server() {
    let Some(endpoint) = endpoint() else { return };
    make_bucket(&endpoint).await;
    let place = S3Place::parse(&format!("s3://{BUCKET}/{}", unique(0))).unwrap();
    let store = open(&place, "dev", &env(&endpoint)).unwrap();
    conditions(&store).await;
    let ahead = store.now_ms().expect("answers have a date");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(u128::from(ahead).abs_diff(now) < 3_000);
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_named_as_that() {
    let Some(endpoint) = endpoint() else { return };
    let place = S3Place::parse("s3://ksail-no-such-bucket/x").unwrap();
    let store = open(&place, "dev", &env(&endpoint)).unwrap();
    for error in [
        store.get("lease").await.unwrap_err(),
        store.list("log/", None).await.unwrap_err(),
        store.put_if_absent("lease", Bytes::from_static(b"x")).await.unwrap_err(),
    ] {
        assert_eq!((error.kind, error.message.as_str()), (StoreErrorKind::Unfit, "there is no such bucket"));
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_an_error_in_bounded_time() {
    let place = S3Place::parse("s3://ksail-nobody/x").unwrap();
    let store = open(&place, "dev", &env("http://127.0.0.1:9")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut options = RemoteOptions::new(folder.path().to_owned());
    options.retries.attempts = 2;
    options.retries.backoff = Duration::from_millis(1);
    let error = RemoteBackend::new(Arc::new(store), options).read().await.err().unwrap();
    assert!(matches!(error, StateError::Unreachable { .. }), "{error}");
}
