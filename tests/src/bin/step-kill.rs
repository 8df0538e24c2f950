//! Plans and applies a small platform on a simulated outside in a folder, and dies at a given step.
//!
//! `step-kill FOLDER (first|changed|destroy) [STEP]`: a step is the moment before or after a journal append, a checkpoint,
//! an archive, the lock and the unlock, and the begin, effect and end of each provider call. Without a step nothing
//! dies. What it ends with: 0 converged, 2 not converged (with why); a death is an abort.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use ksail_conformance::world::{SimulatedConnector, World};
use ksail_execute::{Apply, Clock, Ending, Limits, Looker, NoSecrets, Silent, apply};
use ksail_model::{
    Address, Condition, Declaration, DeclaredGraph, Edge, FieldSchema, ForceOn, Identity, KindSchema, Lifecycle,
    Origin, Origins, Ownership, Path, ProviderConfig, Reference, Schemas, Strength, Value,
};
use ksail_plan::{Inputs, Mode, Options, Plan, PlanHeader, look_list, plan};
use ksail_provider::CallContext;
use ksail_records::{Backend, Entry, LockOwner, SealedOperation, Snapshot, StateError, Stored, Writer};
use ksail_state_local::LocalBackend;
use tokio_util::sync::CancellationToken;

/// Counts steps, and dies at one of them.
struct Steps {
    passed: AtomicU64,
    last: u64,
}

impl Steps {
    fn step(&self) {
        if self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.last {
            std::process::abort();
        }
    }
}

struct Kinds(Vec<KindSchema>);

impl Kinds {
    fn new() -> Self {
        let kind = |kind, is_host, may_coexist| KindSchema {
            kind,
            version: 1,
            fields: vec![FieldSchema::new("size").forces_replacement()],
            may_coexist,
            is_host,
            holds_data: None,
            repeat_safe: true,
            normalises: false,
            estimate: Duration::from_secs(1),
            follows: None,
        };
        let fixed = Err("its name is fixed");
        Self(vec![kind("host", true, fixed), kind("thing", false, fixed), kind("twin", false, Ok(()))])
    }
}

impl Schemas for Kinds {
    fn schema(&self, kind: &str) -> Option<&KindSchema> {
        self.0.iter().find(|schema| schema.kind == kind)
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The local state, with a step before and after all that it writes. It checkpoints at every chance.
struct Stepped(LocalBackend, Arc<Steps>);

struct SteppedWriter(Box<dyn Writer>, Arc<Steps>);

#[async_trait]
impl Backend for Stepped {
    fn place(&self) -> String {
        self.0.place()
    }
    async fn read(&self) -> Result<Stored, StateError> {
        self.0.read().await
    }
    async fn lock_owner(&self) -> Result<Option<LockOwner>, StateError> {
        self.0.lock_owner().await
    }
    async fn lock(&self, owner: &LockOwner, wait: Duration) -> Result<Box<dyn Writer>, StateError> {
        self.1.step();
        let writer = self.0.lock(owner, wait).await?;
        self.1.step();
        Ok(Box::new(SteppedWriter(writer, Arc::clone(&self.1))))
    }
    async fn unlock(&self, id: &str) -> Result<(), StateError> {
        self.0.unlock(id).await
    }
    async fn history(&self, limit: usize) -> Result<Vec<SealedOperation>, StateError> {
        self.0.history(limit).await
    }

    async fn vault(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.0.vault().await
    }

    async fn offer_vault(&self, sealed: &[u8]) -> Result<Vec<u8>, StateError> {
        self.0.offer_vault(sealed).await
    }
}

#[async_trait]
impl Writer for SteppedWriter {
    async fn load(&mut self) -> Result<Stored, StateError> {
        self.1.step();
        let stored = self.0.load().await;
        self.1.step();
        stored
    }
    async fn create(&mut self, snapshot: &Snapshot) -> Result<(), StateError> {
        self.1.step();
        let created = self.0.create(snapshot).await;
        self.1.step();
        created
    }
    async fn append(&mut self, first: u64, entries: &[Entry]) -> Result<(), StateError> {
        // One at a time, so that a kill comes between any two.
        for (first, entry) in (first..).zip(entries) {
            self.1.step();
            self.0.append(first, std::slice::from_ref(entry)).await?;
            self.1.step();
        }
        Ok(())
    }
    fn wants_checkpoint(&self) -> bool {
        true
    }
    async fn checkpoint(&mut self, snapshot: &Snapshot) -> Result<(), StateError> {
        self.1.step();
        let done = self.0.checkpoint(snapshot).await;
        self.1.step();
        done
    }
    async fn archive(&mut self, operation: &SealedOperation) -> Result<(), StateError> {
        self.1.step();
        let done = self.0.archive(operation).await;
        self.1.step();
        done
    }
    async fn release(self: Box<Self>) -> Result<(), StateError> {
        self.1.step();
        let done = self.0.release().await;
        self.1.step();
        done
    }
}

fn address(kind: &str, name: &str) -> Address {
    Address::new("dev", kind, &[name])
}

fn declared(kind: &str, name: &str, size: i64) -> Declaration {
    Declaration {
        address: address(kind, name),
        kind_version: 1,
        provider: "sim".to_owned(),
        identity: Identity::named(name),
        spec: Value::map([("size", size)]),
        host: None,
        edges: Vec::new(),
        ownership: Ownership::Owned,
        lifecycle: Lifecycle::default(),
        choices: Vec::new(),
        origins: Origins::default(),
    }
}

/// The declaration, with a need for another's id.
fn of(mut declaration: Declaration, kind: &str, name: &str, on_replace: ForceOn) -> Declaration {
    let to = address(kind, name);
    declaration.edges.push(Edge {
        to: to.clone(),
        condition: Condition::Ready,
        strength: Strength::Hard,
        on_replace,
        origin: Origin::Derived { why: "it needs it".into() },
    });
    declaration.spec.set(&Path::key("of"), Value::Ref(Reference { address: to, path: Path::key("id") }));
    declaration
}

fn on(mut declaration: Declaration, host: &str) -> Declaration {
    declaration.host = Some(address("host", host));
    declaration
}

/// A host with contents, what stands on them, one that is made first and one that is made anew; changed, everything of that
/// is replaced, moved, updated or gone.
fn graph(changed: bool) -> DeclaredGraph {
    let size = if changed { 2 } else { 1 };
    let twin = |number: i64| {
        let mut twin = declared("twin", "twin", number);
        twin.identity = Identity::named(format!("twin-{number}"));
        twin.lifecycle.create_before_destroy = true;
        twin
    };
    let mut all = vec![
        declared("host", "engine", size),
        on(declared("thing", "network", 1), "engine"),
        on(of(declared("thing", "registry", 1), "thing", "network", ForceOn::Replace), "engine"),
        of(declared("thing", "user", 1), "thing", "registry", ForceOn::Nothing),
        of(of(declared("thing", "anew", size), "twin", "twin", ForceOn::Nothing), "thing", "user", ForceOn::Nothing),
        twin(size),
        declared("thing", if changed { "moved" } else { "old" }, 1),
        declared("thing", if changed { "late" } else { "early" }, 1),
    ];
    // It keeps its name through the move.
    for declaration in &mut all {
        if matches!(declaration.address.name(), "old" | "moved") {
            declaration.identity = Identity::named("steady");
        }
    }
    let mut graph = DeclaredGraph {
        declarations: all.into_iter().map(|declaration| (declaration.address.clone(), Arc::new(declaration))).collect(),
        providers: BTreeMap::from([("sim".to_owned(), ProviderConfig::default())]),
        ..DeclaredGraph::default()
    };
    if changed {
        let origin = Origin::Derived { why: "a test moves it".into() };
        graph.moved.push(ksail_model::Move { from: address("thing", "old"), to: address("thing", "moved"), origin });
    }
    graph
}

struct Stack {
    world: World,
    backend: Arc<dyn Backend>,
    connector: Arc<SimulatedConnector>,
    declared: DeclaredGraph,
    mode: Mode,
}

type Failure = Box<dyn std::error::Error>;

impl Stack {
    fn open(folder: &std::path::Path, goal: &str, steps: Arc<Steps>) -> Result<Self, Failure> {
        let world = World::in_folder(folder.join("world"), "engine")?;
        let hooked = Arc::clone(&steps);
        world.set_hook(Some(Arc::new(move |_, _, _| hooked.step())));
        Ok(Self {
            connector: Arc::new(SimulatedConnector::of("sim", &world)),
            world,
            backend: Arc::new(Stepped(LocalBackend::new(folder.join("state")), steps)),
            declared: if goal == "destroy" { DeclaredGraph::default() } else { graph(goal == "changed") },
            mode: if goal == "destroy" { Mode::Destroy } else { Mode::Apply },
        })
    }

    async fn plan(&self) -> Result<Plan, Failure> {
        let stored = self.backend.read().await?;
        let new_state = stored.state.is_none();
        let empty = || Snapshot::empty("lineage-1", "dev", None);
        let snapshot = stored.state.map_or_else(empty, ksail_records::State::into_snapshot);
        let mut providers = snapshot.providers.clone();
        providers.extend(self.declared.providers.clone());
        let context = CallContext {
            lineage: snapshot.lineage.clone(),
            operation: None,
            timeout: Duration::from_secs(5),
            cancel: CancellationToken::new(),
        };
        let connector: Arc<dyn ksail_provider::Connector> = self.connector.clone();
        let looker = Looker::new(connector, providers, context);
        let observations = looker.look(&look_list(&self.declared, &snapshot), &|_| None).await;
        Ok(plan(&Inputs {
            declared: &self.declared,
            snapshot: &snapshot,
            observations: &observations,
            previews: &BTreeMap::new(),
            schemas: &Kinds::new(),
            options: &Options::default(),
            header: PlanHeader {
                lineage: snapshot.lineage.clone(),
                new_state,
                stack: "dev".to_owned(),
                environment: None,
                serial: snapshot.serial,
                mode: self.mode.clone(),
                version: "0".to_owned(),
                commit: None,
                source: "ksail.yaml".to_owned(),
                made_ms: SystemClock.now_ms(),
            },
        })?)
    }

    async fn apply(&self, plan: Plan) -> Result<(), Failure> {
        let summary = apply(Apply {
            plan: Arc::new(plan),
            backend: Arc::clone(&self.backend),
            connector: self.connector.clone(),
            schemas: Arc::new(Kinds::new()),
            secrets: Arc::new(NoSecrets),
            clock: Arc::new(SystemClock),
            sink: Arc::new(Silent),
            // One at a time, so that the steps come in the same order in every run.
            limits: Limits { calls_in_flight: 1, waits_in_flight: 1, ..Limits::default() },
            owner: LockOwner {
                id: format!("lock-{}", std::process::id()),
                who: "step-kill".to_owned(),
                doing: "apply".to_owned(),
                pid: std::process::id(),
                since_ms: 0,
            },
            lock_wait: Duration::from_secs(5),
            operation: format!("op-{}-{}", std::process::id(), SystemClock.now_ms()),
            partial: false,
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        })
        .await?;
        if summary.ending == Ending::Complete {
            Ok(())
        } else {
            Err(format!("{:?}: {:?} {:?}", summary.ending, summary.failed, summary.skipped).into())
        }
    }

    /// Nothing is left to do, and the outside's own listing is what is declared.
    async fn check(&self) -> Result<(), Failure> {
        let plan = self.plan().await?;
        if !plan.steps.is_empty() || !plan.is_complete() {
            return Err(format!("there is more to do: {:?}", plan.steps).into());
        }
        let mut listed: Vec<String> = self.world.things()?.into_iter().map(|thing| thing.name).collect();
        let wanted = self.declared.declarations.values();
        let mut wanted: Vec<String> = wanted.map(|declaration| declaration.identity.name.clone()).collect();
        listed.sort();
        wanted.sort();
        if listed != wanted {
            return Err(format!("outside there are {listed:?}, declared are {wanted:?}").into());
        }
        Ok(())
    }
}

async fn run() -> Result<u64, Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("the folder is missing")?);
    let goal = arguments.next().ok_or("the goal is missing")?;
    let last = arguments.next().map_or(Ok(u64::MAX), |text| text.parse())?;
    let resumes = arguments.next().is_some();
    let steps = Arc::new(Steps { passed: AtomicU64::new(0), last });
    let stack = Stack::open(&folder, &goal, Arc::clone(&steps))?;
    // The plan is saved, as a pipeline would save it: its retry applies the same one.
    let saved = folder.join(format!("{goal}.plan"));
    let plan = match std::fs::read(&saved) {
        Ok(bytes) if resumes => serde_json::from_slice(&bytes)?,
        _ => {
            let plan = stack.plan().await?;
            std::fs::write(&saved, serde_json::to_vec(&plan)?)?;
            plan
        }
    };
    stack.apply(plan).await?;
    let passed = steps.passed.load(Ordering::SeqCst);
    stack.check().await?;
    Ok(passed)
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a program, and its driver reads it")]
async fn main() -> ExitCode {
    match run().await {
        Ok(passed) => {
            println!("{passed}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
