//! How much is asked of the store, and how much written.

use std::time::Duration;

use ksail_records::Backend as _;
use ksail_state_suite::samples;

use crate::support::{Machine, Memory, append, create, lock};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_one_among_many_writes_little_and_asks_seldom() {
    let store = Memory::new();
    let mut machine = Machine::new();
    // Longer than all of this takes, so that no heartbeat is counted.
    machine.options.lease = Duration::from_secs(600);
    let mut state = create(&machine.open(&store)).await;
    // Ten thousand records, in groups as an apply makes them, with its checkpoints.
    let mut writer = lock(&machine.open(&store), "first").await;
    writer.load().await.unwrap();
    append(&mut *writer, &mut state, &[samples::begin("op-1", 0)]).await;
    for group in 0..100 {
        let names: Vec<String> = (0..100).map(|number| format!("r{}", group * 100 + number)).collect();
        let entries: Vec<_> = names.iter().flat_map(|name| [samples::create(name), samples::created(name)]).collect();
        append(&mut *writer, &mut state, &entries).await;
        if writer.wants_checkpoint() {
            writer.checkpoint(state.snapshot()).await.unwrap();
        }
    }
    for operation in append(&mut *writer, &mut state, &[samples::seal("op-1")]).await {
        writer.archive(&operation).await.unwrap();
    }
    writer.release().await.unwrap();
    machine.open(&store).read().await.unwrap();

    let (requests, written) = (store.requests(), store.written());
    let mut writer = lock(&machine.open(&store), "second").await;
    assert_eq!(writer.load().await.unwrap().state.unwrap(), state);
    for entry in samples::operation("op-2", 1, &["r17"]) {
        for operation in append(&mut *writer, &mut state, &[entry]).await {
            writer.archive(&operation).await.unwrap();
        }
    }
    writer.release().await.unwrap();
    let (requests, written) = (store.requests() - requests, store.written() - written);
    assert!(written < 10 * 1024, "{written} bytes");
    // Lease: get, take, get, give back. List. Four segments. History: one object, one list.
    assert!(requests <= 12, "{requests} requests");

    // A plan that finds all in its cache: the list, and who holds the lease.
    machine.open(&store).read().await.unwrap();
    let before = store.requests();
    machine.open(&store).read().await.unwrap();
    machine.open(&store).lock_owner().await.unwrap();
    assert!(store.requests() - before <= 3, "{} requests", store.requests() - before);
}

#[tokio::test]
async fn a_cold_read_stays_bounded_and_little_is_written_twice() {
    let (store, machine) = (Memory::new(), Machine::new());
    let mut state = create(&machine.open(&store)).await;
    let mut segments = 0;
    let before = store.written();
    for serial in 0..400 {
        let mut writer = lock(&machine.open(&store), "one").await;
        writer.load().await.unwrap();
        for entry in samples::operation(&format!("op-{serial}"), serial, &["a"]) {
            append(&mut *writer, &mut state, &[entry]).await;
            segments += 1;
        }
        writer.release().await.unwrap();
    }
    let objects = store.keys().iter().filter(|key| key.starts_with("log/")).count();
    assert!(objects < 80, "{objects} objects for {segments} segments");
    let before_cold = store.requests();
    let cold = Machine::new();
    assert_eq!(cold.open(&store).read().await.unwrap().state.unwrap(), state);
    assert!(store.requests() - before_cold < 81, "{} requests", store.requests() - before_cold);
    let each = (store.written() - before) / 400;
    assert!(each < 10 * 1024, "{each} bytes a change, with packs and checkpoints");
}

#[tokio::test]
async fn a_cache_that_is_damaged_is_only_slower() {
    let (store, machine) = (Memory::new(), Machine::new());
    let mut state = create(&machine.open(&store)).await;
    let mut writer = lock(&machine.open(&store), "one").await;
    writer.load().await.unwrap();
    append(&mut *writer, &mut state, &samples::operation("op", 0, &["a"])).await;
    writer.release().await.unwrap();
    for entry in std::fs::read_dir(machine.folder.path().join("cache")).unwrap() {
        std::fs::write(entry.unwrap().path(), "nonsense").unwrap();
    }
    assert_eq!(machine.open(&store).read().await.unwrap().state.unwrap(), state);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let cache = machine.folder.path().join("cache");
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&cache), 0o700);
        for entry in std::fs::read_dir(&cache).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_fetched_at_once() {
    let (store, machine) = (Memory::new(), Machine::new());
    let mut state = create(&machine.open(&store)).await;
    let mut writer = lock(&machine.open(&store), "one").await;
    writer.load().await.unwrap();
    for entry in samples::operation("op", 0, &["a", "b", "c", "d", "e", "f", "g"]) {
        append(&mut *writer, &mut state, &[entry]).await;
    }
    writer.release().await.unwrap();
    store.set_latency(Duration::from_millis(50));
    let started = std::time::Instant::now();
    Machine::new().open(&store).read().await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(400), "{:?} for seventeen objects", started.elapsed());
}

#[tokio::test]
async fn history_keeps_as_much_as_is_asked_for() {
    let store = Memory::new();
    let mut machine = Machine::new();
    machine.options.retention.count = 5;
    let mut state = create(&machine.open(&store)).await;
    for serial in 0..9 {
        let mut writer = lock(&machine.open(&store), "one").await;
        writer.load().await.unwrap();
        let entries = samples::operation(&format!("op-{serial}"), serial, &[]);
        for operation in append(&mut *writer, &mut state, &entries).await {
            writer.archive(&operation).await.unwrap();
        }
        writer.release().await.unwrap();
    }
    let history = machine.open(&store).history(100).await.unwrap();
    let serials: Vec<u64> = history.iter().map(|operation| operation.serial).collect();
    assert_eq!(serials, [9, 8, 7, 6, 5]);
    machine.options.retention.age = Some(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut writer = lock(&machine.open(&store), "one").await;
    writer.load().await.unwrap();
    for operation in append(&mut *writer, &mut state, &samples::operation("op-9", 9, &[])).await {
        writer.archive(&operation).await.unwrap();
    }
    writer.release().await.unwrap();
    assert_eq!(machine.open(&store).history(100).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_lease_that_was_seen_free_is_taken_without_another_look_and_never_from_another_one() {
    let (store, machine) = (Memory::new(), Machine::new());
    let (backend, other) = (machine.open(&store), machine.open(&store));
    // Where there is no state, none is looked for.
    backend.read().await.unwrap();
    let before = store.requests();
    let writer = lock(&backend, "first").await;
    assert_eq!(store.requests() - before, 2, "the lease and the list");
    writer.release().await.unwrap();
    for seen in [true, false] {
        if seen {
            assert!(backend.lock_owner().await.unwrap().is_none());
        }
        let before = store.requests();
        let writer = lock(&backend, "again").await;
        assert_eq!(store.requests() - before, if seen { 2 } else { 3 });
        writer.release().await.unwrap();
    }
    // What was seen is over.
    assert!(backend.lock_owner().await.unwrap().is_none());
    let held = lock(&other, "other").await;
    assert!(backend.lock(&samples::owner("late"), Duration::ZERO).await.is_err());
    held.release().await.unwrap();
    lock(&backend, "at last").await.release().await.unwrap();
}
