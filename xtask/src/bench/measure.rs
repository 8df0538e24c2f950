//! A child process, measured from start to exit.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;
use wait4::Wait4 as _;

/// The longest piece of a child's stderr that an error shows, in characters.
const STDERR_SHOWN: usize = 2_000;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The system refused.
    #[error("cannot {doing} {}: {source}", place.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        place: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A child failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Child {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
    },
}

impl Error {
    /// The system refused.
    pub(crate) fn io(doing: &'static str, place: &Path, source: io::Error) -> Self {
        Self::Io { doing, place: place.to_owned(), source }
    }
}

/// What one process took.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Taken {
    /// From its start to its end, in milliseconds.
    pub(crate) wall_ms: f64,
    /// Its largest resident memory, in bytes.
    pub(crate) max_rss_bytes: u64,
}

/// Runs a process to its end; its stdout is dropped. An exit code other than 0 is an error.
pub(crate) fn child(command: &mut Command, work: &Path) -> Result<Taken, Error> {
    let stderr_path = work.join("stderr");
    let stderr = File::create(&stderr_path).map_err(|source| Error::io("make", &stderr_path, source))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let started = Instant::now();
    let program = PathBuf::from(command.get_program());
    let mut child = command.spawn().map_err(|source| Error::io("start", &program, source))?;
    let used = child.wait4().map_err(|source| Error::io("wait for", &program, source))?;
    let wall_ms = started.elapsed().as_secs_f64() * 1000.0;
    if !used.status.success() {
        let said = fs::read_to_string(&stderr_path).unwrap_or_default();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        return Err(Error::Child {
            command: words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" "),
            status: used.status.to_string(),
            stderr: said.trim().chars().take(STDERR_SHOWN).collect(),
        });
    }
    Ok(Taken { wall_ms, max_rss_bytes: used.rusage.maxrss })
}
