//! The lock: an OS lock on the file `lock`, which dies with its holder, and `lock.json` beside it, which says who that is.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ksail_records::{LockOwner, StateError};
use tokio::time::{Instant, sleep};

use crate::files::{self, Durability};

const LOCK_FILE: &str = "lock";
const OWNER_FILE: &str = "lock.json";

/// The first pause between two tries to take the lock; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(5);

/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// A lock is tried for at least this long, because those who only ask who holds it take it, shared, for a moment.
const WAIT_MIN: Duration = Duration::from_millis(60);

/// The OS lock, held. It is given back when this is dropped, or when the process dies.
pub(crate) struct Held {
    folder: PathBuf,
    file: File,
}

impl Held {
    /// Gives the lock back, and takes the owner's name away first, while nobody else can have written theirs.
    pub(crate) fn release(self) -> Result<(), StateError> {
        let owner = self.folder.join(OWNER_FILE);
        remove_if_there(&owner)?;
        let lock = self.folder.join(LOCK_FILE);
        self.file.unlock().map_err(|source| files::write_error("unlock", &lock, source))
    }
}

/// Takes the lock, waiting up to `wait`.
pub(crate) async fn take(folder: &Path, owner: &LockOwner, wait: Duration) -> Result<Held, StateError> {
    files::make_folder(folder)?;
    let until = Instant::now() + wait.max(WAIT_MIN);
    let mut pause = PAUSE_FIRST;
    loop {
        if let Some(held) = try_take(folder, owner)? {
            return Ok(held);
        }
        let now = Instant::now();
        if now >= until {
            let owner = Box::new(read_owner(folder).unwrap_or_else(unnamed));
            return Err(StateError::Locked { place: folder.display().to_string(), owner });
        }
        sleep(pause.min(until - now)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn try_take(folder: &Path, owner: &LockOwner) -> Result<Option<Held>, StateError> {
    let path = folder.join(LOCK_FILE);
    let file = files::private()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| files::write_error("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(source)) => return Err(files::write_error("lock", &path, source)),
    }
    // If the file was deleted meanwhile, others lock another one of that name: this lock would protect nothing.
    if !files::has_name(&file, &path).map_err(|source| files::read_error(&path, source))? {
        return Ok(None);
    }
    files::replace(&folder.join(OWNER_FILE), Durability::Volatile, |out| {
        serde_json::to_writer_pretty(&mut *out, owner)?;
        out.write_all(b"\n")
    })?;
    Ok(Some(Held { folder: folder.to_owned(), file }))
}

/// Who holds the lock. What a killed holder left in the owner file does not count.
pub(crate) fn owner(folder: &Path) -> Result<Option<LockOwner>, StateError> {
    Ok(is_held(folder)?.then(|| read_owner(folder).unwrap_or_else(unnamed)))
}

/// Whether somebody holds the lock. Only the OS knows: the lock is taken, shared, for a moment.
pub(crate) fn is_held(folder: &Path) -> Result<bool, StateError> {
    let path = folder.join(LOCK_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(files::read_error(&path, error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(files::read_error(&path, source)),
    }
}

/// An OS lock cannot be broken from outside, and need not be: it dies with its holder. What such a holder left of its
/// name is taken away.
pub(crate) fn unlock(folder: &Path, id: &str) -> Result<(), StateError> {
    let path = folder.join(LOCK_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(files::read_error(&path, error)),
    };
    match file.try_lock() {
        // While this holds the lock, no holder can have written its name.
        Ok(()) => return remove_if_there(&folder.join(OWNER_FILE)),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(source)) => return Err(files::write_error("lock", &path, source)),
    }
    let owner = read_owner(folder).unwrap_or_else(unnamed);
    let why = if owner.id == id {
        format!(
            "is held by a running process ({}, {}, pid {}); it ends with that process: stop it with Ctrl-C or `kill {}`",
            owner.who, owner.doing, owner.pid, owner.pid
        )
    } else {
        format!("has the id {}, not {id} ({}, {}, pid {})", owner.id, owner.who, owner.doing, owner.pid)
    };
    Err(StateError::LockMismatch { place: folder.display().to_string(), why })
}

fn read_owner(folder: &Path) -> Option<LockOwner> {
    let bytes = std::fs::read(folder.join(OWNER_FILE)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// A holder that has not written its name yet.
fn unnamed() -> LockOwner {
    LockOwner { id: "-".into(), who: "another process".into(), doing: "starting".into(), pid: 0, since_ms: 0 }
}

fn remove_if_there(path: &Path) -> Result<(), StateError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(files::write_error("remove", path, error)),
        _ => Ok(()),
    }
}
