//! A stack on a simulated outside, with its state in a folder.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ksail_conformance::world::{SimulatedConnector, World};
use ksail_execute::{Apply, ApplyError, Clock, Ending, Event, EventSink, Limits, Looker, Secrets, Summary, apply};
use ksail_model::{
    Address, Condition, Declaration, DeclaredGraph, Edge, FieldSchema, Fingerprint, ForceOn, Identity, KindSchema,
    Lifecycle, ListShape, Origin, Origins, Ownership, Path, ProviderConfig, RecordKey, Schemas, Secret, Strength,
    Value,
};
use ksail_plan::{Inputs, Mode, Options, Plan, PlanHeader, look_list, plan};
use ksail_provider::{CallContext, Connector, SecretText};
use ksail_records::{Backend, Entry, LockOwner, SealedOperation, Snapshot, StateError, Stored, Writer};
use ksail_state_local::LocalBackend;
use tokio_util::sync::CancellationToken;

/// The text of every secret here; it must be in no file.
pub(crate) const CANARY: &str = "canary-5d41402abc4b2a76";

pub(crate) struct Kinds(Vec<KindSchema>);

impl Default for Kinds {
    fn default() -> Self {
        let kind = |kind| KindSchema {
            kind,
            version: 1,
            fields: vec![
                FieldSchema::new("size").forces_replacement(),
                FieldSchema::new("ports").list(ListShape::ByKey("container")),
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
        let slow = KindSchema { estimate: Duration::from_secs(60), ..kind("slow") };
        let host = KindSchema { is_host: true, ..kind("host") };
        let once = KindSchema { repeat_safe: false, ..kind("once") };
        Self(vec![kind("thing"), once, slow, host, KindSchema { may_coexist: Ok(()), ..kind("twin") }])
    }
}

impl Schemas for Kinds {
    fn schema(&self, kind: &str) -> Option<&KindSchema> {
        self.0.iter().find(|schema| schema.kind == kind)
    }
}

pub(crate) fn address(text: &str) -> Address {
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        [kind, name] => Address::new("dev", kind, &[name]),
        _ => Address::parse(text).unwrap(),
    }
}

pub(crate) fn key(text: &str) -> RecordKey {
    RecordKey::current(address(text))
}

pub(crate) fn declared(text: &str, spec: serde_json::Value) -> Declaration {
    let address = address(text);
    Declaration {
        identity: Identity::named(address.as_str().replace('/', "-")),
        address,
        kind_version: 1,
        provider: "sim".to_owned(),
        spec: serde_json::from_value(spec).unwrap(),
        host: None,
        edges: Vec::new(),
        ownership: Ownership::Owned,
        lifecycle: Lifecycle::default(),
        choices: Vec::new(),
        origins: Origins::default(),
    }
}

pub(crate) trait With: Sized {
    fn with(self, change: impl FnOnce(&mut Declaration)) -> Declaration;
    fn on(self, host: &str) -> Declaration {
        self.with(|declaration| declaration.host = Some(address(host)))
    }
    fn needs(self, to: &str) -> Declaration {
        self.needs_until(to, Condition::Ready)
    }
    fn needs_until(self, to: &str, condition: Condition) -> Declaration {
        let edge = Edge {
            to: address(to),
            condition,
            strength: Strength::Hard,
            on_replace: ForceOn::Nothing,
            origin: Origin::Derived { why: "it needs it".into() },
        };
        self.with(|declaration| declaration.edges.push(edge))
    }
    fn named(self, name: &str) -> Declaration {
        self.with(|declaration| declaration.identity = Identity::named(name))
    }
}

impl With for Declaration {
    fn with(mut self, change: impl FnOnce(&mut Declaration)) -> Declaration {
        change(&mut self);
        self
    }
}

/// A clock that goes on by itself, by a millisecond a look.
#[derive(Default)]
pub(crate) struct Ticks(AtomicU64);

impl Ticks {
    pub(crate) fn pass(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Ticks {
    fn now_ms(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Every secret has the canary as its text.
pub(crate) struct Canaries;

impl Secrets for Canaries {
    fn texts(&self, spec: &Value) -> Result<BTreeMap<Path, SecretText>, String> {
        Ok(spec.secrets().into_iter().map(|(path, _)| (path, SecretText::new(CANARY.to_owned()))).collect())
    }

    fn fingerprinted(&self, spec: &Value) -> Result<Value, String> {
        Ok(spec.map_leaves(&mut |leaf| match leaf {
            Value::Secret(secret) => {
                Some(Value::Secret(Secret { fingerprint: Some(Fingerprint("print".to_owned())), ..secret.clone() }))
            }
            _ => None,
        }))
    }
}

#[derive(Default)]
pub(crate) struct Recorded(Mutex<Vec<Event>>);

impl Recorded {
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl EventSink for Recorded {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// Fails once so many entries were appended, in the middle of a write. Counts the groups that were.
pub(crate) struct Failing {
    inner: Arc<dyn Backend>,
    pub(crate) left: Arc<AtomicU64>,
    groups: Arc<AtomicU64>,
    away: Option<Duration>,
}

struct FailingWriter {
    inner: Box<dyn Writer>,
    left: Arc<AtomicU64>,
    groups: Arc<AtomicU64>,
    away: Option<Duration>,
}

impl FailingWriter {
    async fn travel(&mut self) {
        if let Some(round_trip) = self.away {
            tokio::time::sleep(round_trip).await;
        }
    }
}

#[async_trait]
impl Backend for Failing {
    fn place(&self) -> String {
        self.inner.place()
    }
    async fn read(&self) -> Result<Stored, StateError> {
        self.inner.read().await
    }
    async fn lock_owner(&self) -> Result<Option<LockOwner>, StateError> {
        self.inner.lock_owner().await
    }
    async fn lock(&self, owner: &LockOwner, wait: Duration) -> Result<Box<dyn Writer>, StateError> {
        let writer = self.inner.lock(owner, wait).await?;
        let (left, groups) = (Arc::clone(&self.left), Arc::clone(&self.groups));
        Ok(Box::new(FailingWriter { inner: writer, left, groups, away: self.away }))
    }
    async fn unlock(&self, id: &str) -> Result<(), StateError> {
        self.inner.unlock(id).await
    }
    async fn history(&self, limit: usize) -> Result<Vec<SealedOperation>, StateError> {
        self.inner.history(limit).await
    }

    async fn vault(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.inner.vault().await
    }

    async fn offer_vault(&self, sealed: &[u8]) -> Result<Vec<u8>, StateError> {
        self.inner.offer_vault(sealed).await
    }
}

#[async_trait]
impl Writer for FailingWriter {
    async fn load(&mut self) -> Result<Stored, StateError> {
        self.inner.load().await
    }
    async fn create(&mut self, snapshot: &Snapshot) -> Result<(), StateError> {
        self.travel().await;
        self.inner.create(snapshot).await
    }
    async fn append(&mut self, first: u64, entries: &[Entry]) -> Result<(), StateError> {
        self.groups.fetch_add(1, Ordering::SeqCst);
        self.travel().await;
        let left = self.left.load(Ordering::SeqCst);
        if left < entries.len() as u64 {
            self.left.store(0, Ordering::SeqCst);
            // What fits is there all the same, as after a kill in the middle of a write.
            self.inner.append(first, &entries[..usize::try_from(left).unwrap()]).await?;
            let source = std::io::Error::other("no space left");
            return Err(StateError::Full { place: "journal".to_owned(), source });
        }
        self.left.fetch_sub(entries.len() as u64, Ordering::SeqCst);
        self.inner.append(first, entries).await
    }
    fn announces_ahead(&self) -> usize {
        if self.away.is_some() { 16 * 1024 } else { self.inner.announces_ahead() }
    }
    fn lingers(&self) -> Duration {
        if self.away.is_some() { Duration::from_millis(2) } else { self.inner.lingers() }
    }
    fn wants_checkpoint(&self) -> bool {
        self.inner.wants_checkpoint()
    }
    async fn checkpoint(&mut self, snapshot: &Snapshot) -> Result<(), StateError> {
        self.inner.checkpoint(snapshot).await
    }
    async fn archive(&mut self, operation: &SealedOperation) -> Result<(), StateError> {
        self.inner.archive(operation).await
    }
    async fn release(self: Box<Self>) -> Result<(), StateError> {
        self.inner.release().await
    }
}

pub(crate) struct Stack {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) world: World,
    pub(crate) declared: DeclaredGraph,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<Ticks>,
    pub(crate) sink: Arc<Recorded>,
    pub(crate) stop: CancellationToken,
    pub(crate) abort: CancellationToken,
    pub(crate) partial: bool,
    pub(crate) fails_after: Arc<AtomicU64>,
    /// How many groups of the journal were written.
    pub(crate) groups: Arc<AtomicU64>,
    /// How long a write of the journal takes, as if the state were in a store that is away.
    pub(crate) away: Option<Duration>,
    operations: AtomicU64,
}

impl Stack {
    pub(crate) fn new(declarations: impl IntoIterator<Item = Declaration>) -> Self {
        let world = World::new("engine");
        let mut stack = Self {
            folder: tempfile::tempdir().unwrap(),
            connector: Arc::new(SimulatedConnector::of("sim", &world)),
            world,
            declared: DeclaredGraph::default(),
            limits: Limits {
                backoff: Duration::from_millis(1),
                longest_backoff: Duration::from_millis(5),
                call_timeout: Duration::from_secs(10),
                wait_timeout: Duration::from_secs(10),
                ..Limits::default()
            },
            clock: Arc::default(),
            sink: Arc::default(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            partial: false,
            fails_after: Arc::new(AtomicU64::new(u64::MAX)),
            groups: Arc::default(),
            away: None,
            operations: AtomicU64::new(1),
        };
        stack.declared.providers.insert("sim".to_owned(), ProviderConfig::default());
        stack.declare(declarations);
        stack
    }

    pub(crate) fn declare(&mut self, declarations: impl IntoIterator<Item = Declaration>) -> &mut Self {
        self.declared.declarations =
            declarations.into_iter().map(|declaration| (declaration.address.clone(), Arc::new(declaration))).collect();
        self
    }

    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(LocalBackend::new(self.folder.path().join("state")))
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        let stored = self.backend().read().await.unwrap();
        stored.state.map_or_else(|| Snapshot::empty("lineage-1", "dev", None), |state| state.into_snapshot())
    }

    pub(crate) async fn plan(&self) -> Plan {
        self.plan_as(Mode::Apply).await
    }

    pub(crate) async fn plan_as(&self, mode: Mode) -> Plan {
        let empty = DeclaredGraph::default();
        let declared = if mode == Mode::Destroy { &empty } else { &self.declared };
        let stored = self.backend().read().await.unwrap();
        let new_state = stored.state.is_none();
        let snapshot = self.snapshot().await;
        let context = CallContext {
            lineage: snapshot.lineage.clone(),
            operation: None,
            timeout: Duration::from_secs(5),
            cancel: CancellationToken::new(),
        };
        let mut providers = snapshot.providers.clone();
        providers.extend(declared.providers.clone());
        let looker = Looker::new(Arc::clone(&self.connector), providers, context);
        let observations = looker.look(&look_list(declared, &snapshot), &|_| None).await;
        plan(&Inputs {
            declared,
            snapshot: &snapshot,
            observations: &observations,
            previews: &BTreeMap::new(),
            schemas: &Kinds::default(),
            options: &Options::default(),
            header: PlanHeader {
                lineage: snapshot.lineage.clone(),
                new_state,
                stack: "dev".to_owned(),
                environment: None,
                serial: snapshot.serial,
                mode,
                version: "0".to_owned(),
                commit: None,
                source: "ksail.yaml".to_owned(),
                made_ms: self.clock.now_ms(),
                at_work: None,
            },
        })
        .unwrap()
    }

    pub(crate) fn request(&self, plan: Plan) -> Apply {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        Apply {
            plan: Arc::new(plan),
            backend: Arc::new(Failing {
                inner: self.backend(),
                left: Arc::clone(&self.fails_after),
                groups: Arc::clone(&self.groups),
                away: self.away,
            }),
            connector: Arc::clone(&self.connector),
            schemas: Arc::new(Kinds::default()),
            secrets: Arc::new(Canaries),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            sink: Arc::clone(&self.sink) as Arc<dyn EventSink>,
            limits: self.limits.clone(),
            owner: LockOwner {
                id: format!("lock-{number}"),
                who: "test@host".to_owned(),
                doing: "apply".to_owned(),
                pid: std::process::id(),
                since_ms: 0,
            },
            lock_wait: Duration::from_secs(5),
            operation: format!("op-{number}"),
            partial: self.partial,
            stop: self.stop.clone(),
            abort: self.abort.clone(),
        }
    }

    pub(crate) async fn apply(&self, plan: Plan) -> Result<Summary, ApplyError> {
        apply(self.request(plan)).await
    }

    pub(crate) async fn run(&self) -> Summary {
        self.apply(self.plan().await).await.unwrap()
    }

    #[track_caller]
    pub(crate) fn complete(summary: &Summary) {
        assert_eq!(summary.ending, Ending::Complete, "{:?} {:?}", summary.failed, summary.skipped);
    }

    /// Names of all things outside, without what they are called after.
    pub(crate) fn listed(&self) -> Vec<String> {
        self.world.things().unwrap().into_iter().map(|thing| thing.name).collect()
    }

    /// Nothing is left to do, and the outside's own listing is what is declared.
    pub(crate) async fn converged(&self, what: &str) {
        let plan = self.plan().await;
        assert!(
            plan.steps.is_empty() && plan.is_complete(),
            "{what}: {:?}\n{:?}",
            plan.steps,
            self.snapshot().await.open
        );
        assert!(self.world.duplicates().unwrap().is_empty(), "{what}");
        let mut listed = self.listed();
        listed.sort();
        let mut wanted: Vec<String> =
            self.declared.declarations.values().map(|declaration| declaration.identity.name.clone()).collect();
        wanted.sort();
        assert_eq!(listed, wanted, "{what}");
        let snapshot = self.snapshot().await;
        assert!(snapshot.open.is_empty(), "{what}");
        assert_eq!(snapshot.records.len(), wanted.len(), "{what}");
    }
}

/// A small platform: a host with contents, something outside that uses them.
pub(crate) fn platform(size: i64) -> Vec<Declaration> {
    use serde_json::json;
    vec![
        declared("host/h", json!({"size": size})),
        declared("thing/net", json!({"v": size})).on("host/h"),
        declared("thing/reg", json!({"net": {"$ref": {"address": "dev/thing/net", "path": "id"}}}))
            .on("host/h")
            .needs("thing/net"),
        declared("thing/user", json!({"reg": {"$ref": {"address": "dev/thing/reg", "path": "id"}}})).needs("thing/reg"),
        declared("twin/t", json!({"size": size})).named(&format!("t-{size}")).with(|declaration| {
            declaration.lifecycle.create_before_destroy = true;
        }),
        declared("thing/free", json!({"size": size})),
    ]
}
