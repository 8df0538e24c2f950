//! A store in memory that is a round trip away.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ksail_state_object::ObjectStoreObjects;
use ksail_state_remote::{Listed, Put, Store, StoreError, Version};

/// Every request takes a round trip, a deletion of many objects too, as S3 does it.
pub(crate) struct Distant {
    pub(crate) objects: ObjectStoreObjects,
    pub(crate) round_trip: Duration,
}

impl Distant {
    async fn travel(&self) {
        tokio::time::sleep(self.round_trip).await;
    }
}

#[async_trait]
impl Store for Distant {
    fn place(&self) -> String {
        self.objects.place()
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        self.travel().await;
        self.objects.get(key).await
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        self.travel().await;
        self.objects.put_if_absent(key, bytes).await
    }

    async fn put_if_version(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Put, StoreError> {
        self.travel().await;
        self.objects.put_if_version(key, bytes, version).await
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        self.travel().await;
        self.objects.list(prefix, start_after).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.travel().await;
        self.objects.delete(keys).await
    }

    fn now_ms(&self) -> Option<u64> {
        self.objects.now_ms()
    }
}
