//! Sealed operations, each with its plan: one object an operation.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use ksail_records::{SealedOperation, StateError};

use crate::archived;
use crate::codec::{Header, Kind, Object};
use crate::keys::{self, HISTORY};
use crate::remote::Remote;
use crate::retention::Retention;

/// Objects that are fetched at once.
const FETCHES: usize = 16;
/// How often an operation that is there already is written anew before somebody else must be at it.
const STORE_TRIES: u32 = 3;

/// Stores an operation. One that is sealed again after a kill takes the place of the first.
pub(crate) async fn store(remote: &Remote, header: Header, operation: &SealedOperation) -> Result<(), StateError> {
    let key = keys::operation(operation.serial, &operation.header.id);
    let place = remote.place_of(&key);
    let bytes = archived::encode(header, operation, &place).await?;
    if remote.put_if_absent(&key, &bytes).await?.is_some() {
        return Ok(());
    }
    for _ in 0..STORE_TRIES {
        let Some((_, version)) = remote.get(&key).await? else {
            if remote.put_if_absent(&key, &bytes).await?.is_some() {
                return Ok(());
            }
            continue;
        };
        if remote.put_if_version(&key, &bytes, &version).await?.is_some() {
            return Ok(());
        }
    }
    Err(StateError::Fenced { place })
}

/// Stores those operations that a kill kept from the history.
pub(crate) async fn complete(remote: &Remote, header: &Header, sealed: &[SealedOperation]) -> Result<(), StateError> {
    let Some(first) = sealed.iter().map(|operation| operation.serial).min() else { return Ok(()) };
    let listed = remote.list(HISTORY, Some(&keys::before_serial(first))).await?;
    for operation in sealed {
        let key = keys::operation(operation.serial, &operation.header.id);
        if !listed.iter().any(|object| object.key == key) {
            store(remote, header.clone(), operation).await?;
        }
    }
    Ok(())
}

/// The newest operations, newest first.
pub(crate) async fn read(remote: &Remote, limit: usize) -> Result<Vec<SealedOperation>, StateError> {
    let listed = remote.list(HISTORY, None).await?;
    let newest = listed.into_iter().rev().take(limit).map(|object| async move {
        let Some((bytes, _)) = remote.get(&object.key).await? else { return Ok(None) };
        Object::open(&bytes, Kind::Operation, &remote.place_of(&object.key))?.operation().map(Some)
    });
    // One that retention deleted meanwhile is not there.
    let found: Vec<Option<SealedOperation>> = stream::iter(newest).buffered(FETCHES).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Deletes what is to be kept no longer.
pub(crate) async fn retain(remote: &Remote, retention: &Retention) -> Result<(), StateError> {
    let listed = remote.list(HISTORY, None).await?;
    let newest_ms = listed.iter().map(|object| object.modified_ms).max().unwrap_or(0);
    let age_ms = retention.age.map_or(u64::MAX, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let over = listed.len().saturating_sub(retention.count.max(1));
    let old: Vec<String> = listed
        .iter()
        .enumerate()
        .filter(|(index, object)| *index < over || newest_ms.saturating_sub(object.modified_ms) > age_ms)
        .map(|(_, object)| object.key.clone())
        .collect();
    remote.delete(&old).await
}
