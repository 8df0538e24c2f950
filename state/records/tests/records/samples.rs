//! Entries by name, for tables.

use ksail_model::{
    Address, Condition, Declaration, Digest, Edge, ForceOn, Identity, Lifecycle, Origin, Origins, Ownership, Readiness,
    Record, RecordKey, Scope, Strength, Value,
};
use ksail_records::{
    Call, Edit, Entry, Intent, OperationHeader, OperationKind, OperationResult, Outcome, OutcomeKind, Snapshot, State,
};

pub(crate) fn empty() -> State {
    State::new(Snapshot::empty("lineage", "dev", None))
}

pub(crate) fn address(name: &str) -> Address {
    Address::new("dev", "container", &[name])
}

pub(crate) fn key(name: &str) -> RecordKey {
    RecordKey::current(address(name))
}

pub(crate) fn deposed(name: &str, generation: u32) -> RecordKey {
    RecordKey { address: address(name), deposed: Some(generation) }
}

pub(crate) fn declaration(name: &str) -> Declaration {
    Declaration {
        address: address(name),
        kind_version: 1,
        provider: "docker".to_owned(),
        identity: Identity::named(name),
        spec: Value::map([("name", name)]),
        host: None,
        edges: Vec::new(),
        ownership: Ownership::Owned,
        lifecycle: Lifecycle::default(),
        choices: Vec::new(),
        origins: Origins::default(),
    }
}

/// A declaration that lives in one resource and needs another.
pub(crate) fn dependent(name: &str, host: &str, needs: &str) -> Declaration {
    let edge = Edge {
        to: address(needs),
        condition: Condition::Ready,
        strength: Strength::Hard,
        on_replace: ForceOn::Nothing,
        origin: Origin::Derived { why: "a test needs it".into() },
    };
    Declaration { host: Some(address(host)), edges: vec![edge], ..declaration(name) }
}

pub(crate) fn header(id: &str, parent_serial: u64) -> OperationHeader {
    OperationHeader {
        id: id.to_owned(),
        kind: OperationKind::Apply,
        parent_serial,
        plan_digest: Digest::of_bytes(id.as_bytes()),
        who: "test@host".to_owned(),
        began_ms: 1,
        begins: false,
        commit: None,
    }
}

pub(crate) fn begin(id: &str, parent_serial: u64) -> Entry {
    Entry::Begin(header(id, parent_serial))
}

pub(crate) fn seal(id: &str) -> Entry {
    Entry::Seal { operation: id.to_owned(), result: OperationResult::Complete, at_ms: 2 }
}

pub(crate) fn intent(key: RecordKey, call: Call, declaration: Option<Declaration>, generation: u32) -> Entry {
    let scope = Some(Scope("engine".into()));
    Entry::Intent(Box::new(Intent {
        key,
        call,
        declaration: declaration.map(Into::into),
        generation,
        scope,
        deadline_ms: 9,
    }))
}

pub(crate) fn create(name: &str) -> Entry {
    intent(key(name), Call::Create, Some(declaration(name)), 1)
}

pub(crate) fn update(name: &str) -> Entry {
    intent(key(name), Call::Update, Some(declaration(name)), 1)
}

pub(crate) fn delete(name: &str) -> Entry {
    intent(key(name), Call::Delete, None, 1)
}

pub(crate) fn outcome(key: RecordKey, kind: OutcomeKind) -> Entry {
    Entry::Outcome(Box::new(Outcome { key, kind, took_ms: Some(3) }))
}

pub(crate) fn applied_as(key: RecordKey, readiness: Readiness) -> Entry {
    let kind = OutcomeKind::Applied {
        id: Some("id".to_owned()),
        fields: Value::map([("seen", true)]),
        attributes: Value::map([("port", 5_000_u16)]),
        scope: Scope("engine".into()),
        readiness,
    };
    outcome(key, kind)
}

pub(crate) fn applied(name: &str) -> Entry {
    applied_as(key(name), Readiness::Ready)
}

pub(crate) fn deleted(name: &str) -> Entry {
    outcome(key(name), OutcomeKind::Deleted)
}

pub(crate) fn not_done(name: &str) -> Entry {
    outcome(key(name), OutcomeKind::NotDone { message: "refused".to_owned() })
}

pub(crate) fn indeterminate(name: &str) -> Entry {
    outcome(key(name), OutcomeKind::Indeterminate { message: "timed out".to_owned() })
}

pub(crate) fn edit(edit: Edit) -> Entry {
    Entry::Edit(Box::new(edit))
}

pub(crate) fn put(key: RecordKey, record: Record) -> Entry {
    edit(Edit::Put { key, record: std::sync::Arc::new(record) })
}

pub(crate) fn forget(name: &str) -> Entry {
    edit(Edit::Forget { key: key(name) })
}

pub(crate) fn depose(name: &str) -> Entry {
    edit(Edit::Depose { address: address(name) })
}

pub(crate) fn rename(from: &str, to: &str) -> Entry {
    edit(Edit::Move { from: address(from), to: address(to) })
}

/// A record, as an apply leaves it.
pub(crate) fn record(name: &str) -> Record {
    let mut state = empty();
    for entry in [begin("earlier", 0), create(name), applied(name)] {
        state.apply(&entry).unwrap();
    }
    state.snapshot().records[&key(name)].as_ref().clone()
}
