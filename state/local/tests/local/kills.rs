//! A writer that is killed: everything that it reported as durable is there.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ksail_state_suite::samples;

use crate::children;
use crate::stack::{Stack, append};

const KILLS: u64 = 20;

/// How many entries the child has reported as durable; the thread ends when the child does.
fn listen(child: &mut Child) -> (Arc<AtomicU64>, std::thread::JoinHandle<()>) {
    let durable = Arc::new(AtomicU64::new(0));
    let (told, out) = (Arc::clone(&durable), child.stdout.take().unwrap());
    let thread = std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if let Some(sequence) = line.strip_prefix("durable ").and_then(|text| text.parse().ok()) {
                told.store(sequence, Ordering::SeqCst);
            }
        }
    });
    (durable, thread)
}

#[tokio::test]
async fn what_a_killed_writer_called_durable_is_there() {
    let stack = Stack::empty();
    let mut reached = 0;
    for round in 0..KILLS {
        let mut child = children::command("append", &stack.folder())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (durable, thread) = listen(&mut child);
        while durable.load(Ordering::SeqCst) == 0 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(round * round * 137 % 30_000));
        child.kill().unwrap();
        child.wait().unwrap();
        thread.join().unwrap();
        let durable = durable.load(Ordering::SeqCst);
        assert!(durable > reached, "round {round}: the child did not go on");

        let read = stack.read().await.unwrap().state.unwrap();
        reached = read.snapshot().sequence;
        assert!(reached >= durable, "round {round}: {durable} entries were durable, {reached} are there");
        let mut writer = stack.writer().await;
        assert_eq!(writer.load().await.unwrap().state, Some(read));
        writer.release().await.unwrap();
    }
    let mut writer = stack.writer().await;
    let mut state = writer.load().await.unwrap().state.unwrap();
    append(&mut *writer, &mut state, &[samples::seal("op")]).await.unwrap();
    assert_eq!(stack.snapshot().await, *state.snapshot());
}
