//! One step: intent, call, outcome; then the wait until ready.

mod settle;
mod wait;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ksail_model::{Declaration, Mark, Path, Record, RecordKey, Reference, Schemas, Status, Value};
use ksail_plan::{Plan, PlanNode, SeenAt, StepDo, joined, resolve_references};
use ksail_provider::{
    Applied, CallContext, CallError, CallErrorKind, CreateRequest, DeleteRequest, Provider, Target, UpdateRequest,
};
use ksail_records::{Call, Edit, Entry, Intent, Outcome, OutcomeKind};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::event::{Event, EventSink};
use crate::journal::{Journal, JournalError};
use crate::limits::{Clock, Limits, Secrets};
use crate::look::known_attributes;
use crate::request::{Apply, Failure};
use crate::sessions::{SessionKey, Sessions, session_of};

pub(crate) use settle::is_made_again;

/// How long after its deadline a call that does not come back is given up.
const LATE: Duration = Duration::from_secs(5);

/// How long an announced call waits for its turn before its intent is taken back.
const TURN: Duration = Duration::from_secs(60);

/// After which time of a call it is asked what it waits for, how often after that, and how long the answer may take.
const ASKED_FIRST: Duration = Duration::from_millis(250);
const ASKED_EVERY: Duration = Duration::from_millis(500);
const ASKED_FOR: Duration = Duration::from_secs(5);

/// What a step's call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Called {
    /// The step is over.
    Ready,
    /// The thing is there and must be waited for.
    NotReady,
}

/// Why a step did not get on.
pub(crate) enum StepError {
    /// It failed; dependents are closed over.
    Failed(Box<Failure>),
    /// It was stopped before its call, or while it was waited for.
    NotBegun,
    /// Its turn did not come for so long that its intent was taken back.
    NoTurn,
    /// It could not be recorded: everything stops.
    Journal(JournalError),
}

impl From<JournalError> for StepError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// What a step tells on its way.
pub(crate) enum News {
    /// It can make its call, and waits for its turn.
    Asks(usize, oneshot::Sender<()>),
    /// Its call has returned; the outcome is on its way to the disk.
    CallOver(usize),
    /// What it came to is taken in: nothing that is recorded later can be without it. It is ready, or at least exists.
    Recorded(usize, Called),
}

/// News of steps, in the order in which they came. There are at most three a step.
#[derive(Default)]
pub(crate) struct NewsBoard {
    news: Mutex<Vec<News>>,
    some: Notify,
}

impl NewsBoard {
    fn tell(&self, news: News) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).push(news);
        self.some.notify_one();
    }

    /// Waits until there are some, and takes them.
    pub(crate) async fn next(&self) -> Vec<News> {
        self.some.notified().await;
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs steps.
pub(crate) struct StepRunner {
    plan: Arc<Plan>,
    operation: String,
    journal: Journal,
    sessions: Arc<Sessions>,
    schemas: Arc<dyn Schemas>,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn EventSink>,
    began_ms: u64,
    pub(crate) limits: Limits,
    pub(crate) stop: CancellationToken,
    pub(crate) abort: CancellationToken,
    pub(crate) news: Arc<NewsBoard>,
    /// Which steps were told of as begun.
    begun: Vec<AtomicBool>,
}

impl StepRunner {
    pub(crate) fn new(request: &Apply, operation: String, journal: Journal, sessions: Arc<Sessions>) -> Self {
        Self {
            plan: Arc::clone(&request.plan),
            operation,
            journal,
            sessions,
            schemas: Arc::clone(&request.schemas),
            secrets: Arc::clone(&request.secrets),
            clock: Arc::clone(&request.clock),
            sink: Arc::clone(&request.sink),
            began_ms: request.clock.now_ms(),
            limits: request.limits.clone(),
            stop: request.stop.clone(),
            abort: request.abort.clone(),
            news: Arc::default(),
            begun: request.plan.steps.iter().map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Whether what is recorded may wait for more.
    pub(crate) fn be_patient(&self, is_patient: bool) {
        self.journal.set_patience(is_patient);
    }

    /// Records an entry; returns when it is durable.
    pub(crate) async fn record(&self, entry: Entry) -> Result<(), JournalError> {
        self.journal.commit(vec![entry]).await
    }

    pub(crate) fn event(&self, event: Event) {
        self.sink.event(event);
    }

    fn at_ms(&self) -> u64 {
        self.clock.now_ms().saturating_sub(self.began_ms)
    }

    fn node(&self, key: &RecordKey) -> Option<&PlanNode> {
        self.plan.nodes.get(key).or_else(|| self.plan.nodes.get(&RecordKey::current(key.address.clone())))
    }

    /// The first half of a step: up to the recorded outcome of its call.
    pub(crate) async fn call(&self, index: usize) -> Result<Called, StepError> {
        let step = &self.plan.steps[index];
        let Some(node) = self.node(&step.key) else {
            return Err(self.failure(index, "the plan has no such node".to_owned(), None, false));
        };
        let (called, started) = match step.what {
            StepDo::Put | StepDo::Forget | StepDo::Depose | StepDo::Wait => {
                let started = self.step_started(index);
                let called = match step.what {
                    StepDo::Put => self.put(node).await?,
                    StepDo::Forget => self.edit(Edit::Forget { key: step.key.clone() }).await?,
                    StepDo::Depose => self.edit(Edit::Depose { address: step.key.address.clone() }).await?,
                    _ => Called::NotReady,
                };
                (called, started)
            }
            StepDo::Create => self.make(index, node, Call::Create).await?,
            StepDo::Update => self.make(index, node, Call::Update).await?,
            StepDo::Delete => self.delete(index).await?,
        };
        match called {
            Called::Ready => self.step_done(index, started),
            Called::NotReady => {
                let why =
                    self.journal.read(|snapshot| match snapshot.records.get(&step.key).map(|record| &record.status) {
                        Some(Status::NotReady { why }) => why.clone(),
                        _ => String::new(),
                    });
                self.event(Event::StepWaiting { key: step.key.clone(), why, at_ms: self.at_ms() });
            }
        }
        Ok(called)
    }

    fn step_started(&self, index: usize) -> u64 {
        let step = &self.plan.steps[index];
        let at_ms = self.at_ms();
        self.begun[index].store(true, Ordering::Relaxed);
        self.event(Event::StepStarted { key: step.key.clone(), step: step.what, at_ms, estimate_ms: step.estimate_ms });
        at_ms
    }

    /// Waits until it is the step's turn to call. `None` if it does not come, because everything stops or it takes too long.
    async fn turn(&self, index: usize) -> Option<()> {
        let (asks, given) = oneshot::channel();
        self.news.tell(News::Asks(index, asks));
        tokio::select! {
            turn = tokio::time::timeout(TURN, given) => turn.ok()?.ok(),
            () = self.stop.cancelled() => None,
            () = self.abort.cancelled() => None,
        }
    }

    /// Whether the call may be announced before its turn: if a kill leaves the intent open, the call can simply be made.
    fn is_announced_ahead(&self, node: &PlanNode) -> bool {
        let schema = self.schemas.schema(node.key.address.kind());
        node.seen != SeenAt::Deferred && schema.is_some_and(|schema| schema.repeat_safe)
    }

    /// What is not announced ahead has its turn before anything is asked of the provider.
    async fn turn_before(&self, index: usize, ahead: bool) -> Result<(), StepError> {
        if ahead || self.turn(index).await.is_some() { Ok(()) } else { Err(self.no_turn()) }
    }

    /// What is announced ahead has its turn now; if it does not come, the intent is taken back, unless it took the place of one whose
    /// call may have been made.
    async fn turn_after(&self, index: usize, ahead: bool, again: bool) -> Result<(), StepError> {
        let its_turn = !ahead || self.turn(index).await.is_some();
        // What cannot be recorded is not begun.
        if its_turn && !self.journal.has_stopped() {
            return Ok(());
        }
        if again {
            return Err(self.no_turn());
        }
        let message = "its call was announced and not made".to_owned();
        self.conclude(&self.plan.steps[index].key, OutcomeKind::NotDone { message }, None).await?;
        Err(self.no_turn())
    }

    fn no_turn(&self) -> StepError {
        let is_stopping = self.stop.is_cancelled() || self.abort.is_cancelled();
        if is_stopping { StepError::NotBegun } else { StepError::NoTurn }
    }

    fn step_done(&self, index: usize, started: u64) {
        let step = &self.plan.steps[index];
        let at_ms = self.at_ms();
        self.event(Event::StepDone {
            key: step.key.clone(),
            step: step.what,
            at_ms,
            took_ms: at_ms.saturating_sub(started),
        });
    }

    fn failure(&self, index: usize, message: String, hint: Option<String>, indeterminate: bool) -> StepError {
        if !self.is_begun(index) {
            self.step_started(index);
        }
        let step = &self.plan.steps[index];
        self.event(Event::StepFailed {
            key: step.key.clone(),
            step: step.what,
            at_ms: self.at_ms(),
            message: message.clone(),
            hint: hint.clone(),
            indeterminate,
        });
        StepError::Failed(Box::new(Failure { key: step.key.clone(), step: step.what, message, hint, indeterminate }))
    }

    /// Whether a step was told of as begun: its call is or was under way.
    pub(crate) fn is_begun(&self, index: usize) -> bool {
        self.begun[index].load(Ordering::Relaxed)
    }

    /// A step was stopped before its call, or before its wait was over; that is said of one that was told of as begun.
    pub(crate) fn not_begun(&self, index: usize) {
        if !self.is_begun(index) {
            return;
        }
        let step = &self.plan.steps[index];
        self.event(Event::StepBlocked {
            key: step.key.clone(),
            step: step.what,
            by: step.key.clone(),
            why: "interrupted; the same command goes on with it".to_owned(),
        });
    }

    fn call_failure(&self, index: usize, error: CallError) -> StepError {
        let indeterminate = error.kind == CallErrorKind::Indeterminate;
        self.failure(index, error.message, error.hint, indeterminate)
    }

    async fn edit(&self, edit: Edit) -> Result<Called, StepError> {
        self.journal.commit(vec![Entry::Edit(Box::new(edit))]).await?;
        Ok(Called::Ready)
    }

    async fn put(&self, node: &PlanNode) -> Result<Called, StepError> {
        let Some(record) = &node.refreshed else { return Ok(Called::Ready) };
        let record = Arc::new(Record { operation: self.operation.clone(), ..record.as_ref().clone() });
        self.edit(Edit::Put { key: node.key.clone(), record }).await
    }

    async fn open(&self, session: &SessionKey) -> Result<Arc<dyn Provider>, CallError> {
        let attributes = match &session.1 {
            None => None,
            Some(host) => Some(
                self.journal
                    .read(|snapshot| known_attributes(snapshot, host))
                    .ok_or_else(|| CallError::unreachable(format!("its host {host} is not in the state")))?,
            ),
        };
        self.sessions.open(session, attributes).await
    }

    fn context(&self, timeout: Duration) -> CallContext {
        CallContext {
            lineage: self.plan.header.lineage.clone(),
            operation: Some(self.operation.clone()),
            timeout,
            cancel: self.abort.clone(),
        }
    }

    /// The declaration with all references resolved by what is recorded now, and fingerprints of the secrets as they are
    /// now.
    fn final_declaration(&self, declaration: &Arc<Declaration>) -> Result<Arc<Declaration>, String> {
        if !declaration.spec.any_leaf(&|leaf| matches!(leaf, Value::Ref(_) | Value::Secret(_))) {
            return Ok(Arc::clone(declaration));
        }
        let mut missing: Option<Reference> = None;
        let spec = resolve_references(&declaration.spec, &mut |reference| {
            let value = self.journal.read(|snapshot| {
                let record = snapshot.records.get(&RecordKey::current(reference.address.clone()))?;
                joined(&record.fields, &record.attributes).get(&reference.path).cloned()
            });
            if value.is_none() {
                missing = Some(reference.clone());
            }
            value
        });
        if let Some(reference) = missing {
            return Err(format!("{} has no {} after its apply", reference.address, reference.path));
        }
        let spec = self.secrets.fingerprinted(&spec)?;
        Ok(Arc::new(Declaration { spec, ..declaration.as_ref().clone() }))
    }

    /// A create or an update.
    async fn make(&self, index: usize, node: &PlanNode, call: Call) -> Result<(Called, u64), StepError> {
        let key = &node.key;
        let ahead = self.is_announced_ahead(node);
        self.turn_before(index, ahead).await?;
        let Some(planned) = &node.declaration else {
            return Err(self.failure(index, "the plan has no declaration for it".to_owned(), None, false));
        };
        let mut declaration =
            self.final_declaration(planned).map_err(|message| self.failure(index, message, None, false))?;
        let secrets =
            self.secrets.texts(&declaration.spec).map_err(|message| self.failure(index, message, None, false))?;
        let session = session_of(&declaration);
        let provider = self.open(&session).await.map_err(|error| self.call_failure(index, error))?;
        let record = self.journal.read(|snapshot| snapshot.records.get(key).cloned());
        if let Some(record) = record.as_ref().filter(|record| record.adopted && call == Call::Update) {
            Arc::make_mut(&mut declaration).identity = record.declaration.identity.clone();
        }
        if node.seen == SeenAt::Deferred {
            if self.is_open(key) {
                let again = (call == Call::Create).then_some(declaration.as_ref());
                Box::pin(self.settle(index, key, provider.as_ref(), again)).await?;
                if let Some(called) = self.settled_as_wanted(key, &declaration) {
                    return Ok((called, self.step_started(index)));
                }
            } else {
                Box::pin(self.look_again(index, node, record.as_deref(), provider.as_ref())).await?;
            }
        }
        let generation = node.generation;
        // What is made somewhere else than the record says is in a scope that only the call will tell.
        let elsewhere = node.record.as_ref().is_some_and(|record| {
            record.declaration.provider != declaration.provider
                || record.declaration.host != declaration.host
                || (call == Call::Create && declaration.host.is_some())
        });
        let mark = self.mark(key, generation);
        let target = target_of(key, &declaration, record.as_deref().filter(|_| call == Call::Update));
        let again = self.is_open(key);
        self.announce(Intent {
            key: key.clone(),
            call,
            declaration: Some(declaration),
            generation,
            scope: node.scope.clone().filter(|_| !elsewhere),
            deadline_ms: self.deadline(ahead),
        })
        .await?;
        self.turn_after(index, ahead, again).await?;
        let started = self.step_started(index);
        let result = match call {
            Call::Update => {
                let current = record.map(|record| record.fields.clone()).unwrap_or_default();
                let changed: Vec<Path> = node.changes.iter().map(|change| change.path.clone()).collect();
                let request = Arc::new(UpdateRequest { target, mark, current, changed, secrets });
                // Only calls under way take the room of one, not all that are announced.
                Box::pin(self.attempts(index, (provider.as_ref(), &request.target), |context| {
                    let (provider, request) = (Arc::clone(&provider), Arc::clone(&request));
                    async move { provider.update(&context, &request).await }
                }))
                .await
            }
            _ => {
                let request = Arc::new(CreateRequest { target, mark, secrets });
                Box::pin(self.attempts(index, (provider.as_ref(), &request.target), |context| {
                    let (provider, request) = (Arc::clone(&provider), Arc::clone(&request));
                    async move { provider.create(&context, &request).await }
                }))
                .await
            }
        };
        self.news.tell(News::CallOver(index));
        match result {
            Ok(applied) => {
                let ready = applied.seen.readiness.is_ready();
                let called = if ready { Called::Ready } else { Called::NotReady };
                let took = self.at_ms().saturating_sub(started);
                self.succeed(index, applied_outcome(applied), ready.then_some(took), called).await?;
                Ok((called, started))
            }
            Err(error) => Err(self.conclude_failure(index, key, error).await),
        }
    }

    async fn delete(&self, index: usize) -> Result<(Called, u64), StepError> {
        let key = &self.plan.steps[index].key;
        let ahead = self.node(key).is_some_and(|node| self.is_announced_ahead(node));
        self.turn_before(index, ahead).await?;
        let Some(record) = self.journal.read(|snapshot| snapshot.records.get(key).cloned()) else {
            return Ok((Called::Ready, self.step_started(index)));
        };
        let declaration = &record.declaration;
        let session = session_of(declaration);
        let provider = self.open(&session).await.map_err(|error| self.call_failure(index, error))?;
        if let Some(node) = self.node(key).filter(|node| node.seen == SeenAt::Deferred) {
            if self.is_open(key) {
                Box::pin(self.settle(index, key, provider.as_ref(), None)).await?;
                if !self.journal.read(|snapshot| snapshot.records.contains_key(key)) {
                    return Ok((Called::Ready, self.step_started(index)));
                }
            } else {
                Box::pin(self.look_again(index, node, Some(&record), provider.as_ref())).await?;
            }
        }
        let request = Arc::new(DeleteRequest {
            target: target_of(key, declaration, Some(&record)),
            mark: self.mark(key, record.generation),
            adopted: record.adopted,
            attributes: record.attributes.clone(),
        });
        self.announce(Intent {
            key: key.clone(),
            call: Call::Delete,
            declaration: None,
            generation: record.generation,
            scope: record.scope.clone(),
            deadline_ms: self.deadline(ahead),
        })
        .await?;
        self.turn_after(index, ahead, false).await?;
        let started = self.step_started(index);
        let result = Box::pin(self.attempts(index, (provider.as_ref(), &request.target), |context| {
            let (provider, request) = (Arc::clone(&provider), Arc::clone(&request));
            async move { provider.delete(&context, &request).await }
        }))
        .await;
        self.news.tell(News::CallOver(index));
        match result {
            Ok(_) => {
                let took = self.at_ms().saturating_sub(started);
                self.succeed(index, OutcomeKind::Deleted, Some(took), Called::Ready).await?;
                Ok((Called::Ready, started))
            }
            Err(error) => Err(self.conclude_failure(index, key, error).await),
        }
    }

    fn mark(&self, key: &RecordKey, generation: u32) -> Mark {
        Mark {
            lineage: self.plan.header.lineage.clone(),
            address: key.address.clone(),
            operation: self.operation.clone(),
            generation,
        }
    }

    /// When the last attempt of a call that is announced now is given up at the latest.
    fn deadline(&self, ahead: bool) -> u64 {
        let attempts = self.limits.attempts.max(self.limits.indeterminate_attempts).max(1);
        let one = self.limits.call_timeout.saturating_add(LATE).saturating_add(self.limits.longest_backoff);
        let longest = one.saturating_mul(attempts).saturating_add(if ahead { TURN } else { Duration::ZERO });
        self.clock.now_ms().saturating_add(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX))
    }

    async fn announce(&self, intent: Intent) -> Result<(), StepError> {
        if self.abort.is_cancelled() {
            return Err(StepError::NotBegun);
        }
        Ok(self.journal.commit(vec![Entry::Intent(Box::new(intent))]).await?)
    }

    async fn conclude(&self, key: &RecordKey, kind: OutcomeKind, took_ms: Option<u64>) -> Result<(), JournalError> {
        let outcome = Outcome { key: key.clone(), kind, took_ms };
        self.journal.commit(vec![Entry::Outcome(Box::new(outcome))]).await
    }

    /// Records that a call succeeded. Dependents begin to be announced as soon as that is taken in.
    async fn succeed(
        &self,
        index: usize,
        kind: OutcomeKind,
        took_ms: Option<u64>,
        called: Called,
    ) -> Result<(), JournalError> {
        let outcome = Outcome { key: self.plan.steps[index].key.clone(), kind, took_ms };
        let news = Arc::clone(&self.news);
        let noted = move || news.tell(News::Recorded(index, called));
        self.journal.commit_noted(vec![Entry::Outcome(Box::new(outcome))], noted).await
    }

    async fn conclude_failure(&self, index: usize, key: &RecordKey, error: CallError) -> StepError {
        let message = error.message.clone();
        let kind = match error.kind {
            CallErrorKind::Indeterminate => OutcomeKind::Indeterminate { message },
            _ => OutcomeKind::NotDone { message },
        };
        match self.conclude(key, kind, None).await {
            Err(journal) => StepError::Journal(journal),
            // Cancelled before anything was sent: it has not begun.
            Ok(()) if error.kind == CallErrorKind::Cancelled && self.abort.is_cancelled() => StepError::NotBegun,
            Ok(()) => self.call_failure(index, error),
        }
    }

    /// Awaits a call; where that takes a while, what it waits for is asked and told, at once and as it changes.
    async fn telling<T>(
        &self,
        index: usize,
        (provider, target): (&dyn Provider, &Target),
        call: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(call);
        let mut told: Option<String> = None;
        let mut pause = ASKED_FIRST;
        loop {
            tokio::select! {
                biased;
                result = &mut call => return result,
                () = tokio::time::sleep(pause) => pause = ASKED_EVERY,
            }
            let context = self.context(ASKED_FOR);
            let asked = tokio::time::timeout(ASKED_FOR, provider.waits_for(&context, target));
            let answer = tokio::select! {
                biased;
                result = &mut call => return result,
                answer = asked => answer,
            };
            if let Ok(Ok(Some(why))) = answer
                && told.as_ref() != Some(&why)
            {
                let step = &self.plan.steps[index];
                let held =
                    Event::StepHeld { key: step.key.clone(), step: step.what, why: why.clone(), at_ms: self.at_ms() };
                self.event(held);
                told = Some(why);
            }
        }
    }

    /// Makes a call, and makes it again where that is safe and may help.
    async fn attempts<T, F>(
        &self,
        index: usize,
        about: (&dyn Provider, &Target),
        make: impl Fn(CallContext) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let step = &self.plan.steps[index];
        let timeout = self.limits.call_timeout;
        // The provider honours the deadline; this is for one that does not.
        let late = timeout.saturating_add(LATE);
        // One try of unknown outcome makes all of them so: a later one that was certainly not carried out tells nothing of it.
        let mut unknown = false;
        let told = |error: CallError, unknown: bool| {
            if unknown { CallError { kind: CallErrorKind::Indeterminate, ..error } } else { error }
        };
        for attempt in 1.. {
            // A stop of the process may have come between the intent and this.
            if !self.journal.may_call() {
                return Err(told(CallError::cancelled(), unknown));
            }
            let call = tokio::time::timeout(late, make(self.context(timeout)));
            let result = match self.telling(index, about, call).await {
                Ok(result) => result,
                Err(_) => Err(CallError::indeterminate(format!("no answer within {} s", late.as_secs()))),
            };
            let error = match result {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            unknown |= error.kind == CallErrorKind::Indeterminate;
            let most = match error.kind {
                // Cancelled by nobody here: it was not sent.
                CallErrorKind::Transient | CallErrorKind::Unreachable | CallErrorKind::Cancelled => {
                    self.limits.attempts
                }
                CallErrorKind::Indeterminate => self.limits.indeterminate_attempts,
                CallErrorKind::Refused | CallErrorKind::NotOurs => 1,
            };
            if attempt >= most || self.abort.is_cancelled() {
                return Err(told(error, unknown));
            }
            let wait = self.limits.backoff(attempt + 1, error.retry_after_ms);
            self.event(Event::StepRetried {
                key: step.key.clone(),
                step: step.what,
                attempt: attempt + 1,
                message: error.message.clone(),
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.abort.cancelled() => return Err(told(error, unknown)),
            }
        }
        Err(CallError::refused("no attempt was made"))
    }
}

fn target_of(key: &RecordKey, declaration: &Declaration, record: Option<&Record>) -> Target {
    Target {
        address: key.address.clone(),
        kind_version: declaration.kind_version,
        identity: declaration.identity.clone(),
        id: record.and_then(|record| record.id.clone()),
        spec: Some(declaration.spec.clone()),
        ownership: declaration.ownership,
    }
}

fn applied_outcome(applied: Applied) -> OutcomeKind {
    OutcomeKind::Applied {
        id: applied.seen.id,
        fields: applied.seen.fields,
        attributes: match applied.seen.attributes {
            Value::Null => Value::empty_map(),
            attributes => attributes,
        },
        scope: applied.scope,
        readiness: applied.seen.readiness,
    }
}
