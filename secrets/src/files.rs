//! Files that only their owner may read, and that are replaced as a whole.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::Path;

use secrecy::zeroize::Zeroizing;

use crate::SecretError;

/// The temporary file of a replacement.
const REPLACEMENT: &str = ".ksail-vault.tmp";

/// Whether a file may take the place of another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It may.
    Replace,
    /// It may not; the error is then [`ErrorKind::AlreadyExists`].
    Keep,
}

/// Writes a file durably: after a crash it is there as a whole or as it was before. It is made with mode 0600, its
/// folder, where it is missing, with 0700.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], existing: Existing) -> Result<(), SecretError> {
    write(path, bytes, existing).map_err(|source| SecretError::Io { doing: "write", path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    make_private_folder(folder)?;
    let mut file = temporary(folder, existing)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match existing {
        Existing::Replace => file.persist(path),
        Existing::Keep => file.persist_noclobber(path),
    }
    .map_err(|error| error.error)?;
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// A temporary file with mode 0600, which is removed again unless the process dies.
fn temporary(folder: &Path, existing: Existing) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".ksail-").suffix(".tmp");
    if existing == Existing::Replace {
        // There is one writer, so one name is enough, and what a kill left goes away.
        let left = folder.join(REPLACEMENT);
        if let Err(error) = std::fs::remove_file(left)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        builder.prefix(REPLACEMENT).suffix("").rand_bytes(0);
    }
    builder.tempfile_in(folder)
}

fn make_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// The bytes of a file, zeroed when dropped; `None` if it is larger than `limit`.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    // Room for all of it from the start: a buffer that grows leaves copies behind that nobody zeroes.
    let room = usize::try_from(file.metadata()?.len().min(limit)).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}
