//! The engine's folder as this side sees it: `engine.json` with the mark, the lock, and the way it is made and removed.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use ksail_model::Mark;
use serde::{Deserialize, Serialize};

/// The format of `engine.json` that this version writes.
pub(crate) const FORMAT: u32 = 1;
/// Begins the names of folders on their way out.
pub(crate) const DELETED: &str = ".deleted-";
/// Begins the names of folders that are not finished.
pub(crate) const MAKING: &str = ".making-";
/// How deep below the state's folder engines are looked for.
const MAX_DEPTH: usize = 4;

/// What stands in `engine.json`. The process reads format, id and nonce; the rest is ours.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct EngineFile {
    pub(crate) format: u32,
    pub(crate) id: uuid::Uuid,
    pub(crate) nonce: String,
    /// The port of the last start, or of the next one.
    pub(crate) port: u16,
    /// The version of the last start, or of the next one.
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) mark: Option<Mark>,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("`{name}` is not the name of an engine's folder: it must be a relative path without `..`")]
    Name { name: String },
    #[error("{path} cannot be used: {why}", path = path.display())]
    File { path: PathBuf, why: String },
    #[error("{path} cannot be read: {why}", path = path.display())]
    Broken { path: PathBuf, why: String },
    #[error("{path} has format {format}, which is newer than this ksail knows", path = path.display())]
    Newer { path: PathBuf, format: u32 },
}

fn file_error(path: &Path, error: &io::Error) -> FolderError {
    FolderError::File { path: path.to_owned(), why: error.to_string() }
}

/// The folder of an identity.
pub(crate) fn resolve(state: &Path, name: &str) -> Result<PathBuf, FolderError> {
    let relative = Path::new(name);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !plain || name.split('/').any(|part| part.starts_with(DELETED) || part.starts_with(MAKING)) {
        return Err(FolderError::Name { name: name.to_owned() });
    }
    Ok(state.join(relative))
}

/// Reads `engine.json`; `None` if there is no engine in the folder.
pub(crate) fn read(folder: &Path) -> Result<Option<EngineFile>, FolderError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let path = folder.join("engine.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(&path, &error)),
    };
    let broken = |error: serde_json::Error| FolderError::Broken { path: path.clone(), why: error.to_string() };
    let Format { format } = serde_json::from_slice(&bytes).map_err(broken)?;
    if format > FORMAT {
        return Err(FolderError::Newer { path, format });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(broken)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn make_private(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4().simple()));
    let mut options = File::options();
    let mut file = options.create_new(true).write(true).mode(0o600).open(&temporary)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path))
        .and_then(|()| path.parent().map_or(Ok(()), sync_folder));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Writes `engine.json` anew, whole or not at all.
pub(crate) fn write(folder: &Path, file: &EngineFile) -> Result<(), FolderError> {
    let path = folder.join("engine.json");
    let bytes = serde_json::to_vec_pretty(file).map_err(io::Error::from).map_err(|error| file_error(&path, &error))?;
    write_private(&path, &bytes).map_err(|error| file_error(&path, &error))
}

/// Makes an engine's folder with its mark in it, in one step: it is made beside, synced, and then gets its name.
pub(crate) fn make(folder: &Path, file: &EngineFile) -> Result<(), FolderError> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    let making = parent.join(format!("{MAKING}{}", uuid::Uuid::new_v4()));
    make_private(&making).map_err(|error| file_error(&making, &error))?;
    let made = write(&making, file).and_then(|()| {
        let nonce = making.join("nonce");
        write_private(&nonce, file.nonce.as_bytes()).map_err(|error| file_error(&nonce, &error))?;
        let named = std::fs::rename(&making, folder).and_then(|()| sync_folder(parent));
        named.map_err(|error| file_error(folder, &error))
    });
    if made.is_err() {
        let _ = std::fs::remove_dir_all(&making);
    }
    made
}

/// Takes an engine's folder away: first its name, then what is in it.
pub(crate) fn remove(folder: &Path) -> Result<(), FolderError> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    let leaving = parent.join(format!("{DELETED}{}", uuid::Uuid::new_v4()));
    match std::fs::rename(folder, &leaving) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file_error(folder, &error)),
    }
    sync_folder(parent).map_err(|error| file_error(parent, &error))?;
    std::fs::remove_dir_all(&leaving).map_err(|error| file_error(&leaving, &error))
}

/// Removes what earlier calls began to make or to remove and did not finish. A call that is making one at this moment
/// elsewhere would fail and can be repeated; the state's lock keeps that from happening.
pub(crate) fn sweep(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(DELETED) || name.starts_with(MAKING)) {
            // What cannot be removed now is tried again by the next call.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The lock of an engine's folder, open, so that its release can be awaited also when the folder is renamed.
pub(crate) struct LockProbe(File);

impl LockProbe {
    /// Opens the lock; `None` where no process ever ran.
    pub(crate) fn open(folder: &Path) -> Option<Self> {
        File::open(folder.join("lock")).ok().map(Self)
    }

    /// Whether a process holds the folder.
    pub(crate) fn is_held(&self) -> bool {
        match self.0.try_lock_shared() {
            Ok(()) => {
                let _ = self.0.unlock();
                false
            }
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(_)) => false,
        }
    }
}

/// Whether a process holds an engine's folder.
pub(crate) fn is_held(folder: &Path) -> bool {
    LockProbe::open(folder).is_some_and(|probe| probe.is_held())
}

/// All engines below a folder: relative names and files. What cannot be read is left out.
pub(crate) fn scan(state: &Path) -> Vec<(String, EngineFile)> {
    let mut found = Vec::new();
    go(state, state, 0, &mut found);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn go(state: &Path, at: &Path, depth: usize, found: &mut Vec<(String, EngineFile)>) {
    if depth > 0
        && let Ok(Some(file)) = read(at)
    {
        if let Some(name) = at.strip_prefix(state).ok().and_then(Path::to_str) {
            found.push((name.to_owned(), file));
        }
        return;
    }
    if depth == MAX_DEPTH {
        return;
    }
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        let hidden =
            entry.file_name().to_str().is_none_or(|name| name.starts_with(DELETED) || name.starts_with(MAKING));
        if !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            go(state, &entry.path(), depth + 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_state() {
        let state = Path::new("/state");
        assert_eq!(resolve(state, "dev/engine").unwrap(), Path::new("/state/dev/engine"));
        for bad in ["", "/etc", "../x", "a/../../x", ".", ".deleted-1", "a/.making-1"] {
            assert!(resolve(state, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_newer_or_broken_file_is_an_error_and_not_absence() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap().is_none());
        std::fs::write(folder.path().join("engine.json"), r#"{"format": 99}"#).unwrap();
        assert!(matches!(read(folder.path()), Err(FolderError::Newer { format: 99, .. })));
        std::fs::write(folder.path().join("engine.json"), "{").unwrap();
        assert!(matches!(read(folder.path()), Err(FolderError::Broken { .. })));
    }
}
