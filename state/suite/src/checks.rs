//! The checks, one a sentence of the contract.

use std::time::Duration;

use ksail_records::{Backend, Entry, SealedOperation, Snapshot, State, StateError, Writer};

use crate::{Opener, samples};

/// Longer than any honest wait for a lock in these checks.
const LONG: Duration = Duration::from_secs(60);

/// Writers that contend for a lock.
const WRITERS: u64 = 4;

/// Entries of one batch where many are written.
const BATCH: usize = 64;

/// An upper bound of batches until a checkpoint must be due.
const BATCHES_MAX: usize = 4_096;

async fn writer(backend: &dyn Backend, id: &str) -> Box<dyn Writer> {
    backend.lock(&samples::owner(id), LONG).await.expect("the lock is free, or will be")
}

async fn created(backend: &dyn Backend) -> Box<dyn Writer> {
    let mut writer = writer(backend, "first").await;
    assert!(writer.load().await.expect("an empty stack loads").state.is_none());
    writer.create(&samples::snapshot()).await.expect("a state can be created");
    writer
}

async fn append(writer: &mut dyn Writer, state: &mut State, entries: &[Entry]) -> Vec<SealedOperation> {
    writer.append(state.next_sequence(), entries).await.expect("entries that follow can be appended");
    entries.iter().filter_map(|entry| state.apply(entry).expect("the sample is legal")).collect()
}

async fn read(backend: &dyn Backend) -> Snapshot {
    let stored = backend.read().await.expect("the state can be read");
    assert_eq!(stored.warnings, Vec::<String>::new());
    stored.state.expect("there is a state").into_snapshot()
}

pub(crate) async fn nothing_is_there_at_first(open: Opener) {
    let backend = open();
    assert!(!backend.place().is_empty());
    assert!(backend.read().await.expect("an empty stack can be read").state.is_none());
    assert_eq!(backend.lock_owner().await.expect("the lock can be looked at"), None);
    assert_eq!(backend.history(10).await.expect("the history can be read"), []);
}

pub(crate) async fn what_is_created_can_be_read(open: Opener) {
    let mut writer = created(&*open()).await;
    assert_eq!(read(&*open()).await, samples::snapshot());
    let loaded = writer.load().await.expect("it loads").state.expect("there is a state");
    assert_eq!(*loaded.snapshot(), samples::snapshot());
    writer.release().await.expect("the lock can be given back");
    assert_eq!(read(&*open()).await, samples::snapshot());
}

pub(crate) async fn a_state_is_created_once(open: Opener) {
    let mut writer = created(&*open()).await;
    let other = Snapshot::empty("another", "prod", None);
    assert!(writer.create(&other).await.is_err());
    assert_eq!(read(&*open()).await, samples::snapshot());
}

pub(crate) async fn a_state_is_created_with_its_first_entries(open: Opener) {
    let mut writer = writer(&*open(), "first").await;
    assert!(writer.load().await.expect("an empty stack loads").state.is_none());
    let mut state = State::new(samples::snapshot());
    for entry in [samples::begin("op-1", 0), samples::create("a")] {
        state.apply(&entry).expect("the sample is legal");
    }
    writer.create(state.snapshot()).await.expect("a state can be created");
    assert_eq!(read(&*open()).await, *state.snapshot());
    append(&mut *writer, &mut state, &[samples::created("a")]).await;
    writer.release().await.expect("the lock can be given back");
    assert_eq!(read(&*open()).await, *state.snapshot());
}

pub(crate) async fn appended_entries_are_there_for_all(open: Opener) {
    let mut writer = created(&*open()).await;
    let mut state = State::new(samples::snapshot());
    let entries = samples::operation("op-1", 0, &["a", "b"]);
    for entry in &entries {
        append(&mut *writer, &mut state, std::slice::from_ref(entry)).await;
        assert_eq!(read(&*open()).await, *state.snapshot());
    }
    writer.append(state.next_sequence(), &[]).await.expect("an empty batch is nothing");
    append(&mut *writer, &mut state, &samples::operation("op-2", 1, &["c", "d", "e"])).await;
    assert_eq!(read(&*open()).await, *state.snapshot());
    assert_eq!(state.snapshot().records.len(), 5);
}

pub(crate) async fn the_next_writer_goes_on(open: Opener) {
    let mut state = State::new(samples::snapshot());
    let mut first = created(&*open()).await;
    append(&mut *first, &mut state, &samples::operation("op-1", 0, &["a"])).await;
    first.release().await.expect("the lock can be given back");

    let mut second = writer(&*open(), "second").await;
    let loaded = second.load().await.expect("it loads").state.expect("there is a state");
    assert_eq!(loaded, state);
    append(&mut *second, &mut state, &samples::operation("op-2", 1, &["b"])).await;
    assert_eq!(read(&*open()).await, *state.snapshot());
}

pub(crate) async fn a_wrong_sequence_number_is_fenced(open: Opener) {
    let mut writer = created(&*open()).await;
    let mut state = State::new(samples::snapshot());
    append(&mut *writer, &mut state, &[samples::begin("op-1", 0)]).await;
    for wrong in [0, 1, 3, 100] {
        let error = writer.append(wrong, &[samples::create("a")]).await.expect_err("that number is not the next");
        assert!(matches!(error, StateError::Fenced { .. }), "{wrong}: {error}");
    }
    assert_eq!(read(&*open()).await, *state.snapshot());
    append(&mut *writer, &mut state, &[samples::create("a")]).await;
    assert_eq!(read(&*open()).await, *state.snapshot());
}

pub(crate) async fn an_entry_that_cannot_follow_is_named(open: Opener) {
    let mut writer = created(&*open()).await;
    writer.append(1, &[samples::create("a")]).await.expect("a backend does not judge entries");
    drop(writer);
    let error = open().read().await.expect_err("no operation has begun");
    assert!(matches!(&error, StateError::Illegal { source, .. } if source.sequence == 1), "{error}");
}

pub(crate) async fn a_checkpoint_changes_nothing(open: Opener) {
    let mut writer = created(&*open()).await;
    let mut state = State::new(samples::snapshot());
    for (entry, name) in
        [(samples::begin("op-1", 0), "begin"), (samples::create("a"), "open"), (samples::created("a"), "a")]
    {
        append(&mut *writer, &mut state, &[entry]).await;
        writer.checkpoint(state.snapshot()).await.expect("a checkpoint can be made");
        assert_eq!(read(&*open()).await, *state.snapshot(), "{name}");
    }
    append(&mut *writer, &mut state, &[samples::seal("op-1")]).await;
    writer.release().await.expect("the lock can be given back");
    assert_eq!(read(&*open()).await, *state.snapshot());
}

pub(crate) async fn a_checkpoint_that_would_drop_entries_is_refused(open: Opener) {
    let mut writer = created(&*open()).await;
    let mut state = State::new(samples::snapshot());
    append(&mut *writer, &mut state, &samples::operation("op-1", 0, &["a"])).await;
    assert!(writer.checkpoint(&samples::snapshot()).await.is_err());
    assert_eq!(read(&*open()).await, *state.snapshot());
    append(&mut *writer, &mut state, &samples::operation("op-2", 1, &["b"])).await;
    assert_eq!(read(&*open()).await, *state.snapshot());
}

pub(crate) async fn a_checkpoint_comes_due(open: Opener) {
    let mut writer = created(&*open()).await;
    let mut state = State::new(samples::snapshot());
    append(&mut *writer, &mut state, &[samples::begin("op-1", 0)]).await;
    assert!(!writer.wants_checkpoint());
    let batch: Vec<Entry> = (0..BATCH / 2).flat_map(|_| [samples::create("a"), samples::created("a")]).collect();
    for _ in 0..BATCHES_MAX {
        if writer.wants_checkpoint() {
            break;
        }
        append(&mut *writer, &mut state, &batch).await;
    }
    assert!(writer.wants_checkpoint());
    writer.checkpoint(state.snapshot()).await.expect("a checkpoint can be made");
    assert!(!writer.wants_checkpoint());
    assert_eq!(read(&*open()).await, *state.snapshot());
}

pub(crate) async fn history_is_newest_first(open: Opener) {
    let mut writer = created(&*open()).await;
    let mut state = State::new(samples::snapshot());
    for serial in 0..12 {
        let id = format!("op-{serial}");
        let name = format!("v{serial}");
        for operation in append(&mut *writer, &mut state, &samples::operation(&id, serial, &[&name])).await {
            writer.archive(&operation).await.expect("a sealed operation can be stored");
        }
    }
    let history = open().history(5).await.expect("the history can be read");
    let serials: Vec<u64> = history.iter().map(|operation| operation.serial).collect();
    assert_eq!(serials, [12, 11, 10, 9, 8]);
    assert_eq!(history[0].changes.len(), 1);
    assert_eq!(open().history(usize::MAX).await.expect("the history can be read").len(), 12);
}

pub(crate) async fn a_seal_goes_into_the_history_with_its_entries(open: Opener) {
    let mut writer = created(&*open()).await;
    let mut state = State::new(samples::snapshot());
    let mut all = Vec::new();
    for serial in 0..3 {
        let first = state.next_sequence();
        let entries = samples::operation(&format!("op-{serial}"), serial, &["a"]);
        let sealed: Vec<SealedOperation> =
            entries.iter().filter_map(|entry| state.apply(entry).expect("the sample is legal")).collect();
        assert_eq!(sealed.len(), 1);
        writer.append_sealing(first, &entries, &sealed).await.expect("entries that follow can be appended");
        all.extend(sealed);
        assert_eq!(read(&*open()).await, *state.snapshot());
    }
    all.reverse();
    assert_eq!(open().history(10).await.expect("the history can be read"), all);
    writer.release().await.expect("the lock can be given back");
}

pub(crate) async fn a_seal_without_archive_reaches_the_history(open: Opener) {
    let mut first = created(&*open()).await;
    let mut state = State::new(samples::snapshot());
    let sealed = append(&mut *first, &mut state, &samples::operation("op-1", 0, &["a"])).await;
    drop(first);
    writer(&*open(), "second").await.load().await.expect("it loads");
    assert_eq!(open().history(10).await.expect("the history can be read"), sealed);
}

pub(crate) async fn one_writer_at_a_time(open: Opener) {
    let first = created(&*open()).await;
    let backend = open();
    assert_eq!(backend.lock_owner().await.expect("the lock can be looked at"), Some(samples::owner("first")));
    match backend.lock(&samples::owner("second"), Duration::ZERO).await.err().expect("it is held") {
        StateError::Locked { owner, .. } => assert_eq!(*owner, samples::owner("first")),
        error => panic!("another error than that it is locked: {error}"),
    }
    first.release().await.expect("the lock can be given back");
    assert_eq!(backend.lock_owner().await.expect("the lock can be looked at"), None);
    backend.lock(&samples::owner("second"), Duration::ZERO).await.map(drop).expect("it is free");
}

pub(crate) async fn a_dropped_writer_frees_the_lock(open: Opener) {
    drop(created(&*open()).await);
    let backend = open();
    let second = backend.lock(&samples::owner("second"), LONG).await.expect("it is free");
    assert_eq!(backend.lock_owner().await.expect("the lock can be looked at"), Some(samples::owner("second")));
    drop(second);
}

pub(crate) async fn waiting_writers_take_turns(open: Opener) {
    created(&*open()).await.release().await.expect("the lock can be given back");
    let mut tasks = Vec::new();
    for number in 0..WRITERS {
        let backend = open();
        tasks.push(tokio::spawn(async move {
            let mut writer = writer(&*backend, &format!("writer-{number}")).await;
            let mut state = writer.load().await.expect("it loads").state.expect("there is a state");
            let (serial, id) = (state.snapshot().serial, format!("op-{number}"));
            append(&mut *writer, &mut state, &samples::operation(&id, serial, &[])).await;
            writer.release().await.expect("the lock can be given back");
        }));
    }
    for task in tasks {
        task.await.expect("no writer fails");
    }
    assert_eq!(read(&*open()).await.serial, WRITERS);
}

pub(crate) async fn a_held_lock_is_not_broken_by_a_wrong_id(open: Opener) {
    let first = created(&*open()).await;
    let error = open().unlock("another").await.expect_err("the id is not that of the lock");
    assert!(matches!(error, StateError::LockMismatch { .. }), "{error}");
    assert!(open().lock(&samples::owner("second"), Duration::ZERO).await.is_err());
    first.release().await.expect("the lock can be given back");
}

pub(crate) async fn readers_see_prefixes_while_a_writer_works(open: Opener) {
    let mut writer = created(&*open()).await;
    let backend = open();
    let work = tokio::spawn(async move {
        let mut state = State::new(samples::snapshot());
        for serial in 0..200_u64 {
            let name = format!("v{}", serial % 7);
            append(&mut *writer, &mut state, &samples::operation(&format!("op-{serial}"), serial, &[&name])).await;
            if serial % 3 == 0 {
                writer.checkpoint(state.snapshot()).await.expect("a checkpoint can be made");
            }
        }
        state
    });
    let mut seen = 0;
    while !work.is_finished() {
        let snapshot = read(&*backend).await;
        assert!(snapshot.sequence >= seen, "a reader went back from {seen} to {}", snapshot.sequence);
        seen = snapshot.sequence;
        tokio::task::yield_now().await;
    }
    let state = work.await.expect("the writer does not fail");
    assert_eq!(read(&*backend).await, *state.snapshot());
}
