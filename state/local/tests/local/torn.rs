//! Lines that a kill or a disk has spoilt.

use ksail_records::{State, StateError};
use ksail_state_suite::samples;

use crate::stack::{Stack, append, line, line_starts};

async fn must_be_damaged(stack: &Stack, words: &str) {
    let before = stack.files();
    let read = stack.read().await.unwrap_err();
    let mut writer = stack.writer().await;
    let loaded = writer.load().await.unwrap_err();
    for error in [read, loaded] {
        assert!(matches!(&error, StateError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "`{error}` does not say `{words}`");
    }
    writer.append(99, &[samples::create("x")]).await.unwrap_err();
    writer.release().await.unwrap();
    let mut after = stack.files();
    after.remove(&stack.file("lock"));
    let mut before = before;
    before.remove(&stack.file("lock"));
    assert_eq!(after, before, "a damaged state was written to");
}

/// The state without the journal's last entry.
async fn without_last(stack: &Stack) -> State {
    let bytes = std::fs::read(stack.journal()).unwrap();
    let starts = line_starts(&bytes);
    let good = starts[starts.len() - 2];
    std::fs::write(stack.journal(), &bytes[..good]).unwrap();
    let state = stack.read().await.unwrap().state.unwrap();
    std::fs::write(stack.journal(), &bytes).unwrap();
    state
}

/// What every torn last line must lead to.
async fn check_torn(stack: &Stack, spoilt: &[u8], good: usize, expected: &State, case: &str) {
    std::fs::write(stack.journal(), spoilt).unwrap();
    let read = stack.read().await.unwrap();
    assert_eq!(read.state.as_ref(), Some(expected), "{case}");
    assert_eq!(read.warnings.len(), 1, "{case}");
    assert_eq!(std::fs::read(stack.journal()).unwrap(), spoilt, "{case}: a reader wrote");

    let mut writer = stack.writer().await;
    let loaded = writer.load().await.unwrap();
    assert_eq!(loaded.state.as_ref(), Some(expected), "{case}");
    assert_eq!(loaded.warnings.len(), 1, "{case}");
    assert_eq!(std::fs::read(stack.journal()).unwrap(), spoilt[..good], "{case}");
    let torn = stack.file("journal.torn-1");
    assert_eq!(std::fs::read(&torn).unwrap(), spoilt[good..], "{case}");
    std::fs::remove_file(torn).unwrap();

    let mut state = expected.clone();
    append(&mut *writer, &mut state, &[samples::seal("op-1"), samples::begin("op-2", 1)]).await.unwrap();
    writer.release().await.unwrap();
    assert_eq!(stack.snapshot().await, *state.snapshot(), "{case}");
}

#[tokio::test]
async fn a_last_line_torn_at_any_byte_is_left_out_and_kept_aside() {
    let (stack, _) = Stack::with(&["a"]).await;
    let expected = without_last(&stack).await;
    let bytes = std::fs::read(stack.journal()).unwrap();
    let starts = line_starts(&bytes);
    let good = starts[starts.len() - 2];
    for end in good + 1..bytes.len() {
        check_torn(&stack, &bytes[..end], good, &expected, &format!("cut at byte {}", end - good)).await;
    }
}

#[tokio::test]
async fn a_last_line_with_any_byte_changed_is_left_out_and_kept_aside() {
    let (stack, _) = Stack::with(&["a"]).await;
    let expected = without_last(&stack).await;
    let bytes = std::fs::read(stack.journal()).unwrap();
    let starts = line_starts(&bytes);
    let good = starts[starts.len() - 2];
    for at in good..bytes.len() {
        let mut spoilt = bytes.clone();
        spoilt[at] ^= 1;
        check_torn(&stack, &spoilt, good, &expected, &format!("byte {} changed", at - good)).await;
    }
}

#[tokio::test]
async fn a_line_of_zeros_at_the_end_is_left_out() {
    let (stack, state) = Stack::with(&["a"]).await;
    let mut bytes = std::fs::read(stack.journal()).unwrap();
    bytes.extend([0; 4096]);
    std::fs::write(stack.journal(), bytes).unwrap();
    let read = stack.read().await.unwrap();
    assert_eq!(read.state, Some(state));
    assert_eq!(read.warnings.len(), 1);
}

#[tokio::test]
async fn many_torn_lines_are_all_kept_up_to_the_bound() {
    let (stack, _) = Stack::with(&["a"]).await;
    let good = std::fs::read(stack.journal()).unwrap();
    for number in 1..=18 {
        let torn = format!("torn line {number}");
        std::fs::write(stack.journal(), [good.as_slice(), torn.as_bytes()].concat()).unwrap();
        stack.writer().await.load().await.unwrap();
        let kept = stack.file(&format!("journal.torn-{}", number.min(16)));
        assert_eq!(std::fs::read_to_string(kept).unwrap(), torn);
    }
}

#[tokio::test]
async fn a_bad_line_in_the_middle_is_damage_and_named() {
    let (stack, _) = Stack::with(&["a", "b"]).await;
    let bytes = std::fs::read(stack.journal()).unwrap();
    let starts = line_starts(&bytes);
    for at in starts[2]..starts[3] {
        let mut spoilt = bytes.clone();
        spoilt[at] ^= 1;
        std::fs::write(stack.journal(), spoilt).unwrap();
        must_be_damaged(&stack, "line 3").await;
    }
}

#[tokio::test]
async fn a_lost_line_in_the_middle_is_damage_and_named() {
    let (stack, _) = Stack::with(&["a", "b"]).await;
    let mut bytes = std::fs::read(stack.journal()).unwrap();
    let starts = line_starts(&bytes);
    bytes.drain(starts[2]..starts[3]);
    std::fs::write(stack.journal(), bytes).unwrap();
    must_be_damaged(&stack, "line 3 holds entry 3, after entry 1").await;
}

#[tokio::test]
async fn a_checked_line_that_is_no_entry_is_damage_and_named() {
    let (stack, _) = Stack::with(&["a"]).await;
    let mut text = std::fs::read_to_string(stack.journal()).unwrap();
    text.push_str(&line("{\"sequence\":5,\"entry\":{\"seal\":7}}"));
    std::fs::write(stack.journal(), text).unwrap();
    must_be_damaged(&stack, "line 6 is not an entry").await;
}

#[tokio::test]
async fn a_spoilt_header_is_damage() {
    let (stack, _) = Stack::with(&["a"]).await;
    let bytes = std::fs::read(stack.journal()).unwrap();
    for at in 0..line_starts(&bytes)[1] {
        let mut spoilt = bytes.clone();
        spoilt[at] ^= 1;
        std::fs::write(stack.journal(), spoilt).unwrap();
        must_be_damaged(&stack, "line 1").await;
    }
    std::fs::write(stack.journal(), b"").unwrap();
    must_be_damaged(&stack, "line 1").await;
}

#[tokio::test]
async fn a_spoilt_snapshot_is_damage() {
    let (stack, _) = Stack::with(&["a"]).await;
    let path = stack.file("snapshot.json");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    must_be_damaged(&stack, "snapshot.json").await;
    std::fs::write(&path, b"").unwrap();
    must_be_damaged(&stack, "snapshot.json").await;
}

#[tokio::test]
async fn a_missing_snapshot_is_damage_and_not_an_empty_state() {
    let (stack, _) = Stack::with(&["a"]).await;
    std::fs::remove_file(stack.file("snapshot.json")).unwrap();
    must_be_damaged(&stack, "is missing").await;
    let error = stack.writer().await.create(&samples::snapshot()).await.unwrap_err();
    assert!(matches!(error, StateError::Fenced { .. }), "{error:?}");
}

#[tokio::test]
async fn a_journal_beside_a_foreign_or_older_snapshot_is_damage() {
    let (stack, state) = Stack::with(&["a"]).await;
    let path = stack.file("snapshot.json");
    let mut foreign = samples::snapshot();
    foreign.lineage = "another".to_owned();
    std::fs::write(&path, serde_json::to_vec(&foreign).unwrap()).unwrap();
    must_be_damaged(&stack, "lineage").await;

    std::fs::write(&path, serde_json::to_vec(&samples::snapshot()).unwrap()).unwrap();
    let mut writer = stack.writer().await;
    writer.load().await.unwrap();
    writer.checkpoint(state.snapshot()).await.unwrap();
    writer.release().await.unwrap();
    std::fs::write(&path, serde_json::to_vec(&samples::snapshot()).unwrap()).unwrap();
    must_be_damaged(&stack, "ends with entry 0, the journal beside it begins after entry 4").await;
}

#[tokio::test]
async fn a_missing_journal_is_made_anew() {
    // A kill between the snapshot and the journal of a new state.
    let (stack, _) = Stack::with(&["a"]).await;
    std::fs::remove_file(stack.journal()).unwrap();
    assert_eq!(stack.snapshot().await, samples::snapshot());
    let mut writer = stack.writer().await;
    let mut state = writer.load().await.unwrap().state.unwrap();
    append(&mut *writer, &mut state, &[samples::begin("op-1", 0)]).await.unwrap();
    assert_eq!(stack.snapshot().await, *state.snapshot());
}

#[tokio::test]
async fn a_kill_between_a_checkpoints_snapshot_and_its_journal_changes_nothing() {
    let (stack, mut state) = Stack::with(&["a", "b"]).await;
    std::fs::write(stack.file("snapshot.json"), serde_json::to_vec(state.snapshot()).unwrap()).unwrap();
    assert_eq!(stack.snapshot().await, *state.snapshot());
    let mut writer = stack.writer().await;
    assert_eq!(writer.load().await.unwrap().state, Some(state.clone()));
    append(&mut *writer, &mut state, &[samples::begin("op-2", 1)]).await.unwrap();
    assert_eq!(stack.snapshot().await, *state.snapshot());
    assert_eq!(line_starts(&std::fs::read(stack.journal()).unwrap()).len(), 3, "the old journal was not dropped");
}

#[tokio::test]
async fn reading_writes_nothing() {
    let stack = Stack::empty();
    assert!(stack.read().await.unwrap().state.is_none());
    assert!(!stack.folder().exists());
    let (stack, _) = Stack::with(&["a"]).await;
    let before = stack.files();
    stack.read().await.unwrap();
    assert_eq!(stack.files(), before);
}
