//! The suite of all backends on a real PostgreSQL.

use std::sync::Arc;

use bytes::Bytes;
use ksail_records::{Backend, StateError};
use ksail_state_postgres::{PostgresObjects, PostgresPlace, TABLE_DDL};
use ksail_state_remote::{Put, RemoteBackend, RemoteOptions, Retries, Store, StoreErrorKind, Version};
use tokio_postgres::NoTls;

/// The real server's address; where there is none, why the test did not run.
fn url() -> Option<String> {
    ksail_test_real::variable("KSAIL_TEST_POSTGRES_URL", "testbed/state.sh up; testbed/state.sh env")
}

/// A name that no other run of the tests uses.
fn unique(number: usize) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("t{:x}_{}_{number}", now.as_nanos(), std::process::id())
}

fn place(url: &str, number: usize) -> PostgresPlace {
    PostgresPlace::parse(&format!("{url}?prefix={}", unique(number)), &|_| None).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_on_a_real_server() {
    let Some(url) = url() else { return };
    let mut number = 0;
    ksail_state_suite::run(|| {
        number += 1;
        let place = place(&url, number);
        let folder = tempfile::tempdir().unwrap();
        Box::new(move || {
            let store = PostgresObjects::new(&place, "dev");
            let options = RemoteOptions::new(folder.path().to_owned());
            Box::new(RemoteBackend::new(Arc::new(store), options)) as Box<dyn Backend>
        })
    })
    .await;
}

#[tokio::test]
async fn conditions_hold() {
    let Some(url) = url() else { return };
    let place = place(&url, 0);
    let store = PostgresObjects::new(&place, "dev");
    let Put::Stored(first) = store.put_if_absent("log/1", Bytes::from_static(b"a")).await.unwrap() else { panic!() };
    assert_eq!(store.put_if_absent("log/1", Bytes::from_static(b"b")).await.unwrap(), Put::Conflict);
    let wrong = Version("0".to_owned());
    assert_eq!(store.put_if_version("log/1", Bytes::from_static(b"b"), &wrong).await.unwrap(), Put::Conflict);
    let put = store.put_if_version("log/1", Bytes::from_static(b"b"), &first).await.unwrap();
    let Put::Stored(second) = put else { panic!("the version is the right one") };
    assert_ne!(first, second);
    assert_eq!(store.get("log/1").await.unwrap(), Some((Bytes::from_static(b"b"), second.clone())));
    // A version does not come back, not even after the object was deleted.
    store.delete(&["log/1".to_owned(), "log/none".to_owned()]).await.unwrap();
    let Put::Stored(third) = store.put_if_absent("log/1", Bytes::from_static(b"b")).await.unwrap() else { panic!() };
    assert!(third != first && third != second);
    for key in ["log/10", "log/2", "history/1"] {
        store.put_if_absent(key, Bytes::from_static(b"xyz")).await.unwrap();
    }
    let listed = store.list("log/", None).await.unwrap();
    let keys: Vec<&str> = listed.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["log/1", "log/10", "log/2"]);
    assert_eq!((listed[1].size, &listed[0].version), (3, &third));
    assert_eq!(store.list("log/", Some("log/10")).await.unwrap().len(), 1);
    // Another stack's objects are its own.
    assert!(PostgresObjects::new(&place, "prod").list("", None).await.unwrap().is_empty());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(u128::from(store.now_ms().unwrap()).abs_diff(now) < 3_000);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again() {
    let Some(url) = url() else { return };
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    // A database of its own, so that no other test is cut.
    let name = unique(0);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let base = url.rsplit_once('/').unwrap().0;
    let store = Arc::new(PostgresObjects::new(&place(&format!("{base}/{name}"), 0), "dev"));
    store.put_if_absent("lease", Bytes::from_static(b"x")).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    assert_eq!(client.execute(cut, &[&name]).await.unwrap(), 1, "the store's connection");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let folder = tempfile::tempdir().unwrap();
    let options = RemoteOptions { retries: Retries::default(), ..RemoteOptions::new(folder.path().to_owned()) };
    assert!(RemoteBackend::new(store, options).read().await.unwrap().state.is_none());
}

#[tokio::test]
async fn whoever_may_not_make_tables_is_told_what_to_run() {
    let Some(url) = url() else { return };
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let name = unique(0);
    let database = format!("CREATE DATABASE {name}");
    client.batch_execute(&database).await.unwrap();
    client.batch_execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'little'")).await.unwrap();
    let base = url.rsplit_once('/').unwrap().0;
    let host = base.rsplit_once('@').unwrap().1;
    let place = PostgresPlace::parse(&format!("postgres://{name}:little@{host}/{name}"), &|_| None).unwrap();
    let error = PostgresObjects::new(&place, "dev").get("lease").await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unfit, "{error}");
    assert!(error.hint.unwrap().contains("CREATE TABLE IF NOT EXISTS ksail_state"));

    // Somebody else makes it, with the grants of the guide.
    let (owner, connection) = tokio_postgres::connect(&format!("{base}/{name}"), NoTls).await.unwrap();
    tokio::spawn(connection);
    owner.batch_execute(TABLE_DDL).await.unwrap();
    let error = PostgresObjects::new(&place, "dev").get("lease").await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    let grants = format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ksail_state TO {name}; \
         GRANT USAGE ON SEQUENCE ksail_state_version_seq TO {name};"
    );
    owner.batch_execute(&grants).await.unwrap();
    let store = PostgresObjects::new(&place, "dev");
    let Put::Stored(version) = store.put_if_absent("lease", Bytes::from_static(b"x")).await.unwrap() else { panic!() };
    assert!(matches!(store.put_if_version("lease", Bytes::new(), &version).await.unwrap(), Put::Stored(_)));
    store.delete(&["lease".to_owned()]).await.unwrap();

    let wrong = PostgresPlace::parse(&format!("postgres://{name}:wrong@{host}/{name}"), &|_| None).unwrap();
    let error = PostgresObjects::new(&wrong, "dev").get("lease").await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    let folder = tempfile::tempdir().unwrap();
    let backend =
        RemoteBackend::new(Arc::new(PostgresObjects::new(&wrong, "dev")), RemoteOptions::new(folder.path().to_owned()));
    assert!(matches!(backend.read().await.err().unwrap(), StateError::Denied { .. }));
}
