//! Writers that are no longer alone, or were interrupted.

use std::io::Write as _;
use std::time::Duration;

use ksail_records::{State, StateError};
use ksail_state_suite::samples;

use crate::stack::{Stack, append};

async fn must_be_fenced(writer: &mut dyn ksail_records::Writer, state: &State) {
    let error = writer.append(state.next_sequence(), &[samples::begin("op-2", 1)]).await.unwrap_err();
    assert!(matches!(error, StateError::Fenced { .. }), "{error:?}");
    // It does not come back to life either.
    writer.append(state.next_sequence(), &[samples::begin("op-2", 1)]).await.unwrap_err();
    writer.checkpoint(state.snapshot()).await.unwrap_err();
}

#[tokio::test]
async fn a_journal_that_grew_behind_our_back_stops_the_writer() {
    let (stack, state) = Stack::with(&["a"]).await;
    let mut writer = stack.writer().await;
    writer.load().await.unwrap();
    std::fs::OpenOptions::new().append(true).open(stack.journal()).unwrap().write_all(b"x").unwrap();
    must_be_fenced(&mut *writer, &state).await;
}

#[tokio::test]
async fn a_journal_that_was_replaced_stops_the_writer() {
    let (stack, state) = Stack::with(&["a"]).await;
    let mut writer = stack.writer().await;
    writer.load().await.unwrap();
    let copy = stack.file("copy");
    std::fs::copy(stack.journal(), &copy).unwrap();
    std::fs::rename(copy, stack.journal()).unwrap();
    must_be_fenced(&mut *writer, &state).await;
}

#[tokio::test]
async fn a_folder_that_was_removed_stops_the_writer() {
    let (stack, state) = Stack::with(&["a"]).await;
    let mut writer = stack.writer().await;
    writer.load().await.unwrap();
    std::fs::remove_dir_all(stack.folder()).unwrap();
    must_be_fenced(&mut *writer, &state).await;
    assert!(!stack.folder().exists());
}

#[tokio::test]
async fn a_writer_that_has_not_looked_may_not_write() {
    let (stack, state) = Stack::with(&["a"]).await;
    let mut writer = stack.writer().await;
    writer.append(state.next_sequence(), &[samples::begin("op-2", 1)]).await.unwrap_err();
    writer.load().await.unwrap();
    writer.append(state.next_sequence(), &[samples::begin("op-2", 1)]).await.unwrap();
}

#[tokio::test]
async fn a_dropped_append_leaves_nothing_half_known() {
    let (stack, mut state) = Stack::with(&[]).await;
    let mut writer = stack.writer().await;
    writer.load().await.unwrap();
    append(&mut *writer, &mut state, &[samples::begin("op-2", 1)]).await.unwrap();
    for round in 0..50 {
        let entries = [samples::create("a"), samples::created("a")];
        let dropped =
            tokio::time::timeout(Duration::from_micros(round * 20), writer.append(state.next_sequence(), &entries));
        let _ = dropped.await;
        let known = writer.load().await.unwrap().state.unwrap();
        let length = known.snapshot().sequence - state.snapshot().sequence;
        assert!(length == 0 || length == 2, "half a batch is there");
        state = known;
    }
    writer.release().await.unwrap();
    assert_eq!(stack.snapshot().await, *state.snapshot());
}
