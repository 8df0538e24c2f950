//! The objects of one stack below a prefix of an object store.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use ksail_state_remote::{Listed, Put, Store, StoreError, StoreErrorKind, Version};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion};

use crate::http::ServerClock;

/// The longest part of an answer that is told.
const LONGEST_ANSWER: usize = 300;

/// Objects below a prefix.
pub struct ObjectStoreObjects {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    place: String,
    clock: ServerClock,
}

impl ObjectStoreObjects {
    /// The objects below `prefix`. `place` is for messages.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, place: String) -> Self {
        Self::with_clock(store, prefix, place, ServerClock::default())
    }

    pub(crate) fn with_clock(store: Arc<dyn ObjectStore>, prefix: &str, place: String, clock: ServerClock) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { store, prefix, place, clock }
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}{key}", self.prefix))
    }

    async fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<Put, StoreError> {
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.store.put_opts(&self.path(key), PutPayload::from(bytes), options).await {
            Ok(put) => match put.e_tag {
                Some(tag) => Ok(Put::Stored(Version(tag))),
                None => Err(without_tag()),
            },
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::Conflict),
            Err(error) => Err(store_error(&error)),
        }
    }
}

fn without_tag() -> StoreError {
    StoreError::new(StoreErrorKind::Unfit, "the store gives its objects no ETag")
        .hint("conditional writes need one: use a store that supports If-None-Match and If-Match")
}

#[async_trait]
impl Store for ObjectStoreObjects {
    fn place(&self) -> String {
        self.place.clone()
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let found = match self.store.get(&self.path(key)).await {
            Ok(found) => found,
            Err(Error::NotFound { source, .. }) => return missing(source.as_ref()).map(|()| None),
            Err(error) => return Err(store_error(&error)),
        };
        let version = Version(found.meta.e_tag.clone().ok_or_else(without_tag)?);
        let bytes = found.bytes().await.map_err(|error| store_error(&error))?;
        Ok(Some((bytes, version)))
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        self.put(key, bytes, PutMode::Create).await
    }

    async fn put_if_version(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Put, StoreError> {
        let version = UpdateVersion { e_tag: Some(version.0.clone()), version: None };
        self.put(key, bytes, PutMode::Update(version)).await
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        let folder = self.path(prefix.trim_end_matches('/'));
        let objects = match start_after {
            None => self.store.list(Some(&folder)),
            Some(after) => self.store.list_with_offset(Some(&folder), &self.path(after)),
        };
        let mut listed: Vec<Listed> = objects
            .map_err(|error| store_error(&error))
            .and_then(|meta| async move {
                let key = meta.location.as_ref().strip_prefix(&self.prefix).unwrap_or_default().to_owned();
                let modified_ms = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
                let version = Version(meta.e_tag.ok_or_else(without_tag)?);
                Ok(Listed { key, version, size: meta.size, modified_ms })
            })
            .try_collect()
            .await?;
        listed.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(listed)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let paths: Vec<object_store::Result<Path>> = keys.iter().map(|key| Ok(self.path(key))).collect();
        let mut deleted = self.store.delete_stream(futures::stream::iter(paths).boxed());
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(store_error(&error)),
            }
        }
        Ok(())
    }

    fn now_ms(&self) -> Option<u64> {
        self.clock.now_ms()
    }
}

/// An object that is missing is an answer; a bucket that is missing is an error.
fn missing(source: &(dyn std::error::Error + 'static)) -> Result<(), StoreError> {
    let text = whole(source);
    if text.contains("NoSuchBucket") {
        return Err(no_bucket());
    }
    Ok(())
}

fn no_bucket() -> StoreError {
    StoreError::new(StoreErrorKind::Unfit, "there is no such bucket")
        .hint("make it first, or check the address, the region and the endpoint")
}

/// The status of an answer, as the causes tell it. The client's own error type does not cross its crate.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// An error and its causes, each said once.
fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

/// What an XML answer says: its code and its message. The rest (keys' ids, strings that were signed) is nobody's business.
fn told(text: &str) -> String {
    let between = |from: &str, to: &str| {
        let (_, rest) = text.split_once(from)?;
        rest.split_once(to).map(|(found, _)| found.trim().to_owned())
    };
    let said = match (between("<Code>", "</Code>"), between("<Message>", "</Message>")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        // An answer that is not of S3 (a proxy's page) is told by its status alone.
        _ => text.split('<').next().unwrap_or_default().trim_end_matches([':', ' ']).to_owned(),
    };
    match said.char_indices().nth(LONGEST_ANSWER) {
        Some((at, _)) => format!("{}…", &said[..at]),
        None => said,
    }
}

/// Codes of answers that say that the credentials are not taken.
const DENIED: &[&str] = &[
    "ExpiredToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "AccessDenied",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
];

fn store_error(error: &Error) -> StoreError {
    let text = whole(error);
    let said = told(&text);
    if text.contains("NoSuchBucket") {
        return no_bucket();
    }
    let denied = matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
        || DENIED.iter().any(|code| text.contains(code))
        || matches!(status(&text), Some(401 | 403));
    if denied {
        return StoreError::new(StoreErrorKind::Denied, said);
    }
    let unfit = match error {
        Error::NotImplemented { .. } | Error::NotSupported { .. } | Error::InvalidPath { .. } => true,
        Error::Generic { .. } => matches!(status(&text), Some(300..=399 | 400 | 405 | 501)),
        _ => false,
    };
    if unfit {
        return StoreError::new(StoreErrorKind::Unfit, said)
            .hint("check bucket, region and endpoint; the store must support If-None-Match and If-Match");
    }
    StoreError::new(StoreErrorKind::Transient, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn errors_are_told_by_their_meaning_and_without_their_surroundings() {
        let check = |text: &str, kind, said: &str| {
            let error = store_error(&generic(text));
            assert_eq!((error.kind, error.message.as_str()), (kind, said), "{text}");
        };
        let expired = "Server returned non-2xx status code: 400 Bad Request: <Error><Code>ExpiredToken</Code>\
                       <Message>The provided token has expired.</Message><Token-0>SECRET</Token-0></Error>";
        check(expired, StoreErrorKind::Denied, "ExpiredToken: The provided token has expired.");
        let slow = "Server returned non-2xx status code: 503 Slow Down: <Error><Code>SlowDown</Code></Error>";
        check(slow, StoreErrorKind::Transient, "SlowDown");
        let page = "Server returned non-2xx status code: 502 Bad Gateway: <html>oops</html>";
        check(
            page,
            StoreErrorKind::Transient,
            "Generic S3 error: Server returned non-2xx status code: 502 Bad Gateway",
        );
        check("connection reset", StoreErrorKind::Transient, "Generic S3 error: connection reset");
        let bucket = "status code: 404: <Code>NoSuchBucket</Code>";
        check(bucket, StoreErrorKind::Unfit, "there is no such bucket");
    }
}
