//! Reading what is stored: the snapshot, and the journal's entries after it.

use std::path::{Path, PathBuf};

use ksail_records::{FORMAT, SealedOperation, Snapshot, State, StateError};
use serde::Deserialize;

use crate::files::{self, damaged};
use crate::journal::Journal;

const SNAPSHOT_FILE: &str = "snapshot.json";
const JOURNAL_FILE: &str = "journal";
const MOVED_FILE: &str = "moved";

/// The snapshot's file.
pub(crate) fn snapshot_path(folder: &Path) -> PathBuf {
    folder.join(SNAPSHOT_FILE)
}

/// The journal's file.
pub(crate) fn journal_path(folder: &Path) -> PathBuf {
    folder.join(JOURNAL_FILE)
}

/// What the files hold.
pub(crate) struct Read {
    /// The state with all entries taken in.
    pub(crate) state: State,
    /// Operations that the journal seals.
    pub(crate) sealed: Vec<SealedOperation>,
    /// How large the snapshot is.
    pub(crate) snapshot_bytes: u64,
    /// What was read of the journal; `None` if a kill came before its creation.
    pub(crate) journal: Option<JournalRead>,
}

/// What was read of the journal.
pub(crate) struct JournalRead {
    /// The length up to which it is good.
    pub(crate) good_bytes: u64,
    /// A torn last line.
    pub(crate) torn: Vec<u8>,
    /// The sequence number of the last good entry.
    pub(crate) last: u64,
    /// Whether it has entries and the snapshot holds them all: a checkpoint was cut short.
    pub(crate) taken_in: bool,
}

impl JournalRead {
    /// Where a torn last line begins, and its length; zero if there is none.
    pub(crate) fn torn_at(&self) -> (u64, usize) {
        (self.good_bytes, self.torn.len())
    }
}

/// What one try to read found.
pub(crate) enum Found {
    /// There is no state.
    Nothing,
    /// A state.
    State(Box<Read>),
    /// The journal is newer than the snapshot: a checkpoint came between reading the two, or a file is missing.
    Apart {
        /// The snapshot's last sequence number.
        snapshot: Option<u64>,
        /// The last one before the journal.
        journal: u64,
    },
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Where the state was moved to, if it was: an error for whoever wants to use it here.
pub(crate) fn check_not_moved(folder: &Path) -> Result<(), StateError> {
    // It is the first file that is read: what keeps it from being read keeps the others too.
    let of_folder = |error| match error {
        StateError::Io { doing, source, .. } => StateError::Io { doing, place: folder.display().to_string(), source },
        other => other,
    };
    match files::read_if_there(&folder.join(MOVED_FILE)).map_err(of_folder)? {
        None => Ok(()),
        Some(to) => Err(StateError::Moved {
            place: folder.display().to_string(),
            to: String::from_utf8_lossy(&to).trim().to_owned(),
        }),
    }
}

/// Marks the state as moved.
pub(crate) fn mark_moved(folder: &Path, to: &str) -> Result<(), StateError> {
    files::replace(&folder.join(MOVED_FILE), files::Durability::Synced, |out| writeln!(out, "{to}")).map(drop)
}

/// Reads both files, once. The snapshot comes first: what a writer does in between can then only make the journal too
/// new, which shows.
pub(crate) fn read(folder: &Path) -> Result<Found, StateError> {
    check_not_moved(folder)?;
    let (snapshot_path, journal_path) = (snapshot_path(folder), journal_path(folder));
    let snapshot_bytes = files::read_if_there(&snapshot_path)?;
    let journal_bytes = files::read_if_there(&journal_path)?;
    let journal = journal_bytes.as_deref().map(|bytes| Journal::open(&journal_path, bytes)).transpose()?;
    let Some(snapshot_bytes) = snapshot_bytes else {
        return Ok(match journal {
            None => Found::Nothing,
            Some(journal) => Found::Apart { snapshot: None, journal: journal.header.after },
        });
    };
    let snapshot = parse_snapshot(&snapshot_path, &snapshot_bytes)?;
    let size = snapshot_bytes.len() as u64;
    drop(snapshot_bytes);
    match journal {
        Some(journal) if journal.header.lineage != snapshot.lineage => Err(damaged(
            &journal_path,
            format!("it has lineage {}, the snapshot beside it {}", journal.header.lineage, snapshot.lineage),
        )),
        Some(journal) if journal.header.after > snapshot.sequence => {
            Ok(Found::Apart { snapshot: Some(snapshot.sequence), journal: journal.header.after })
        }
        journal => replay(&journal_path, snapshot, size, journal).map(|read| Found::State(Box::new(read))),
    }
}

fn parse_snapshot(path: &Path, bytes: &[u8]) -> Result<Snapshot, StateError> {
    let newer = |found| StateError::NewerFormat { place: path.display().to_string(), found, known: FORMAT };
    match serde_json::from_slice::<Snapshot>(bytes) {
        Ok(snapshot) if snapshot.format > FORMAT => Err(newer(snapshot.format)),
        Ok(snapshot) => Ok(snapshot),
        // A newer format need not look like ours in anything but its version.
        Err(error) => match serde_json::from_slice::<FormatOnly>(bytes) {
            Ok(FormatOnly { format }) if format > FORMAT => Err(newer(format)),
            _ => Err(damaged(path, error.to_string())),
        },
    }
}

fn replay(
    path: &Path,
    snapshot: Snapshot,
    snapshot_bytes: u64,
    journal: Option<Journal<'_>>,
) -> Result<Read, StateError> {
    let checkpoint = snapshot.sequence;
    let mut state = State::new(snapshot);
    let mut sealed = Vec::new();
    let Some(mut journal) = journal else { return Ok(Read { state, sealed, snapshot_bytes, journal: None }) };
    let mut last = journal.header.after;
    while let Some(line) = journal.next_line()? {
        if line.sequence != last + 1 {
            let why = format!("line {} holds entry {}, after entry {last}", journal.line(), line.sequence);
            return Err(damaged(path, why));
        }
        last = line.sequence;
        if last <= checkpoint {
            continue;
        }
        let operation = state.apply(&line.entry).map_err(|source| StateError::Illegal {
            place: format!("{}, line {},", path.display(), journal.line()),
            source,
        })?;
        sealed.extend(operation);
    }
    let journal = JournalRead {
        good_bytes: journal.good_bytes() as u64,
        torn: journal.tail().to_vec(),
        last,
        taken_in: last <= checkpoint && last > journal.header.after,
    };
    Ok(Read { state, sealed, snapshot_bytes, journal: Some(journal) })
}

/// The error for files that stay apart.
pub(crate) fn apart(folder: &Path, snapshot: Option<u64>, journal: u64) -> StateError {
    let path = snapshot_path(folder);
    match snapshot {
        None => damaged(&path, "it is missing, and there is a journal beside it"),
        Some(sequence) => {
            damaged(&path, format!("it ends with entry {sequence}, the journal beside it begins after entry {journal}"))
        }
    }
}
