//! Kinds, declarations and a bench on which plans are made without any outside.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ksail_model::{
    Address, Condition, Declaration, DeclaredGraph, Edge, FieldSchema, ForceOn, Identity, KindSchema, Lifecycle,
    ListShape, Mark, Observation, Origin, Origins, Ownership, Path, Preview, ProviderConfig, Readiness, Record,
    RecordKey, Schemas, Scope, Secret, Seen, Selector, Status, Strength, UnknownReason, Value,
};
use ksail_plan::{Action, Inputs, Mode, Observed, Options, Plan, PlanError, PlanHeader, SeenAt, StepDo, plan};
use ksail_records::{Call, Intent, OpenIntent, Snapshot};

pub(crate) const LINEAGE: &str = "lineage-1";
pub(crate) const NOW: u64 = 1_000_000;

/// `thing` ordinary, `host` a host, `twin` may coexist, `once` not safe to repeat, `loose` written otherwise by the outside.
pub(crate) struct Kinds(Vec<KindSchema>);

impl Default for Kinds {
    fn default() -> Self {
        let kind = |kind| KindSchema {
            kind,
            version: 1,
            fields: vec![
                FieldSchema::new("size").forces_replacement(),
                FieldSchema::new("ip").computed(),
                FieldSchema::new("tags").list(ListShape::Set),
                FieldSchema::new("ports").list(ListShape::ByKey("container")),
                FieldSchema::new("config").structured_text(),
                FieldSchema::new("release").in_turn(),
            ],
            may_coexist: Err("its name is fixed"),
            is_host: false,
            holds_data: None,
            repeat_safe: true,
            lands_within: std::time::Duration::ZERO,
            normalises: false,
            estimate: Duration::from_secs(1),
            keeps: &[],
            follows: None,
        };
        Self(vec![
            kind("thing"),
            KindSchema { is_host: true, holds_data: Some("all that is in it"), ..kind("host") },
            KindSchema { may_coexist: Ok(()), ..kind("twin") },
            KindSchema { repeat_safe: false, ..kind("once") },
            KindSchema { normalises: true, fields: Vec::new(), ..kind("loose") },
        ])
    }
}

impl Schemas for Kinds {
    fn schema(&self, kind: &str) -> Option<&KindSchema> {
        self.0.iter().find(|schema| schema.kind == kind)
    }
}

/// `thing/a`, or `other/thing/a` with a cluster.
pub(crate) fn address(text: &str) -> Address {
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        [kind, name] => Address::new("dev", kind, &[name]),
        _ => Address::parse(text).unwrap(),
    }
}

pub(crate) fn key(text: &str) -> RecordKey {
    match text.split_once('#') {
        Some((text, generation)) => RecordKey { address: address(text), deposed: Some(generation.parse().unwrap()) },
        None => RecordKey::current(address(text)),
    }
}

pub(crate) fn origin(line: u32) -> Origin {
    Origin::File { file: "ksail.yaml".into(), span: ksail_model::Span { line, column: 3, length: 4 } }
}

pub(crate) fn edge(to: &str) -> Edge {
    Edge {
        to: address(to),
        condition: Condition::Ready,
        strength: Strength::Hard,
        on_replace: ForceOn::Nothing,
        origin: Origin::Derived { why: format!("it needs {to}").into() },
    }
}

pub(crate) fn declared(text: &str, spec: serde_json::Value) -> Declaration {
    let address = address(text);
    Declaration {
        identity: Identity::named(address.name()),
        address,
        kind_version: 1,
        provider: "sim".to_owned(),
        spec: serde_json::from_value(spec).unwrap(),
        host: None,
        edges: Vec::new(),
        ownership: Ownership::Owned,
        lifecycle: Lifecycle::default(),
        choices: Vec::new(),
        origins: Origins::all(origin(7)),
    }
}

/// What tests say of declarations, one after another.
pub(crate) trait With: Sized {
    fn with(self, change: impl FnOnce(&mut Declaration)) -> Declaration;
    fn on(self, host: &str) -> Declaration {
        self.with(|declaration| declaration.host = Some(address(host)))
    }
    fn needs(self, to: &str) -> Declaration {
        self.with(|declaration| declaration.edges.push(edge(to)))
    }
    fn needs_softly(self, to: &str) -> Declaration {
        self.with(|declaration| declaration.edges.push(Edge { strength: Strength::Soft, ..edge(to) }))
    }
    /// It is changed after the other, where both change a field that is changed in turn.
    fn comes_after(self, to: &str) -> Declaration {
        self.with(|declaration| declaration.edges.push(Edge { strength: Strength::InTurn, ..edge(to) }))
    }
    fn dies_with(self, to: &str) -> Declaration {
        self.with(|declaration| declaration.edges.push(Edge { on_replace: ForceOn::Replace, ..edge(to) }))
    }
    fn named(self, name: &str) -> Declaration {
        self.with(|declaration| declaration.identity = Identity::named(name))
    }
    fn protected(self) -> Declaration {
        self.with(|declaration| declaration.lifecycle.protect = Some(true))
    }
    fn create_first(self) -> Declaration {
        self.with(|declaration| declaration.lifecycle.create_before_destroy = true)
    }
    fn ignoring(self, path: &str) -> Declaration {
        self.with(|declaration| declaration.lifecycle.ignore.push(Path::parse(path).unwrap()))
    }
}

impl With for Declaration {
    fn with(mut self, change: impl FnOnce(&mut Declaration)) -> Declaration {
        change(&mut self);
        self
    }
}

pub(crate) fn mark(address: &Address, generation: u32) -> Mark {
    Mark { lineage: LINEAGE.to_owned(), address: address.clone(), operation: "op-0".to_owned(), generation }
}

fn stored(spec: &Value) -> Value {
    spec.map_leaves(&mut |leaf| match leaf {
        Value::Secret(Secret { fingerprint: Some(print), .. }) => Some(Value::Secret(Secret::observed(print.clone()))),
        _ => None,
    })
}

/// A bench: what is declared, recorded and seen.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) declared: DeclaredGraph,
    pub(crate) snapshot: Snapshot,
    pub(crate) observations: BTreeMap<RecordKey, Observed>,
    pub(crate) previews: BTreeMap<RecordKey, Preview>,
    pub(crate) options: Options,
    pub(crate) mode: Mode,
    pub(crate) now: u64,
}

impl Bench {
    pub(crate) fn new(declarations: impl IntoIterator<Item = Declaration>) -> Self {
        let mut bench = Self {
            declared: DeclaredGraph::default(),
            snapshot: Snapshot::empty(LINEAGE, "dev", None),
            observations: BTreeMap::new(),
            previews: BTreeMap::new(),
            options: Options::default(),
            mode: Mode::Apply,
            now: NOW,
        };
        bench.declared.providers.insert("sim".to_owned(), ProviderConfig::default());
        bench.declare(declarations);
        bench
    }

    pub(crate) fn declare(&mut self, declarations: impl IntoIterator<Item = Declaration>) -> &mut Self {
        self.declared.declarations =
            declarations.into_iter().map(|declaration| (declaration.address.clone(), Arc::new(declaration))).collect();
        self
    }

    /// All that is declared has been applied, and is as it was made.
    pub(crate) fn applied(declarations: impl IntoIterator<Item = Declaration>) -> Self {
        let mut bench = Self::new(declarations);
        bench.apply();
        bench
    }

    pub(crate) fn plan(&self) -> Plan {
        self.try_plan().unwrap()
    }

    pub(crate) fn try_plan(&self) -> Result<Plan, PlanError> {
        let mut observations = self.observations.clone();
        // Whoever looks finds nothing where nothing was put.
        for item in ksail_plan::look_list(&self.declared, &self.snapshot) {
            observations
                .entry(item.key)
                .or_insert(Observed { observation: Observation::Absent, scope: Some(Scope("engine".into())) });
        }
        self.plan_seeing(&observations)
    }

    pub(crate) fn plan_seeing(&self, observations: &BTreeMap<RecordKey, Observed>) -> Result<Plan, PlanError> {
        plan(&Inputs {
            declared: &self.declared,
            snapshot: &self.snapshot,
            observations,
            previews: &self.previews,
            schemas: &Kinds::default(),
            options: &self.options,
            header: PlanHeader {
                lineage: self.snapshot.lineage.clone(),
                new_state: self.snapshot.serial == 0,
                stack: "dev".to_owned(),
                environment: None,
                serial: self.snapshot.serial,
                mode: self.mode.clone(),
                version: "0".to_owned(),
                commit: None,
                source: "ksail.yaml".to_owned(),
                made_ms: self.now,
                at_work: None,
            },
        })
    }

    /// Does what the plan says, without any outside.
    pub(crate) fn apply(&mut self) -> Plan {
        let plan = self.plan();
        for resolution in &plan.resolutions {
            self.snapshot.open.remove(&resolution.outcome.key);
        }
        for node in plan.nodes.values().filter(|node| node.moved_from.is_some()) {
            let from = RecordKey::current(node.moved_from.clone().unwrap());
            self.snapshot.records.remove(&from);
        }
        for step in &plan.steps {
            self.step(&plan, &step.key, step.what);
        }
        self.snapshot.serial += 1;
        plan
    }

    fn step(&mut self, plan: &Plan, key: &RecordKey, what: StepDo) {
        let current = RecordKey::current(key.address.clone());
        let node = plan.nodes.get(key).unwrap_or_else(|| &plan.nodes[&current]);
        match what {
            StepDo::Create | StepDo::Update => {
                let mut declaration = node.declaration.as_deref().cloned().unwrap();
                declaration.spec = ksail_plan::resolve_references(&declaration.spec, &mut |reference| {
                    let record = &self.snapshot.records[&RecordKey::current(reference.address.clone())];
                    ksail_plan::joined(&record.fields, &record.attributes).get(&reference.path).cloned()
                });
                self.put(key, declaration, node.generation);
            }
            StepDo::Delete => {
                self.snapshot.records.remove(key);
                self.observations.remove(key);
            }
            StepDo::Forget => {
                self.snapshot.records.remove(key);
                self.observations.remove(key);
            }
            StepDo::Put => {
                let record = node.refreshed.clone().unwrap();
                self.snapshot.records.insert(key.clone(), record);
            }
            StepDo::Wait => {
                let record = self.snapshot.records.get_mut(key).unwrap();
                if let Some(refreshed) = &node.refreshed {
                    record.clone_from(refreshed);
                }
                Arc::make_mut(record).status = Status::Present;
                self.see(key, |seen| seen.readiness = Readiness::Ready);
            }
            StepDo::Depose => {
                let record = self.snapshot.records.remove(&current).unwrap();
                let old = RecordKey { address: key.address.clone(), deposed: Some(record.generation) };
                let record = Record { status: Status::Deposed, ..Arc::unwrap_or_clone(record) };
                self.snapshot.records.insert(old.clone(), Arc::new(record));
                let seen = self.observations.remove(&current).unwrap();
                self.observations.insert(old, seen);
            }
        }
    }

    /// What is declared at an address, to be changed.
    pub(crate) fn edited(&mut self, text: &str) -> &mut Declaration {
        Arc::make_mut(self.declared.declarations.get_mut(&address(text)).unwrap())
    }

    /// A record, and the thing that it stands for.
    pub(crate) fn put(&mut self, key: &RecordKey, declaration: Declaration, generation: u32) {
        let id = format!("id-{}-{generation}", key.address.name());
        let fields = stored(&declaration.spec);
        let attributes = Value::map([("id", id.as_str()), ("endpoint", "10.0.0.1")]);
        let host = declaration.host.clone().map(RecordKey::current);
        let host = host.and_then(|host| self.snapshot.records.get(&host));
        let scope = host.map_or_else(|| "engine".to_owned(), |host| host.id.clone().unwrap_or_default());
        let scope = Scope(scope.into());
        let record = Record {
            id: Some(id.clone()),
            fields: fields.clone(),
            attributes: attributes.clone(),
            scope: Some(scope.clone()),
            generation,
            host_generation: host.map(|host| host.generation),
            adopted: false,
            status: Status::Present,
            operation: "op-0".to_owned(),
            durations: ksail_model::Durations::default(),
            declaration: Arc::new(declaration),
        };
        let record = Arc::new(record);
        let seen = Seen {
            id: Some(id),
            fields,
            attributes,
            mark: Some(mark(&key.address, generation)),
            readiness: Readiness::Ready,
            others: Vec::new(),
        };
        self.snapshot.records.insert(key.clone(), record);
        let observation = Observation::Present(Box::new(seen));
        self.observations.insert(key.clone(), Observed { observation, scope: Some(scope) });
    }

    pub(crate) fn see(&mut self, key: &RecordKey, change: impl FnOnce(&mut Seen)) {
        match self.observations.get_mut(key).map(|observed| &mut observed.observation) {
            Some(Observation::Present(seen)) => change(seen),
            other => panic!("{key} is not seen: {other:?}"),
        }
    }

    /// A field was changed by hand.
    pub(crate) fn drift(&mut self, text: &str, path: &str, value: serde_json::Value) -> &mut Self {
        self.see(&key(text), |seen| {
            assert!(seen.fields.set(&Path::parse(path).unwrap(), value.into()));
        });
        self
    }

    pub(crate) fn gone(&mut self, text: &str) -> &mut Self {
        self.observations
            .insert(key(text), Observed { observation: Observation::Absent, scope: Some(Scope("engine".into())) });
        self
    }

    pub(crate) fn unreachable(&mut self, text: &str) -> &mut Self {
        let reason = UnknownReason::Unreachable { message: "connection refused".to_owned() };
        self.observations.insert(key(text), Observed { observation: Observation::Unknown(reason), scope: None });
        self
    }

    pub(crate) fn not_ready(&mut self, text: &str) -> &mut Self {
        self.see(&key(text), |seen| seen.readiness = Readiness::NotReady("it is starting".to_owned()));
        self
    }

    /// What is in a host that is not ready cannot be looked at.
    pub(crate) fn not_serving(&mut self, text: &str, host: &str) -> &mut Self {
        let reason = UnknownReason::HostNotServing { host: address(host) };
        self.observations.insert(key(text), Observed { observation: Observation::Unknown(reason), scope: None });
        self
    }

    /// A killed operation left a call open.
    pub(crate) fn open(&mut self, text: &str, call: Call, declaration: Declaration, deadline_ms: u64) -> &mut Self {
        let (key, declaration) = (key(text), Arc::new(declaration));
        let previous = self.snapshot.records.get(&key).cloned();
        let generation = match (&previous, call) {
            (Some(record), Call::Create) => record.generation + 1,
            (Some(record), _) => record.generation,
            (None, _) => 1,
        };
        let scope = Some(Scope("engine".into()));
        let now = match call {
            Call::Create => Record {
                declaration: declaration.clone(),
                id: None,
                fields: Value::Null,
                attributes: Value::Null,
                scope: scope.clone(),
                generation,
                host_generation: None,
                adopted: false,
                status: Status::Creating,
                operation: "op-killed".to_owned(),
                durations: ksail_model::Durations::default(),
            },
            Call::Update => previous.as_deref().cloned().unwrap(),
            Call::Delete => Record { status: Status::Deleting, ..previous.as_deref().cloned().unwrap() },
        };
        self.snapshot.records.insert(key.clone(), Arc::new(now));
        let intent = Intent {
            key: key.clone(),
            call,
            declaration: (call != Call::Delete).then_some(declaration),
            generation,
            scope,
            deadline_ms,
        };
        self.snapshot.open.insert(key, OpenIntent { intent, operation: "op-killed".to_owned(), previous });
        self
    }

    pub(crate) fn moved(&mut self, from: &str, to: &str) -> &mut Self {
        let step = ksail_model::Move { from: address(from), to: address(to), origin: origin(1) };
        self.declared.moved.push(step);
        self
    }

    pub(crate) fn removed(&mut self, from: &str, destroy: bool) -> &mut Self {
        let removal = ksail_model::Removal { from: address(from), destroy, origin: origin(1) };
        self.declared.removed.push(removal);
        self
    }

    pub(crate) fn import(&mut self, to: &str, id: &str) -> &mut Self {
        let import = ksail_model::Import { to: address(to), id: id.to_owned(), origin: origin(1) };
        self.declared.imports.push(import);
        self
    }

    pub(crate) fn target(&mut self, text: &str) -> &mut Self {
        self.options.targets.push(Selector::parse(text).unwrap());
        self
    }

    pub(crate) fn exclude(&mut self, text: &str) -> &mut Self {
        self.options.excludes.push(Selector::parse(text).unwrap());
        self
    }

    pub(crate) fn replace(&mut self, text: &str) -> &mut Self {
        self.options.replace.push(Selector::parse(text).unwrap());
        self
    }

    pub(crate) fn destroy(&mut self) -> &mut Self {
        self.mode = Mode::Destroy;
        self.declared = DeclaredGraph::default();
        self
    }

    /// The plan as text, without the nodes to which nothing is done.
    pub(crate) fn shown(&self) -> String {
        match self.try_plan() {
            Ok(plan) => shown(&plan),
            Err(error) => format!("error: {error}"),
        }
    }

    #[track_caller]
    pub(crate) fn check(&self, expected: &str) {
        let trimmed: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(self.shown().lines().collect::<Vec<_>>(), trimmed, "\n{}", self.shown());
    }
}

fn short(key: &RecordKey) -> String {
    let text = key.to_string();
    text.strip_prefix("dev/").map_or(text.clone(), str::to_owned)
}

fn debug<T: serde::Serialize>(value: &T) -> String {
    let json = serde_json::to_value(value).unwrap();
    let mut words: Vec<String> = Vec::new();
    fn go(json: &serde_json::Value, words: &mut Vec<String>) {
        match json {
            serde_json::Value::Object(map) => map.values().for_each(|value| go(value, words)),
            serde_json::Value::String(text) => words.push(text.strip_prefix("dev/").unwrap_or(text).to_owned()),
            serde_json::Value::Null => {}
            other => words.push(other.to_string()),
        }
    }
    go(&json, &mut words);
    words.join(" ")
}

pub(crate) fn shown(plan: &Plan) -> String {
    let mut text = String::new();
    for node in plan.nodes.values() {
        let quiet = node.action == Action::NoOp
            && node.import.is_none()
            && node.refreshed.is_none()
            && node.moved_from.is_none();
        if quiet {
            continue;
        }
        let action = match &node.action {
            Action::NoOp => "no-op".to_owned(),
            Action::Replace { create_first } => {
                if *create_first {
                    "replace, create first".to_owned()
                } else {
                    "replace".to_owned()
                }
            }
            Action::Blocked { why } => format!("blocked ({})", debug(why)),
            other => debug(other),
        };
        write!(text, "{}: {action}", short(&node.key)).unwrap();
        let reason = debug(&node.reason);
        if reason != "none" {
            write!(text, "; {reason}").unwrap();
        }
        for change in &node.changes {
            let side = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
            write!(
                text,
                "; {}: {} → {} ({}",
                change.path,
                side(&change.before),
                side(&change.after),
                debug(&change.cause)
            )
            .unwrap();
            text.push_str(if change.forces_replacement { ", forces)" } else { ")" });
        }
        if let Some(id) = &node.import {
            write!(text, "; import {id}").unwrap();
        }
        if let Some(from) = &node.moved_from {
            write!(text, "; from {}", short(&RecordKey::current(from.clone()))).unwrap();
        }
        if node.with_host {
            text.push_str("; with its host");
        }
        if let Some(loses) = &node.loses {
            write!(text, "; loses {loses}").unwrap();
        }
        if node.seen == SeenAt::Deferred {
            text.push_str("; seen later");
        }
        text.push('\n');
    }
    for drift in &plan.drift {
        let how = if drift.deleted { "gone".to_owned() } else { "changed".to_owned() };
        let paths: Vec<String> = drift.changes.iter().map(|change| change.path.to_string()).collect();
        writeln!(text, "drift {}: {how} {}→ {}", short(&drift.key), paths.join(", ") + " ", debug(&drift.response))
            .unwrap();
    }
    for resolution in &plan.resolutions {
        let kind = match &resolution.outcome.kind {
            ksail_records::OutcomeKind::Applied { .. } => "applied",
            ksail_records::OutcomeKind::Deleted => "deleted",
            ksail_records::OutcomeKind::NotDone { .. } => "not done",
            ksail_records::OutcomeKind::Indeterminate { .. } => "indeterminate",
        };
        writeln!(text, "resolved {}: {kind}", short(&resolution.outcome.key)).unwrap();
    }
    for (number, step) in plan.steps.iter().enumerate() {
        let needs: Vec<String> = step.needs.iter().map(|(at, condition)| format!("{at} {condition}")).collect();
        let needs = if needs.is_empty() { String::new() } else { format!(" after {}", needs.join(", ")) };
        writeln!(text, "{number} {} {}{needs}", debug(&step.what), short(&step.key)).unwrap();
    }
    for note in &plan.notes {
        writeln!(text, "note: {note}").unwrap();
    }
    text
}

/// Whether one step comes before another, through any number of needs.
pub(crate) fn comes_before(plan: &Plan, first: (StepDo, &str), then: (StepDo, &str)) -> bool {
    let find = |(what, text): (StepDo, &str)| {
        let key = key(text);
        plan.steps
            .iter()
            .position(|step| step.what == what && step.key == key)
            .unwrap_or_else(|| panic!("no {what:?} of {text} in\n{}", shown(plan)))
    };
    let (first, then) = (find(first), find(then));
    let mut todo = vec![then];
    while let Some(at) = todo.pop() {
        for (needed, _) in &plan.steps[at].needs {
            if *needed as usize == first {
                return true;
            }
            todo.push(*needed as usize);
        }
    }
    false
}
