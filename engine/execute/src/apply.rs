//! One apply: lock, load, verify, begin or resume, dispatch, seal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ksail_model::{Address, Observation, RecordKey, UnknownReason};
use ksail_plan::{
    Action, LookItem, Mode, Observed, Plan, PlanNode, Resolution, SeenAt, StepDo, in_order, resolve_open_intents,
    seen_digest,
};
use ksail_provider::CallContext;
use ksail_records::{
    Edit, Entry, OperationHeader, OperationKind, OperationResult, OutcomeKind, Snapshot, State, StateError, Writer,
};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::dispatch::{Dispatch, Progress, Seal};
use crate::event::{Ending, Event};
use crate::fit::{check_fit, is_resumed};
use crate::journal::{Journal, JournalError};
use crate::kept_plan::KeptPlanToBe;
use crate::look::{Looker, known_attributes};
use crate::request::{Apply, Summary};
use crate::sessions::Sessions;
use crate::step::is_made_again;

/// Why an apply did not happen, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The state could not be locked, read or written. What is recorded is recorded.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal could not be written: dispatch stopped.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The plan does not fit what is there now. Nothing was called.
    #[error("the plan is stale: {}", told(.0))]
    Stale(Vec<String>),
    /// The plan was applied before. Nothing was called.
    #[error("the plan was applied by operation {operation} already")]
    Used {
        /// By which.
        operation: String,
    },
}

/// How long calls that another process left open are waited out at most.
const MOST_WAIT_OUT: Duration = Duration::from_secs(1800);
/// A deadline is past a moment after it.
const JUST_PAST: Duration = Duration::from_millis(10);

/// How many findings a message names.
const MOST_FINDINGS: usize = 10;

/// Findings, one a line where there are several.
fn told(findings: &[String]) -> String {
    match findings {
        [one] => one.clone(),
        several => {
            let mut text = String::new();
            for finding in several.iter().take(MOST_FINDINGS) {
                text.push_str(&format!("\n  - {finding}"));
            }
            if several.len() > MOST_FINDINGS {
                text.push_str(&format!("\n  … and {} more", several.len() - MOST_FINDINGS));
            }
            text
        }
    }
}

/// Applies a plan.
///
/// After a kill at any instruction, applying the same plan goes on from what is there; applying another one first
/// resolves what is open.
pub async fn apply(request: Apply) -> Result<Summary, ApplyError> {
    let (place, began) = (request.backend.place(), Instant::now());
    // Many megabytes of JSON for a large plan: made while a store that is away is asked.
    let kept = request.backend.keeps_plans().then(|| KeptPlanToBe::start(&request.plan));
    let mut writer = match request.backend.lock(&request.owner, request.lock_wait).await {
        Ok(writer) => writer,
        Err(error) => {
            debug!(place, took = ?began.elapsed(), %error, "lock not taken");
            return Err(error.into());
        }
    };
    debug!(place, took = ?began.elapsed(), id = request.owner.id, lease = writer.lease().is_some(), "lock taken");
    match load(&request, writer.as_mut()).await {
        Ok((state, is_new)) => run(request, writer, state, is_new, kept).await,
        Err(error) => {
            // The first error counts; a lock that cannot be given back goes with the process.
            let _ = writer.release().await;
            Err(error)
        }
    }
}

/// Loads the state that the plan was made from, or begins the first one, which is stored with its first entries. Answers whether it
/// is new.
async fn load(request: &Apply, writer: &mut dyn Writer) -> Result<(State, bool), ApplyError> {
    let plan = &request.plan.header;
    let stored = writer.load().await?;
    for message in stored.warnings {
        request.sink.event(Event::Note { message });
    }
    check_fit(&request.plan, stored.state.as_ref().map(State::snapshot))?;
    let Some(state) = stored.state else {
        let empty = Snapshot::empty(&plan.lineage, &plan.stack, plan.environment.clone());
        // Serials go on where the history of a lost state ends.
        return Ok((State::new(Snapshot { serial: plan.serial, ..empty }), true));
    };
    Ok((state, false))
}

async fn run(
    mut request: Apply,
    writer: Box<dyn Writer>,
    state: State,
    is_new: bool,
    kept: Option<KeptPlanToBe>,
) -> Result<Summary, ApplyError> {
    let ahead = &mut request.limits.announced_ahead;
    *ahead = writer.announces_ahead().max(*ahead);
    let (journal, task) = Journal::start(writer, state, is_new, kept);
    let watch = journal.lease().cloned().map(|lease| {
        // The caller's tokens stay the caller's.
        let (stop, abort) = (request.stop.child_token(), request.abort.child_token());
        (request.stop, request.abort) = (stop.clone(), abort.clone());
        let lost = Arc::clone(&lease);
        let task = tokio::spawn(async move {
            lost.lost().await;
            // Another one may be at work already: nothing new is begun, and calls in flight are cancelled. They stay open
            // intents.
            stop.cancel();
            abort.cancel();
        });
        (lease, task)
    });
    let context = CallContext {
        lineage: request.plan.header.lineage.clone(),
        operation: Some(request.operation.clone()),
        timeout: request.limits.observe_timeout,
        cancel: request.abort.clone(),
    };
    let sessions = Arc::new(Sessions::new(Arc::clone(&request.connector), request.plan.providers.clone()));
    let run = Run { looker: Looker::with_sessions(Arc::clone(&sessions), context), sessions, journal, request };
    let result = run.apply().await;
    let lapsed = watch.is_some_and(|(lease, task)| {
        let lapsed = lease.remaining().is_zero();
        task.abort();
        lapsed
    });
    let place = run.request.backend.place();
    drop(run);
    // The journal's task ends with its last handle, and what it wrote is on disk.
    let Ok((writer, state)) = task.await else {
        return Err(result.err().unwrap_or_else(|| JournalError::Stopped.into()));
    };
    let released = writer.release().await;
    debug!(place, is_released = released.is_ok(), "lock given back");
    let Finished { operation, ending, resumed, progress } = result?;
    if lapsed && ending == Ending::Interrupted {
        let why = "calls in flight were cancelled, and nothing more was begun".to_owned();
        return Err(StateError::LeaseLost { place, why }.into());
    }
    released?;
    Ok(Summary {
        operation,
        ending,
        resumed,
        done: progress.done,
        failed: progress.failed,
        skipped: progress.skipped,
        snapshot: Arc::unwrap_or_clone(state).into_snapshot(),
    })
}

/// An apply that came to its end, in whatever way.
struct Finished {
    operation: String,
    ending: Ending,
    resumed: bool,
    progress: Progress,
}

struct Run {
    request: Apply,
    journal: Journal,
    sessions: Arc<Sessions>,
    looker: Looker,
}

impl Run {
    async fn apply(&self) -> Result<Finished, ApplyError> {
        let plan = &self.request.plan;
        let resumed = self.journal.read(|snapshot| is_resumed(plan, snapshot));
        let mut touched = self.resolve_open(resumed).await?;
        let done = if resumed {
            self.steps_done(&mut touched)
        } else {
            // The plan was made from what these calls came to; what it saw of them must still be so.
            touched.clear();
            BTreeSet::new()
        };
        let differing = self.verify(&touched).await;
        debug!(resumed, done = done.len(), differing = differing.len(), "looked again before the first call");
        for (key, why) in &differing {
            debug!(%key, why, "differs from the plan");
        }
        if !differing.is_empty() && !self.request.partial {
            return Err(ApplyError::Stale(
                differing.iter().map(|(key, why)| format!("{key} {why}")).collect::<Vec<_>>(),
            ));
        }
        let (operation, entries) = self.beginning(resumed);
        debug!(operation, resumed, steps = plan.steps.len(), "operation begins");
        // The first intents share its write: none of them can be durable without it.
        let more = self.journal.more_comes();
        let begun = self.journal.take_in(entries).await?;
        self.request.sink.event(Event::Started {
            operation: operation.clone(),
            resumed,
            counts: plan.counts(),
            steps: plan.steps.len(),
            done: done.len(),
        });
        let began_ms = self.request.clock.now_ms();
        let dispatch = Dispatch::new(
            &self.request,
            operation.clone(),
            self.journal.clone(),
            Arc::clone(&self.sessions),
            done,
            differing,
            self.seal(&operation),
        );
        // Beside the steps that it starts and hears of: from outside the runtime, each of them would wake a thread.
        let dispatched = AbortOnDropHandle::new(tokio::spawn(dispatch.run(more)));
        let (begun, progress) = tokio::join!(begun, dispatched);
        begun?;
        let progress = match progress {
            Ok(progress) => progress?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(JournalError::Stopped.into()),
        };
        self.finish(operation, resumed, progress, began_ms).await
    }

    /// Looks at every call that a killed operation left open and records what became of it. Answers whose those were.
    async fn resolve_open(&self, resumed: bool) -> Result<BTreeSet<RecordKey>, ApplyError> {
        let plan = &self.request.plan;
        let snapshot = self.journal.read(|snapshot| (!snapshot.open.is_empty()).then(|| snapshot.clone()));
        let Some(snapshot) = snapshot else { return Ok(BTreeSet::new()) };
        let mut items: BTreeMap<RecordKey, LookItem> = BTreeMap::new();
        for key in snapshot.open.keys() {
            // Through its hosts, as the plan looked: in a host that is gone everything is gone.
            let mut next = Some(key.clone());
            while let Some((key, record)) = next.and_then(|key| snapshot.records.get(&key).map(|record| (key, record)))
            {
                next = record.declaration.host.clone().map(RecordKey::current).filter(|host| !items.contains_key(host));
                items.entry(key.clone()).or_insert_with(|| LookItem::of_record(key, record));
            }
        }
        let items: Vec<LookItem> = items.into_values().collect();
        let look = async || {
            let observed = self.looker.look(&items, &|host| known_attributes(&snapshot, host)).await;
            let now_ms = self.request.clock.now_ms();
            resolve_open_intents(&snapshot, &observed, self.request.schemas.as_ref(), now_ms)
        };
        let mut resolutions = look().await;
        // Calls that another machine made may still be under way there: this one goes on when they no longer can be.
        if resumed && self.journal.lease().is_some() && self.wait_out(&snapshot, &resolutions).await {
            resolutions = look().await;
        }
        if !resumed {
            for found in resolutions.iter_mut().filter(|found| matches!(found.outcome.kind, OutcomeKind::Deleted)) {
                if let Some(planned) = self.deletes_again(&found.outcome.key) {
                    *found = planned.clone();
                }
            }
            // Another plan: it must have been made from the same findings.
            let planned: BTreeMap<_, _> =
                plan.resolutions.iter().map(|found| (&found.outcome.key, kind_of(&found.outcome.kind))).collect();
            let found: BTreeMap<_, _> =
                resolutions.iter().map(|found| (&found.outcome.key, kind_of(&found.outcome.kind))).collect();
            if planned != found {
                return Err(ApplyError::Stale(vec![
                    "the calls that a killed operation left open have come out otherwise since".to_owned(),
                ]));
            }
        }
        // What is asked for once more stays open until then: the first request may still come to be.
        resolutions.retain(|found| {
            let node = plan.nodes.get(&found.outcome.key).filter(|node| node.action == Action::Create);
            let wanted = node.and_then(|node| node.declaration.as_deref());
            !wanted.is_some_and(|wanted| is_made_again(&snapshot, &found.outcome, wanted))
        });
        if snapshot.operation.is_none() && !resolutions.is_empty() {
            // A sealed operation left them open: they are concluded by the one that begins.
            let (_, entries) = self.beginning(false);
            self.journal.take_in(entries).await?.await?;
        }
        for resolution in resolutions {
            debug!(key = %resolution.outcome.key, outcome = kind_of(&resolution.outcome.kind), "open call resolved");
            let what = match &resolution.outcome.kind {
                OutcomeKind::Applied { .. } => "its interrupted call had succeeded".to_owned(),
                OutcomeKind::Deleted => "its interrupted deletion had succeeded".to_owned(),
                OutcomeKind::NotDone { message } | OutcomeKind::Indeterminate { message } => message.clone(),
            };
            self.request.sink.event(Event::Resolved { key: resolution.outcome.key.clone(), what });
            self.journal.commit(vec![Entry::Outcome(Box::new(resolution.outcome))]).await?;
        }
        Ok(snapshot.open.into_keys().collect())
    }

    /// Of a deletion that a kill cut off and that the plan makes again, what the plan was made from. It may come to its end between a
    /// plan and its apply; the plan stands as it was made, for deleting what is gone does nothing.
    fn deletes_again(&self, key: &RecordKey) -> Option<&Resolution> {
        let plan = &self.request.plan;
        plan.nodes.get(key).filter(|node| node.action == Action::Delete)?;
        plan.resolutions
            .iter()
            .find(|planned| planned.outcome.key == *key && matches!(planned.outcome.kind, OutcomeKind::NotDone { .. }))
    }

    /// Waits until the deadlines of those calls are past that could not be told yet. Answers whether there were any.
    async fn wait_out(&self, snapshot: &Snapshot, told: &[Resolution]) -> bool {
        let now_ms = self.request.clock.now_ms();
        let told: BTreeSet<&RecordKey> = told.iter().map(|resolution| &resolution.outcome.key).collect();
        let running =
            snapshot.open.iter().filter(|(key, open)| !told.contains(key) && open.intent.deadline_ms >= now_ms);
        let Some(latest) = running.map(|(_, open)| open.intent.deadline_ms).max() else { return false };
        let wait = Duration::from_millis(latest.saturating_sub(now_ms)).saturating_add(JUST_PAST).min(MOST_WAIT_OUT);
        let message = format!("calls that another process made may still be under way: waiting {} s", wait.as_secs());
        self.request.sink.event(Event::Note { message });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.request.stop.cancelled() => {}
        }
        true
    }

    /// Which steps of the plan the killed operation has done, by what is recorded.
    fn steps_done(&self, touched: &mut BTreeSet<RecordKey>) -> BTreeSet<usize> {
        let plan = &self.request.plan;
        self.journal.read(|snapshot| {
            let Some(operation) = snapshot.operation.as_ref().map(|header| header.id.as_str()) else {
                return BTreeSet::new();
            };
            let mut done = BTreeSet::new();
            for (index, step) in plan.steps.iter().enumerate() {
                if is_done(step.what, &step.key, plan, snapshot, operation) {
                    done.insert(index);
                    touched.insert(RecordKey::current(step.key.address.clone()));
                    touched.insert(step.key.clone());
                }
            }
            // Made, and not ready when it was killed: it is not as the plan saw it either.
            let records = snapshot.records.iter().filter(|(_, record)| record.operation == operation);
            touched.extend(records.map(|(key, _)| key.clone()));
            done
        })
    }

    /// Looks again at all that changes. Answers what differs from the plan, and how.
    async fn verify(&self, touched: &BTreeSet<RecordKey>) -> BTreeMap<RecordKey, String> {
        let plan = &self.request.plan;
        let nodes: Vec<&PlanNode> = plan
            .nodes
            .values()
            .filter(|node| (node.action.is_change() || node.import.is_some()) && !touched.contains(&node.key))
            .filter(|node| matches!(node.seen, SeenAt::Absent | SeenAt::Present { .. }))
            .filter(|node| !self.went_with_its_host(node) && !self.comes_with_its_host(node))
            .collect();
        if nodes.is_empty() {
            return BTreeMap::new();
        }
        self.request.sink.event(Event::Verifying { nodes: nodes.len() });
        let mut items = Vec::with_capacity(nodes.len());
        let mut hosts = BTreeSet::new();
        for node in &nodes {
            self.add_item(node, &mut items, &mut hosts);
        }
        let items = in_order(items);
        let observed =
            self.looker.look(&items, &|host| self.journal.read(|snapshot| known_attributes(snapshot, host))).await;
        nodes
            .into_iter()
            .filter(|node| !waits_for_its_host(observed.get(&node.key), touched))
            .filter(|node| !(is_absent(observed.get(&node.key)) && self.deletes_again(&node.key).is_some()))
            .filter_map(|node| Some((node.key.clone(), difference(node, observed.get(&node.key)?)?)))
            .collect()
    }

    /// Whether the host of a node is made by this plan, or made anew: there is nothing in it to look at before, and a host that is
    /// there already is what differs. It may lie in one that does not serve yet, so that nobody could tell.
    fn comes_with_its_host(&self, node: &PlanNode) -> bool {
        let host = node.declaration.as_ref().and_then(|declaration| declaration.host.clone()).map(RecordKey::current);
        let host = host.and_then(|host| self.request.plan.nodes.get(&host));
        host.is_some_and(|host| matches!(host.action, Action::Create | Action::Replace { .. }))
    }

    /// Whether the host of what is only to be forgotten is gone from the state: there is nothing left through which it could be
    /// looked at.
    fn went_with_its_host(&self, node: &PlanNode) -> bool {
        let host = node.record.as_ref().and_then(|record| record.declaration.host.clone()).map(RecordKey::current);
        node.action == Action::Forget
            && host.is_some_and(|host| {
                !self.request.plan.nodes.contains_key(&host)
                    && self.journal.read(|snapshot| !snapshot.records.contains_key(&host))
            })
    }

    /// Adds a node to what is looked at, and its hosts, through which it is reached. A node may be added more than once; it is the same
    /// each time.
    fn add_item<'p>(&'p self, node: &'p PlanNode, items: &mut Vec<LookItem>, hosts: &mut BTreeSet<&'p RecordKey>) {
        let item = match (&node.record, &node.refreshed, &node.declaration) {
            (Some(record), _, _) => LookItem::of_record(node.key.clone(), record),
            (None, Some(record), _) => LookItem::of_record(node.key.clone(), record),
            (None, None, Some(declaration)) => {
                LookItem { key: node.key.clone(), ..LookItem::of_declaration(declaration) }
            }
            (None, None, None) => return,
        };
        let host = item.declaration.host.clone().map(RecordKey::current);
        let host = host.and_then(|host| self.request.plan.nodes.get(&host));
        items.push(item);
        if let Some(host) = host.filter(|host| hosts.insert(&host.key)) {
            self.add_item(host, items, hosts);
        }
    }

    /// What begins an operation, or goes on with the killed one, which may not have said yet what follows from its plan alone.
    /// One of another plan is sealed first. Answers the operation too.
    fn beginning(&self, resumed: bool) -> (String, Vec<Entry>) {
        let plan = &self.request.plan;
        let now = self.request.clock.now_ms();
        let (open, serial) = self.journal.read(|snapshot| (snapshot.operation.clone(), snapshot.serial));
        if let Some(open) = &open
            && (resumed || open.id == self.request.operation)
        {
            let entries = if resumed { self.context().into_iter().chain(self.moves()).collect() } else { Vec::new() };
            return (open.id.clone(), entries);
        }
        let mut entries = Vec::new();
        let begins = open.is_none() && self.journal.read(|snapshot| snapshot.last.is_none());
        if let Some(open) = open {
            entries.push(Entry::Seal { operation: open.id, result: OperationResult::Superseded, at_ms: now });
        }
        let id = self.request.operation.clone();
        entries.push(Entry::Begin(OperationHeader {
            id: id.clone(),
            kind: kind(&plan.header.mode),
            parent_serial: serial,
            plan_digest: plan.digest.clone(),
            who: self.request.owner.who.clone(),
            began_ms: now,
            begins,
            commit: plan.header.commit.clone(),
        }));
        entries.extend(self.context());
        entries.extend(self.moves());
        (id, entries)
    }

    /// What providers and outputs are from now on, if they are not already.
    fn context(&self) -> Option<Entry> {
        let plan = &self.request.plan;
        let known =
            self.journal.read(|snapshot| snapshot.providers == plan.providers && snapshot.outputs == plan.outputs);
        let context = || Edit::Context { providers: plan.providers.clone(), outputs: plan.outputs.clone() };
        (!known).then(|| Entry::Edit(Box::new(context())))
    }

    /// The moves that are still to be made, each after that which clears its place.
    fn moves(&self) -> Vec<Entry> {
        let plan = &self.request.plan;
        let mut pending: Vec<(&Address, &Address)> = plan
            .nodes
            .values()
            .filter_map(|node| Some((node.moved_from.as_ref()?, &node.key.address)))
            .filter(|(from, _)| {
                self.journal.read(|snapshot| snapshot.records.contains_key(&RecordKey::current((*from).clone())))
            })
            .collect();
        let mut entries = Vec::new();
        // Each round makes at least one move, or what is left is a ring, which the journal refuses by name.
        while !pending.is_empty() {
            let (free, held): (Vec<_>, Vec<_>) =
                pending.iter().partition(|(_, to)| !pending.iter().any(|(from, _)| from == to));
            let (now, later) = if free.is_empty() { (held, Vec::new()) } else { (free, held) };
            entries.extend(
                now.into_iter()
                    .map(|(from, to)| Entry::Edit(Box::new(Edit::Move { from: from.clone(), to: to.clone() }))),
            );
            pending = later;
        }
        entries
    }

    /// How the operation ends where all its steps are done.
    fn seal(&self, operation: &str) -> Seal {
        let result = if self.request.plan.is_complete() { OperationResult::Complete } else { OperationResult::Partial };
        let (operation, clock) = (operation.to_owned(), Arc::clone(&self.request.clock));
        Box::new(move || Entry::Seal { operation, result, at_ms: clock.now_ms() })
    }

    async fn finish(
        &self,
        operation: String,
        resumed: bool,
        progress: Progress,
        began_ms: u64,
    ) -> Result<Finished, ApplyError> {
        let blocked_nodes = !self.request.plan.is_complete();
        let ending = if progress.interrupted {
            Ending::Interrupted
        } else if progress.failed.is_empty() && progress.skipped.is_empty() && !blocked_nodes {
            Ending::Complete
        } else {
            Ending::Partial
        };
        let now = self.request.clock.now_ms();
        // An interrupted operation stays open: the same command goes on with it.
        let result = match ending {
            Ending::Complete => Some(OperationResult::Complete),
            Ending::Partial => Some(OperationResult::Partial),
            Ending::Interrupted => None,
        };
        if let Some(result) = result
            && !progress.is_sealed
        {
            self.journal.commit(vec![Entry::Seal { operation: operation.clone(), result, at_ms: now }]).await?;
        }
        self.request.sink.event(Event::Finished {
            operation: operation.clone(),
            ending,
            done: progress.done,
            failed: progress.failed.len(),
            blocked: progress.skipped.len(),
            at_ms: now.saturating_sub(began_ms),
        });
        Ok(Finished { operation, ending, resumed, progress })
    }
}

/// Which kind of outcome, without its contents.
const fn kind_of(kind: &OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Applied { .. } => "applied",
        OutcomeKind::Deleted => "deleted",
        OutcomeKind::NotDone { .. } => "not done",
        OutcomeKind::Indeterminate { .. } => "indeterminate",
    }
}

const fn kind(mode: &Mode) -> OperationKind {
    match mode {
        Mode::Apply => OperationKind::Apply,
        Mode::Destroy => OperationKind::Destroy,
        Mode::RefreshOnly => OperationKind::Refresh,
        Mode::Undo { .. } => OperationKind::Undo,
        Mode::Recover => OperationKind::Recover,
    }
}

fn is_absent(observed: Option<&Observed>) -> bool {
    matches!(observed.map(|observed| &observed.observation), Some(Observation::Absent))
}

/// Whether a node cannot be looked at yet only because the killed operation had begun to make its host: the host's
/// own steps come first, and what it holds is made through it.
fn waits_for_its_host(observed: Option<&Observed>, touched: &BTreeSet<RecordKey>) -> bool {
    match observed.map(|observed| &observed.observation) {
        Some(Observation::Unknown(UnknownReason::HostNotServing { host })) => {
            touched.contains(&RecordKey::current(host.clone()))
        }
        _ => false,
    }
}

/// How a node differs now from what the plan saw; `None` if it does not.
fn difference(node: &PlanNode, observed: &Observed) -> Option<String> {
    if let (Some(planned), Some(found)) = (&node.scope, &observed.scope)
        && planned != found
    {
        return Some(format!("is now in another outside: planned in {planned}, found {found}"));
    }
    match (&node.seen, &observed.observation) {
        (_, Observation::Unknown(reason)) => Some(format!("can no longer be told: {reason}")),
        (SeenAt::Absent, Observation::Absent) => None,
        // What is shared may be there: ensuring it is a create all the same.
        (SeenAt::Absent, Observation::Present(seen)) => {
            let shared = node
                .declaration
                .as_ref()
                .is_some_and(|declaration| declaration.ownership == ksail_model::Ownership::Shared);
            let with_host = node.with_host && matches!(node.action, Action::Replace { .. });
            (!shared && !with_host)
                .then(|| format!("exists now{}", seen.id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default()))
        }
        (SeenAt::Present { .. }, Observation::Absent) => Some("is gone".to_owned()),
        (SeenAt::Present { digest }, Observation::Present(seen)) => {
            (seen_digest(seen) != *digest).then(|| "was changed since".to_owned())
        }
        (SeenAt::Deferred | SeenAt::NotLooked, _) => None,
    }
}

fn is_done(what: StepDo, key: &RecordKey, plan: &Plan, snapshot: &Snapshot, operation: &str) -> bool {
    let current = RecordKey::current(key.address.clone());
    let Some(node) = plan.nodes.get(key).or_else(|| plan.nodes.get(&current)) else { return false };
    if snapshot.open.contains_key(key) {
        return false;
    }
    let record = snapshot.records.get(key);
    let made = || {
        snapshot
            .records
            .get(&current)
            .is_some_and(|record| record.operation == operation && record.generation == node.generation)
    };
    let is_ready =
        |key: &RecordKey| snapshot.records.get(key).is_some_and(|record| record.status == ksail_model::Status::Present);
    match what {
        StepDo::Create => made() && is_ready(&current),
        // An adopted record is of this operation before its update is.
        StepDo::Update => {
            let adopted = node.refreshed.as_ref().map(|record| &record.fields);
            made() && is_ready(&current) && record.is_some_and(|record| adopted != Some(&record.fields))
        }
        StepDo::Wait => made() && is_ready(key),
        StepDo::Put => record.is_some_and(|record| record.operation == operation),
        StepDo::Forget => record.is_none(),
        StepDo::Delete if matches!(node.action, Action::Replace { create_first: false }) => record.is_none() || made(),
        StepDo::Delete if key.deposed.is_some() && node.key != *key => record.is_none() && made(),
        StepDo::Delete => record.is_none(),
        StepDo::Depose => {
            let deposed = RecordKey { address: key.address.clone(), deposed: Some(node.generation - 1) };
            made() || snapshot.records.contains_key(&deposed)
        }
    }
}
