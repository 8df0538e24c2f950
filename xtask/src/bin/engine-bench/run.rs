//! One run: read, compile, look, plan, show, apply.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ksail_execute::{Apply, Clock, Ending, Limits, Looker, NoSecrets, apply, workers};
use ksail_model::{DeclaredGraph, ProviderConfig};
use ksail_plan::{Inputs, Mode, Options, Plan, PlanHeader, joined, look_list, plan};
use ksail_provider::{CallContext, Connector};
use ksail_records::{Backend, LockOwner, Snapshot, State};
use ksail_state_local::LocalBackend;
use ksail_state_object::ObjectStoreObjects;
use ksail_state_remote::{RemoteBackend, RemoteOptions};
use ksail_views::text::{self, TextOptions};
use object_store::memory::InMemory;
use tokio_util::sync::CancellationToken;
use xtask::graph::Graph;

use crate::compile::compile;
use crate::distant::Distant;
use crate::kind::OneKind;
use crate::provider::Nothing;
use crate::report::{Lines, Report, peak_bytes, written_bytes};
use crate::{Do, Run};

/// The lineage of every state that is made here.
const LINEAGE: &str = "bench";

/// How long one batch of observations may take.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(60);

struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Run) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    // As the binary makes it.
    let workers = workers(std::thread::available_parallelism()?.get());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let report = runtime.block_on(go(arguments, started))?;
    if let Some(path) = &arguments.report {
        report.write(path)?;
    }
    Ok(())
}

async fn go(arguments: &Run, started: Instant) -> Result<Report, Box<dyn Error>> {
    let mut graph = Graph::read(&arguments.graph)?;
    if arguments.mode == Do::ChangeOne {
        let middle = graph.nodes.len() / 2;
        let input = format!("changed-{}", SystemClock.now_ms());
        graph.nodes.get_mut(middle).ok_or_else(|| io::Error::other("the graph is empty"))?.input = input;
    }
    let provider = Nothing::new(times(&graph, arguments.scale));
    let (declared, mode) = match arguments.mode {
        Do::Destroy => (DeclaredGraph::default(), Mode::Destroy),
        _ => (compile(&graph, &arguments.graph.display().to_string()), Mode::Apply),
    };
    drop(graph);
    let backend = backend(arguments);
    let made = make_plan(declared, mode, backend.as_ref(), &provider).await?;
    let lines = Arc::new(Lines::new());
    lines.show(&text::plan(&made, &OneKind::default(), &TextOptions::default()));
    let mut report = Report {
        changes: made.nodes.values().filter(|node| node.action.is_change()).count(),
        planned_ms: ms(started),
        ..Report::default()
    };
    if arguments.mode != Do::Plan {
        let dispatched = Instant::now();
        report.done = apply_plan(made, arguments, backend, provider, Arc::clone(&lines)).await?;
        report.dispatched_ms = ms(dispatched);
    }
    let shown = lines.flush();
    report.written_bytes = written_bytes().map(|bytes| bytes.saturating_sub(shown));
    report.peak_bytes = peak_bytes();
    report.total_ms = ms(started);
    Ok(report)
}

/// The state: in a folder, or in a store in memory whose every request takes a round trip.
fn backend(arguments: &Run) -> Arc<dyn Backend> {
    let Some(ms) = arguments.round_trip_ms else { return Arc::new(LocalBackend::new(arguments.state.clone())) };
    let objects = ObjectStoreObjects::new(Arc::new(InMemory::new()), "bench", "memory".to_owned());
    let store = Distant { objects, round_trip: Duration::from_millis(ms) };
    Arc::new(RemoteBackend::new(Arc::new(store), RemoteOptions::new(arguments.state.clone())))
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn times(graph: &Graph, scale: f64) -> HashMap<String, Duration> {
    if scale <= 0.0 {
        return HashMap::new();
    }
    graph.nodes.iter().map(|node| (node.name.clone(), Duration::from_millis(node.call_ms).mul_f64(scale))).collect()
}

async fn make_plan(
    declared: DeclaredGraph,
    mode: Mode,
    backend: &dyn Backend,
    provider: &Nothing,
) -> Result<Plan, Box<dyn Error>> {
    let stored = backend.read().await?;
    let new_state = stored.state.is_none();
    let snapshot = stored.state.map_or_else(|| Snapshot::empty(LINEAGE, "bench", None), State::into_snapshot);
    let mut providers: BTreeMap<String, ProviderConfig> = snapshot.providers.clone();
    providers.extend(declared.providers.clone());
    let context = CallContext {
        lineage: LINEAGE.to_owned(),
        operation: None,
        timeout: OBSERVE_TIMEOUT,
        cancel: CancellationToken::new(),
    };
    let connector: Arc<dyn Connector> = Arc::new(provider.clone());
    let known = |host: &_| snapshot.records.get(host).map(|record| joined(&record.fields, &record.attributes));
    let observations = {
        let items = look_list(&declared, &snapshot);
        Looker::new(connector, providers, context).look(&items, &known).await
    };
    let header = PlanHeader {
        lineage: LINEAGE.to_owned(),
        new_state,
        stack: "bench".to_owned(),
        environment: None,
        serial: snapshot.serial,
        mode,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: None,
        source: "graph.json".to_owned(),
        made_ms: SystemClock.now_ms(),
        at_work: None,
    };
    Ok(plan(&Inputs {
        declared: &declared,
        snapshot: &snapshot,
        observations: &observations,
        previews: &BTreeMap::new(),
        schemas: &OneKind::default(),
        options: &Options::default(),
        header,
    })?)
}

async fn apply_plan(
    plan: Plan,
    arguments: &Run,
    backend: Arc<dyn Backend>,
    provider: Nothing,
    sink: Arc<Lines>,
) -> Result<usize, Box<dyn Error>> {
    let mut limits = Limits::default();
    if let Some(parallelism) = arguments.parallelism {
        limits.calls_in_flight = parallelism;
    }
    let now_ms = SystemClock.now_ms();
    let summary = apply(Apply {
        plan: Arc::new(plan),
        backend,
        connector: Arc::new(provider),
        schemas: Arc::new(OneKind::default()),
        secrets: Arc::new(NoSecrets),
        clock: Arc::new(SystemClock),
        sink,
        limits,
        owner: LockOwner {
            id: format!("bench-{now_ms}"),
            who: "bench".to_owned(),
            doing: "apply".to_owned(),
            pid: std::process::id(),
            since_ms: now_ms,
        },
        lock_wait: Duration::ZERO,
        operation: format!("bench-{now_ms}"),
        partial: false,
        stop: CancellationToken::new(),
        abort: CancellationToken::new(),
    })
    .await?;
    if summary.ending != Ending::Complete {
        return Err(io::Error::other(format!("ended as {:?}", summary.ending)).into());
    }
    Ok(summary.done)
}
