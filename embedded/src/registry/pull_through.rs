//! Pull-through: content that is not here is fetched from an upstream, verified, kept, and served; the upstream may then
//! be away.

use std::collections::HashMap;
use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use bytes::Bytes;
use futures::stream::{self, Stream};
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::digests::{self, Hasher};
use crate::durable::{self, blocking};
use crate::registry::MAX_MANIFEST;
use crate::registry::manifests;
use crate::registry::manifests::Manifest;
use crate::registry::reply::RegistryError;
use crate::registry::storage::Storage;
use ksail_registry_client::{Upstream, UpstreamError, bounded_body};

/// How much is read at once from a file that is still being fetched, in bytes.
const FOLLOW_BUFFER: usize = 128 * 1024;
/// How many blobs are fetched at once; the next ones wait.
const MAX_FETCHES: usize = 16;

/// How far a fetch is.
#[derive(Debug, Clone)]
enum Progress {
    Written(u64),
    Done,
    Failed(String),
}

/// A blob on its way. Any number of readers follow its file.
struct Fetch {
    file: PathBuf,
    length: Option<u64>,
    progress: watch::Receiver<Progress>,
}

type Slot<T> = Arc<tokio::sync::Mutex<Option<T>>>;

/// A blob that can be read.
pub(crate) enum Fetched {
    /// It is in the storage, complete.
    Stored(u64),
    /// It is on its way; the length is what the upstream stated.
    Following { length: Option<u64>, body: Body },
}

/// The upstream of a registry.
pub(crate) struct PullThrough {
    upstream: Upstream,
    storage: Storage,
    fetches: Mutex<HashMap<String, Slot<Arc<Fetch>>>>,
    manifests: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    permits: Arc<tokio::sync::Semaphore>,
    cancel: CancellationToken,
}

impl From<UpstreamError> for RegistryError {
    fn from(error: UpstreamError) -> Self {
        use axum::http::StatusCode;
        let message = error.to_string();
        match error {
            UpstreamError::NotFound { what, .. } if what.contains("/blobs/") => {
                Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message)
            }
            UpstreamError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message),
            // Not 401: that would ask the client for credentials that this registry cannot use.
            UpstreamError::Denied { .. } => Self::new(StatusCode::FORBIDDEN, "DENIED", message),
            UpstreamError::Status { status, retry_after, .. } if status == reqwest::StatusCode::TOO_MANY_REQUESTS => {
                Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message) }
            }
            _ => Self::new(StatusCode::BAD_GATEWAY, "UNKNOWN", message),
        }
    }
}

impl PullThrough {
    pub(crate) fn new(upstream: Upstream, storage: Storage, cancel: CancellationToken) -> Self {
        Self {
            upstream,
            storage,
            fetches: Mutex::default(),
            manifests: Mutex::default(),
            permits: Arc::new(tokio::sync::Semaphore::new(MAX_FETCHES)),
            cancel,
        }
    }

    /// A manifest by tag or digest. A tag is looked up at the upstream each time; only while that is away, what was
    /// last seen stands in.
    pub(crate) async fn manifest(&self, name: &str, reference: &str) -> Result<Option<Manifest>, RegistryError> {
        let key = format!("{name}@{reference}");
        let lock = self.manifests.lock().ok().map(|mut map| Arc::clone(map.entry(key.clone()).or_default()));
        let guard = match &lock {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        let result = match digests::hex_of(reference) {
            Some(hex) => self.manifest_by_digest(name, hex).await,
            None => self.manifest_by_tag(name, reference).await,
        };
        drop(guard);
        if let (Ok(mut map), Some(lock)) = (self.manifests.lock(), lock) {
            // Ours and the map's: nobody else waits.
            if Arc::strong_count(&lock) == 2 {
                map.remove(&key);
            }
        }
        result
    }

    async fn stored(&self, name: &str, hex: &str) -> Result<Option<Manifest>, RegistryError> {
        let (storage, name, hex) = (self.storage.clone(), name.to_owned(), hex.to_owned());
        Ok(blocking(move || storage.manifest(&name, &hex)).await?)
    }

    async fn manifest_by_digest(&self, name: &str, hex: &str) -> Result<Option<Manifest>, RegistryError> {
        if let Some(manifest) = self.stored(name, hex).await? {
            return Ok(Some(manifest));
        }
        self.fetch_manifest(name, &format!("sha256:{hex}"), None).await.map(Some)
    }

    async fn manifest_by_tag(&self, name: &str, tag: &str) -> Result<Option<Manifest>, RegistryError> {
        let (storage, owned, text) = (self.storage.clone(), name.to_owned(), tag.to_owned());
        let known = match blocking(move || storage.resolve(&owned, &text)).await? {
            Some(hex) => self.stored(name, &hex).await?,
            None => None,
        };
        let head = self.upstream.manifest(Method::HEAD, name, tag).await;
        match head {
            Ok(response) => {
                let digest = response.headers().get("Docker-Content-Digest").and_then(|value| value.to_str().ok());
                if let (Some(manifest), Some(digest)) = (&known, digest)
                    && digests::hex_of(digest) == Some(manifest.hex.as_str())
                {
                    return Ok(known);
                }
                match self.fetch_manifest(name, tag, Some(tag)).await {
                    Ok(manifest) => Ok(Some(manifest)),
                    Err(error) if error.status.is_server_error() && known.is_some() => Ok(known),
                    Err(error) => Err(error),
                }
            }
            Err(error) if error.is_outage() && known.is_some() => {
                tracing::warn!(%error, name, tag, "the upstream is away, a kept manifest stands in");
                Ok(known)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn fetch_manifest(&self, name: &str, reference: &str, tag: Option<&str>) -> Result<Manifest, RegistryError> {
        let response = self.upstream.manifest(Method::GET, name, reference).await?;
        let invalid = |why: String| UpstreamError::Invalid {
            host: self.upstream.host(),
            what: format!("{name}/manifests/{reference}"),
            why,
        };
        let header = response.headers().get("Content-Type").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bytes = bounded_body(response, MAX_MANIFEST).await.map_err(invalid)?;
        let hex = digests::sha256_hex(&bytes);
        if digests::hex_of(reference).is_some_and(|wanted| wanted != hex) {
            return Err(invalid("it is not what its digest says".to_owned()).into());
        }
        let media_type = manifests::media_type_of(&bytes).or(header).unwrap_or_default();
        let manifest = Manifest { hex, media_type, bytes };
        let (storage, owned, kept) = (self.storage.clone(), name.to_owned(), manifest.clone());
        let tag = tag.map(str::to_owned);
        blocking(move || {
            let subject = manifests::subject_of(&kept.bytes);
            storage.put_manifest(&owned, &kept, subject.as_deref(), tag.as_deref())
        })
        .await?;
        Ok(manifest)
    }

    /// What the upstream says of a repository, where it is not kept here (tags, referrers).
    pub(crate) async fn forward(&self, name: &str, path: &str) -> Result<Vec<u8>, UpstreamError> {
        let response = self.upstream.get(Method::GET, name, path).await?;
        bounded_body(response, MAX_MANIFEST).await.map_err(|why| UpstreamError::Invalid {
            host: self.upstream.host(),
            what: path.to_owned(),
            why,
        })
    }

    /// The length of a blob, without fetching it.
    pub(crate) async fn blob_length(&self, name: &str, hex: &str) -> Result<u64, RegistryError> {
        if let Some(length) = self.stored_blob(name, hex).await? {
            return Ok(length);
        }
        let response = self.upstream.blob(Method::HEAD, name, &format!("sha256:{hex}")).await?;
        let length = response.headers().get("Content-Length").and_then(|value| value.to_str().ok()?.parse().ok());
        length.ok_or_else(|| {
            let host = self.upstream.host();
            let why = "it states no length".to_owned();
            UpstreamError::Invalid { host, what: format!("{name}/blobs/sha256:{hex}"), why }.into()
        })
    }

    /// A blob: from the storage, or followed while it is fetched. Concurrent readers share one fetch.
    pub(crate) async fn blob(self: &Arc<Self>, name: &str, hex: &str) -> Result<Fetched, RegistryError> {
        if let Some(length) = self.stored_blob(name, hex).await? {
            return Ok(Fetched::Stored(length));
        }
        let key = format!("{name}@{hex}");
        let slot = match self.fetches.lock() {
            Ok(mut map) => Arc::clone(map.entry(key.clone()).or_default()),
            Err(_) => Slot::default(),
        };
        let mut slot = slot.lock().await;
        if let Some(fetch) = slot.as_ref()
            && !matches!(*fetch.progress.borrow(), Progress::Failed(_))
            && let Some(fetched) = follow(fetch).await
        {
            return Ok(fetched);
        }
        // Another reader's fetch may have ended while this one waited.
        if let Some(length) = self.stored_blob(name, hex).await? {
            return Ok(Fetched::Stored(length));
        }
        match self.begin(name, hex, &key).await {
            Ok(fetch) => {
                let fetched = follow(&fetch).await;
                *slot = Some(fetch);
                if let Some(fetched) = fetched {
                    return Ok(fetched);
                }
                // It was so short that it is stored, or given up, already.
                match self.stored_blob(name, hex).await? {
                    Some(length) => Ok(Fetched::Stored(length)),
                    None => Err(RegistryError::new(
                        axum::http::StatusCode::BAD_GATEWAY,
                        "UNKNOWN",
                        format!("blob sha256:{hex} could not be fetched from {}", self.upstream.host()),
                    )),
                }
            }
            Err(error) => {
                self.forget(&key);
                Err(error)
            }
        }
    }

    async fn stored_blob(&self, name: &str, hex: &str) -> Result<Option<u64>, RegistryError> {
        let (storage, name, hex) = (self.storage.clone(), name.to_owned(), hex.to_owned());
        Ok(blocking(move || storage.blob(&name, &hex)).await?)
    }

    fn forget(&self, key: &str) {
        if let Ok(mut map) = self.fetches.lock() {
            map.remove(key);
        }
    }

    async fn begin(self: &Arc<Self>, name: &str, hex: &str, key: &str) -> Result<Arc<Fetch>, RegistryError> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|error| RegistryError::storage(&std::io::Error::other(error)))?;
        let mut response = self.upstream.blob(Method::GET, name, &format!("sha256:{hex}")).await?;
        let length = response.content_length();
        let file = self.storage.upload_path(name, &uuid::Uuid::new_v4().to_string());
        let temporary = file.clone();
        let created = blocking(move || durable::create_file(&temporary)).await?;
        let (sender, progress) = watch::channel(Progress::Written(0));
        let fetch = Arc::new(Fetch { file: file.clone(), length, progress });
        let (this, name, hex, key) = (Arc::clone(self), name.to_owned(), hex.to_owned(), key.to_owned());
        tokio::spawn(async move {
            let _permit = permit;
            let fetched = tokio::select! {
                fetched = write_verified(&mut response, created, &hex, &sender) => fetched,
                () = this.cancel.cancelled() => Err("the registry is stopping".to_owned()),
            };
            let stored = match fetched {
                Ok(()) => {
                    let (storage, file) = (this.storage.clone(), file.clone());
                    let (name, hex) = (name.clone(), hex.clone());
                    let stored = blocking(move || storage.commit_blob(&name, &hex, &file)).await;
                    stored.map_err(|error| error.to_string())
                }
                Err(why) => Err(why),
            };
            if let Err(why) = &stored {
                tracing::warn!(name, hex, why, "a blob could not be fetched");
                let _ = tokio::fs::remove_file(&file).await;
            }
            this.forget(&key);
            sender.send_replace(stored.map_or_else(Progress::Failed, |()| Progress::Done));
        });
        Ok(fetch)
    }
}

async fn write_verified(
    response: &mut reqwest::Response,
    file: std::fs::File,
    hex: &str,
    progress: &watch::Sender<Progress>,
) -> Result<(), String> {
    let mut file = tokio::fs::File::from_std(file);
    let mut hasher = Hasher::default();
    let mut written = 0;
    while let Some(chunk) = response.chunk().await.map_err(|_| "the upstream broke off".to_owned())? {
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(|error| error.to_string())?;
        file.flush().await.map_err(|error| error.to_string())?;
        written += chunk.len() as u64;
        progress.send_replace(Progress::Written(written));
    }
    if hasher.finish() != hex {
        return Err("the upstream sent what is not of this digest".to_owned());
    }
    Ok(())
}

/// Reads along with a fetch; `None` of one that has ended: what it brought is in the storage by then, or was given up.
async fn follow(fetch: &Fetch) -> Option<Fetched> {
    let Ok(file) = tokio::fs::File::open(&fetch.file).await else {
        // Its file is gone from there a moment before the storage knows of it.
        let mut progress = fetch.progress.clone();
        let _ = progress.wait_for(|progress| !matches!(progress, Progress::Written(_))).await;
        return None;
    };
    let body = Body::from_stream(following(file, fetch.progress.clone()));
    Some(Fetched::Following { length: fetch.length, body })
}

/// The bytes of a file that still grows. The last byte is held back until the whole is verified, so that a reader never
/// takes broken content for complete.
fn following(file: tokio::fs::File, progress: watch::Receiver<Progress>) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold((file, progress, 0_u64), |(mut file, mut progress, mut at)| async move {
        loop {
            let now = progress.borrow_and_update().clone();
            let readable = match now {
                Progress::Written(written) => written.saturating_sub(1),
                Progress::Done => u64::MAX,
                Progress::Failed(why) => return Err(std::io::Error::other(why)),
            };
            if at < readable {
                let want = usize::try_from(readable - at).unwrap_or(FOLLOW_BUFFER).min(FOLLOW_BUFFER);
                let mut buffer = vec![0; want];
                file.seek(SeekFrom::Start(at)).await?;
                let read = file.read(&mut buffer).await?;
                if read > 0 {
                    buffer.truncate(read);
                    at += read as u64;
                    return Ok(Some((Bytes::from(buffer), (file, progress, at))));
                }
                if readable == u64::MAX {
                    return Ok(None);
                }
            }
            if progress.changed().await.is_err() {
                // The fetch ended; its last word, if it had one, was read above.
                match &*progress.borrow() {
                    Progress::Done => {}
                    Progress::Failed(why) => return Err(std::io::Error::other(why.clone())),
                    Progress::Written(_) => return Err(std::io::Error::other("the fetch was given up")),
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_while_a_blob_is_moved_to_its_place_waits_until_it_is_there() {
        let (sender, progress) = watch::channel(Progress::Written(3));
        let fetch = Fetch { file: PathBuf::from("/nowhere/at/all"), length: Some(3), progress };
        let mut followed = Box::pin(follow(&fetch));
        for _ in 0..20 {
            assert!(futures::poll!(&mut followed).is_pending(), "nothing is known yet");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        sender.send_replace(Progress::Done);
        assert!(followed.await.is_none());
    }
}
