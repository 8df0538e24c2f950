//! The suite that every backend passes, on both flavours of runtime.

use std::path::PathBuf;

use ksail_records::Backend;
use ksail_state_local::LocalBackend;
use ksail_state_suite::Opener;

fn folders(root: PathBuf) -> impl FnMut() -> Opener {
    let mut count = 0;
    move || {
        count += 1;
        let folder = root.join(format!(".ksail/stack-{count}"));
        Box::new(move || Box::new(LocalBackend::new(folder.clone())) as Box<dyn Backend>)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_check_passes_on_many_threads() {
    let root = tempfile::tempdir().unwrap();
    ksail_state_suite::run(folders(root.path().to_owned())).await;
}

#[tokio::test]
async fn every_check_passes_on_one_thread() {
    let root = tempfile::tempdir().unwrap();
    ksail_state_suite::run(folders(root.path().to_owned())).await;
}
