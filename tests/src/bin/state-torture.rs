//! One writer among many of a shared state, for a test that stops and kills them.
//!
//! `state-torture URL FOLDER NAME LEASE_MS AHEAD_MS`: takes the lock again and again, and makes one operation with one
//! record each time, until FOLDER holds a file `stop`. Its time of day is ahead by so much. What it was told is durable, it
//! writes down in `FOLDER/NAME.acked`, a line each: sequence number, record, what.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ksail_records::{Backend, Entry, LockOwner, OperationResult, Outcome, OutcomeKind, State, StateError, Writer};
use ksail_state_object::S3Place;
use ksail_state_postgres::{PostgresObjects, PostgresPlace};
use ksail_state_remote::{RemoteBackend, RemoteOptions, Store};
use ksail_state_suite::samples;

/// How long a writer waits for its turn.
const TURN: Duration = Duration::from_secs(120);
/// The longest pause between two writes, so that stops and kills fall between them, too.
const LONGEST_PAUSE_MS: u64 = 60;

fn system_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn open(url: &str) -> Result<Arc<dyn Store>, Box<dyn std::error::Error>> {
    let env = |name: &str| std::env::var(name).ok();
    if url.starts_with("s3://") {
        return Ok(Arc::new(ksail_state_object::open(&S3Place::parse(url)?, "dev", &env)?));
    }
    Ok(Arc::new(PostgresObjects::new(&PostgresPlace::parse(url, &env)?, "dev")))
}

struct Torture {
    backend: RemoteBackend,
    name: String,
    acked: File,
}

impl Torture {
    async fn append(&mut self, writer: &mut dyn Writer, state: &mut State, entry: Entry) -> Result<(), StateError> {
        let sequence = state.next_sequence();
        let (key, what) = match &entry {
            Entry::Intent(intent) => (intent.key.to_string(), "intent"),
            Entry::Outcome(outcome) if matches!(outcome.kind, OutcomeKind::Applied { .. }) => {
                (outcome.key.to_string(), "applied")
            }
            Entry::Seal { operation, .. } => (operation.clone(), "seal"),
            _ => (String::from("-"), "other"),
        };
        let mut next = state.clone();
        let sealed = next.apply(&entry).map_err(|source| StateError::Illegal { place: "torture".into(), source })?;
        if let Some(operation) = sealed {
            writer.archive(&operation).await?;
        }
        writer.append(sequence, std::slice::from_ref(&entry)).await?;
        *state = next;
        // A whole line at once: a kill leaves all of it or nothing.
        let line = format!("{sequence} {key} {what}\n");
        self.acked.write_all(line.as_bytes()).map_err(|source| StateError::Io {
            doing: "write",
            place: "acked".into(),
            source,
        })?;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..LONGEST_PAUSE_MS))).await;
        Ok(())
    }

    async fn turn(&mut self, number: u64) -> Result<(), StateError> {
        let owner = LockOwner {
            id: format!("{}-{number}-{}", self.name, std::process::id()),
            who: self.name.clone(),
            doing: "torture".into(),
            pid: std::process::id(),
            since_ms: system_ms(),
        };
        let mut writer = self.backend.lock(&owner, TURN).await?;
        let done = self.operation(writer.as_mut(), &owner.id).await;
        writer.release().await?;
        done
    }

    async fn operation(&mut self, writer: &mut dyn Writer, id: &str) -> Result<(), StateError> {
        let mut state = match writer.load().await?.state {
            Some(state) => state,
            None => {
                writer.create(&samples::snapshot()).await?;
                State::new(samples::snapshot())
            }
        };
        // What another one left open is cleared, as an apply does after it has looked.
        let open: Vec<_> = state.snapshot().open.keys().cloned().collect();
        for key in open {
            let kind = OutcomeKind::NotDone { message: "cleared".into() };
            self.append(writer, &mut state, Entry::Outcome(Box::new(Outcome { key, kind, took_ms: None }))).await?;
        }
        if let Some(operation) = state.snapshot().operation.clone() {
            let seal = Entry::Seal { operation: operation.id, result: OperationResult::Superseded, at_ms: system_ms() };
            self.append(writer, &mut state, seal).await?;
        }
        let serial = state.snapshot().serial;
        for entry in samples::operation(id, serial, &[id]) {
            self.append(writer, &mut state, entry).await?;
            if fastrand::u8(..3) == 0 {
                writer.checkpoint(state.snapshot()).await?;
            }
        }
        Ok(())
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, folder, name, lease_ms, ahead_ms] = arguments.as_slice() else {
        return Err("state-torture URL FOLDER NAME LEASE_MS AHEAD_MS".into());
    };
    let (folder, ahead_ms): (PathBuf, i64) = (folder.into(), ahead_ms.parse()?);
    let mut options = RemoteOptions::new(folder.join(format!("machine-{name}")));
    options.lease = Duration::from_millis(lease_ms.parse()?);
    options.clock = Arc::new(move || system_ms().saturating_add_signed(ahead_ms));
    let mut torture = Torture {
        backend: RemoteBackend::new(open(url)?, options),
        name: name.clone(),
        acked: OpenOptions::new().append(true).create(true).open(folder.join(format!("{name}.acked")))?,
    };
    let stop: &Path = &folder.join("stop");
    let mut number = 0;
    while !stop.exists() {
        number += 1;
        if let Err(error) = torture.turn(number).await {
            // Fenced, or a lease lost, or no turn: all in order. Damage is not.
            let damaged = matches!(error, StateError::Damaged { .. } | StateError::Illegal { .. });
            writeln!(std::io::stderr(), "{name}: {error}: {:?}", std::error::Error::source(&error))?;
            if damaged {
                return Err(Box::new(error));
            }
        }
    }
    Ok(())
}
