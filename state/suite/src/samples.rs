//! Small, legal states and entries.

use ksail_model::{
    Address, Declaration, Digest, Identity, Lifecycle, Origins, Ownership, Readiness, RecordKey, Scope, Value,
};
use ksail_records::{
    Call, Entry, Intent, LockOwner, OperationHeader, OperationKind, OperationResult, Outcome, OutcomeKind, Snapshot,
};

/// The lineage of [`snapshot`].
pub const LINEAGE: &str = "0190c0de-0000-7000-8000-000000000001";

/// A state without anything in it.
pub fn snapshot() -> Snapshot {
    Snapshot::empty(LINEAGE, "dev", None)
}

/// Somebody who wants the lock.
pub fn owner(id: &str) -> LockOwner {
    LockOwner {
        id: id.to_owned(),
        who: "test@host".to_owned(),
        doing: "apply".to_owned(),
        pid: std::process::id(),
        since_ms: 1,
    }
}

/// The key of the resource `dev/volume/<name>`.
pub fn key(name: &str) -> RecordKey {
    RecordKey::current(Address::new("dev", "volume", &[name]))
}

/// A declaration of it.
pub fn declaration(name: &str) -> Declaration {
    Declaration {
        address: key(name).address,
        kind_version: 1,
        provider: "docker".to_owned(),
        identity: Identity::named(format!("ksail-dev-{name}")),
        spec: Value::map([("driver", "local"), ("label", name)]),
        host: None,
        edges: Vec::new(),
        ownership: Ownership::Owned,
        lifecycle: Lifecycle::default(),
        choices: Vec::new(),
        origins: Origins::default(),
    }
}

/// The beginning of an operation on a state with this serial.
pub fn begin(operation: &str, parent_serial: u64) -> Entry {
    Entry::Begin(OperationHeader {
        id: operation.to_owned(),
        kind: OperationKind::Apply,
        parent_serial,
        plan_digest: Digest::of_bytes(operation.as_bytes()),
        who: "test@host".to_owned(),
        began_ms: 1_000,
        begins: false,
        commit: None,
    })
}

/// The end of an operation.
pub fn seal(operation: &str) -> Entry {
    Entry::Seal { operation: operation.to_owned(), result: OperationResult::Complete, at_ms: 2_000 }
}

/// The intent to create a resource.
pub fn create(name: &str) -> Entry {
    Entry::Intent(Box::new(Intent {
        key: key(name),
        call: Call::Create,
        declaration: Some(declaration(name).into()),
        generation: 1,
        scope: Some(Scope("engine-1".into())),
        deadline_ms: 60_000,
    }))
}

/// The outcome of that.
pub fn created(name: &str) -> Entry {
    Entry::Outcome(Box::new(Outcome {
        key: key(name),
        kind: OutcomeKind::Applied {
            id: Some(format!("id-of-{name}")),
            fields: Value::map([("driver", "local"), ("label", name)]),
            attributes: Value::map([("mountpoint", format!("/volumes/{name}"))]),
            scope: Scope("engine-1".into()),
            readiness: Readiness::Ready,
        },
        took_ms: Some(12),
    }))
}

/// A whole operation that creates resources.
pub fn operation(id: &str, parent_serial: u64, names: &[&str]) -> Vec<Entry> {
    let mut entries = vec![begin(id, parent_serial)];
    for name in names {
        entries.extend([create(name), created(name)]);
    }
    entries.push(seal(id));
    entries
}
