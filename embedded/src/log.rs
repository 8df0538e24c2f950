//! The bound of `engine.log`, which is the standard output and error of the process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// A log that is longer than this, in bytes, becomes `engine.log.1`, in the place of the former one, and is begun anew.
/// It is looked at once a second, so that it grows past this by what is said within a second.
pub(crate) const MAX_LOG: u64 = 1024 * 1024;

/// Rotates the log of a folder if it has become too long. Standard output and error go on in the new file where they went
/// into the old one; nothing that was said is lost but what stood in the former `engine.log.1`.
pub(crate) fn bound(folder: &Path) -> io::Result<()> {
    let path = folder.join("engine.log");
    let old = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if old.len() <= MAX_LOG {
        return Ok(());
    }
    std::fs::rename(&path, folder.join("engine.log.1"))?;
    let new = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
    let into_old = |stream: &dyn Fn() -> io::Result<File>| {
        let metadata = stream().and_then(|file| file.metadata());
        metadata.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (old.dev(), old.ino()))
    };
    if into_old(&|| copy_of(io::stdout())) {
        rustix::stdio::dup2_stdout(&new)?;
    }
    if into_old(&|| copy_of(io::stderr())) {
        rustix::stdio::dup2_stderr(&new)?;
    }
    Ok(())
}

fn copy_of(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        bound(folder.path()).unwrap();
        let path = folder.path().join("engine.log");
        let long = usize::try_from(MAX_LOG).unwrap();
        for (length, rotated) in [(10, false), (long, false), (long + 1, true), (5, false), (long + 2, true)] {
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            bound(folder.path()).unwrap();
            let length_now = std::fs::metadata(&path).unwrap().len();
            assert_eq!(length_now == 0, rotated, "{length}");
            if rotated {
                let kept = std::fs::metadata(folder.path().join("engine.log.1")).unwrap().len();
                assert_eq!(kept, length as u64);
            }
        }
    }
}
