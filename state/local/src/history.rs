//! Sealed operations: one file each, `<serial>-<operation>.json`.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ksail_records::{FORMAT, SealedOperation, StateError};
use serde::Deserialize;

use crate::files::{self, Durability, damaged};

const HISTORY_FOLDER: &str = "history";

/// Digits of a serial in a file name, so that names sort by it.
const SERIAL_DIGITS: usize = 10;

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// The file of an operation. Ids are made of letters, digits and `-`; anything else must not reach a path.
fn file_of(folder: &Path, operation: &SealedOperation) -> PathBuf {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let id: String = operation.header.id.chars().map(safe).collect();
    folder.join(HISTORY_FOLDER).join(format!("{:0SERIAL_DIGITS$}-{id}.json", operation.serial))
}

/// Where the operations of a state are.
pub(crate) fn folder(state: &Path) -> PathBuf {
    state.join(HISTORY_FOLDER)
}

/// Whether an operation is stored.
pub(crate) fn is_stored(folder: &Path, operation: &SealedOperation) -> bool {
    file_of(folder, operation).is_file()
}

/// Stores an operation, durably.
pub(crate) fn store(folder: &Path, operation: &SealedOperation) -> Result<(), StateError> {
    files::make_folder(&folder.join(HISTORY_FOLDER))?;
    files::replace(&file_of(folder, operation), Durability::Synced, |out| {
        serde_json::to_writer(&mut *out, operation)?;
        out.write_all(b"\n")
    })?;
    Ok(())
}

/// The newest operations, newest first.
pub(crate) fn read(folder: &Path, limit: usize) -> Result<Vec<SealedOperation>, StateError> {
    let folder = folder.join(HISTORY_FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(files::read_error(&folder, error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| files::read_error(&folder, error))?.path();
        if path.extension() == Some(OsStr::new("json")) {
            paths.push(path);
        }
    }
    paths.sort_unstable_by(|a, b| b.file_name().cmp(&a.file_name()));
    paths.truncate(limit);
    paths.iter().map(|path| parse(path)).collect()
}

fn parse(path: &Path) -> Result<SealedOperation, StateError> {
    let bytes = std::fs::read(path).map_err(|error| files::read_error(path, error))?;
    let format = serde_json::from_slice(&bytes).map_or(0, |FormatOnly { format }| format);
    if format > FORMAT {
        return Err(StateError::NewerFormat { place: path.display().to_string(), found: format, known: FORMAT });
    }
    serde_json::from_slice(&bytes).map_err(|error| damaged(path, error.to_string()))
}
