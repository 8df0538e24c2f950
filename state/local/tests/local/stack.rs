//! A stack in a temporary folder, and its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ksail_records::{Backend as _, Entry, Snapshot, State, StateError, Stored, Writer};
use ksail_state_local::LocalBackend;
use ksail_state_suite::samples;

/// Longer than any honest wait for a lock in these tests.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Stack {
    root: tempfile::TempDir,
}

impl Stack {
    pub(crate) fn empty() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    /// A stack with one operation that made these, and its state.
    pub(crate) async fn with(names: &[&str]) -> (Self, State) {
        let stack = Self::empty();
        let mut writer = stack.writer().await;
        writer.create(&samples::snapshot()).await.unwrap();
        let mut state = State::new(samples::snapshot());
        append(&mut *writer, &mut state, &samples::operation("op-1", 0, names)).await.unwrap();
        writer.release().await.unwrap();
        (stack, state)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join(".ksail/dev")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.file("journal")
    }

    pub(crate) fn backend(&self) -> LocalBackend {
        LocalBackend::new(self.folder())
    }

    pub(crate) async fn read(&self) -> Result<Stored, StateError> {
        self.backend().read().await
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        self.read().await.unwrap().state.unwrap().into_snapshot()
    }

    pub(crate) async fn writer(&self) -> Box<dyn Writer> {
        self.backend().lock(&samples::owner("test"), LONG).await.unwrap()
    }

    /// Every file with its content.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        collect(&self.folder(), &mut found);
        found
    }
}

fn collect(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
}

/// Appends entries, and takes them into the state when they are durable.
pub(crate) async fn append(writer: &mut dyn Writer, state: &mut State, entries: &[Entry]) -> Result<(), StateError> {
    writer.append(state.next_sequence(), entries).await?;
    for entry in entries {
        state.apply(entry).unwrap();
    }
    Ok(())
}

/// Where each line begins, and where the file ends.
pub(crate) fn line_starts(bytes: &[u8]) -> Vec<usize> {
    let newlines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(newlines).collect()
}

/// A journal line with a right checksum.
pub(crate) fn line(json: &str) -> String {
    format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()))
}
