//! A kubeconfig on disk: read whole, and replaced whole.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The largest file that is read.
const LARGEST: u64 = 16 * 1024 * 1024;
/// How many symbolic links may lead to each other.
const MOST_LINKS: usize = 40;
/// The mode of a new file, as kubectl gives it.
const MODE: u32 = 0o600;

/// Why a file was not written.
#[derive(Debug)]
pub(crate) struct WriteError {
    pub(crate) error: io::Error,
    /// Whether it may have been, and only its durability is in doubt.
    pub(crate) may_have_happened: bool,
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self { error, may_have_happened: false }
    }
}

/// Reads a file; `None` if it is not there.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it has more than {LARGEST} bytes")));
    }
    Ok(Some(text))
}

/// Writes a file anew: whoever reads it finds the text before or this one. Its mode and owner stay as they were. Where the path is
/// a symbolic link, what that leads to is written. The caller has the lock.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), WriteError> {
    let link = path;
    let path = followed(link)?;
    let folder = folder_of(&path);
    std::fs::create_dir_all(folder)?;
    sweep(&path);
    if path != link {
        sweep(link);
    }
    let before = match path.metadata() {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let mut file = tempfile::Builder::new().prefix(&temporary_prefix(&path)).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Some(before) = &before {
        let made = file.as_file().metadata()?;
        if made.uid() != before.uid() {
            std::os::unix::fs::fchown(file.as_file(), Some(before.uid()), Some(before.gid()))?;
        } else if made.gid() != before.gid() {
            // A group that we are not in: the file is then of ours, with what its mode gives that.
            let _ = std::os::unix::fs::fchown(file.as_file(), None, Some(before.gid()));
        }
    }
    let mode = before.map_or(MODE, |before| before.permissions().mode() & 0o777);
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| WriteError { error, may_have_happened: true })
}

/// Where a path leads, its symbolic links followed. The last one may lead to nothing yet.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(to) => path = folder_of(&path).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Begins the names of files that are not finished.
pub(crate) fn temporary_prefix(path: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".ksail-");
    prefix
}

/// Removes what kills left. The files beside `path` are written under its lock only, and one that is to become a lock is held.
pub(crate) fn sweep(path: &Path) {
    let of_file = temporary_prefix(path);
    let of_lock = temporary_prefix(&crate::lock::path_of(path));
    for found in std::fs::read_dir(folder_of(path)).into_iter().flatten().flatten() {
        let name = found.file_name();
        let begins = |prefix: &OsString| name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
        let is_left = begins(&of_file)
            || (begins(&of_lock) && File::open(found.path()).is_ok_and(|file| file.try_lock().is_ok()));
        if is_left {
            let _ = std::fs::remove_file(found.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_links_stay_and_what_a_kill_left_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::os::unix::fs::symlink("real", &link).unwrap();
        assert_eq!(read(&link).unwrap(), None);
        write(&link, "one").unwrap();
        assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        std::fs::write(folder.path().join(".real.ksail-x"), "half").unwrap();
        std::fs::write(folder.path().join(".real.lock.ksail-x"), "half").unwrap();
        write(&link, "two").unwrap();
        assert_eq!(read(&real).unwrap().as_deref(), Some("two"));
        assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_circle_of_links_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::os::unix::fs::symlink("a", &path).unwrap();
        assert!(write(&path, "").is_err());
        assert!(read(&path).is_err());
    }
}
