//! Where the things of a world are kept: in memory, or in a folder that processes share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ksail_model::Digest;
use tokio::time::Instant;

use super::Thing;

/// A store of things. Every method is atomic against every other, also across processes where the store
/// is shared.
pub(crate) trait Things: Send + Sync {
    /// The things of one kind and name, in every scope.
    fn find(&self, kind: &str, name: &str) -> io::Result<Vec<Thing>>;
    /// Changes the things of one kind and name, exclusively.
    fn change(&self, kind: &str, name: &str, change: &mut dyn FnMut(&mut Vec<Thing>)) -> io::Result<()>;
    /// Whether anything may be in a scope; `true` where telling costs more than looking.
    fn may_hold(&self, scope: &str) -> bool;
    /// Everything, in every scope, by kind and name.
    fn list(&self) -> io::Result<Vec<Thing>>;
    /// Which outside answers now.
    fn scope(&self) -> io::Result<String>;
    /// Makes another outside answer.
    fn set_scope(&self, scope: &str) -> io::Result<()>;
    /// A new id.
    fn new_id(&self) -> String;
    /// The clock, in milliseconds.
    fn now_ms(&self) -> u64;
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked while it held the lock has failed already; what it left is still worth looking at.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Things in memory. Its clock is tokio's, so that tests can pause it.
pub(crate) struct InMemory {
    things: Mutex<BTreeMap<(String, String), Vec<Thing>>>,
    /// Every scope that anything was ever in, so that deletions in large worlds need not look for contents.
    scopes: Mutex<BTreeSet<String>>,
    scope: Mutex<String>,
    ids: AtomicU64,
    start: Instant,
}

impl InMemory {
    pub(crate) fn new(scope: String) -> Self {
        Self {
            things: Mutex::default(),
            scopes: Mutex::default(),
            scope: Mutex::new(scope),
            ids: AtomicU64::new(1),
            start: Instant::now(),
        }
    }
}

impl Things for InMemory {
    fn find(&self, kind: &str, name: &str) -> io::Result<Vec<Thing>> {
        Ok(hold(&self.things).get(&(kind.to_owned(), name.to_owned())).cloned().unwrap_or_default())
    }

    fn change(&self, kind: &str, name: &str, change: &mut dyn FnMut(&mut Vec<Thing>)) -> io::Result<()> {
        let key = (kind.to_owned(), name.to_owned());
        let mut things = hold(&self.things);
        let mut of_name = things.remove(&key).unwrap_or_default();
        change(&mut of_name);
        if !of_name.is_empty() {
            let mut scopes = hold(&self.scopes);
            for thing in &of_name {
                if !scopes.contains(&thing.scope) {
                    scopes.insert(thing.scope.clone());
                }
            }
            things.insert(key, of_name);
        }
        Ok(())
    }

    fn may_hold(&self, scope: &str) -> bool {
        hold(&self.scopes).contains(scope)
    }

    fn list(&self) -> io::Result<Vec<Thing>> {
        Ok(hold(&self.things).values().flatten().cloned().collect())
    }

    fn scope(&self) -> io::Result<String> {
        Ok(hold(&self.scope).clone())
    }

    fn set_scope(&self, scope: &str) -> io::Result<()> {
        scope.clone_into(&mut hold(&self.scope));
        Ok(())
    }

    fn new_id(&self) -> String {
        format!("sim-{}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Things in a folder: `things/<digest of kind and name>/<id>.json`. A thing appears with its content or not at all,
/// whenever a process is killed. Its clock is the machine's, since processes share it.
pub(crate) struct InFolder {
    folder: PathBuf,
}

impl InFolder {
    /// Opens the folder and makes it where it is absent. A scope that it has already is kept.
    pub(crate) fn open(folder: &Path, scope: &str) -> io::Result<Self> {
        fs::create_dir_all(folder.join("things"))?;
        let world = Self { folder: folder.to_owned() };
        let _lock = world.lock()?;
        if !world.scope_file().exists() {
            world.write(&world.scope_file(), scope.as_bytes())?;
        }
        Ok(world)
    }

    fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.folder.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    fn scope_file(&self) -> PathBuf {
        self.folder.join("scope")
    }

    fn home(&self, kind: &str, name: &str) -> PathBuf {
        let digest = Digest::of(&(kind, name)).to_string();
        let safe: String = digest.chars().filter(char::is_ascii_alphanumeric).collect();
        self.folder.join("things").join(safe)
    }

    fn temporary(&self, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.folder.join(format!(".new-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        fs::write(&path, content)?;
        Ok(path)
    }

    /// Replaces a file at once.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        fs::rename(self.temporary(content)?, path)
    }

    /// Makes a file that must not be there yet, content and all at once: `O_EXCL` with a content.
    fn write_new(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = self.temporary(content)?;
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(temporary)?;
        linked
    }

    fn read_home(home: &Path) -> io::Result<Vec<Thing>> {
        let entries = match fs::read_dir(home) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut things = Vec::new();
        for entry in entries {
            let content = fs::read(entry?.path())?;
            things.push(serde_json::from_slice::<Thing>(&content).map_err(io::Error::other)?);
        }
        things.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(things)
    }
}

impl Things for InFolder {
    fn find(&self, kind: &str, name: &str) -> io::Result<Vec<Thing>> {
        let _lock = self.lock()?;
        Self::read_home(&self.home(kind, name))
    }

    fn change(&self, kind: &str, name: &str, change: &mut dyn FnMut(&mut Vec<Thing>)) -> io::Result<()> {
        let _lock = self.lock()?;
        let home = self.home(kind, name);
        let before = Self::read_home(&home)?;
        let mut after = before.clone();
        change(&mut after);
        let file = |thing: &Thing| home.join(format!("{}.json", thing.id));
        for thing in &after {
            let content = serde_json::to_vec_pretty(thing).map_err(io::Error::other)?;
            match before.iter().find(|old| old.id == thing.id) {
                Some(old) if old == thing => {}
                Some(_) => self.write(&file(thing), &content)?,
                None => {
                    fs::create_dir_all(&home)?;
                    self.write_new(&file(thing), &content)?;
                }
            }
        }
        for gone in before.iter().filter(|old| after.iter().all(|thing| thing.id != old.id)) {
            fs::remove_file(file(gone))?;
        }
        if after.is_empty() && !before.is_empty() {
            fs::remove_dir(&home)?;
        }
        Ok(())
    }

    fn may_hold(&self, _scope: &str) -> bool {
        true
    }

    fn list(&self) -> io::Result<Vec<Thing>> {
        let _lock = self.lock()?;
        let mut things = Vec::new();
        for home in fs::read_dir(self.folder.join("things"))? {
            things.extend(Self::read_home(&home?.path())?);
        }
        things.sort_by(|a, b| (&a.kind, &a.name, &a.id).cmp(&(&b.kind, &b.name, &b.id)));
        Ok(things)
    }

    fn scope(&self) -> io::Result<String> {
        fs::read_to_string(self.scope_file())
    }

    fn set_scope(&self, scope: &str) -> io::Result<()> {
        let _lock = self.lock()?;
        self.write(&self.scope_file(), scope.as_bytes())
    }

    fn new_id(&self) -> String {
        format!("sim-{:016x}", fastrand::u64(..))
    }

    fn now_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
