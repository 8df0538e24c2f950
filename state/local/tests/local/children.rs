//! Other processes: this test binary again, told by its environment what to do.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ksail_records::{Backend as _, Entry, LockOwner, State, StateError, Writer};
use ksail_state_local::LocalBackend;
use ksail_state_suite::samples;

use crate::stack::{LONG, append};

const WHAT: &str = "KSAIL_STATE_TEST_CHILD";
const FOLDER: &str = "KSAIL_STATE_TEST_FOLDER";
const TEST: &str = "children::child";

/// Increments of each process that contends for the lock.
pub(crate) const TURNS: u64 = 5;

/// Batches between two checkpoints of the process that is killed.
const CHECKPOINT_EVERY: u64 = 10;

/// A process that does this with the stack in that folder.
pub(crate) fn command(what: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    told(&mut command, what, folder).args(ARGUMENTS);
    command
}

const ARGUMENTS: [&str; 3] = ["--exact", TEST, "--nocapture"];

/// A shell that can start such processes as `"$0" "$@"`; their folder is `$FOLDER`.
pub(crate) fn shell(prefix: &[&str], script: &str, folder: &Path) -> Command {
    let mut words = prefix.to_vec();
    words.extend(["sh", "-euc", script]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(std::env::current_exe().unwrap()).args(ARGUMENTS);
    command.env(FOLDER, folder);
    command
}

fn told<'a>(command: &'a mut Command, what: &str, folder: &Path) -> &'a mut Command {
    command.env(WHAT, what).env(FOLDER, folder)
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    write!(out, "\n{text}\n").unwrap();
    out.flush().unwrap();
}

/// Not a test of its own: what the other processes run.
#[tokio::test]
async fn child() {
    let Ok(what) = std::env::var(WHAT) else { return };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let backend = LocalBackend::new(folder.clone());
    match what.as_str() {
        "append" => append_for_ever(&backend).await,
        "hold" => hold(&backend).await,
        "turns" => take_turns(&backend, &folder).await,
        "prepare" => drop(writer_and_state(&backend).await),
        "fill disk" => fill_disk(&backend, &folder).await,
        "fill file" => fill_file(&backend).await,
        "read only" => read_only(&backend).await,
        _ => panic!("{what}?"),
    }
}

fn owner() -> LockOwner {
    samples::owner(&format!("child-{}", std::process::id()))
}

/// The writer of a state in which an operation is under way.
async fn writer_and_state(backend: &LocalBackend) -> (Box<dyn Writer>, State) {
    let mut writer = backend.lock(&owner(), LONG).await.unwrap();
    let mut state = match writer.load().await.unwrap().state {
        Some(state) => state,
        None => {
            writer.create(&samples::snapshot()).await.unwrap();
            State::new(samples::snapshot())
        }
    };
    if state.snapshot().operation.is_none() {
        let serial = state.snapshot().serial;
        append(&mut *writer, &mut state, &[samples::begin("op", serial)]).await.unwrap();
    }
    (writer, state)
}

/// A batch that can follow: intents, and outcomes where intents are open.
fn batch(state: &State, size: u64) -> Vec<Entry> {
    let mut scratch = state.clone();
    (0..size)
        .map(|number| {
            let name = format!("v{}", (state.next_sequence() + number) % 10);
            let open = scratch.snapshot().open.contains_key(&samples::key(&name));
            let entry = if open { samples::created(&name) } else { samples::create(&name) };
            scratch.apply(&entry).unwrap();
            entry
        })
        .collect()
}

async fn append_for_ever(backend: &LocalBackend) {
    let (mut writer, mut state) = writer_and_state(backend).await;
    for count in 0.. {
        let entries = batch(&state, 1 + count * 7 % 64);
        append(&mut *writer, &mut state, &entries).await.unwrap();
        say(&format!("durable {}", state.snapshot().sequence));
        if count % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1 {
            writer.checkpoint(state.snapshot()).await.unwrap();
        }
    }
}

async fn hold(backend: &LocalBackend) {
    let _writer = backend.lock(&owner(), LONG).await.unwrap();
    say("held");
    tokio::time::sleep(LONG).await;
}

async fn take_turns(backend: &LocalBackend, folder: &Path) {
    let inside = folder.join("inside");
    for turn in 0..TURNS {
        let mut writer = backend.lock(&owner(), LONG).await.unwrap();
        std::fs::File::create_new(&inside).expect("nobody else is inside");
        let mut state = writer.load().await.unwrap().state.unwrap();
        let (serial, id) = (state.snapshot().serial, format!("op-{}-{turn}", std::process::id()));
        append(&mut *writer, &mut state, &samples::operation(&id, serial, &[])).await.unwrap();
        std::fs::remove_file(&inside).unwrap();
        if turn % 2 == 0 {
            writer.release().await.unwrap();
        }
    }
}

async fn append_until_full(writer: &mut dyn Writer, state: &mut State) {
    loop {
        let entries = batch(state, 64);
        match append(writer, state, &entries).await {
            Ok(()) => {}
            Err(StateError::Full { place, .. }) => {
                assert!(place.ends_with("journal"), "{place}");
                return;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn must_read(backend: &LocalBackend, state: &State) {
    let read = backend.read().await.unwrap();
    assert_eq!(read.warnings, Vec::<String>::new());
    assert_eq!(read.state.as_ref(), Some(state));
}

/// The folder is on a small disk.
async fn fill_disk(backend: &LocalBackend, folder: &Path) {
    let (mut writer, mut state) = writer_and_state(backend).await;
    let filler = folder.join("filler");
    std::fs::write(&filler, vec![1; 100_000]).unwrap();
    append_until_full(&mut *writer, &mut state).await;
    must_read(backend, &state).await;
    // What is left is filled up, so that not even a small file has room.
    let mut last = std::fs::File::create(folder.join("last")).unwrap();
    while last.write_all(&[1; 512]).is_ok() {}
    let error = writer.checkpoint(state.snapshot()).await.unwrap_err();
    assert!(matches!(error, StateError::Full { .. }), "{error:?}");
    must_read(backend, &state).await;
    std::fs::remove_file(&filler).unwrap();
    let entries = batch(&state, 10);
    append(&mut *writer, &mut state, &entries).await.unwrap();
    writer.checkpoint(state.snapshot()).await.unwrap();
    let entries = batch(&state, 10);
    append(&mut *writer, &mut state, &entries).await.unwrap();
    writer.release().await.unwrap();
    must_read(backend, &state).await;
    say("survived");
}

/// No file may grow beyond a limit.
async fn fill_file(backend: &LocalBackend) {
    let (mut writer, mut state) = writer_and_state(backend).await;
    for _ in 0..3 {
        append_until_full(&mut *writer, &mut state).await;
        must_read(backend, &state).await;
        writer.checkpoint(state.snapshot()).await.unwrap();
        must_read(backend, &state).await;
    }
    say("survived");
}

/// The folder may not be written.
async fn read_only(backend: &LocalBackend) {
    let stored = backend.read().await.unwrap();
    assert_eq!(stored.state.unwrap().snapshot().sequence, 1);
    assert_eq!(backend.lock_owner().await.unwrap(), None);
    let error = backend.lock(&owner(), Duration::ZERO).await.map(drop).unwrap_err();
    assert!(matches!(error, StateError::ReadOnly { .. }), "{error:?}");
    say("survived");
}
