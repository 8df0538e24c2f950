//! Plans by hand, one for each thing that a view must show.

use std::collections::BTreeMap;
use std::time::Duration;

use ksail_kinds::BuiltinKinds;
use ksail_model::{
    Address, Condition, Declaration, Digest, Edge, FieldSchema, ForceOn, Identity, KindSchema, Lifecycle, ListShape,
    Origin, Origins, Ownership, Path, ProviderConfig, Record, RecordKey, Reference, Schemas, Scope, Secret, Status,
    Strength, UnknownReason, Value,
};
use ksail_plan::{
    Action, Blocked, Cause, Drift, DriftResponse, FieldChange, Mode, Nodes, PLAN_FORMAT, Plan, PlanHeader, PlanNode,
    PlanStep, Reason, Resolution, SeenAt, StepDo,
};
use ksail_records::{Outcome, OutcomeKind};

/// The built-in kinds, and one with a field of every sort.
pub(crate) struct TestKinds(KindSchema);

impl TestKinds {
    pub(crate) fn new() -> Self {
        let mut config = BuiltinKinds.schema("network").expect("a built-in kind").clone();
        config.kind = "config";
        config.estimate = Duration::from_secs(1);
        config.fields = vec![
            FieldSchema::new("token").sensitive(),
            FieldSchema::new("users[*].password").sensitive(),
            FieldSchema::new("users").list(ListShape::ByKey("name")),
            FieldSchema::new("networks").list(ListShape::Set),
            FieldSchema::new("settings").structured_text(),
            FieldSchema::new("zone").forces_replacement(),
        ];
        Self(config)
    }
}

impl Schemas for TestKinds {
    fn schema(&self, kind: &str) -> Option<&KindSchema> {
        if kind == self.0.kind { Some(&self.0) } else { BuiltinKinds.schema(kind) }
    }
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

pub(crate) fn key(text: &str) -> RecordKey {
    RecordKey::current(address(text))
}

pub(crate) fn value(json: serde_json::Value) -> Value {
    serde_json::from_value(json).expect("a value")
}

pub(crate) fn declaration(text: &str) -> Declaration {
    Declaration {
        address: address(text),
        kind_version: 1,
        provider: "docker".to_owned(),
        identity: Identity::named(text.replace('/', "-")),
        spec: Value::empty_map(),
        host: None,
        edges: Vec::new(),
        ownership: Ownership::Owned,
        lifecycle: Lifecycle::default(),
        choices: Vec::new(),
        origins: Origins::default(),
    }
}

fn record(declaration: Declaration, fields: serde_json::Value, attributes: serde_json::Value) -> Record {
    let json = serde_json::json!({
        "declaration": declaration, "fields": fields, "attributes": attributes, "generation": 1,
        "status": Status::Present, "operation": "op-40",
    });
    serde_json::from_value(json).expect("a record")
}

pub(crate) fn edge(to: &str, condition: Condition, strength: Strength) -> Edge {
    Edge {
        to: address(to),
        condition,
        strength,
        on_replace: ForceOn::Nothing,
        origin: Origin::Derived { why: "every registry needs the network".into() },
    }
}

pub(crate) fn node(text: &str, action: Action, reason: Reason) -> PlanNode {
    PlanNode {
        key: key(text),
        action,
        reason,
        changes: Vec::new(),
        before: None,
        after: None,
        declaration: Some(declaration(text).into()),
        record: None,
        seen: SeenAt::Absent,
        scope: Some(Scope("engine-1".into())),
        generation: 1,
        import: None,
        moved_from: None,
        with_host: false,
        loses: None,
        forecast: Vec::new(),
        others: Vec::new(),
        refreshed: None,
    }
}

/// A builder's last step.
pub(crate) fn with(mut node: PlanNode, change: impl FnOnce(&mut PlanNode)) -> PlanNode {
    change(&mut node);
    node
}

pub(crate) fn change(path: &str, before: serde_json::Value, after: serde_json::Value) -> FieldChange {
    let side = |json: serde_json::Value| (!json.is_null()).then(|| value(json));
    FieldChange {
        path: Path::parse(path).expect("a path"),
        before: side(before),
        after: side(after),
        cause: Cause::Declared,
        forces_replacement: false,
        sensitive: false,
    }
}

pub(crate) fn empty_plan() -> Plan {
    Plan {
        format: PLAN_FORMAT,
        header: PlanHeader {
            lineage: "0198a7c4-0000-7000-8000-000000000001".to_owned(),
            new_state: false,
            stack: "dev".to_owned(),
            environment: None,
            serial: 7,
            mode: Mode::Apply,
            version: "0.1.0".to_owned(),
            commit: Some("0123abc".to_owned()),
            source: "ksail.yaml".to_owned(),
            made_ms: 1_700_000_000_000,
            at_work: None,
        },
        content_digest: Digest::of_bytes(b"content"),
        digest: Digest::of_bytes(b"plan"),
        nodes: Nodes::default(),
        steps: Vec::new(),
        drift: Vec::new(),
        resolutions: Vec::new(),
        yielded: Vec::new(),
        providers: BTreeMap::new(),
        outputs: BTreeMap::new(),
        outputs_before: BTreeMap::new(),
        notes: Vec::new(),
    }
}

pub(crate) fn plan_of(nodes: impl IntoIterator<Item = PlanNode>) -> Plan {
    let mut plan = empty_plan();
    plan.nodes = nodes.into_iter().collect();
    plan
}

fn reference(to: &str, path: &str) -> Value {
    Value::Ref(Reference { address: address(to), path: Path::parse(path).expect("a path") })
}

/// A first apply: a network, a registry in it and a mirror with credentials.
pub(crate) fn first_apply() -> Plan {
    let network = with(node("dev/network/main", Action::Create, Reason::Declared), |node| {
        node.after = Some(value(serde_json::json!({
            "name": "dev", "driver": "bridge", "internal": false, "subnet": {"$unknown": true}, "id": {"$unknown": true},
        })));
    });
    let registry = with(node("dev/registry/local", Action::Create, Reason::Declared), |node| {
        node.after = Some(value(serde_json::json!({
            "image": "registry:3", "port": 5000, "address": "127.0.0.1", "labels": {"a.b/c": "1", "plain": "2"},
            "aliases": ["one", "two"], "empty": {}, "none": null, "endpoint": {"$unknown": true},
        })));
        node.declaration = Some(
            Declaration {
                edges: vec![edge("dev/network/main", Condition::Ready, Strength::Hard)],
                spec: Value::map([
                    ("port", Value::from(5000_i64)),
                    ("network", reference("dev/network/main", "id")),
                    ("alias", reference("dev/network/main", "aliases[0]")),
                    ("token", Value::Secret(Secret::env("TOKEN"))),
                ]),
                ..declaration("dev/registry/local")
            }
            .into(),
        );
    });
    let mirror = with(node("dev/mirror/docker.io", Action::Create, Reason::Declared), |node| {
        let mut after = value(serde_json::json!({"host": "docker.io", "username": "me", "port": 5001}));
        after.set(&Path::key("password"), Value::Secret(Secret::env("DOCKER_TOKEN")));
        node.after = Some(after);
        node.declaration = Some(
            Declaration {
                edges: vec![edge("dev/network/main", Condition::Ready, Strength::Soft)],
                ..declaration("dev/mirror/docker.io")
            }
            .into(),
        );
    });
    let mut plan = plan_of([network, registry, mirror]);
    plan.header.new_state = true;
    plan.header.serial = 0;
    plan.providers = BTreeMap::from([(
        "docker".to_owned(),
        ProviderConfig { kind: "docker".to_owned(), settings: BTreeMap::new() },
    )]);
    plan.steps = [
        ("dev/network/main", vec![]),
        ("dev/mirror/docker.io", vec![]),
        ("dev/registry/local", vec![(0, Condition::Ready)]),
    ]
    .into_iter()
    .map(|(text, needs)| PlanStep { key: key(text), what: StepDo::Create, needs, estimate_ms: 1000 })
    .collect();
    plan.outputs = BTreeMap::from([
        ("registry".to_owned(), reference("dev/registry/local", "endpoint")),
        ("port".to_owned(), reference("dev/registry/local", "port")),
        ("cluster".to_owned(), Value::from("dev")),
    ]);
    plan
}

fn text_before() -> String {
    (1..=12).map(|line| format!("line {line}\n")).collect()
}

/// Updates and replacements with every sort of field.
pub(crate) fn changes() -> Plan {
    let update = with(node("dev/config/main", Action::Update, Reason::DeclarationChanged), |node| {
        let before = serde_json::json!({
            "size": 1, "zone": "a", "note": "old", "token": "t0", "unchanged": true,
            "users": [{"name": "ann", "password": "p1", "shell": "sh"}, {"name": "bob", "password": "p2", "shell": "sh"}],
            "networks": ["x", "y"], "args": ["a", "b", "c"], "env": {"A": "1", "B": "2"},
            "settings": "log:\n  level: info\n  format: json\n", "script": text_before(),
        });
        node.before = Some(value(before.clone()));
        let mut after = before;
        after["size"] = 2.into();
        node.after = Some(value(after));
        node.changes = vec![
            change("size", 1.into(), 2.into()),
            FieldChange { cause: Cause::Drifted, ..change("note", "old".into(), serde_json::Value::Null) },
            FieldChange { sensitive: true, ..change("token", "t0".into(), "t1".into()) },
            change("users[\"ann\"].password", "p1".into(), "p3".into()),
            change("users[\"ann\"].shell", "sh".into(), "bash".into()),
            change("users[\"cat\"]", serde_json::Value::Null, serde_json::json!({"name": "cat", "password": "p4"})),
            change("networks[\"x\"]", "x".into(), serde_json::Value::Null),
            change("networks[\"z\"]", serde_json::Value::Null, "z".into()),
            change("args[1]", "b".into(), "B".into()),
            change("env.B", "2".into(), serde_json::json!({"$unknown": true})),
            change("env.C", serde_json::Value::Null, "3".into()),
            change("fresh.a", serde_json::Value::Null, 1.into()),
            change("settings.log.level", "info".into(), "debug".into()),
            change("script", text_before().into(), text_before().replace("line 6\n", "line six\n").into()),
            change("motd", serde_json::Value::Null, "first\nsecond\n".into()),
        ];
    });
    let replace =
        with(node("dev/registry/local", Action::Replace { create_first: false }, Reason::DeclarationChanged), |node| {
            node.before = Some(value(
                serde_json::json!({"image": "registry:2", "port": 5000, "endpoint": "127.0.0.1:5000", "id": "abc"}),
            ));
            node.after = Some(value(serde_json::json!({
            "image": "registry:3", "port": 5000, "endpoint": "127.0.0.1:5000", "id": {"$unknown": true}})));
            node.changes = vec![
                FieldChange { forces_replacement: true, ..change("image", "registry:2".into(), "registry:3".into()) },
                FieldChange {
                    cause: Cause::Dependency,
                    ..change("id", "abc".into(), serde_json::json!({"$unknown": true}))
                },
            ];
            node.loses = Some("the blobs it cached".to_owned());
            node.generation = 2;
        });
    let requested =
        with(node("dev/volume/a", Action::Replace { create_first: true }, Reason::ReplaceRequested), |node| {
            node.before = Some(value(serde_json::json!({"driver": "local"})));
            node.after = node.before.clone();
        });
    let same = with(node("dev/network/main", Action::NoOp, Reason::None), |node| {
        node.before = Some(value(serde_json::json!({"name": "dev", "driver": "bridge"})));
        node.after = node.before.clone();
    });
    let mut plan = plan_of([update, replace, requested, same]);
    plan.outputs = BTreeMap::from([
        ("id".to_owned(), reference("dev/registry/local", "id")),
        ("endpoint".to_owned(), reference("dev/registry/local", "endpoint")),
    ]);
    plan.outputs_before = plan.outputs.clone();
    plan
}

/// Nothing outside changes: only what the state says of resources.
pub(crate) fn recorded_only() -> Plan {
    let driver = serde_json::json!({"driver": "local"});
    let said = |text: &str, lifecycle: Lifecycle, at: &str| {
        let declaration = Declaration { lifecycle, ..declaration(text) };
        std::sync::Arc::new(record(declaration, driver.clone(), serde_json::json!({"mountpoint": at})))
    };
    let protected = Lifecycle { protect: Some(true), ..Lifecycle::default() };
    let ignoring = Lifecycle { ignore: vec![Path::key("driver")], create_before_destroy: true, ..Lifecycle::default() };
    let kept = with(node("dev/volume/kept", Action::NoOp, Reason::None), |node| {
        node.record = Some(said("dev/volume/kept", Lifecycle::default(), "/a"));
        node.refreshed = Some(said("dev/volume/kept", protected.clone(), "/a"));
    });
    let given_up = with(node("dev/volume/given-up", Action::NoOp, Reason::None), |node| {
        node.record = Some(said("dev/volume/given-up", protected.clone(), "/a"));
        node.refreshed = Some(said("dev/volume/given-up", ignoring, "/b"));
    });
    let replaced =
        with(node("dev/volume/replaced", Action::Replace { create_first: false }, Reason::ReplaceRequested), |node| {
            node.record = Some(said("dev/volume/replaced", protected, "/a"))
        });
    plan_of([kept, given_up, replaced])
}

/// Everything that is not an ordinary create, update or replace.
pub(crate) fn everything_else() -> Plan {
    let deposed = with(node("dev/registry/local", Action::Delete, Reason::Deposed), |node| {
        node.key.deposed = Some(2);
        node.declaration = None;
        node.before = Some(value(serde_json::json!({"image": "registry:2"})));
    });
    let gone = with(node("dev/volume/old", Action::Delete, Reason::NoLongerDeclared), |node| {
        node.declaration = None;
        node.before = Some(value(serde_json::json!({"driver": "local", "labels": {"a": "b"}, "list": ["x"]})));
        node.loses = Some("what was written to it".to_owned());
    });
    let with_host =
        with(node("dev/volume/inside", Action::Delete, Reason::HostDeleted { host: key("dev/engine/main") }), |node| {
            node.with_host = true;
            node.before = Some(value(serde_json::json!({"driver": "local"})));
        });
    let forgotten = with(node("dev/image/x", Action::Forget, Reason::Removed), |node| {
        node.before = Some(value(serde_json::json!({"reference": "x:1"})));
    });
    let imported = with(node("dev/network/found", Action::NoOp, Reason::Imported), |node| {
        node.import = Some("net-1".to_owned());
        node.before = Some(value(serde_json::json!({"driver": "bridge"})));
        node.after = node.before.clone();
    });
    let imported_changed = with(node("dev/network/found2", Action::Update, Reason::Imported), |node| {
        node.import = Some("net-2".to_owned());
        node.before = Some(value(serde_json::json!({"driver": "bridge", "labels": {}})));
        node.after = Some(value(serde_json::json!({"driver": "bridge", "labels": {"a": "b"}})));
        node.changes = vec![change("labels.a", serde_json::Value::Null, "b".into())];
    });
    let moved = with(node("dev/volume/new", Action::NoOp, Reason::None), |node| {
        node.moved_from = Some(address("dev/volume/former"));
        node.before = Some(value(serde_json::json!({"driver": "local"})));
        node.after = node.before.clone();
    });
    let waits = node(
        "dev/container/slow",
        Action::Wait,
        Reason::NotReady { why: "its health check has not passed".to_owned() },
    );
    let read = with(node("dev/network/shared", Action::Update, Reason::Declared), |node| {
        if let Some(declaration) = &mut node.declaration {
            std::sync::Arc::make_mut(declaration).ownership = Ownership::Read;
        }
    });
    let drifted = with(node("dev/registry/drifted", Action::Update, Reason::Drifted), |node| {
        let recorded = declaration("dev/registry/drifted");
        node.record = Some(std::sync::Arc::new(record(
            recorded,
            serde_json::json!({"port": 5000}),
            serde_json::json!({"id": "r1"}),
        )));
        node.before = Some(value(serde_json::json!({"port": 5001, "id": "r1"})));
        node.after = Some(value(serde_json::json!({"port": 5000, "id": "r1"})));
        node.changes = vec![FieldChange { cause: Cause::Drifted, ..change("port", 5001.into(), 5000.into()) }];
    });
    let blocked = |text: &str, why: Blocked| node(text, Action::Blocked { why }, Reason::None);
    let unreachable = UnknownReason::Unreachable { message: "connection refused at 127.0.0.1:2375".to_owned() };
    let mut plan = plan_of([
        drifted,
        deposed,
        gone,
        with_host,
        forgotten,
        imported,
        imported_changed,
        moved,
        waits,
        read,
        blocked("prod/engine/main", Blocked::Unknown { reason: unreachable }),
        blocked("prod/network/main", Blocked::Dependency { on: key("prod/engine/main") }),
        blocked("prod/network/taken", Blocked::NotOurs { owner: None, name: "taken".to_owned(), recorded: false }),
        blocked("prod/volume/x", Blocked::NothingToImport { id: "vol-9".to_owned() }),
    ]);
    plan.drift = vec![
        Drift {
            key: key("dev/registry/drifted"),
            deleted: false,
            changes: vec![FieldChange { cause: Cause::Drifted, ..change("port", 5000.into(), 5001.into()) }],
            response: DriftResponse::Reverted,
        },
        Drift { key: key("dev/volume/a"), deleted: true, changes: Vec::new(), response: DriftResponse::Reverted },
        Drift {
            key: key("dev/network/main"),
            deleted: false,
            changes: vec![change("labels.team", serde_json::Value::Null, "x".into())],
            response: DriftResponse::Left,
        },
    ];
    plan.resolutions = vec![Resolution {
        operation: "op-41".to_owned(),
        outcome: Outcome {
            key: key("dev/network/main"),
            kind: OutcomeKind::Applied {
                id: Some("n1".to_owned()),
                fields: Value::empty_map(),
                attributes: Value::empty_map(),
                scope: Scope("engine-1".into()),
                readiness: ksail_model::Readiness::Ready,
            },
            took_ms: None,
        },
    }];
    plan.yielded = vec![(key("dev/registry/local"), edge("dev/mirror/docker.io", Condition::Serving, Strength::Soft))];
    plan.notes = vec!["operation op-42 is in progress since 12:00; what it does may not be in this plan".to_owned()];
    plan
}

/// Two clusters, of which one lives in an engine, with an edge between and one that yields.
pub(crate) fn two_clusters() -> Plan {
    let on = |text: &str, host: Option<&str>, edges: Vec<Edge>| {
        with(node(text, Action::Create, Reason::Declared), |node| {
            node.declaration = Some(Declaration { host: host.map(address), edges, ..declaration(text) }.into());
        })
    };
    let ready = |to: &str| edge(to, Condition::Ready, Strength::Hard);
    let engine =
        with(on("dev/engine/main", None, vec![]), |node| node.action = Action::Replace { create_first: false });
    let mut plan = plan_of([
        engine,
        on("dev/network/main", Some("dev/engine/main"), vec![]),
        on(
            "dev/registry/local",
            Some("dev/engine/main"),
            vec![ready("dev/network/main"), edge("dev/mirror/docker.io", Condition::Serving, Strength::Soft)],
        ),
        on(
            "dev/mirror/docker.io",
            Some("dev/engine/main"),
            vec![edge("dev/registry/local", Condition::Exists, Strength::Soft), ready("dev/network/main")],
        ),
        on("prod/registry/\"quoted\"", None, vec![edge("dev/registry/local", Condition::Serving, Strength::Hard)]),
    ]);
    plan.yielded = vec![(key("dev/mirror/docker.io"), edge("dev/registry/local", Condition::Exists, Strength::Soft))];
    plan
}

/// Nothing to do.
pub(crate) fn unchanged() -> Plan {
    plan_of([with(node("dev/network/main", Action::NoOp, Reason::None), |node| {
        node.before = Some(value(serde_json::json!({"driver": "bridge"})));
        node.after = node.before.clone();
    })])
}

/// All samples by name.
pub(crate) fn all() -> Vec<(&'static str, Plan)> {
    vec![
        ("first_apply", first_apply()),
        ("changes", changes()),
        ("everything_else", everything_else()),
        ("recorded_only", recorded_only()),
        ("unchanged", unchanged()),
        ("empty", empty_plan()),
    ]
}
