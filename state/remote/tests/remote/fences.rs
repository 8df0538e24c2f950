//! Stale writers: whatever they believe, they do not write.

use std::time::{Duration, Instant};

use ksail_records::{Backend as _, Entry, StateError};
use ksail_state_suite::samples;

use crate::support::{Machine, Memory, append, create, lock};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_lock_fences_its_holder_and_loses_its_lease() {
    let (store, machine) = (Memory::new(), Machine::new());
    let mut state = create(&machine.open(&store)).await;
    let mut stale = lock(&machine.open(&store), "stale").await;
    stale.load().await.unwrap();
    append(&mut *stale, &mut state, &[samples::begin("op-1", 0), samples::create("a")]).await;
    let lease = stale.lease().unwrap();
    assert!(lease.remaining() > Duration::ZERO);

    machine.open(&store).unlock("stale").await.unwrap();
    let mut next = lock(&machine.open(&store), "next").await;
    assert_eq!(next.load().await.unwrap().state.unwrap(), state);
    let error = stale.append(state.next_sequence(), &[samples::created("a")]).await.unwrap_err();
    let StateError::Rescued { source, file, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, StateError::Fenced { .. }), "{source}");
    assert!(std::path::Path::new(file).is_file());
    tokio::time::timeout(Duration::from_secs(3), lease.lost()).await.expect("its heartbeat notices");
    assert!(lease.remaining().is_zero());
    append(&mut *next, &mut state, &[samples::created("a"), samples::seal("op-1")]).await;
    assert_eq!(machine.open(&store).read().await.unwrap().state.unwrap(), state);

    // What the stale one kept does not fit what another has gone on with.
    stale.release().await.unwrap();
    next.release().await.unwrap();
    let mut third = lock(&machine.open(&store), "third").await;
    let stored = third.load().await.unwrap();
    assert_eq!(stored.state.unwrap(), state);
    assert!(stored.warnings.is_empty() || stored.warnings[0].contains("aside"), "{:?}", stored.warnings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_outlives_checkpoints_and_packs() {
    let (store, machine) = (Memory::new(), Machine::new());
    let mut state = create(&machine.open(&store)).await;
    let mut stale = lock(&machine.open(&store), "stale").await;
    stale.load().await.unwrap();
    append(&mut *stale, &mut state, &[samples::begin("op-1", 0)]).await;
    machine.open(&store).unlock("stale").await.unwrap();
    let mut next = lock(&machine.open(&store), "next").await;
    next.load().await.unwrap();
    for round in 0..40 {
        let name = format!("r{round}");
        append(&mut *next, &mut state, &[samples::create(&name), samples::created(&name)]).await;
    }
    next.release().await.unwrap();
    let mut next = lock(&machine.open(&store), "next").await;
    next.load().await.unwrap();
    append(&mut *next, &mut state, &[samples::create("x")]).await;
    next.checkpoint(state.snapshot()).await.unwrap();
    append(&mut *next, &mut state, &[samples::created("x")]).await;
    next.checkpoint(state.snapshot()).await.unwrap();
    // What is not needed any more is deleted now.
    next.release().await.unwrap();
    let error = stale.append(2, &[samples::create("lost")]).await.unwrap_err();
    assert!(matches!(error, StateError::Rescued { .. }), "{error}");
    assert_eq!(machine.open(&store).read().await.unwrap().state.unwrap(), state);
    let fences = store.keys().iter().filter(|key| key.ends_with("-segment")).count();
    assert_eq!(fences, 1, "{:?}", store.keys());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_does_not_renew_is_waited_out() {
    let (store, machine) = (Memory::new(), Machine::new());
    let mut state = create(&machine.open(&store)).await;
    let mut gone = lock(&machine.open(&store), "gone").await;
    gone.load().await.unwrap();
    append(&mut *gone, &mut state, &[samples::begin("op-1", 0)]).await;
    let lease = gone.lease().unwrap();
    // Its process lives, as far as anybody can tell; it only cannot reach the store any more.
    let cut_off = std::time::Instant::now();
    store.always(Some(crate::support::Fault::Refused));
    lease.lost().await;
    assert!(cut_off.elapsed() <= Duration::from_millis(2_200), "{:?}", cut_off.elapsed());
    store.always(None);
    let started = Instant::now();
    let error = machine.open(&store).lock(&samples::owner("hasty"), Duration::ZERO).await.err().unwrap();
    assert!(matches!(error, StateError::Locked { .. }), "{error}");
    let mut next = lock(&machine.open(&store), "next").await;
    assert!(started.elapsed() >= Duration::from_secs(2), "taken over after {:?}", started.elapsed());
    next.load().await.unwrap();
    let error = gone.append(state.next_sequence(), &[samples::create("a")]).await.unwrap_err();
    assert!(matches!(error, StateError::Rescued { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_lease_is_not_taken() {
    let (store, machine) = (Memory::new(), Machine::new());
    create(&machine.open(&store)).await;
    let held = lock(&machine.open(&store), "held").await;
    let error = machine.open(&store).lock(&samples::owner("other"), Duration::from_secs(5)).await.err().unwrap();
    let StateError::Locked { owner, .. } = error else { panic!("{error}") };
    assert_eq!(*owner, samples::owner("held"));
    let seen = machine.open(&store).held_lock().await.unwrap().unwrap();
    assert_eq!(seen.lease.unwrap().ttl_ms, 2_000);
    assert!(held.lease().unwrap().remaining() > Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_between_clocks_neither_hastens_nor_delays() {
    for ahead in [3_600_000_i64, -3_600_000] {
        let store = Memory::new();
        let (far, here) = (Machine::new().ahead(ahead), Machine::new());
        let mut state = create(&far.open(&store)).await;
        let mut gone = lock(&far.open(&store), "gone").await;
        gone.load().await.unwrap();
        let deadline_ms = far.now_ms() + 60_000;
        let Entry::Intent(mut intent) = samples::create("a") else { unreachable!() };
        intent.deadline_ms = deadline_ms;
        append(&mut *gone, &mut state, &[samples::begin("op-1", 0), Entry::Intent(intent)]).await;
        std::mem::forget(gone);
        // By a clock that is right, the call still has a minute, whatever the one says who made it.
        let due = |snapshot: &ksail_records::Snapshot| snapshot.open[&samples::key("a")].intent.deadline_ms;
        let expected = here.now_ms() + 60_000;
        let read = here.open(&store).read().await.unwrap().state.unwrap();
        assert!(due(read.snapshot()).abs_diff(expected) < 5_000, "{} for {expected}", due(read.snapshot()));
        // Also out of a checkpoint of the other one.
        here.open(&store).unlock("gone").await.unwrap();
        let mut next = lock(&here.open(&store), "next").await;
        let loaded = next.load().await.unwrap().state.unwrap();
        append(&mut *next, &mut state, &[samples::create("b")]).await;
        let mut loaded = loaded;
        loaded.apply(&samples::create("b")).unwrap();
        next.checkpoint(loaded.snapshot()).await.unwrap();
        next.release().await.unwrap();
        let back = far.open(&store).read().await.unwrap().state.unwrap();
        assert!(due(back.snapshot()).abs_diff(deadline_ms) < 10_000, "{} for {deadline_ms}", due(back.snapshot()));
    }
}

#[tokio::test]
async fn a_state_that_was_moved_says_where_to() {
    let (store, machine) = (Memory::new(), Machine::new());
    create(&machine.open(&store)).await;
    let mut writer = lock(&machine.open(&store), "mover").await;
    writer.load().await.unwrap();
    writer.seal("s3://elsewhere/team").await.unwrap();
    writer.release().await.unwrap();
    let error = machine.open(&store).read().await.err().unwrap();
    assert_eq!(error.to_string(), "the state in memory://test was moved to s3://elsewhere/team");
    let mut writer = lock(&machine.open(&store), "late").await;
    assert!(matches!(writer.load().await.err().unwrap(), StateError::Moved { .. }));
}

#[tokio::test]
async fn damage_is_named_with_its_object() {
    let (store, machine) = (Memory::new(), Machine::new());
    let mut state = create(&machine.open(&store)).await;
    let mut writer = lock(&machine.open(&store), "one").await;
    writer.load().await.unwrap();
    append(&mut *writer, &mut state, &samples::operation("op", 0, &["a"])).await;
    writer.release().await.unwrap();
    let key = store.keys().into_iter().find(|key| key.ends_with("-segment")).unwrap();
    store.change(&key, |bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    let error = machine.open(&store).read().await.err().unwrap();
    assert!(matches!(&error, StateError::Damaged { place, .. } if place.ends_with(&key)), "{error}");
}
