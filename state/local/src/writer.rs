//! The one writer of a stack.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ksail_records::{Entry, FORMAT, SealedOperation, Snapshot, StateError, Stored, Writer};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::files::blocking;
use crate::files::{self, Durability};
use crate::history;
use crate::journal::{self, Header};
use crate::lock::Held;
use crate::stored::{self, Found, JournalRead, Read};

/// A journal smaller than this is never worth a checkpoint.
pub const CHECKPOINT_FLOOR_BYTES: u64 = 1024 * 1024;

/// A journal this many times larger than the snapshot is worth a checkpoint.
pub const CHECKPOINT_RATIO: u64 = 2;

/// How many torn lines are kept; later ones take the place of the last.
const TORN_KEPT: u32 = 16;

/// The lock, and the journal that it protects. It is shared with the blocking task that is at work, so that a dropped
/// future neither gives the lock back early nor forgets what was written.
struct Inner {
    folder: PathBuf,
    held: Held,
    open: Option<Open>,
}

/// The journal as this writer left it.
struct Open {
    file: File,
    /// Its length. Every byte of it is durable.
    bytes: u64,
    lineage: String,
    last: u64,
    snapshot_bytes: u64,
}

/// Writes the state in a folder.
pub(crate) struct LocalWriter {
    inner: Arc<Mutex<Inner>>,
}

impl LocalWriter {
    pub(crate) fn new(folder: PathBuf, held: Held) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { folder, held, open: None })) }
    }
}

/// A panic cannot leave the journal's length wrong: it is set after all that can fail.
fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs work that borrows (a snapshot is too large to copy) where other tasks can go on.
fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[async_trait]
impl Writer for LocalWriter {
    async fn load(&mut self) -> Result<Stored, StateError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || lock(&inner).load()).await
    }

    async fn create(&mut self, snapshot: &Snapshot) -> Result<(), StateError> {
        in_place(|| lock(&self.inner).create(snapshot))
    }

    async fn append(&mut self, first: u64, entries: &[Entry]) -> Result<(), StateError> {
        if entries.is_empty() {
            return Ok(());
        }
        let count = entries.len() as u64;
        let lines = journal::encode_entries(first, entries);
        let inner = Arc::clone(&self.inner);
        blocking(move || lock(&inner).append(first, count, lines.map_err(io::Error::from))).await
    }

    fn wants_checkpoint(&self) -> bool {
        lock(&self.inner).open.as_ref().is_some_and(|open| {
            open.bytes > CHECKPOINT_FLOOR_BYTES.max(CHECKPOINT_RATIO.saturating_mul(open.snapshot_bytes))
        })
    }

    async fn checkpoint(&mut self, snapshot: &Snapshot) -> Result<(), StateError> {
        in_place(|| lock(&self.inner).checkpoint(snapshot))
    }

    async fn archive(&mut self, operation: &SealedOperation) -> Result<(), StateError> {
        in_place(|| history::store(&lock(&self.inner).folder, operation))
    }

    async fn seal(&mut self, to: &str) -> Result<(), StateError> {
        let folder = lock(&self.inner).folder.clone();
        in_place(|| stored::mark_moved(&folder, to))
    }

    async fn set_aside(&mut self) -> Result<String, StateError> {
        in_place(|| lock(&self.inner).set_aside())
    }

    async fn release(self: Box<Self>) -> Result<(), StateError> {
        // A task that is still at work holds the lock until it is done; its end gives the lock back.
        match Arc::try_unwrap(self.inner) {
            Ok(inner) => inner.into_inner().unwrap_or_else(PoisonError::into_inner).held.release(),
            Err(_) => Ok(()),
        }
    }
}

impl Inner {
    fn load(&mut self) -> Result<Stored, StateError> {
        self.open = None;
        // Nobody else writes, so files that are apart stay apart.
        let Read { state, sealed, snapshot_bytes, journal } = match stored::read(&self.folder)? {
            Found::Nothing => return Ok(Stored { state: None, warnings: Vec::new() }),
            Found::Apart { snapshot, journal } => return Err(stored::apart(&self.folder, snapshot, journal)),
            Found::State(read) => *read,
        };
        let mut warnings = Vec::new();
        if let Some(torn) = journal.as_ref().map(|journal| &journal.torn).filter(|torn| !torn.is_empty()) {
            warnings.push(self.keep_torn(torn)?);
        }
        // A kill between a seal and its archiving leaves the operation in the journal alone.
        for operation in sealed.iter().filter(|operation| !history::is_stored(&self.folder, operation)) {
            history::store(&self.folder, operation)?;
        }
        let snapshot = state.snapshot();
        self.open = Some(match journal {
            Some(journal) if !journal.taken_in && journal.last == snapshot.sequence => {
                self.reopen(snapshot, snapshot_bytes, &journal)?
            }
            // A kill came between a checkpoint's snapshot and its journal.
            _ => self.start_journal(snapshot, snapshot_bytes)?,
        });
        Ok(Stored { state: Some(state), warnings })
    }

    /// Moves all that makes the state into a folder beside it. The journal first: what is left of a kill is an older state
    /// then, and not a journal without one.
    fn set_aside(&mut self) -> Result<String, StateError> {
        self.open = None;
        let free = (1_u32..).map(|number| self.folder.join(format!("aside-{number}"))).find(|path| !path.exists());
        let aside = free.unwrap_or_else(|| self.folder.join("aside"));
        files::make_folder(&aside)?;
        for path in
            [stored::journal_path(&self.folder), stored::snapshot_path(&self.folder), history::folder(&self.folder)]
        {
            let Some(name) = path.file_name().filter(|_| path.exists()) else { continue };
            std::fs::rename(&path, aside.join(name)).map_err(|source| files::write_error("move", &path, source))?;
            files::sync_folder(&self.folder)?;
        }
        files::sync_folder(&aside)?;
        Ok(aside.display().to_string())
    }

    /// Puts a torn line aside, before it is cut off.
    fn keep_torn(&self, torn: &[u8]) -> Result<String, StateError> {
        let name = |number: u32| format!("journal.torn-{number}");
        let free = (1..TORN_KEPT).find(|number| !self.folder.join(name(*number)).exists()).unwrap_or(TORN_KEPT);
        files::replace(&self.folder.join(name(free)), Durability::Synced, |out| out.write_all(torn))?;
        Ok(format!(
            "the last line of {} was incomplete ({} bytes); it was cut off and is kept as {}",
            stored::journal_path(&self.folder).display(),
            torn.len(),
            name(free)
        ))
    }

    fn reopen(&self, snapshot: &Snapshot, snapshot_bytes: u64, journal: &JournalRead) -> Result<Open, StateError> {
        let path = stored::journal_path(&self.folder);
        let file =
            files::private().append(true).open(&path).map_err(|source| files::write_error("open", &path, source))?;
        if !journal.torn.is_empty() {
            cut(&file, journal.good_bytes).map_err(|source| files::write_error("repair", &path, source))?;
        }
        Ok(Open {
            file,
            bytes: journal.good_bytes,
            lineage: snapshot.lineage.clone(),
            last: snapshot.sequence,
            snapshot_bytes,
        })
    }

    fn start_journal(&self, snapshot: &Snapshot, snapshot_bytes: u64) -> Result<Open, StateError> {
        let path = stored::journal_path(&self.folder);
        let header = Header { format: FORMAT, lineage: snapshot.lineage.clone(), after: snapshot.sequence };
        let bytes = files::replace(&path, Durability::Synced, |out| out.write_all(&journal::encode_header(&header)?))?;
        let file =
            files::private().append(true).open(&path).map_err(|source| files::write_error("open", &path, source))?;
        Ok(Open { file, bytes, lineage: header.lineage, last: header.after, snapshot_bytes })
    }

    fn create(&mut self, snapshot: &Snapshot) -> Result<(), StateError> {
        if stored::snapshot_path(&self.folder).exists() || stored::journal_path(&self.folder).exists() {
            return Err(self.fenced());
        }
        let bytes = self.write_snapshot(snapshot)?;
        self.open = Some(self.start_journal(snapshot, bytes)?);
        Ok(())
    }

    fn append(&mut self, first: u64, count: u64, lines: io::Result<Vec<u8>>) -> Result<(), StateError> {
        let path = stored::journal_path(&self.folder);
        let lines = lines.map_err(|source| files::write_error("encode entries for", &path, source))?;
        let mut open = self.take_open()?;
        if first != open.last + 1 {
            self.open = Some(open);
            return Err(self.fenced());
        }
        if let Err(source) = open.file.write_all(&lines).and_then(|()| open.file.sync_data()) {
            // The file goes back to what is known to be durable. If even that fails, this writer is at its end and only
            // `load` tells what is there.
            if cut(&open.file, open.bytes).is_ok() {
                self.open = Some(open);
            }
            return Err(files::write_error("append to", &path, source));
        }
        open.bytes += lines.len() as u64;
        open.last += count;
        self.open = Some(open);
        Ok(())
    }

    fn checkpoint(&mut self, snapshot: &Snapshot) -> Result<(), StateError> {
        let open = self.take_open()?;
        if snapshot.lineage != open.lineage || snapshot.sequence != open.last {
            let why = format!("it ends with entry {}, the journal with entry {}", snapshot.sequence, open.last);
            let place = stored::snapshot_path(&self.folder).display().to_string();
            self.open = Some(open);
            return Err(StateError::Io {
                doing: "replace",
                place,
                source: io::Error::new(io::ErrorKind::InvalidInput, why),
            });
        }
        // If either step fails, the old journal can go on: beside the new snapshot, its entries so far are skipped.
        let fresh = self.write_snapshot(snapshot).and_then(|bytes| self.start_journal(snapshot, bytes));
        let (open, result) = match fresh {
            Ok(fresh) => (fresh, Ok(())),
            Err(error) => (open, Err(error)),
        };
        self.open = Some(open);
        result
    }

    fn write_snapshot(&self, snapshot: &Snapshot) -> Result<u64, StateError> {
        files::replace(&stored::snapshot_path(&self.folder), Durability::Synced, |out| {
            serde_json::to_writer(&mut *out, snapshot)?;
            out.write_all(b"\n")
        })
    }

    /// The journal, if it still is what this writer left. It is taken, and put back when it is known to be right again.
    fn take_open(&mut self) -> Result<Open, StateError> {
        let path = stored::journal_path(&self.folder);
        // A writer that was fenced, or does not know what a failed write left, goes on from what is there or not at all.
        let Some(open) = self.open.take() else {
            return Err(StateError::Io {
                doing: "write to",
                place: path.display().to_string(),
                source: io::Error::other("it must be loaded first"),
            });
        };
        if unchanged(&open, &path).map_err(|source| files::read_error(&path, source))? {
            Ok(open)
        } else {
            Err(self.fenced())
        }
    }

    fn fenced(&self) -> StateError {
        StateError::Fenced { place: self.folder.display().to_string() }
    }
}

fn unchanged(open: &Open, path: &Path) -> io::Result<bool> {
    Ok(files::has_name(&open.file, path)? && open.file.metadata()?.len() == open.bytes)
}

fn cut(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    file.sync_data()
}
