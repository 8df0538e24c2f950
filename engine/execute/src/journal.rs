//! The journal as the engine writes it: group commit. Whoever has something to record waits until it is durable.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ksail_records::{
    Edit, Entry, Illegal, Lease, Outcome, OutcomeKind, SealedOperation, Snapshot, State, StateError, Writer,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, trace};

use crate::kept_plan::KeptPlanToBe;

/// The most requests in one group.
const LARGEST_GROUP: usize = 16 * 1024;
/// How many requests may wait for a group.
const QUEUE: usize = 16 * 1024;
/// How often the other tasks get a turn, without one more request coming, before a group is closed.
const QUIET_TURNS: u32 = 3;
/// How often they get a turn at most.
const MOST_TURNS: u32 = 64;
/// How many times a linger a group waits at most while more keeps coming.
const MOST_LINGERS: u32 = 5;
/// How long a group waits for more while nobody waits for it: a sync takes time of the machine, and so does each change of task
/// around it.
const PATIENCE: Duration = Duration::from_millis(2);
/// How long a group waits at most for those that are about to come. They wait for nothing but the processor.
const COMING_AT_MOST: Duration = Duration::from_millis(100);

/// Why something could not be recorded. Dispatch stops.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The backend could not write.
    #[error("the journal could not be written")]
    Write(#[source] Arc<StateError>),
    /// The entry cannot follow what came before: a bug of the engine, caught before it was written.
    #[error("the engine tried an illegal transition")]
    Illegal(#[source] Illegal),
    /// An earlier write failed.
    #[error("an earlier write of the journal failed")]
    Stopped,
}

/// Is told that entries were taken in. They are not durable yet, but nothing that is recorded later can be without them.
type Noted = Box<dyn FnOnce() + Send>;

struct Request {
    entries: Vec<Entry>,
    noted: Option<Noted>,
    done: Told,
}

/// Who waits for an entry is told here.
type Told = oneshot::Sender<Result<Coming, JournalError>>;

/// The writing end of the journal.
#[derive(Clone)]
pub(crate) struct Journal {
    requests: mpsc::Sender<Request>,
    state: Arc<Recorded>,
    lease: Option<Arc<dyn Lease>>,
    /// A write failed.
    has_stopped: Arc<AtomicBool>,
    /// Nobody waits for what is being recorded.
    patience: Arc<watch::Sender<bool>>,
    coming: Weak<()>,
}

/// Is held by whoever may have more to record at once, without waiting for anything outside: who was told that its entry is
/// durable, until it is its task's turn; and who sets out to announce many.
#[derive(Clone, Default)]
pub(crate) struct Coming(Arc<()>);

impl Coming {
    /// Whether anybody does besides the journal's task.
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// The state as recorded so far. A checkpoint reads it while others do; only the journal's task changes it, and not
/// during a checkpoint, so that it is never copied.
type Recorded = Mutex<Arc<State>>;

/// What is left at the end: the writer, and the state as it was written.
type Written = (Box<dyn Writer>, Arc<State>);

impl Journal {
    /// Takes over a writer whose state was loaded. The task ends when the last handle is dropped, and gives the writer
    /// back, with the state. A new one is not stored yet: its first snapshot has the first group in it, so that both are one write.
    pub(crate) fn start(
        writer: Box<dyn Writer>,
        state: State,
        is_new: bool,
        kept: Option<KeptPlanToBe>,
    ) -> (Self, JoinHandle<Written>) {
        let (requests, incoming) = mpsc::channel(QUEUE);
        let state = Arc::new(Mutex::new(Arc::new(state)));
        let lease = writer.lease();
        let has_stopped = Arc::new(AtomicBool::new(false));
        let (patience, patient) = watch::channel(false);
        let coming = Coming::default();
        let weak = Arc::downgrade(&coming.0);
        let log = Log { writer, state: Arc::clone(&state), is_new };
        let task = tokio::spawn(run(log, incoming, kept, Arc::clone(&has_stopped), patient, coming));
        (Self { requests, state, lease, has_stopped, patience: Arc::new(patience), coming: weak }, task)
    }

    /// Whether a call may be started: not any more once the lease has lapsed, whose next holder may be at work.
    pub(crate) fn may_call(&self) -> bool {
        self.lease.as_ref().is_none_or(|lease| !lease.remaining().is_zero())
    }

    /// The lease, where the lock can be lost.
    pub(crate) const fn lease(&self) -> Option<&Arc<dyn Lease>> {
        self.lease.as_ref()
    }

    /// Records entries, all in one group; returns when they are durable.
    pub(crate) async fn commit(&self, entries: Vec<Entry>) -> Result<(), JournalError> {
        self.request(entries, None).await
    }

    /// The same, and tells as soon as they are taken in: what follows from them can be prepared and announced, and shares
    /// their group.
    pub(crate) async fn commit_noted(
        &self,
        entries: Vec<Entry>,
        noted: impl FnOnce() + Send + 'static,
    ) -> Result<(), JournalError> {
        self.request(entries, Some(Box::new(noted))).await
    }

    /// Has entries taken in, each on its own, so that a refused one needs no copy of a large state to fall back to. Nothing that
    /// is recorded later can be without them; the future that comes back tells when they are durable.
    pub(crate) async fn take_in(
        &self,
        entries: Vec<Entry>,
    ) -> Result<impl Future<Output = Result<(), JournalError>> + use<>, JournalError> {
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            let (noted, is_in) = oneshot::channel();
            let durable = self
                .enqueue(
                    vec![entry],
                    Some(Box::new(move || {
                        // Whoever waits for this is there.
                        let _ = noted.send(());
                    })),
                )
                .await?;
            if is_in.await.is_err() {
                // It was refused, which is told in the place of its durability.
                durable.await.map_err(|_| JournalError::Stopped)??;
                return Err(JournalError::Stopped);
            }
            all.push(durable);
        }
        Ok(async move {
            for durable in all {
                durable.await.map_err(|_| JournalError::Stopped)??;
            }
            Ok(())
        })
    }

    async fn request(&self, entries: Vec<Entry>, noted: Option<Noted>) -> Result<(), JournalError> {
        self.enqueue(entries, noted).await?.await.map_err(|_| JournalError::Stopped)?.map(drop)
    }

    async fn enqueue(
        &self,
        entries: Vec<Entry>,
        noted: Option<Noted>,
    ) -> Result<oneshot::Receiver<Result<Coming, JournalError>>, JournalError> {
        let (done, durable) = oneshot::channel();
        self.requests.send(Request { entries, noted, done }).await.map_err(|_| JournalError::Stopped)?;
        Ok(durable)
    }

    /// Whether nothing can be recorded any more.
    pub(crate) fn has_stopped(&self) -> bool {
        self.requests.is_closed() || self.has_stopped.load(Ordering::Acquire)
    }

    /// Lets a group that is open wait for more, for as long as what comes back is held. It is for what is announced at once.
    pub(crate) fn more_comes(&self) -> Option<Coming> {
        self.coming.upgrade().map(Coming)
    }

    /// Says whether groups may wait for more: all call slots are taken, and those that follow are announced.
    pub(crate) fn set_patience(&self, is_patient: bool) {
        self.patience.send_if_modified(|patient| std::mem::replace(patient, is_patient) != is_patient);
    }

    /// Reads the state as recorded so far.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> T {
        read(self.state.lock().unwrap_or_else(PoisonError::into_inner).snapshot())
    }
}

/// What groups are written to.
struct Log {
    writer: Box<dyn Writer>,
    state: Arc<Recorded>,
    /// Nothing of it is stored.
    is_new: bool,
}

async fn run(
    mut log: Log,
    mut incoming: mpsc::Receiver<Request>,
    mut kept: Option<KeptPlanToBe>,
    has_stopped: Arc<AtomicBool>,
    mut patient: watch::Receiver<bool>,
    coming: Coming,
) -> Written {
    let lingers = log.writer.lingers();
    let state = Arc::clone(&log.state);
    while let Some(request) = incoming.recv().await {
        let mut group = Group::new(&state);
        group.take(request);
        group.fill(&mut incoming, lingers, &mut patient, &coming).await;
        let Group { first, entries, waiting, mut sealed, .. } = group;
        for operation in &mut sealed {
            // An operation that was killed is sealed too where another plan takes over.
            if let Some(kept) = kept.take_if(|kept| kept.digest == operation.header.plan_digest) {
                operation.plan = kept.made().await;
            }
        }
        if let Err(error) = log.write(first, &entries, &sealed).await {
            has_stopped.store(true, Ordering::Release);
            let error = JournalError::Write(Arc::new(error));
            for done in waiting {
                let _ = done.send(Err(error.clone()));
            }
            // What was taken in is not durable: nothing more may be recorded on top of it.
            keep_rest(log.writer.as_mut(), &state, &entries, incoming).await;
            break;
        }
        for done in waiting {
            let _ = done.send(Ok(coming.clone()));
        }
    }
    let state = Arc::clone(&state.lock().unwrap_or_else(PoisonError::into_inner));
    (log.writer, state)
}

/// What is written at once.
struct Group<'a> {
    state: &'a Recorded,
    first: u64,
    requests: usize,
    entries: Vec<Entry>,
    waiting: Vec<Told>,
    sealed: Vec<SealedOperation>,
}

impl<'a> Group<'a> {
    fn new(state: &'a Recorded) -> Self {
        let first = state.lock().unwrap_or_else(PoisonError::into_inner).next_sequence();
        Self { state, first, requests: 0, entries: Vec::new(), waiting: Vec::new(), sealed: Vec::new() }
    }

    fn take(&mut self, request: Request) {
        self.requests += 1;
        let taken = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            take_in(Arc::make_mut(&mut state), &request.entries)
        };
        match taken {
            Ok(operations) => {
                self.sealed.extend(operations);
                self.entries.extend(request.entries);
                self.waiting.push(request.done);
                if let Some(noted) = request.noted {
                    noted();
                }
            }
            Err(illegal) => {
                let _ = request.done.send(Err(JournalError::Illegal(illegal)));
            }
        }
    }

    /// Takes in what is there, and lets tasks that can run come to their next request, so that it shares the group: whoever
    /// was just told that its entry is durable, or what depends on one that was taken in, mostly has another one. It waits
    /// for no call that is under way, and for time only where the backend asks for it, or where nobody waits for the group. Where it
    /// does, whoever is told to be about to come is waited for.
    async fn fill(
        &mut self,
        incoming: &mut mpsc::Receiver<Request>,
        lingers: Duration,
        patient: &mut watch::Receiver<bool>,
        coming: &Coming,
    ) {
        let began = Instant::now();
        let is_expected = || COMING_AT_MOST > began.elapsed() && coming.is_held();
        loop {
            self.fill_at_once(incoming).await;
            let is_patient = *patient.borrow_and_update();
            let lingers = if is_patient { lingers.max(PATIENCE) } else { lingers };
            let is_over = began.elapsed() >= lingers * MOST_LINGERS && !(lingers > Duration::ZERO && is_expected());
            if self.requests >= LARGEST_GROUP || is_over {
                return;
            }
            tokio::select! {
                biased;
                request = incoming.recv() => match request {
                    Some(request) => self.take(request),
                    None => return,
                },
                changed = patient.changed(), if is_patient => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(lingers) => if !is_expected() {
                    return;
                }
            }
        }
    }

    async fn fill_at_once(&mut self, incoming: &mut mpsc::Receiver<Request>) {
        let mut quiet = 0;
        for _ in 0..MOST_TURNS {
            let before = self.requests;
            while self.requests < LARGEST_GROUP
                && let Ok(request) = incoming.try_recv()
            {
                self.take(request);
            }
            quiet = if self.requests == before { quiet + 1 } else { 0 };
            if quiet > QUIET_TURNS || self.requests >= LARGEST_GROUP {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// A write has failed, and calls are still in flight. What becomes of them is kept where the backend can keep it, so that the
/// next apply need not find it out.
async fn keep_rest(writer: &mut dyn Writer, state: &Recorded, failed: &[Entry], mut incoming: mpsc::Receiver<Request>) {
    let mut keeps = true;
    // Whoever announced these was told that the intent is not durable, and calls nothing.
    let not_called = failed.iter().filter_map(|entry| match entry {
        Entry::Intent(intent) => {
            let message = "it could not be recorded, and was not called".to_owned();
            let kind = OutcomeKind::NotDone { message };
            Some(Entry::Outcome(Box::new(Outcome { key: intent.key.clone(), kind, took_ms: None })))
        }
        _ => None,
    });
    let not_called: Vec<Entry> = not_called.collect();
    keep(writer, state, not_called, &mut keeps).await;
    while let Some(request) = incoming.recv().await {
        let is_news = |entry: &Entry| matches!(entry, Entry::Outcome(_) | Entry::Edit(_));
        if request.entries.iter().all(is_news) {
            keep(writer, state, request.entries, &mut keeps).await;
        }
        let _ = request.done.send(Err(JournalError::Stopped));
    }
}

async fn keep(writer: &mut dyn Writer, state: &Recorded, entries: Vec<Entry>, keeps: &mut bool) {
    if !*keeps || entries.is_empty() {
        return;
    }
    let first = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = Arc::make_mut(&mut state);
        let first = state.next_sequence();
        if take_in(state, &entries).is_err() {
            return;
        }
        first
    };
    // The first error is the one to tell; a disk that does not take this either ends it.
    *keeps = matches!(writer.rescue(first, &entries).await, Ok(Some(_)));
}

/// An entry for the log: what it is and whose, without values.
fn told(entry: &Entry) -> String {
    match entry {
        Entry::Begin(header) => format!("begin {}", header.id),
        Entry::Intent(intent) => format!("intent {:?} {}", intent.call, intent.key),
        Entry::Outcome(outcome) => format!("outcome {}", outcome.key),
        Entry::Edit(edit) => match edit.as_ref() {
            Edit::Put { key, .. } => format!("put {key}"),
            Edit::Forget { key } => format!("forget {key}"),
            Edit::Depose { address } => format!("depose {address}"),
            Edit::Move { from, to } => format!("move {from} to {to}"),
            _ => "edit".to_owned(),
        },
        Entry::Seal { operation, result, .. } => format!("seal {operation} as {result:?}"),
    }
}

/// Takes in the entries of one request, or none of them.
fn take_in(state: &mut State, entries: &[Entry]) -> Result<Vec<SealedOperation>, Illegal> {
    let mut sealed = Vec::new();
    match entries {
        // The common case needs no copy to fall back to: a single entry that is refused changes nothing.
        [entry] => sealed.extend(state.apply(entry)?),
        entries => {
            let before = state.clone();
            for entry in entries {
                match state.apply(entry) {
                    Ok(operation) => sealed.extend(operation),
                    Err(illegal) => {
                        *state = before;
                        return Err(illegal);
                    }
                }
            }
        }
    }
    Ok(sealed)
}

impl Log {
    async fn write(&mut self, first: u64, entries: &[Entry], sealed: &[SealedOperation]) -> Result<(), StateError> {
        if entries.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let written = if self.is_new {
            self.create(sealed).await
        } else {
            self.writer.append_sealing(first, entries, sealed).await
        };
        let took = began.elapsed();
        match &written {
            Ok(()) => debug!(first, entries = entries.len(), ?took, "journal group durable"),
            Err(error) => debug!(first, entries = entries.len(), ?took, %error, "journal group not written"),
        }
        for entry in entries {
            trace!(entry = told(entry), "journaled");
        }
        written?;
        for operation in sealed {
            debug!(operation = operation.header.id, serial = operation.serial, "operation archived");
        }
        if self.writer.wants_checkpoint() {
            let began = Instant::now();
            self.writer.checkpoint(self.recorded().snapshot()).await?;
            debug!(took = ?began.elapsed(), "checkpoint written");
        }
        Ok(())
    }

    /// Stores a new state as it is with its first group.
    async fn create(&mut self, sealed: &[SealedOperation]) -> Result<(), StateError> {
        for operation in sealed {
            self.writer.archive(operation).await?;
        }
        self.writer.create(self.recorded().snapshot()).await?;
        self.is_new = false;
        Ok(())
    }

    fn recorded(&self) -> Arc<State> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
