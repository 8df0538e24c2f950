//! The lock that kubectl and kind take before they write: `<file>.lock`, which only one can create.
//!
//! Theirs is an empty file that a kill leaves behind for ever. Ours says whose it is and is held by a lock of the operating
//! system too, which dies with the process: one that a kill left is taken over.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What stands in a lock of ours.
const OURS: &str = "ksail writes this file; the lock ends with its process\n";
/// The first and the longest pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no lock.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another program has it, or died with it.
    Held,
    /// Another ksail that runs has it.
    HeldByUs,
    /// The caller gave up.
    GivenUp,
    Io(io::Error),
}

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

/// Where the lock of a file is.
pub(crate) fn path_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

impl Lock {
    /// Takes the lock of a file, whose folder is there. Waits for others so long; `is_given_up` is asked between two tries.
    pub(crate) fn take(file: &Path, wait: Duration, is_given_up: &dyn Fn() -> bool) -> Result<Self, LockError> {
        let path = path_of(file);
        let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let held = match create(&path).and_then(|made| match made {
                Some(file) => Ok(Ok(file)),
                None => take_over(&path),
            }) {
                Ok(Ok(file)) => return Ok(Self { path, _file: file }),
                Ok(Err(held)) => held,
                Err(error) => return Err(LockError::Io(error)),
            };
            if is_given_up() {
                return Err(LockError::GivenUp);
            }
            if began.elapsed() >= wait {
                return Err(held);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes the lock of a file if a killed ksail left it.
    pub(crate) fn left_behind(file: &Path) -> Option<Self> {
        let path = path_of(file);
        let file = take_over(&path).ok()?.ok()?;
        Some(Self { path, _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // It is ours as long as the file is held.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the lock could not be removed");
        }
    }
}

/// Makes the lock, with its content, in one step. `None` if there is one.
fn create(path: &Path) -> io::Result<Option<File>> {
    if path.symlink_metadata().is_ok() {
        return Ok(None);
    }
    let (folder, prefix) = (crate::file::folder_of(path), crate::file::temporary_prefix(path));
    let mut made = tempfile::Builder::new().prefix(&prefix).tempfile_in(folder)?;
    // Before it bears the name: whoever sees it there sees it held.
    made.as_file().try_lock().map_err(io::Error::from)?;
    made.write_all(OURS.as_bytes())?;
    match made.persist_noclobber(path) {
        Ok(file) => Ok(Some(file)),
        // Somebody else was first, or took the temporary file for one that a kill left.
        Err(error) if matches!(error.error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error.error),
    }
}

/// Takes a lock that a killed ksail left.
fn take_over(path: &Path) -> io::Result<Result<File, LockError>> {
    let file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(LockError::HeldByUs)),
        // That of kubectl may be read by nobody.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Err(LockError::Held)),
        Err(error) => return Err(error),
    };
    let mut content = String::new();
    let length = OURS.len() as u64 + 1;
    if (&file).take(length).read_to_string(&mut content).is_err() || content != OURS {
        return Ok(Err(LockError::Held));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Err(LockError::HeldByUs)),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Its holder may have ended in between, and another one made a new file.
    let is_same = match (file.metadata(), path.symlink_metadata()) {
        (Ok(held), Ok(there)) => held.dev() == there.dev() && held.ino() == there.ino(),
        _ => false,
    };
    Ok(if is_same { Ok(file) } else { Err(LockError::HeldByUs) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(file: &Path) -> Result<Lock, LockError> {
        Lock::take(file, Duration::from_millis(30), &|| false)
    }

    #[test]
    fn one_has_it_and_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        let lock = take(&file).unwrap();
        assert!(folder.path().join("config.lock").exists());
        assert!(matches!(take(&file), Err(LockError::HeldByUs)));
        drop(lock);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        drop(take(&file).unwrap());
    }

    #[test]
    fn that_of_another_program_is_left_and_that_of_a_killed_ksail_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        std::fs::write(folder.path().join("config.lock"), "").unwrap();
        assert!(matches!(take(&file), Err(LockError::Held)));
        assert!(matches!(Lock::take(&file, Duration::from_secs(60), &|| true), Err(LockError::GivenUp)));
        assert!(Lock::left_behind(&file).is_none());
        for take in [|file: &Path| take(file).ok(), Lock::left_behind] {
            std::fs::write(folder.path().join("config.lock"), OURS).unwrap();
            drop(take(&file).unwrap());
            assert!(!folder.path().join("config.lock").exists());
        }
    }

    #[test]
    fn of_many_at_once_one_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, counter) = (folder.path().join("config"), folder.path().join("counter"));
        std::fs::write(&counter, "0").unwrap();
        std::fs::write(folder.path().join("config.lock"), OURS).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _lock = Lock::take(&file, Duration::from_secs(60), &|| false).unwrap();
                        let count: u32 = std::fs::read_to_string(&counter).unwrap().parse().unwrap();
                        std::fs::write(&counter, (count + 1).to_string()).unwrap();
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&counter).unwrap(), "160");
    }
}
