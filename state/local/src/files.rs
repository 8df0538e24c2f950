//! Files and folders: modes, atomic replacement, and errors of the system by their meaning.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use ksail_records::StateError;

/// Room for the writes of one file before they go to the system.
const BUFFER_BYTES: usize = 64 * 1024;

/// An error of a write, by what it means for the user.
pub(crate) fn write_error(doing: &'static str, path: &Path, source: io::Error) -> StateError {
    let place = path.display().to_string();
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StateError::Full { place, source }
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => StateError::ReadOnly { place, source },
        _ => StateError::Io { doing, place, source },
    }
}

/// An error of a read.
pub(crate) fn read_error(path: &Path, source: io::Error) -> StateError {
    StateError::Io { doing: "read", place: path.display().to_string(), source }
}

/// A file that cannot be understood.
pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> StateError {
    StateError::Damaged { place: path.display().to_string(), why: why.into() }
}

/// The bytes of a file; `None` if there is no such file.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(read_error(path, error)),
    }
}

/// Options that make a file readable by its owner alone, from its first moment on.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

/// Makes a folder that only its owner can enter, with those above it. One that is there is left as it is.
pub(crate) fn make_folder(path: &Path) -> Result<(), StateError> {
    if path.is_dir() {
        return Ok(());
    }
    let mut missing = Vec::new();
    let mut at = Some(path);
    while let Some(folder) = at.filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        missing.push(folder);
        at = folder.parent();
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    for folder in missing.into_iter().rev() {
        match builder.create(folder) {
            Ok(()) => {}
            // Another process may have made it in between.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(error) => return Err(write_error("create", folder, error)),
        }
        if let Some(above) = folder.parent() {
            sync_folder(above)?;
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StateError> {
    // Only Unix can open a folder as a file; elsewhere the rename itself is all that there is.
    if cfg!(unix) {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| write_error("sync", path, error))?;
    }
    Ok(())
}

/// Whether a replaced file must outlive a crash of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It must; the file and its folder are synced.
    Synced,
    /// It need not (who holds a lock).
    Volatile,
}

/// Replaces a file as a whole: after a crash it has either its old or its new content. Answers how many bytes it
/// has.
pub(crate) fn replace(
    path: &Path,
    durability: Durability,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<u64, StateError> {
    let temporary = temporary_name(path);
    let written = write_temporary(&temporary, durability, write).and_then(|bytes| {
        std::fs::rename(&temporary, path)?;
        Ok(bytes)
    });
    let bytes = written.map_err(|error| {
        // What is left of it is of no use, and on a full disk it is in the way.
        let _ = std::fs::remove_file(&temporary);
        write_error("write", path, error)
    })?;
    if durability == Durability::Synced
        && let Some(folder) = path.parent()
    {
        sync_folder(folder)?;
    }
    Ok(bytes)
}

/// One name for all attempts, so that kills leave at most one temporary file.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

fn write_temporary(
    path: &Path,
    durability: Durability,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<u64> {
    let file = private().write(true).create(true).truncate(true).open(path)?;
    let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, file);
    write(&mut buffered)?;
    let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    if durability == Durability::Synced {
        file.sync_all()?;
    }
    Ok(file.metadata()?.len())
}

/// Which file it is, whatever its name; `None` where the system does not tell.
#[cfg(unix)]
pub(crate) fn file_identity(metadata: &std::fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

/// Which file it is, whatever its name; `None` where the system does not tell.
#[cfg(not(unix))]
pub(crate) fn file_identity(_: &std::fs::Metadata) -> Option<(u64, u64)> {
    None
}

/// Whether the open file is still the one that has this name.
pub(crate) fn has_name(file: &File, path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(named) => Ok(file_identity(&named) == file_identity(&file.metadata()?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs file work off the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down and has not run the work.
        Err(error) => Err(StateError::Io {
            doing: "reach",
            place: "the state's folder".to_owned(),
            source: std::io::Error::other(error),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_replacement_leaves_the_old_content_and_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        replace(&path, Durability::Synced, |out| out.write_all(b"old")).unwrap();
        let error = replace(&path, Durability::Synced, |out| {
            out.write_all(b"new")?;
            Err(io::Error::from(ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(matches!(error, StateError::Full { .. }));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn folders_and_files_are_private_from_the_start() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(".ksail/dev");
        make_folder(&folder).unwrap();
        replace(&folder.join("x"), Durability::Synced, |out| out.write_all(b"x")).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root.path().join(".ksail")), 0o700);
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("x")), 0o600);
    }
}
