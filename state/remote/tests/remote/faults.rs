//! A store that fails: what is certain stays certain, what could not be stored is kept.

use std::time::Duration;

use ksail_records::{Backend as _, StateError};
use ksail_state_suite::samples;

use crate::support::{Fault, Machine, Memory, append, create, lock};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_not_doubled() {
    let (store, machine) = (Memory::new(), Machine::new());
    let mut state = create(&machine.open(&store)).await;
    let mut writer = lock(&machine.open(&store), "one").await;
    writer.load().await.unwrap();
    let lost = Some(Fault::AnswerLost);
    for (faults, entry) in [
        (vec![lost], samples::begin("op-1", 0)),
        (vec![Some(Fault::Refused), lost], samples::create("a")),
        (vec![Some(Fault::Hangs)], samples::created("a")),
        (vec![lost, lost], samples::seal("op-1")),
    ] {
        store.next_writes(&faults);
        append(&mut *writer, &mut state, &[entry]).await;
        assert_eq!(machine.open(&store).read().await.unwrap().state.unwrap(), state);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_stored_is_kept_and_taken_up() {
    for landed in [false, true] {
        let (store, machine) = (Memory::new(), Machine::new());
        let mut state = create(&machine.open(&store)).await;
        let mut writer = lock(&machine.open(&store), "one").await;
        writer.load().await.unwrap();
        let begun = [samples::begin("op-1", 0), samples::create("a"), samples::create("b")];
        append(&mut *writer, &mut state, &begun).await;
        // From here on every request fails; the first write may have been done all the same.
        if landed {
            store.next_writes(&[Some(Fault::AnswerLost); 3]);
        } else {
            store.next_writes(&[Some(Fault::Refused); 3]);
        }
        let outcome = samples::created("a");
        if landed {
            // The put lands, and so does nobody's answer; not even the look at what is there works.
            let error = {
                let append = writer.append(state.next_sequence(), std::slice::from_ref(&outcome));
                let cut = async {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    store.always(Some(Fault::Refused));
                };
                tokio::join!(append, cut).0
            };
            if error.is_ok() {
                // The look was faster: nothing to keep.
                continue;
            }
        } else {
            let error = writer.append(state.next_sequence(), std::slice::from_ref(&outcome)).await.unwrap_err();
            let StateError::Rescued { source, file, .. } = &error else { panic!("{error}") };
            assert!(matches!(**source, StateError::Unreachable { .. }), "{source}");
            assert!(error.to_string().contains(file.as_str()));
        }
        state.apply(&outcome).unwrap();
        // Another call was in flight; its outcome follows.
        let late = samples::created("b");
        assert!(writer.rescue(state.next_sequence(), std::slice::from_ref(&late)).await.unwrap().is_some());
        state.apply(&late).unwrap();
        drop(writer);
        store.always(None);

        // A plan sees it already.
        let read = machine.open(&store).read().await.unwrap();
        assert_eq!(read.state.unwrap(), state);
        assert_eq!(read.warnings.len(), 1, "{:?}", read.warnings);
        let mut next = lock(&machine.open(&store), "next").await;
        let stored = next.load().await.unwrap();
        assert_eq!(stored.state.unwrap(), state);
        assert!(stored.warnings[0].contains("stored now"), "{:?}", stored.warnings);
        append(&mut *next, &mut state, &[samples::seal("op-1")]).await;
        next.release().await.unwrap();
        assert_eq!(Machine::new().open(&store).read().await.unwrap().state.unwrap(), state);
        assert!(machine.open(&store).read().await.unwrap().warnings.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_file_that_does_not_fit_any_more_is_put_aside() {
    let (store, machine) = (Memory::new(), Machine::new());
    let mut state = create(&machine.open(&store)).await;
    let mut writer = lock(&machine.open(&store), "one").await;
    writer.load().await.unwrap();
    append(&mut *writer, &mut state, &[samples::begin("op-1", 0), samples::create("a")]).await;
    store.next_writes(&[Some(Fault::Refused); 3]);
    writer.append(state.next_sequence(), &[samples::created("a")]).await.unwrap_err();
    writer.release().await.unwrap();
    // Somebody else goes on in another way.
    let other = Machine::new();
    let mut next = lock(&other.open(&store), "other").await;
    assert_eq!(next.load().await.unwrap().state.unwrap(), state);
    let refused = ksail_records::Entry::Outcome(Box::new(ksail_records::Outcome {
        key: samples::key("a"),
        kind: ksail_records::OutcomeKind::NotDone { message: "refused".into() },
        took_ms: None,
    }));
    append(&mut *next, &mut state, &[refused, samples::seal("op-1")]).await;
    next.release().await.unwrap();
    let read = machine.open(&store).read().await.unwrap();
    assert!(read.warnings[0].contains("left out"), "{:?}", read.warnings);
    let mut third = lock(&machine.open(&store), "third").await;
    let stored = third.load().await.unwrap();
    assert_eq!(stored.state.unwrap(), state);
    assert!(stored.warnings[0].contains("aside"), "{:?}", stored.warnings);
    assert!(machine.open(&store).read().await.unwrap().warnings.is_empty());
}

#[tokio::test]
async fn expired_credentials_are_named_and_not_tried_again() {
    let (store, machine) = (Memory::new(), Machine::new());
    create(&machine.open(&store)).await;
    store.always(Some(Fault::Denied));
    let before = store.requests();
    let error = machine.open(&store).read().await.err().unwrap();
    assert!(matches!(error, StateError::Denied { .. }), "{error}");
    assert_eq!(store.requests() - before, 1);
}
