//! The journal's lines: `<crc32c of the JSON, 8 hexadecimal digits> <JSON>` and a newline. The first line is a header,
//! every other one holds an entry with its sequence number.

use std::path::Path;

use ksail_records::{Entry, FORMAT, StateError};
use serde::{Deserialize, Serialize};

use crate::files::damaged;

/// Digits of the checksum.
const CHECKSUM_LEN: usize = 8;

/// Where the JSON begins: after the checksum and a space.
const JSON_AT: usize = CHECKSUM_LEN + 1;

/// The first line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The format of the whole file.
    pub(crate) format: u32,
    /// The lineage of the state, so that a journal beside a foreign snapshot is noticed.
    pub(crate) lineage: String,
    /// The sequence number of the last entry before this journal: the snapshot beside it has at least this one.
    pub(crate) after: u64,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

#[derive(Deserialize)]
pub(crate) struct Line {
    pub(crate) sequence: u64,
    pub(crate) entry: Entry,
}

#[derive(Serialize)]
struct LineRef<'a> {
    sequence: u64,
    entry: &'a Entry,
}

/// Adds one line to a buffer.
fn push_line<T: Serialize>(buffer: &mut Vec<u8>, content: &T) -> serde_json::Result<()> {
    let start = buffer.len();
    buffer.extend_from_slice(b"00000000 ");
    serde_json::to_writer(&mut *buffer, content)?;
    let checksum = format!("{:08x}", crc32c::crc32c(&buffer[start + JSON_AT..]));
    buffer[start..start + CHECKSUM_LEN].copy_from_slice(checksum.as_bytes());
    buffer.push(b'\n');
    Ok(())
}

/// The first line of a journal.
pub(crate) fn encode_header(header: &Header) -> serde_json::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    push_line(&mut buffer, header)?;
    Ok(buffer)
}

/// The lines of entries, the first of which has this sequence number.
pub(crate) fn encode_entries(first: u64, entries: &[Entry]) -> serde_json::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    for (sequence, entry) in (first..).zip(entries) {
        push_line(&mut buffer, &LineRef { sequence, entry })?;
    }
    Ok(buffer)
}

/// The JSON of a line without its newline; `None` if the line is torn or changed.
fn check_line(line: &[u8]) -> Option<&[u8]> {
    let checksum = line.get(..CHECKSUM_LEN)?;
    let json = line.get(JSON_AT..)?;
    let expected = format!("{:08x}", crc32c::crc32c(json));
    (line[CHECKSUM_LEN] == b' ' && checksum == expected.as_bytes()).then_some(json)
}

/// A journal that was read: the header is checked, the lines are checked while they are taken.
pub(crate) struct Journal<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    /// What the first line says.
    pub(crate) header: Header,
    /// Where the next line begins; all before it is good.
    at: usize,
    line: usize,
}

impl<'a> Journal<'a> {
    /// Reads the header. A journal begins its life with it (by a rename), so a torn one is damage.
    pub(crate) fn open(path: &'a Path, bytes: &'a [u8]) -> Result<Self, StateError> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let json = end.and_then(|end| check_line(&bytes[..end]));
        let (Some(end), Some(json)) = (end, json) else {
            return Err(damaged(path, "line 1 is not a journal's header"));
        };
        match serde_json::from_slice::<FormatOnly>(json) {
            Ok(FormatOnly { format }) if format > FORMAT => {
                return Err(StateError::NewerFormat {
                    place: path.display().to_string(),
                    found: format,
                    known: FORMAT,
                });
            }
            _ => {}
        }
        let header = serde_json::from_slice(json)
            .map_err(|error| damaged(path, format!("line 1 is not a journal's header: {error}")))?;
        Ok(Self { path, bytes, header, at: end + 1, line: 1 })
    }

    /// The number of the line that was taken last, from 1.
    pub(crate) const fn line(&self) -> usize {
        self.line
    }

    /// How many bytes from the start are good, as far as lines were taken.
    pub(crate) const fn good_bytes(&self) -> usize {
        self.at
    }

    /// What follows the good bytes: empty, or a torn last line.
    pub(crate) fn tail(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The next line; `None` at the end, or before a torn last line. A write that was cut short leaves a prefix, so only
    /// the very last line can be torn; a bad one before others is damage.
    pub(crate) fn next_line(&mut self) -> Result<Option<Line>, StateError> {
        let rest = self.tail();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let Some(json) = check_line(&rest[..end]) else {
            if end + 1 == rest.len() {
                return Ok(None);
            }
            return Err(damaged(self.path, format!("line {} does not match its checksum", self.line + 1)));
        };
        let line = serde_json::from_slice(json)
            .map_err(|error| damaged(self.path, format!("line {} is not an entry: {error}", self.line + 1)))?;
        self.at += end + 1;
        self.line += 1;
        Ok(Some(line))
    }
}
