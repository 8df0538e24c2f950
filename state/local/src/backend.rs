//! The backend: reading without a lock, and the way to a writer.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use ksail_records::{Backend, LockOwner, SealedOperation, StateError, Stored, Writer};
use tokio::time::sleep;

use crate::files::Durability;
use crate::files::blocking;
use crate::stored::{self, Found, JournalRead, Read};
use crate::writer::LocalWriter;
use crate::{files, history, lock};

/// The vault, which the facade makes and reads.
const VAULT: &str = "vault.age";

/// How often the files are read again when checkpoints come in between.
const READ_TRIES: u32 = 20;

/// The pause between two such tries.
const READ_PAUSE: Duration = Duration::from_millis(5);

/// The state of one stack in a folder.
#[derive(Debug, Clone)]
pub struct LocalBackend {
    folder: PathBuf,
}

impl LocalBackend {
    /// The state in this folder, `.ksail/<stack>`. Nothing is read or made yet; the first lock makes the folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
}

#[async_trait]
impl Backend for LocalBackend {
    fn place(&self) -> String {
        self.folder.display().to_string()
    }

    async fn read(&self) -> Result<Stored, StateError> {
        let (mut torn_before, mut apart) = (None, None);
        for _ in 0..READ_TRIES {
            let folder = self.folder.clone();
            match blocking(move || stored::read(&folder)).await? {
                Found::Nothing => return Ok(Stored { state: None, warnings: Vec::new() }),
                Found::State(read) => {
                    let torn = read.journal.as_ref().map_or((0, 0), JournalRead::torn_at);
                    // A writer is, or was just now, in the middle of that line: there is something to warn of only if
                    // nobody holds the lock and the line stays as it is.
                    let warn = torn.1 > 0 && !lock::is_held(&self.folder)?;
                    if !warn || torn_before == Some(torn) {
                        return Ok(self.without_repair(*read, warn.then_some(torn.1)));
                    }
                    torn_before = Some(torn);
                }
                Found::Apart { snapshot, journal } => apart = Some((snapshot, journal)),
            }
            sleep(READ_PAUSE).await;
        }
        Err(match apart {
            Some((snapshot, journal)) => stored::apart(&self.folder, snapshot, journal),
            None => files::damaged(&stored::journal_path(&self.folder), "its last line keeps changing, without a lock"),
        })
    }

    async fn lock_owner(&self) -> Result<Option<LockOwner>, StateError> {
        lock::owner(&self.folder)
    }

    async fn lock(&self, owner: &LockOwner, wait: Duration) -> Result<Box<dyn Writer>, StateError> {
        let held = lock::take(&self.folder, owner, wait).await?;
        Ok(Box::new(LocalWriter::new(self.folder.clone(), held)))
    }

    async fn unlock(&self, id: &str) -> Result<(), StateError> {
        lock::unlock(&self.folder, id)
    }

    async fn history(&self, limit: usize) -> Result<Vec<SealedOperation>, StateError> {
        let folder = self.folder.clone();
        blocking(move || history::read(&folder, limit)).await
    }

    async fn vault(&self) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.folder.join(VAULT);
        blocking(move || files::read_if_there(&path)).await
    }

    async fn offer_vault(&self, sealed: &[u8]) -> Result<Vec<u8>, StateError> {
        let (folder, sealed) = (self.folder.clone(), sealed.to_owned());
        blocking(move || {
            files::make_folder(&folder)?;
            if let Some(found) = files::read_if_there(&folder.join(VAULT))? {
                return Ok(found);
            }
            files::replace(&folder.join(VAULT), Durability::Synced, |out| out.write_all(&sealed))?;
            Ok(sealed)
        })
        .await
    }
}

impl LocalBackend {
    fn without_repair(&self, read: Read, torn: Option<usize>) -> Stored {
        let mut warnings = Vec::new();
        if let Some(torn) = torn {
            warnings.push(format!(
                "the last line of {} is incomplete ({torn} bytes) and is left out",
                stored::journal_path(&self.folder).display()
            ));
        }
        Stored { state: Some(read.state), warnings }
    }
}
