//! What could not be stored, kept on this machine until it can be: `.ksail/<stack>/rescue/`. Each line has its own checksum;
//! every line is durable before the writer says where it is.

use std::path::{Path, PathBuf};

use ksail_records::{Entry, FORMAT, State, StateError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::log::Log;

/// How the files end that wait to be taken up.
const EXTENSION: &str = "jsonl";
/// How those end that do not fit any more. They are kept for people.
const ASIDE: &str = "aside";
/// Digits of a checksum.
const CHECKSUM_LEN: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    format: u32,
    lineage: String,
    place: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    sequence: u64,
    entry: Entry,
}

#[derive(Serialize)]
struct LineRef<'a> {
    sequence: u64,
    entry: &'a Entry,
}

/// Where one writer keeps what it cannot store.
#[derive(Debug)]
pub(crate) struct Rescue {
    path: PathBuf,
    header: Header,
    begun: bool,
}

fn push_line<T: Serialize>(out: &mut Vec<u8>, content: &T) {
    let json = serde_json::to_vec(content).unwrap_or_default();
    out.extend_from_slice(format!("{:08x} ", crc32c::crc32c(&json)).as_bytes());
    out.extend_from_slice(&json);
    out.push(b'\n');
}

impl Rescue {
    pub(crate) fn new(folder: &Path, at_ms: u64, writer: &str, lineage: &str, place: &str) -> Self {
        let header = Header { format: FORMAT, lineage: lineage.to_owned(), place: place.to_owned() };
        Self { path: folder.join(format!("{at_ms:014}-{writer}.{EXTENSION}")), header, begun: false }
    }

    pub(crate) fn file(&self) -> String {
        self.path.display().to_string()
    }

    /// Keeps entries, durably.
    pub(crate) fn keep(&mut self, first: u64, entries: &[Entry]) -> Result<(), StateError> {
        let mut out = Vec::new();
        if !self.begun {
            push_line(&mut out, &self.header);
        }
        for (sequence, entry) in (first..).zip(entries) {
            push_line(&mut out, &LineRef { sequence, entry });
        }
        let written = self.path.parent().map_or(Ok(()), files::make_folder);
        written
            .and_then(|()| files::append(&self.path, &out))
            .map_err(|source| files::error("write", &self.path, source))?;
        self.begun = true;
        Ok(())
    }
}

/// A file that waits to be taken up.
pub(crate) struct Kept {
    path: PathBuf,
    lineage: String,
    first: u64,
    entries: Vec<Entry>,
}

/// How what was kept fits what is stored.
pub(crate) enum Fit {
    /// All of it had been stored.
    Stored,
    /// These entries come next.
    Next(Vec<Entry>),
    /// It does not.
    Not(String),
}

fn line<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let json = line.get(CHECKSUM_LEN + 1..)?;
    let checksum = format!("{:08x}", crc32c::crc32c(json));
    (checksum.as_bytes() == &line[..CHECKSUM_LEN]).then(|| serde_json::from_slice(json).ok()).flatten()
}

/// The files of this place that wait to be taken up, oldest first, and a fragment for each that cannot be read. A torn last
/// line (the machine stopped while it was written) is left out: nobody was told that it is kept.
pub(crate) fn waiting(folder: &Path, place: &str) -> Result<(Vec<Kept>, Vec<String>), StateError> {
    let mut found = Vec::new();
    let mut warnings = Vec::new();
    for path in files::in_folder(folder).map_err(|source| files::error("read", folder, source))? {
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(|source| files::error("read", &path, source))?;
        let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let Some(header) = lines.next().and_then(line::<Header>).filter(|header| header.format <= FORMAT) else {
            warnings.push(format!("{} cannot be read, and is left as it is", path.display()));
            continue;
        };
        if header.place != place {
            continue;
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut first = None;
        for line in lines.map_while(line::<Line>) {
            let expected = *first.get_or_insert(line.sequence) + entries.len() as u64;
            if line.sequence != expected {
                break;
            }
            entries.push(line.entry);
        }
        found.push(Kept { path, lineage: header.lineage, first: first.unwrap_or(0), entries });
    }
    Ok((found, warnings))
}

impl Kept {
    /// How it fits what is stored.
    pub(crate) fn fit(&self, log: &Log) -> Fit {
        let snapshot = log.state.snapshot();
        if snapshot.lineage != self.lineage {
            return Fit::Not(format!("it is of lineage {}, the state of {}", self.lineage, snapshot.lineage));
        }
        let next = log.state.next_sequence();
        let Some(known) = next.checked_sub(self.first) else {
            return Fit::Not(format!("it goes on from entry {}, the state has {} only", self.first, next - 1));
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(self.entries.len());
        if known > 0 {
            let at = self.first.checked_sub(log.first).and_then(|at| usize::try_from(at).ok());
            let stored = at.and_then(|at| log.entries.get(at..at + known));
            if stored != Some(&self.entries[..known]) {
                return Fit::Not("another operation has gone on since".to_owned());
            }
        }
        let rest = &self.entries[known..];
        if rest.is_empty() {
            return Fit::Stored;
        }
        if self.first + known as u64 != next {
            return Fit::Not("another operation has gone on since".to_owned());
        }
        let mut state: State = log.state.clone();
        match rest.iter().try_for_each(|entry| state.apply(entry).map(drop)) {
            Ok(()) => Fit::Next(rest.to_vec()),
            Err(illegal) => Fit::Not(illegal.to_string()),
        }
    }

    pub(crate) fn file(&self) -> String {
        self.path.display().to_string()
    }

    /// It is stored: the file has done its work.
    pub(crate) fn done(&self) -> Result<(), StateError> {
        std::fs::remove_file(&self.path).map_err(|source| files::error("remove", &self.path, source))
    }

    /// It does not fit, and is kept for people. Answers where.
    pub(crate) fn put_aside(&self) -> Result<String, StateError> {
        let aside = self.path.with_extension(ASIDE);
        std::fs::rename(&self.path, &aside).map_err(|source| files::error("rename", &self.path, source))?;
        Ok(aside.display().to_string())
    }
}
