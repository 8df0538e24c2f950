//! Replay of random journals.

use std::collections::BTreeMap;
use std::sync::Arc;

use ksail_model::{Record, RecordKey};
use ksail_records::{Entry, SealedOperation, Snapshot, State};
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use crate::arbitrary;
use crate::oracle::Oracle;
use crate::samples::empty;

/// Each case replays a journal many times.
const CASES: u32 = 100;

/// The entries that can follow, in order, where need be after a change that lets them.
fn legal(entries: &[Entry]) -> Vec<Entry> {
    let mut state = empty();
    let mut taken = Vec::new();
    for entry in entries {
        let entry = fitted(entry.clone(), state.snapshot());
        if state.apply(&entry).is_ok() {
            taken.push(entry);
        }
    }
    taken
}

/// The entry with the numbers and keys that the state expects.
fn fitted(mut entry: Entry, snapshot: &Snapshot) -> Entry {
    match &mut entry {
        Entry::Begin(header) => header.parent_serial = snapshot.serial,
        Entry::Seal { operation, .. } => {
            if let Some(header) = &snapshot.operation {
                operation.clone_from(&header.id);
            }
        }
        Entry::Outcome(outcome) => {
            let position = snapshot.sequence as usize % snapshot.open.len().max(1);
            if let Some(key) = snapshot.open.keys().nth(position) {
                outcome.key = key.clone();
            }
        }
        Entry::Intent(_) | Entry::Edit(_) => {}
    }
    entry
}

fn replay(mut state: State, entries: &[Entry]) -> (State, Vec<SealedOperation>) {
    let sealed = entries.iter().filter_map(|entry| state.apply(entry).unwrap()).collect();
    (state, sealed)
}

fn stored(state: &State) -> State {
    let text = serde_json::to_vec(state.snapshot()).unwrap();
    State::new(serde_json::from_slice::<Snapshot>(&text).unwrap())
}

/// The records before an operation, made from those after it and what it says it changed.
fn taken_back(
    operation: &SealedOperation,
    after: &BTreeMap<RecordKey, Arc<Record>>,
) -> BTreeMap<RecordKey, Arc<Record>> {
    let mut records = after.clone();
    for change in &operation.changes {
        assert_eq!(records.get(&change.key), change.after.as_ref());
        match &change.before {
            Some(before) => records.insert(change.key.clone(), Arc::clone(before)),
            None => records.remove(&change.key),
        };
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn an_entry_is_taken_exactly_if_the_rules_allow_it(entries in arbitrary::entries()) {
        let (mut state, mut oracle) = (empty(), Oracle::default());
        for entry in &entries {
            let before = state.clone();
            let expected = oracle.take(entry);
            let result = state.apply(entry);
            prop_assert_eq!(result.is_ok(), expected, "{:?}: {:?}", entry, result);
            if !expected {
                prop_assert_eq!(&state, &before);
            }
            let snapshot = state.snapshot();
            let records = snapshot.records.iter().map(|(key, record)| (key.clone(), record.generation)).collect();
            prop_assert_eq!(&oracle.records, &records);
            prop_assert!(oracle.open.keys().eq(snapshot.open.keys()));
            prop_assert!(snapshot.open.keys().all(|key| snapshot.records.contains_key(key)));
        }
    }

    #[test]
    fn a_checkpoint_at_any_entry_changes_neither_the_end_nor_the_history(entries in arbitrary::entries()) {
        let entries = legal(&entries);
        let (whole, history) = replay(empty(), &entries);
        prop_assert_eq!(whole.snapshot().sequence, entries.len() as u64);
        for position in 0..=entries.len() {
            let (prefix, mut sealed) = replay(empty(), &entries[..position]);
            let (end, rest) = replay(stored(&prefix), &entries[position..]);
            sealed.extend(rest);
            prop_assert_eq!(&end, &whole, "checkpoint after entry {}", position);
            prop_assert_eq!(&sealed, &history, "checkpoint after entry {}", position);
        }
    }

    #[test]
    fn an_operation_says_all_that_it_changed(entries in arbitrary::entries()) {
        let mut state = empty();
        let mut at_begin = BTreeMap::new();
        for entry in legal(&entries) {
            if matches!(entry, Entry::Begin(_)) {
                at_begin.clone_from(&state.snapshot().records);
            }
            if let Some(operation) = state.apply(&entry).unwrap() {
                prop_assert_eq!(taken_back(&operation, &state.snapshot().records), at_begin.clone());
                prop_assert!(operation.changes.iter().all(|change| change.before != change.after));
                prop_assert!(state.snapshot().before.is_empty() && state.snapshot().operation.is_none());
            }
        }
    }
}

/// The properties say little if hardly any random entry can follow.
#[test]
fn random_journals_reach_far() {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut taken, mut sealed, mut moved, mut deposed) = (0, 0, 0, 0);
    for _ in 0..400 {
        let entries = legal(&arbitrary::entries().new_tree(&mut runner).unwrap().current());
        taken += entries.len();
        let (state, history) = replay(empty(), &entries);
        sealed += history.len();
        moved += entries.iter().filter(|entry| format!("{entry:?}").starts_with("Edit(Move")).count();
        deposed += usize::from(state.snapshot().records.keys().any(|key| key.deposed.is_some()));
    }
    let reached = format!("{taken} taken, {sealed} sealed, {moved} moved, {deposed} ended with a deposed record");
    assert!(taken > 2_000 && sealed > 200 && moved > 10 && deposed > 40, "{reached}");
}
