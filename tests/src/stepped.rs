//! An apply that dies at a given step, whatever it is that it applies.
//!
//! A step is the moment before or after a journal append, a checkpoint, an archive, the lock and the unlock; programs add those
//! of their provider's calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use ksail_execute::{Apply, Clock, Ending, Limits, Looker, NoSecrets, Silent, apply};
use ksail_model::{DeclaredGraph, Preview, RecordKey, Schemas};
use ksail_plan::{Action, Inputs, Mode, Observed, Options, Plan, PlanHeader, look_list, plan};
use ksail_provider::{CallContext, Connector, PreviewRequest, Target};
use ksail_records::{Backend, Entry, LockOwner, SealedOperation, Snapshot, StateError, Stored, Writer};
use ksail_state_local::LocalBackend;
use tokio_util::sync::CancellationToken;

/// Counts steps, and dies at one of them.
#[derive(Debug)]
pub struct Steps {
    passed: AtomicU64,
    last: u64,
}

impl Steps {
    /// Dies at the step of this number.
    pub const fn until(last: u64) -> Self {
        Self { passed: AtomicU64::new(0), last }
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    /// One more step. At the last one the process aborts.
    pub fn step(&self) {
        if self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.last {
            std::process::abort();
        }
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

/// What is applied, and onto what.
pub struct Stack {
    /// What is wanted; empty for a destroy.
    pub declared: DeclaredGraph,
    /// Its kinds.
    pub schemas: Arc<dyn Schemas>,
    /// Opens sessions of its providers.
    pub connector: Arc<dyn Connector>,
    /// The lineage of its state.
    pub lineage: String,
    /// How long a look and a preview may take.
    pub timeout: Duration,
}

/// Why a run did not converge.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a program was asked: `FOLDER GOAL [STEP [resume]]`.
#[derive(Debug)]
pub struct Asked {
    /// Where state and saved plans are.
    pub folder: PathBuf,
    /// What is to be reached; `destroy` is the empty declaration.
    pub goal: String,
    /// Counts the steps.
    pub steps: Arc<Steps>,
    resumes: bool,
}

impl Asked {
    /// Reads the program's arguments.
    ///
    /// # Errors
    /// If one is missing, or the step is no number.
    pub fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self, Failure> {
        let mut arguments = arguments.into_iter();
        let folder = PathBuf::from(arguments.next().ok_or("the folder is missing")?);
        let goal = arguments.next().ok_or("the goal is missing")?;
        let last = arguments.next().map_or(Ok(u64::MAX), |text| text.parse())?;
        Ok(Self { folder, goal, steps: Arc::new(Steps::until(last)), resumes: arguments.next().is_some() })
    }

    /// Plans and applies. Answers how many steps were passed.
    ///
    /// # Errors
    /// If it does not converge.
    pub async fn run(&self, stack: &Stack) -> Result<u64, Failure> {
        let backend = Arc::new(Stepped(LocalBackend::new(self.folder.join("state")), Arc::clone(&self.steps)));
        // The plan is saved, as a pipeline would save it: its retry applies the same one.
        let saved = self.folder.join(format!("{}.plan", self.goal));
        let plan = match std::fs::read(&saved) {
            Ok(bytes) if self.resumes => serde_json::from_slice(&bytes)?,
            _ => {
                let plan = self.plan(stack, &*backend).await?;
                save(&saved, &plan)?;
                plan
            }
        };
        execute(stack, Arc::clone(&backend) as Arc<dyn Backend>, plan).await?;
        let passed = self.steps.passed();
        let rest = self.plan(stack, &*backend).await?;
        if rest.steps.is_empty() && rest.is_complete() {
            Ok(passed)
        } else {
            Err(format!("there is more to do: {:?}", rest.steps).into())
        }
    }

    async fn plan(&self, stack: &Stack, backend: &dyn Backend) -> Result<Plan, Failure> {
        let stored = backend.read().await?;
        let new_state = stored.state.is_none();
        let empty = || Snapshot::empty(&stack.lineage, "dev", None);
        let snapshot = stored.state.map_or_else(empty, ksail_records::State::into_snapshot);
        let mut providers = snapshot.providers.clone();
        providers.extend(stack.declared.providers.clone());
        let context = CallContext {
            lineage: snapshot.lineage.clone(),
            operation: None,
            timeout: stack.timeout,
            cancel: CancellationToken::new(),
        };
        let looker = Looker::new(Arc::clone(&stack.connector), providers, context.clone());
        let observations = looker.look(&look_list(&stack.declared, &snapshot), &|_| None).await;
        let mode = if self.goal == "destroy" { Mode::Destroy } else { Mode::Apply };
        let plan_with = |previews: &BTreeMap<RecordKey, Preview>| {
            plan(&Inputs {
                declared: &stack.declared,
                snapshot: &snapshot,
                observations: &observations,
                previews,
                schemas: &*stack.schemas,
                options: &Options::default(),
                header: PlanHeader {
                    lineage: snapshot.lineage.clone(),
                    new_state,
                    stack: "dev".to_owned(),
                    environment: None,
                    serial: snapshot.serial,
                    mode: mode.clone(),
                    version: "0".to_owned(),
                    commit: None,
                    source: "ksail.yaml".to_owned(),
                    made_ms: SystemClock.now_ms(),
                    at_work: None,
                },
            })
        };
        let first = plan_with(&BTreeMap::new())?;
        Ok(plan_with(&previews(stack, &first, &observations, &context).await?)?)
    }
}

fn save(path: &Path, plan: &Plan) -> Result<(), Failure> {
    Ok(std::fs::write(path, serde_json::to_vec(plan)?)?)
}

/// What the outside says that the changes would give.
async fn previews(
    stack: &Stack,
    plan: &Plan,
    observations: &BTreeMap<RecordKey, Observed>,
    context: &CallContext,
) -> Result<BTreeMap<RecordKey, Preview>, Failure> {
    let mut found = BTreeMap::new();
    for node in plan.nodes.values() {
        let Some(declaration) = node.declaration.as_ref().filter(|declaration| declaration.host.is_none()) else {
            continue;
        };
        if !matches!(node.action, Action::Create | Action::Update | Action::Replace { .. }) {
            continue;
        }
        let seen = observations.get(&node.key).and_then(|observed| observed.observation.seen());
        let target = Target {
            address: node.key.address.clone(),
            kind_version: declaration.kind_version,
            identity: declaration.identity.clone(),
            id: seen.and_then(|seen| seen.id.clone()),
            spec: Some(declaration.spec.clone()),
            ownership: declaration.ownership,
        };
        let config = plan.providers.get(&declaration.provider).ok_or("a provider of the plan")?;
        let session = stack.connector.connect(&declaration.provider, config, None).await?;
        let request = PreviewRequest { target, current: seen.map(|seen| seen.fields.clone()), comes_after: Vec::new() };
        let reply = session.preview(context, &[request]).await?;
        found.extend(reply.into_iter().map(|preview| (node.key.clone(), preview)));
    }
    Ok(found)
}

async fn execute(stack: &Stack, backend: Arc<dyn Backend>, plan: Plan) -> Result<(), Failure> {
    let summary = apply(Apply {
        plan: Arc::new(plan),
        backend,
        connector: Arc::clone(&stack.connector),
        schemas: Arc::clone(&stack.schemas),
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

/// What outside there is must be what is declared: names on both sides, in any order.
///
/// # Errors
/// If they differ.
pub fn compare(mut listed: Vec<String>, declared: &DeclaredGraph) -> Result<(), Failure> {
    let wanted = declared.declarations.values();
    let mut wanted: Vec<String> = wanted.map(|declaration| declaration.identity.name.clone()).collect();
    listed.sort();
    wanted.sort();
    if listed == wanted { Ok(()) } else { Err(format!("outside there are {listed:?}, declared are {wanted:?}").into()) }
}

/// Tells the driver how a run ended: 0 converged, with the number of steps; 2 not converged, with why.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is the end of a program, and its driver reads it")]
pub fn end(ran: Result<u64, Failure>) -> ExitCode {
    match ran {
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
