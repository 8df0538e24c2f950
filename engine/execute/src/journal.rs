//! The journal as the engine writes it: group commit. Whoever has something to record waits until it is durable.

use std::sync::{Arc, Mutex, PoisonError};

use ksail_records::{Entry, Illegal, SealedOperation, Snapshot, State, StateError, Writer};
use tokio::sync::{mpsc, oneshot};

/// The most requests in one group.
const LARGEST_GROUP: usize = 1024;
/// How many requests may wait for a group.
const QUEUE: usize = 4096;

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

struct Request {
    entries: Vec<Entry>,
    done: oneshot::Sender<Result<(), JournalError>>,
}

/// The writing end of the journal.
#[derive(Clone)]
pub(crate) struct Journal {
    requests: mpsc::Sender<Request>,
    state: Arc<Mutex<State>>,
}

impl Journal {
    /// Takes over a writer whose state was loaded. The task ends when the last handle is dropped, and gives the writer back.
    pub(crate) fn start(writer: Box<dyn Writer>, state: State) -> (Self, tokio::task::JoinHandle<Box<dyn Writer>>) {
        let (requests, incoming) = mpsc::channel(QUEUE);
        let state = Arc::new(Mutex::new(state));
        let task = tokio::spawn(run(writer, Arc::clone(&state), incoming));
        (Self { requests, state }, task)
    }

    /// Records entries, all in one group; returns when they are durable.
    pub(crate) async fn commit(&self, entries: Vec<Entry>) -> Result<(), JournalError> {
        let (done, durable) = oneshot::channel();
        self.requests.send(Request { entries, done }).await.map_err(|_| JournalError::Stopped)?;
        durable.await.map_err(|_| JournalError::Stopped)?
    }

    /// Reads the state as recorded so far.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> T {
        read(self.state.lock().unwrap_or_else(PoisonError::into_inner).snapshot())
    }
}

async fn run(
    mut writer: Box<dyn Writer>,
    state: Arc<Mutex<State>>,
    mut incoming: mpsc::Receiver<Request>,
) -> Box<dyn Writer> {
    let mut group = Vec::new();
    while incoming.recv_many(&mut group, LARGEST_GROUP).await > 0 {
        let mut entries: Vec<Entry> = Vec::new();
        let mut waiting = Vec::new();
        let mut sealed = Vec::new();
        let first = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let first = state.next_sequence();
            for request in group.drain(..) {
                match take_in(&mut state, &request.entries) {
                    Ok(operations) => {
                        sealed.extend(operations);
                        entries.extend(request.entries);
                        waiting.push(request.done);
                    }
                    Err(illegal) => {
                        let _ = request.done.send(Err(JournalError::Illegal(illegal)));
                    }
                }
            }
            first
        };
        if let Err(error) = write(writer.as_mut(), &state, first, &entries, &sealed).await {
            let error = JournalError::Write(Arc::new(error));
            for done in waiting {
                let _ = done.send(Err(error.clone()));
            }
            // What was taken in is not durable: nothing more may be recorded on top of it.
            break;
        }
        for done in waiting {
            let _ = done.send(Ok(()));
        }
    }
    writer
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

async fn write(
    writer: &mut dyn Writer,
    state: &Mutex<State>,
    first: u64,
    entries: &[Entry],
    sealed: &[SealedOperation],
) -> Result<(), StateError> {
    if entries.is_empty() {
        return Ok(());
    }
    // History first: a kill between the two leaves the operation unsealed, and sealing it again writes the same file.
    for operation in sealed {
        writer.archive(operation).await?;
    }
    writer.append(first, entries).await?;
    if writer.wants_checkpoint() {
        let snapshot = state.lock().unwrap_or_else(PoisonError::into_inner).snapshot().clone();
        writer.checkpoint(&snapshot).await?;
    }
    Ok(())
}
