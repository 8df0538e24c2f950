//! Formats: newer ones are refused, ours are read for ever.

use ksail_records::{Backend as _, StateError};
use ksail_state_suite::samples;

use crate::stack::{Stack, line};

fn is_newer(error: &StateError) -> bool {
    matches!(error, StateError::NewerFormat { found: 2, known: 1, .. })
}

async fn must_be_newer(stack: &Stack) {
    let before = stack.files();
    let error = stack.read().await.unwrap_err();
    assert!(is_newer(&error), "{error:?}");
    let mut writer = stack.writer().await;
    let error = writer.load().await.unwrap_err();
    assert!(is_newer(&error), "{error:?}");
    writer.append(1, &[samples::begin("op", 0)]).await.unwrap_err();
    writer.create(&samples::snapshot()).await.unwrap_err();
    writer.release().await.unwrap();
    assert_eq!(stack.files(), before);
}

#[tokio::test]
async fn a_newer_journal_is_refused_and_left_alone() {
    let (stack, _) = Stack::with(&["a"]).await;
    std::fs::write(stack.journal(), line("{\"format\":2,\"unheard\":true}") + "what follows is not ours to judge\n\n")
        .unwrap();
    must_be_newer(&stack).await;
}

#[tokio::test]
async fn a_newer_snapshot_is_refused_and_left_alone() {
    let (stack, state) = Stack::with(&["a"]).await;
    std::fs::write(stack.file("snapshot.json"), b"{\"format\":2,\"records\":[\"of another shape\"]}").unwrap();
    must_be_newer(&stack).await;
    let mut newer = state.into_snapshot();
    newer.format = 2;
    std::fs::write(stack.file("snapshot.json"), serde_json::to_vec(&newer).unwrap()).unwrap();
    must_be_newer(&stack).await;
}

#[tokio::test]
async fn a_newer_history_is_refused() {
    let (stack, _) = Stack::with(&["a"]).await;
    stack.writer().await.load().await.unwrap();
    let path = stack.file("history/0000000001-op-1.json");
    assert!(path.is_file());
    std::fs::write(path, b"{\"format\":2}").unwrap();
    let error = stack.backend().history(10).await.unwrap_err();
    assert!(is_newer(&error), "{error:?}");
}
