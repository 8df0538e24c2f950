//! The lock between processes.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use ksail_records::{Backend as _, StateError};
use ksail_state_suite::samples;

use crate::children::{self, TURNS};
use crate::stack::Stack;

const PROCESSES: u64 = 8;

#[tokio::test]
async fn of_many_processes_one_writes_at_a_time() {
    let (stack, state) = Stack::with(&[]).await;
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| {
            children::command("turns", &stack.folder()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(stack.snapshot().await.serial, state.snapshot().serial + PROCESSES * TURNS);
}

#[tokio::test]
async fn a_killed_holder_is_named_while_it_lives_and_forgotten_after() {
    let stack = Stack::empty();
    let backend = stack.backend();
    let mut child = children::command("hold", &stack.folder()).stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    assert!(out.lines().map_while(Result::ok).any(|line| line == "held"));

    let owner = backend.lock_owner().await.unwrap().unwrap();
    assert_eq!(owner.pid, child.id());
    match backend.lock(&samples::owner("other"), Duration::from_millis(100)).await.map(drop).unwrap_err() {
        StateError::Locked { owner: named, .. } => assert_eq!(*named, owner),
        error => panic!("{error:?}"),
    }
    let error = backend.unlock(&owner.id).await.unwrap_err().to_string();
    assert!(error.contains(&format!("kill {}", child.id())), "{error}");
    let error = backend.unlock("another").await.unwrap_err().to_string();
    assert!(error.contains(&format!("has the id {}, not another", owner.id)), "{error}");

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(stack.file("lock.json").exists());
    assert_eq!(backend.lock_owner().await.unwrap(), None);
    backend.unlock(&owner.id).await.unwrap();
    assert!(!stack.file("lock.json").exists());
    drop(backend.lock(&samples::owner("other"), Duration::ZERO).await.unwrap());
}

#[tokio::test]
async fn a_deleted_lock_file_does_not_let_two_in_unnoticed() {
    let (stack, state) = Stack::with(&["a"]).await;
    let mut first = stack.writer().await;
    first.load().await.unwrap();
    std::fs::remove_file(stack.file("lock")).unwrap();
    let mut second = stack.writer().await;
    second.load().await.unwrap();
    second.append(state.next_sequence(), &[samples::begin("op-2", 1)]).await.unwrap();
    let error = first.append(state.next_sequence(), &[samples::begin("op-3", 1)]).await.unwrap_err();
    assert!(matches!(error, StateError::Fenced { .. }), "{error:?}");
}

#[tokio::test]
async fn asking_who_holds_the_lock_does_not_keep_others_out() {
    let (stack, _) = Stack::with(&[]).await;
    let backend = stack.backend();
    let asking = tokio::spawn(async move {
        loop {
            backend.lock_owner().await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..50 {
        let writer = stack.backend().lock(&samples::owner("x"), Duration::ZERO).await.unwrap();
        tokio::task::yield_now().await;
        writer.release().await.unwrap();
    }
    asking.abort();
}
