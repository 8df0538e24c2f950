//! The files of the store: a log that grows, and a snapshot that replaces what the log has outgrown.
//!
//! ```text
//! snapshot-<n>   all objects as they were when log n began
//! log-<n>        the changes since
//! ```
//! A new log is begun before its snapshot is written; until the snapshot has its name, the older ones are kept, so that the
//! objects can be read back at any moment: the newest whole snapshot, then all logs from its number on.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use tokio::sync::watch;

use super::record::{Header, Record, check};
use super::{Entry, Name};

/// The format that this version writes; a newer one is refused.
const FORMAT: u32 = 1;
/// A log is not rolled before it has this many bytes.
const MIN_LOG: u64 = 8 * 1024 * 1024;
/// A log is rolled when it has this many times the bytes of the snapshot.
const LOG_TO_SNAPSHOT: u64 = 2;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("{path} cannot be used", path = path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} is damaged: {what}; hint: restore it, or remove the folder to begin with an empty cluster", path = path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{path} has format {format}, which is newer than this ksail knows; hint: use a newer ksail", path = path.display())]
    Newer { path: PathBuf, format: u32 },
}

/// How far the log is synced.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub(crate) synced: u64,
    pub(crate) failed: Option<String>,
}

enum Work {
    /// Sync the log; all up to the version is in it.
    Sync(u64),
    /// A new log: sync the old one, write the snapshot, remove what it replaces.
    Rolled { log: Arc<File>, number: u64, version: u64, objects: Vec<(Arc<str>, Name, Entry)> },
}

/// The files.
pub(crate) struct Disk {
    folder: PathBuf,
    log: Arc<File>,
    number: u64,
    length: u64,
    snapshot_length: u64,
    work: mpsc::Sender<Work>,
    /// After a write that failed in the middle nothing more is written: what follows a torn line would be lost.
    broken: bool,
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> DiskError + '_ {
    move |source| DiskError::File { path: path.to_owned(), source }
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

impl Disk {
    /// Opens the files and hands every record to `take`, oldest first; answers the version of the last change too.
    pub(crate) fn open(
        folder: &Path,
        take: &mut dyn FnMut(Record<'_>),
    ) -> Result<(Self, u64, watch::Receiver<Progress>), DiskError> {
        let mut snapshots = Vec::new();
        let mut logs = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(file_error(folder))? {
            let path = entry.map_err(file_error(folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number = |prefix: &str| name.strip_prefix(prefix).and_then(|number| number.parse::<u64>().ok());
            if let Some(number) = number("snapshot-") {
                snapshots.push(number);
            } else if let Some(number) = number("log-") {
                logs.push(number);
            } else if name.ends_with(".tmp") {
                std::fs::remove_file(&path).map_err(file_error(&path))?;
            }
        }
        snapshots.sort_unstable();
        logs.sort_unstable();
        let base = snapshots.last().copied().unwrap_or(0);
        let mut snapshot_length = 0;
        let mut version = 0;
        if base > 0 {
            let path = folder.join(format!("snapshot-{base}"));
            (snapshot_length, version) = read(&path, false, take)?;
        }
        let current: Vec<u64> = logs.iter().copied().filter(|number| *number >= base).collect();
        for number in logs.iter().filter(|number| **number < base) {
            let path = folder.join(format!("log-{number}"));
            std::fs::remove_file(&path).map_err(file_error(&path))?;
        }
        let mut length = 0;
        for number in &current {
            let path = folder.join(format!("log-{number}"));
            let last = Some(number) == current.last();
            let (good, upto) = read(&path, last, take)?;
            length = good;
            version = version.max(upto);
        }
        let number = current.last().copied().unwrap_or(base);
        let path = folder.join(format!("log-{number}"));
        let log = if current.is_empty() {
            let (log, written) = begin(folder, number, version).map_err(file_error(&path))?;
            length = written;
            log
        } else {
            let log = OpenOptions::new().append(true).open(&path).map_err(file_error(&path))?;
            // A torn last line goes before anything is added.
            log.set_len(length).and_then(|()| log.sync_all()).map_err(file_error(&path))?;
            log
        };
        let (work, todo) = mpsc::channel();
        let (progress, synced) = watch::channel(Progress::default());
        let log = Arc::new(log);
        let syncer = Syncer { folder: folder.to_owned(), log: Arc::clone(&log), progress };
        std::thread::Builder::new()
            .name("kubernetes-log".to_owned())
            .spawn(move || syncer.run(&todo))
            .map_err(file_error(folder))?;
        let disk = Self { folder: folder.to_owned(), log, number, length, snapshot_length, work, broken: false };
        Ok((disk, version, synced))
    }

    /// Adds a line to the log.
    pub(crate) fn append(&mut self, version: u64, line: &[u8]) -> std::io::Result<()> {
        if self.broken {
            return Err(std::io::Error::other("the log could not be written before; nothing more is written to it"));
        }
        if let Err(error) = (&*self.log).write_all(line) {
            self.broken = self.log.set_len(self.length).is_err();
            return Err(error);
        }
        self.length += line.len() as u64;
        self.work.send(Work::Sync(version)).map_err(|_| std::io::Error::other("the log was closed"))
    }

    /// Whether the log has outgrown its snapshot.
    pub(crate) fn is_long(&self) -> bool {
        self.length > MIN_LOG.max(self.snapshot_length * LOG_TO_SNAPSHOT)
    }

    /// Begins a new log, and has a snapshot of these objects written beside. Without room for it the old log goes on.
    pub(crate) fn roll(&mut self, version: u64, objects: Vec<(Arc<str>, Name, Entry)>) {
        match begin(&self.folder, self.number + 1, version) {
            Ok((log, length)) => {
                self.number += 1;
                self.snapshot_length = objects.iter().map(|(_, _, entry)| entry.json.len() as u64 + 100).sum();
                self.length = length;
                self.log = Arc::new(log);
                let rolled = Work::Rolled { log: Arc::clone(&self.log), number: self.number, version, objects };
                if self.work.send(rolled).is_err() {
                    tracing::error!("the log was closed");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no new log could be begun");
                // It is tried again when the log has grown as much once more.
                self.snapshot_length = self.length;
            }
        }
    }
}

/// A new log with its header, synced.
fn begin(folder: &Path, number: u64, version: u64) -> std::io::Result<(File, u64)> {
    let path = folder.join(format!("log-{number}"));
    let temporary = folder.join(format!("log-{number}.tmp"));
    let mut log = create(&temporary)?;
    let line = Header { format: FORMAT, file: "log".to_owned(), records: 0, version }.line();
    log.write_all(&line)?;
    log.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    sync_folder(folder)?;
    Ok((log, line.len() as u64))
}

/// Reads a file; answers the length of what is good, and the last version in it. Only the last log may end in a torn line.
fn read(path: &Path, may_be_torn: bool, take: &mut dyn FnMut(Record<'_>)) -> Result<(u64, u64), DiskError> {
    let bytes = std::fs::read(path).map_err(file_error(path))?;
    let damaged = |what: String| DiskError::Damaged { path: path.to_owned(), what };
    let mut at = 0;
    let mut header: Option<Header> = None;
    let mut records = 0;
    let mut number = 0;
    let mut version = 0;
    while at < bytes.len() {
        number += 1;
        let end = bytes[at..].iter().position(|byte| *byte == b'\n').map(|end| at + end);
        let json = end.and_then(|end| check(&bytes[at..end]));
        let (Some(end), Some(json)) = (end, json) else {
            if may_be_torn && end.is_none_or(|end| end + 1 == bytes.len()) && header.is_some() {
                return Ok((at as u64, version));
            }
            return Err(damaged(format!("line {number} does not match its checksum")));
        };
        if header.is_none() {
            let read: Header = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
            if read.format > FORMAT {
                return Err(DiskError::Newer { path: path.to_owned(), format: read.format });
            }
            version = read.version;
            header = Some(read);
        } else {
            let record: Record<'_> =
                serde_json::from_slice(json).map_err(|error| damaged(format!("line {number}: {error}")))?;
            version = version.max(record.version);
            take(record);
            records += 1;
        }
        at = end + 1;
    }
    match header {
        None => Err(damaged("it has no header".to_owned())),
        Some(header) if header.file == "snapshot" && header.records != records => {
            Err(damaged(format!("it has {records} records, and should have {}", header.records)))
        }
        Some(_) => Ok((at as u64, version)),
    }
}

/// The thread that syncs.
struct Syncer {
    folder: PathBuf,
    log: Arc<File>,
    progress: watch::Sender<Progress>,
}

impl Syncer {
    /// Works until the store is gone. What came meanwhile is synced at once, so that many writers share a sync.
    fn run(mut self, todo: &mpsc::Receiver<Work>) {
        while let Ok(first) = todo.recv() {
            let mut upto = None;
            let mut rolled = None;
            for work in std::iter::once(first).chain(todo.try_iter()) {
                match work {
                    Work::Sync(version) => upto = Some(version),
                    Work::Rolled { .. } => {
                        rolled = Some(work);
                        break;
                    }
                }
            }
            if let Some(version) = upto {
                let synced = self.log.sync_data();
                self.report(version, synced);
            }
            if let Some(Work::Rolled { log, number, version, objects }) = rolled {
                let synced = self.log.sync_data();
                self.report(version, synced);
                self.log = log;
                if let Err(error) = self.snapshot(number, version, &objects) {
                    // The logs hold everything; the next roll tries again.
                    tracing::warn!(%error, "no snapshot could be written");
                }
            }
        }
    }

    fn report(&self, version: u64, synced: std::io::Result<()>) {
        self.progress.send_modify(|progress| match synced {
            Ok(()) => progress.synced = version,
            Err(error) => progress.failed = Some(error.to_string()),
        });
    }

    fn snapshot(&self, number: u64, version: u64, objects: &[(Arc<str>, Name, Entry)]) -> std::io::Result<()> {
        let temporary = self.folder.join(format!("snapshot-{number}.tmp"));
        let mut file = std::io::BufWriter::new(create(&temporary)?);
        let records = objects.len() as u64;
        file.write_all(&Header { format: FORMAT, file: "snapshot".to_owned(), records, version }.line())?;
        for (resource, (namespace, name), entry) in objects {
            file.write_all(&Record::line(entry.version, resource, namespace, name, Some(&entry.json)))?;
        }
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.folder.join(format!("snapshot-{number}")))?;
        sync_folder(&self.folder)?;
        for old in std::fs::read_dir(&self.folder)? {
            let path = old?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let older = |prefix: &str| {
                name.strip_prefix(prefix).and_then(|old| old.parse::<u64>().ok()).is_some_and(|old| old < number)
            };
            if older("snapshot-") || older("log-") {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}
