//! The table of transitions: what each state of a record takes, and what becomes of it.

use std::collections::BTreeMap;

use ksail_model::{Readiness, Status};
use ksail_records::{Call, Edit, Entry, State};

use crate::samples::{
    address, applied, applied_as, begin, create, declaration, delete, deleted, dependent, depose, deposed, edit, empty,
    forget, indeterminate, intent, key, not_done, put, record, rename, seal, update,
};

fn after(entries: &[Entry]) -> State {
    let mut state = empty();
    for entry in entries {
        state.apply(entry).unwrap();
    }
    state
}

/// The states of the record `a` by name, each with the entries that lead to it.
fn situations() -> BTreeMap<&'static str, Vec<Entry>> {
    let operation = |entries: &[Entry]| [&[begin("op", 0)], entries].concat();
    BTreeMap::from([
        ("no operation", vec![]),
        ("none", operation(&[])),
        ("creating", operation(&[create("a")])),
        ("present", operation(&[create("a"), applied("a")])),
        ("updating", operation(&[create("a"), applied("a"), update("a")])),
        ("deleting", operation(&[create("a"), applied("a"), delete("a")])),
        ("deposed", operation(&[create("a"), applied("a"), depose("a")])),
    ])
}

/// What can be tried in each of them.
fn attempts() -> Vec<(&'static str, Entry)> {
    vec![
        ("begin", begin("op", 0)),
        ("seal", seal("op")),
        ("create", create("a")),
        ("update", update("a")),
        ("delete", delete("a")),
        ("applied", applied("a")),
        ("deleted", deleted("a")),
        ("not done", not_done("a")),
        ("indeterminate", indeterminate("a")),
        ("put", put(key("a"), record("a"))),
        ("forget", forget("a")),
        ("depose", depose("a")),
        ("move away", rename("a", "b")),
        ("move here", rename("b", "a")),
        ("context", edit(Edit::Context { providers: BTreeMap::new(), outputs: BTreeMap::new() })),
    ]
}

#[test]
fn each_situation_takes_what_the_table_says_and_nothing_else() {
    let legal: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("no operation", &["begin"] as &[&str]),
        ("none", &["seal", "create", "put", "context"]),
        ("creating", &["seal", "create", "applied", "not done", "indeterminate", "forget", "context"]),
        ("present", &["seal", "create", "update", "delete", "put", "forget", "depose", "move away", "context"]),
        ("updating", &["seal", "applied", "not done", "indeterminate", "forget", "context"]),
        ("deleting", &["seal", "deleted", "not done", "indeterminate", "forget", "context"]),
        ("deposed", &["seal", "create", "put", "context"]),
    ]);
    for (situation, entries) in situations() {
        for (name, entry) in attempts() {
            let mut state = after(&entries);
            let before = state.clone();
            let result = state.apply(&entry);
            assert_eq!(result.is_ok(), legal[situation].contains(&name), "{situation}: {name}: {result:?}");
            if let Err(error) = result {
                assert_eq!(error.sequence, before.next_sequence());
                assert_eq!(state, before, "{situation}: a refused {name} changed something");
            } else {
                assert_eq!(state.next_sequence(), before.next_sequence() + 1);
            }
        }
    }
}

#[test]
fn each_transition_leads_where_the_table_says() {
    let not_ready = applied_as(key("a"), Readiness::NotReady("starting".to_owned()));
    let status = |status: Status| Some(status);
    let table = [
        ("none", create("a"), status(Status::Creating)),
        ("creating", applied("a"), status(Status::Present)),
        ("creating", not_ready.clone(), status(Status::NotReady { why: "starting".to_owned() })),
        ("creating", not_done("a"), None),
        ("creating", create("a"), status(Status::Creating)),
        ("creating", indeterminate("a"), status(Status::Creating)),
        ("creating", forget("a"), None),
        ("present", update("a"), status(Status::Present)),
        ("present", delete("a"), status(Status::Deleting)),
        ("present", create("a"), status(Status::Creating)),
        ("present", forget("a"), None),
        ("present", depose("a"), None),
        ("present", rename("a", "b"), None),
        ("updating", applied("a"), status(Status::Present)),
        ("updating", not_ready, status(Status::NotReady { why: "starting".to_owned() })),
        ("updating", not_done("a"), status(Status::Present)),
        ("updating", indeterminate("a"), status(Status::Present)),
        ("deleting", deleted("a"), None),
        ("deleting", not_done("a"), status(Status::Present)),
        ("deleting", indeterminate("a"), status(Status::Deleting)),
    ];
    for (situation, entry, expected) in table {
        let mut state = after(&situations()[situation]);
        state.apply(&entry).unwrap();
        let found = state.snapshot().records.get(&key("a")).map(|record| record.status.clone());
        assert_eq!(found, expected, "{situation}: {entry:?}");
    }
}

#[test]
fn what_was_not_done_leaves_the_record_as_it_was() {
    for entry in [create("a"), update("a"), delete("a")] {
        let mut state = after(&situations()["present"]);
        let before = state.snapshot().records.clone();
        for entry in [entry, indeterminate("a"), not_done("a")] {
            state.apply(&entry).unwrap();
        }
        assert_eq!(state.snapshot().records, before);
        assert!(state.snapshot().open.is_empty());
    }
}

#[test]
fn an_intent_outlives_its_operation_and_its_outcome_counts_for_the_next() {
    let mut state = after(&[begin("op-1", 0), create("a"), seal("op-1")]);
    assert_eq!(state.snapshot().open[&key("a")].operation, "op-1");
    assert!(state.apply(&applied("a")).is_err(), "there is no operation to count it for");
    for entry in [begin("op-2", 1), applied("a")] {
        state.apply(&entry).unwrap();
    }
    assert_eq!(state.snapshot().records[&key("a")].operation, "op-2");
    let sealed = state.apply(&seal("op-2")).unwrap().unwrap();
    assert_eq!(sealed.changes.len(), 1);
    assert_eq!(sealed.changes[0].before.as_ref().unwrap().status, Status::Creating);
}

#[test]
fn serials_count_operations_and_a_foreign_one_is_refused() {
    let mut state = after(&[begin("op-1", 0), seal("op-1"), begin("op-2", 1)]);
    assert_eq!(state.snapshot().serial, 2);
    assert_eq!(state.snapshot().last.as_ref().unwrap().id, "op-1");
    assert!(state.apply(&seal("op-1")).is_err());
    assert_eq!(state.apply(&seal("op-2")).unwrap().unwrap().serial, 2);
    for wrong in [0, 1, 3] {
        assert!(state.apply(&begin("op-3", wrong)).is_err());
    }
}

#[test]
fn what_an_operation_makes_and_takes_away_is_no_change() {
    let mut state = after(&[begin("op", 0), create("a"), applied("a"), delete("a"), deleted("a")]);
    assert_eq!(state.apply(&seal("op")).unwrap().unwrap().changes, []);
}

#[test]
fn a_deposed_record_makes_room_and_is_deleted_by_its_own_key() {
    let mut state = after(&situations()["deposed"]);
    let old = deposed("a", 1);
    assert_eq!(state.snapshot().records[&old].status, Status::Deposed);
    for entry in [
        intent(key("a"), Call::Create, Some(declaration("a")), 2),
        applied("a"),
        intent(old.clone(), Call::Delete, None, 1),
        crate::samples::outcome(old.clone(), ksail_records::OutcomeKind::Deleted),
    ] {
        state.apply(&entry).unwrap();
    }
    assert_eq!(state.snapshot().records.keys().collect::<Vec<_>>(), [&key("a")]);
    assert_eq!(state.snapshot().records[&key("a")].generation, 2);
}

#[test]
fn a_generation_is_deposed_once() {
    let mut state = after(&situations()["deposed"]);
    for entry in [create("a"), applied("a")] {
        state.apply(&entry).unwrap();
    }
    assert!(state.apply(&depose("a")).is_err(), "two deposed records would have one key");
}

#[test]
fn a_call_without_a_declaration_is_refused() {
    for call in [Call::Create, Call::Update] {
        let mut state = after(&situations()["present"]);
        assert!(state.apply(&intent(key("a"), call, None, 1)).is_err());
    }
}

#[test]
fn a_move_takes_along_those_that_name_the_moved_one() {
    let of = |name: &str, host: &str, needs: &str| {
        [intent(key(name), Call::Create, Some(dependent(name, host, needs)), 1), applied(name)]
    };
    let mut entries = vec![begin("op-1", 0), create("a"), applied("a")];
    entries.extend(of("inside", "a", "x"));
    entries.extend(of("needs", "x", "a"));
    entries.extend(of("neither", "x", "y"));
    entries.extend([intent(key("open"), Call::Create, Some(dependent("open", "a", "a")), 1)]);
    entries.extend([seal("op-1"), begin("op-2", 1)]);
    let mut state = after(&entries);
    state.apply(&rename("a", "b")).unwrap();

    let records = &state.snapshot().records;
    assert_eq!(records[&key("b")].declaration.address, address("b"));
    assert_eq!(*records[&key("inside")].declaration, dependent("inside", "b", "x"));
    assert_eq!(*records[&key("needs")].declaration, dependent("needs", "x", "b"));
    assert_eq!(*records[&key("neither")].declaration, dependent("neither", "x", "y"));
    assert_eq!(*records[&key("open")].declaration, dependent("open", "b", "b"));

    state.apply(&applied("open")).unwrap();
    assert_eq!(*state.snapshot().records[&key("open")].declaration, dependent("open", "b", "b"));
    let sealed = state.apply(&seal("op-2")).unwrap().unwrap();
    let changed: Vec<String> = sealed.changes.iter().map(|change| change.key.to_string()).collect();
    assert_eq!(changed, ["a", "b", "inside", "needs", "open"].map(|name| format!("dev/container/{name}")));
}
