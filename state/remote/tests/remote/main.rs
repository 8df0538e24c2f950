//! The segmented log, the lease and the rescue on a store in memory that counts, waits and fails.

mod faults;
mod fences;
mod requests;
mod support;

use std::sync::Arc;

use support::{Machine, Memory};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_of_all_backends() {
    ksail_state_suite::run(|| {
        let store = Memory::new();
        let machine = Machine::new();
        Box::new(move || Box::new(machine.open(&Arc::clone(&store))))
    })
    .await;
}
