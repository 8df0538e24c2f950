//! Random values, and random entries over a few names, so that they meet.

use std::collections::BTreeMap;

use ksail_model::{
    Choice, Declaration, Digest, Durations, Fingerprint, Lifecycle, Origin, Origins, Ownership, Path, ProviderConfig,
    Readiness, Reference, Secret, SecretPart, Span, Status, Value,
};
use ksail_records::{Call, Edit, Entry, OperationKind, OperationResult, OutcomeKind};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{collection, option};

use crate::samples::{
    address, applied_as, declaration, dependent, deposed, edit, header, intent, key, outcome, put, record,
};

const NAMES: [&str; 4] = ["a", "b", "c", "docker.io%weird/näme#1"];

const OPERATIONS: [&str; 2] = ["op-1", "op-2"];

pub(crate) fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&NAMES[..])
}

/// A path as it is read from a file.
fn path() -> impl Strategy<Value = Path> {
    proptest::sample::select(&["", "a", "a.b[0].c", "a[*]", "mounts[\"/data\"].x", "[\"docker.io\"]"][..])
        .prop_map(|text| Path::parse(text).unwrap())
}

fn secret() -> impl Strategy<Value = Secret> {
    let part = prop_oneof![
        ".{0,4}".prop_map(SecretPart::Literal),
        "[A-Z]{1,4}".prop_map(SecretPart::Env),
        "[a-z/]{1,4}".prop_map(SecretPart::File),
        "[a-z]{1,4}".prop_map(SecretPart::Vault),
        proptest::collection::vec("[a-z]{1,4}", 1..3).prop_map(SecretPart::Command),
        "[a-z/]{1,4}".prop_map(|path| SecretPart::Base64(Box::new(SecretPart::File(path)))),
    ];
    let fingerprint = option::of("[0-9a-f]{4}".prop_map(Fingerprint));
    (collection::vec(part, 0..3), fingerprint).prop_map(|(parts, fingerprint)| Secret { parts, fingerprint })
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(Value::Unknown),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(|number| Value::Number(number.into())),
        proptest::num::f64::NORMAL.prop_map(|number| Value::Number(serde_json::Number::from_f64(number).unwrap())),
        any::<String>().prop_map(Value::String),
        secret().prop_map(Value::Secret),
        (name(), path()).prop_map(|(name, path)| Value::Ref(Reference { address: address(name), path })),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![Just("$ref".to_owned()), Just("$$".to_owned()), Just(String::new()), any::<String>()];
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            collection::btree_map(key, inner, 0..4).prop_map(|map| Value::Map(map.into())),
        ]
    })
}

fn origin() -> impl Strategy<Value = Origin> {
    let span = any::<(u32, u32, u32)>().prop_map(|(line, column, length)| Span { line, column, length });
    prop_oneof![
        (any::<String>(), span).prop_map(|(file, span)| Origin::File { file: file.into(), span }),
        any::<String>().prop_map(|flag| Origin::Flag { flag: flag.into() }),
        any::<String>().prop_map(|why| Origin::Derived { why: why.into() }),
    ]
}

fn any_declaration(name: &'static str) -> impl Strategy<Value = Declaration> {
    let origins = collection::vec((path(), origin()), 0..3).prop_map(|pairs| {
        let mut origins = Origins::default();
        for (path, origin) in pairs {
            origins.set(path, origin);
        }
        origins
    });
    let ownership =
        proptest::sample::select(&[Ownership::Owned, Ownership::Shared, Ownership::Fields, Ownership::Read][..]);
    let lifecycle = (any::<Option<bool>>(), any::<bool>(), collection::vec(path(), 0..3))
        .prop_map(|(protect, create_before_destroy, ignore)| Lifecycle { protect, create_before_destroy, ignore });
    let choices = collection::vec(
        proptest::prop_oneof![
            (path(), collection::vec(any::<u16>(), 0..3))
                .prop_map(|(path, preferred)| Choice::Port { path, preferred }),
            (path(), "[a-z/~]{0,8}", "[a-z ]{0,8}").prop_map(|(path, proposed, why)| Choice::Text {
                path,
                proposed,
                why
            }),
        ],
        0..2,
    );
    let shape = prop_oneof![
        Just(declaration(name)),
        (self::name(), self::name()).prop_map(move |(host, needs)| dependent(name, host, needs)),
    ];
    (shape, value(), origins, ownership, lifecycle, choices).prop_map(
        |(shape, spec, origins, ownership, lifecycle, choices)| Declaration {
            spec,
            origins,
            ownership,
            lifecycle,
            choices,
            ..shape
        },
    )
}

fn readiness() -> impl Strategy<Value = Readiness> {
    prop_oneof![Just(Readiness::Ready), any::<String>().prop_map(Readiness::NotReady)]
}

fn any_key() -> impl Strategy<Value = ksail_model::RecordKey> {
    prop_oneof![4 => name().prop_map(key), 1 => (name(), 1..3_u32).prop_map(|(name, number)| deposed(name, number))]
}

fn any_intent() -> impl Strategy<Value = Entry> {
    let call = proptest::sample::select(&[Call::Create, Call::Create, Call::Update, Call::Delete][..]);
    name().prop_flat_map(move |name| {
        let keys = prop_oneof![8 => Just(key(name)), 1 => Just(deposed(name, 1))];
        (keys, call.clone(), proptest::option::weighted(0.9, any_declaration(name)), 1..3_u32)
            .prop_map(|(key, call, declaration, generation)| intent(key, call, declaration, generation))
    })
}

fn any_outcome() -> impl Strategy<Value = Entry> {
    prop_oneof![
        3 => (any_key(), readiness()).prop_map(|(key, readiness)| applied_as(key, readiness)),
        2 => any_key().prop_map(|key| outcome(key, OutcomeKind::Deleted)),
        1 => (any_key(), ".*").prop_map(|(key, message)| outcome(key, OutcomeKind::NotDone { message })),
        1 => (any_key(), ".*").prop_map(|(key, message)| outcome(key, OutcomeKind::Indeterminate { message })),
    ]
}

fn any_edit() -> impl Strategy<Value = Entry> {
    let status = prop_oneof![
        Just(Status::Present),
        ".*".prop_map(|why| Status::Stuck { why }),
        ".*".prop_map(|why| Status::NotReady { why }),
    ];
    let durations = any::<(Option<u64>, Option<u64>, Option<u64>)>()
        .prop_map(|(create_ms, update_ms, delete_ms)| Durations { create_ms, update_ms, delete_ms });
    let puts = (name(), status, durations, value()).prop_map(|(name, status, durations, fields)| {
        let mut record = record(name);
        (record.status, record.durations, record.fields) = (status, durations, fields);
        put(key(name), record)
    });
    let providers = collection::btree_map(
        "[a-z]{1,3}",
        collection::btree_map(".{0,3}", ".{0,3}", 0..2)
            .prop_map(|settings| ProviderConfig { kind: "docker".to_owned(), settings }),
        0..2,
    );
    let outputs = collection::btree_map("[a-z]{1,3}", value(), 0..2);
    prop_oneof![
        puts,
        any_key().prop_map(|key| edit(Edit::Forget { key })),
        name().prop_map(|name| edit(Edit::Depose { address: address(name) })),
        (name(), name()).prop_map(|(from, to)| edit(Edit::Move { from: address(from), to: address(to) })),
        (providers, outputs)
            .prop_map(|(providers, outputs): (BTreeMap<_, _>, _)| { edit(Edit::Context { providers, outputs }) }),
    ]
}

/// Any entry, whether it can follow or not.
pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    let operation = proptest::sample::select(&OPERATIONS[..]);
    let kinds = [OperationKind::Apply, OperationKind::Destroy, OperationKind::Undo, OperationKind::Edit];
    let kind = proptest::sample::select(kinds.to_vec());
    let begin = (operation.clone(), 0..3_u64, kind, option::of(".*")).prop_map(|(id, parent, kind, commit)| {
        let mut header = header(id, parent);
        (header.kind, header.commit, header.plan_digest) = (kind, commit, Digest::of_bytes(&parent.to_le_bytes()));
        Entry::Begin(header)
    });
    let result = proptest::sample::select(
        &[OperationResult::Complete, OperationResult::Partial, OperationResult::Superseded][..],
    );
    let seal = (operation, result, any::<u64>()).prop_map(|(id, result, at_ms)| Entry::Seal {
        operation: id.to_owned(),
        result,
        at_ms,
    });
    prop_oneof![3 => begin, 1 => seal, 6 => any_intent(), 6 => any_outcome(), 4 => any_edit()]
}

/// Entries of which many can follow each other.
pub(crate) fn entries() -> impl Strategy<Value = Vec<Entry>> {
    collection::vec(entry(), 1..80)
}
