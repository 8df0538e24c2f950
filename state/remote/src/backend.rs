//! The backend: reading without a lock, and the way to a writer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ksail_records::{Backend, HeldLock, LockOwner, SealedOperation, StateError, Stored, Writer};

use crate::cache::Cache;
use crate::keys::VAULT;
use crate::lease::LastLease;
use crate::remote::{Remote, RemoteOptions, SHORTEST_LEASE};
use crate::rescue::Fit;
use crate::retry::Retrying;
use crate::store::Store;
use crate::writer::RemoteWriter;
use crate::{history, lease, log, rescue};

/// The state of one stack in a store.
pub struct RemoteBackend {
    remote: Arc<Remote>,
}

impl RemoteBackend {
    /// The state in this store. Nothing is asked or written yet.
    pub fn new(store: Arc<dyn Store>, options: RemoteOptions) -> Self {
        let cache = Cache::new(options.cache.then(|| options.folder.join("cache")), store.place());
        let options = RemoteOptions { lease: options.lease.max(SHORTEST_LEASE), ..options };
        let store = Retrying::new(store, options.retries.clone());
        Self { remote: Arc::new(Remote::new(store, options, cache)) }
    }
}

#[async_trait]
impl Backend for RemoteBackend {
    fn place(&self) -> String {
        self.remote.place()
    }

    async fn read(&self) -> Result<Stored, StateError> {
        let Some(mut log) = log::read(&self.remote, None).await? else {
            // Where there is no state, there is hardly a lease.
            self.remote.last_lease().get_or_insert(LastLease::None);
            return Ok(Stored { state: None, warnings: Vec::new() });
        };
        let (waiting, mut warnings) = rescue::waiting(&self.remote.rescue_folder(), &self.remote.place())?;
        for kept in waiting {
            match kept.fit(&log) {
                Fit::Stored => {}
                Fit::Next(entries) => {
                    for entry in entries {
                        let place = kept.file();
                        log.state.apply(&entry).map_err(|source| StateError::Illegal { place, source })?;
                        log.entries.push(entry);
                    }
                    warnings.push(format!("{} holds what could not be stored; the next apply stores it", kept.file()));
                }
                Fit::Not(why) => warnings.push(format!("{} is left out: {why}", kept.file())),
            }
        }
        Ok(Stored { state: Some(log.state), warnings })
    }

    async fn lock_owner(&self) -> Result<Option<LockOwner>, StateError> {
        Ok(self.held_lock().await?.map(|held| held.owner))
    }

    async fn held_lock(&self) -> Result<Option<HeldLock>, StateError> {
        lease::held(&self.remote).await
    }

    async fn lock(&self, owner: &LockOwner, wait: Duration) -> Result<Box<dyn Writer>, StateError> {
        let held = lease::take(&self.remote, owner, wait).await?;
        Ok(Box::new(RemoteWriter::new(Arc::clone(&self.remote), held)))
    }

    async fn unlock(&self, id: &str) -> Result<(), StateError> {
        lease::unlock(&self.remote, id).await
    }

    async fn has_rescued(&self) -> Result<bool, StateError> {
        Ok(!rescue::waiting(&self.remote.rescue_folder(), &self.remote.place())?.0.is_empty())
    }

    async fn history(&self, limit: usize) -> Result<Vec<SealedOperation>, StateError> {
        history::read(&self.remote, limit).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn keeps_plans(&self) -> bool {
        true
    }

    async fn vault(&self) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.remote.get(VAULT).await?.map(|(sealed, _)| sealed.to_vec()))
    }

    async fn offer_vault(&self, sealed: &[u8]) -> Result<Vec<u8>, StateError> {
        // Every sealing has a nonce of its own: another one's bytes are never ours.
        if self.remote.put_if_absent(VAULT, &Bytes::copy_from_slice(sealed)).await?.is_some() {
            return Ok(sealed.to_vec());
        }
        let doing_without = || StateError::Unfit {
            place: self.remote.place_of(VAULT),
            why: "it was there and is gone".to_owned(),
            hint: "somebody deletes objects of the state: look who, and run the same command again".to_owned(),
        };
        self.vault().await?.ok_or_else(doing_without)
    }
}
