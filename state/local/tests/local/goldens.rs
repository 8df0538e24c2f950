//! States of every format, kept for ever: each must be read, with nothing in it lost.

use std::path::{Path, PathBuf};

use ksail_model::{Record, SecretPart, Status, Value};
use ksail_records::{Backend as _, Call, Entry, OperationResult, SealedOperation, Snapshot};
use ksail_state_local::LocalBackend;
use ksail_state_suite::samples;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/states/v1")
}

/// Everything that was written must still be there when it is written again; more may be.
fn must_keep(written: &Json, kept: &Json, at: &str) {
    match (written, kept) {
        (Json::Object(written), Json::Object(kept)) => {
            for (key, value) in written {
                let at = format!("{at}/{key}");
                must_keep(value, kept.get(key).unwrap_or_else(|| panic!("{at} is lost")), &at);
            }
        }
        (Json::Array(written), Json::Array(kept)) if written.len() == kept.len() => {
            for (index, (written, kept)) in written.iter().zip(kept).enumerate() {
                must_keep(written, kept, &format!("{at}/{index}"));
            }
        }
        _ => assert_eq!(written, kept, "{at}"),
    }
}

fn check<T: DeserializeOwned + serde::Serialize>(text: &str, what: &str) {
    let written: Json = serde_json::from_str(text).unwrap();
    let read: T = serde_json::from_str(text).unwrap();
    must_keep(&written, &serde_json::to_value(&read).unwrap(), what);
}

#[test]
fn nothing_in_the_files_of_format_1_is_lost() {
    let read = |name: &str| std::fs::read_to_string(folder().join(name)).unwrap();
    check::<Snapshot>(&read("snapshot.json"), "snapshot");
    check::<SealedOperation>(&read("history/0000000001-op-1.json"), "op-1");
    check::<SealedOperation>(&read("history/0000000002-op-2.json"), "op-2");
    let journal = read("journal");
    for (number, line) in journal.lines().enumerate().skip(1) {
        let (_, json) = line.split_once(' ').unwrap();
        let entry = serde_json::from_str::<Json>(json).unwrap()["entry"].to_string();
        check::<Entry>(&entry, &format!("line {}", number + 1));
    }
}

fn key(name: &str) -> ksail_model::RecordKey {
    samples::key(name)
}

#[tokio::test]
async fn the_state_of_format_1_is_read() {
    let stored = LocalBackend::new(folder()).read().await.unwrap();
    assert_eq!(stored.warnings, Vec::<String>::new());
    let snapshot = stored.state.unwrap().into_snapshot();
    assert_eq!((snapshot.lineage.as_str(), snapshot.stack.as_str()), (samples::LINEAGE, "dev"));
    assert_eq!(snapshot.environment.as_deref(), Some("prod"));
    assert_eq!((snapshot.serial, snapshot.sequence), (3, 29));
    let names: Vec<String> = snapshot.records.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["moved-on", "new", "plain", "rich", "starting"].map(|name| format!("dev/volume/{name}")));
    assert_eq!(snapshot.operation.unwrap().id, "op-3");
    assert_eq!(snapshot.last.unwrap().id, "op-2");
    assert_eq!(snapshot.outputs["endpoint"], Value::from("http://127.0.0.1:5000"));
    assert_eq!(snapshot.providers["docker"].settings["context"], "default");

    let open = &snapshot.open[&key("plain")];
    assert_eq!((open.intent.call, open.operation.as_str()), (Call::Delete, "op-3"));
    assert_eq!(open.previous.as_ref().unwrap().status, Status::Present);
    assert_eq!(snapshot.records[&key("plain")].status, Status::Deleting);
    assert_eq!(snapshot.records[&key("starting")].status, Status::NotReady { why: "starting".to_owned() });
    check_rich(&snapshot.records[&key("rich")]);
}

fn check_rich(record: &Record) {
    assert_eq!(record.status, Status::Stuck { why: "look".to_owned() });
    assert_eq!((record.host_generation, record.adopted), (Some(2), true));
    let declaration = &record.declaration;
    assert!(declaration.lifecycle.is_protected() && declaration.lifecycle.create_before_destroy);
    assert_eq!(declaration.edges.len(), 2);
    assert_eq!(declaration.origins.iter().count(), 7);
    assert_eq!(declaration.spec.field("$odd"), Some(&Value::from("key")));
    assert_eq!(declaration.spec.field("unknown"), Some(&Value::Unknown));
    let Some(Value::Secret(secret)) = declaration.spec.field("secret") else { panic!("the secret is lost") };
    assert_eq!(secret.parts[1], SecretPart::Env("TOKEN".to_owned()));
}

#[tokio::test]
async fn the_history_of_format_1_is_read() {
    let history = LocalBackend::new(folder()).history(10).await.unwrap();
    let results: Vec<_> = history.iter().map(|operation| (operation.serial, operation.result)).collect();
    assert_eq!(results, [(2, OperationResult::Partial), (1, OperationResult::Complete)]);
    assert_eq!(history[1].changes.len(), 5);
}
