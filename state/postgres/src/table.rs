//! The table, and what a store does with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use ksail_state_remote::{Listed, Put, Store, StoreError, StoreErrorKind, Version};
use tokio::sync::OnceCell;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::connection::Connection;
use crate::errors::told;
use crate::place::PostgresPlace;
use crate::schema::{TABLE_DDL, ddl_hint};

/// The version of an object, and the server's time of day in milliseconds.
const ANSWER: &str = "version, (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms";

/// The objects of one stack.
pub struct PostgresObjects {
    connection: Connection,
    stack: String,
    place: String,
    table: OnceCell<()>,
    clock: Mutex<Option<(i64, Instant)>>,
}

impl PostgresObjects {
    /// The objects of a stack. Nothing is asked yet.
    pub fn new(place: &PostgresPlace, stack: &str) -> Self {
        Self {
            connection: Connection::new(place.clone()),
            stack: place.stack(stack),
            place: place.url(stack),
            table: OnceCell::new(),
            clock: Mutex::new(None),
        }
    }

    async fn client(&self) -> Result<Arc<Client>, StoreError> {
        let client = self.connection.client().await?;
        self.table.get_or_try_init(|| make_table(&client)).await?;
        Ok(client)
    }

    async fn rows(&self, text: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        let client = self.client().await?;
        client.query(text, values).await.map_err(|error| told(&error))
    }

    fn heard(&self, row: &Row) {
        if let Ok(now_ms) = row.try_get::<_, i64>("now_ms") {
            *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some((now_ms, Instant::now()));
        }
    }

    fn put(&self, rows: &[Row]) -> Result<Put, StoreError> {
        match rows.first() {
            None => Ok(Put::Conflict),
            Some(row) => {
                self.heard(row);
                Ok(Put::Stored(version_of(row)?))
            }
        }
    }
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, name: &str) -> Result<T, StoreError> {
    row.try_get(name).map_err(|error| {
        StoreError::new(StoreErrorKind::Unfit, format!("the table has another form: {error}")).hint(ddl_hint())
    })
}

fn version_of(row: &Row) -> Result<Version, StoreError> {
    Ok(Version(column::<i64>(row, "version")?.to_string()))
}

/// Looks first: whoever may not make tables may use one that is there.
async fn make_table(client: &Client) -> Result<(), StoreError> {
    let found = client.query_one("SELECT to_regclass('ksail_state') IS NOT NULL AS found", &[]).await;
    if column(&found.map_err(|error| told(&error))?, "found")? {
        return Ok(());
    }
    match client.batch_execute(TABLE_DDL).await {
        Ok(()) => Ok(()),
        // Another one was faster.
        Err(error)
            if [&SqlState::UNIQUE_VIOLATION, &SqlState::DUPLICATE_TABLE, &SqlState::DUPLICATE_OBJECT]
                .map(Some)
                .contains(&error.code()) =>
        {
            Ok(())
        }
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let why = "there is no table ksail_state, and this user may not make one";
            Err(StoreError::new(StoreErrorKind::Unfit, why).hint(ddl_hint()))
        }
        Err(error) => Err(told(&error)),
    }
}

#[async_trait]
impl Store for PostgresObjects {
    fn place(&self) -> String {
        self.place.clone()
    }

    async fn get(&self, key: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let text = format!("SELECT data, {ANSWER} FROM ksail_state WHERE stack = $1 AND key = $2");
        let rows = self.rows(&text, &[&self.stack, &key]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        self.heard(row);
        Ok(Some((Bytes::from(column::<Vec<u8>>(row, "data")?), version_of(row)?)))
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        let text = format!(
            "INSERT INTO ksail_state (stack, key, data) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING {ANSWER}"
        );
        self.put(&self.rows(&text, &[&self.stack, &key, &&bytes[..]]).await?)
    }

    async fn put_if_version(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Put, StoreError> {
        let Ok(version) = version.0.parse::<i64>() else { return Ok(Put::Conflict) };
        let text = format!(
            "UPDATE ksail_state SET data = $3, version = DEFAULT, modified = clock_timestamp() \
             WHERE stack = $1 AND key = $2 AND version = $4 RETURNING {ANSWER}"
        );
        self.put(&self.rows(&text, &[&self.stack, &key, &&bytes[..], &version]).await?)
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        let text = format!(
            "SELECT key, octet_length(data)::bigint AS size, \
             (extract(epoch FROM modified) * 1000)::bigint AS modified_ms, {ANSWER} \
             FROM ksail_state WHERE stack = $1 AND key > $2 AND starts_with(key, $3) ORDER BY key"
        );
        // Nothing of the prefix comes before the prefix itself.
        let after = start_after.unwrap_or(prefix);
        let rows = self.rows(&text, &[&self.stack, &after, &prefix]).await?;
        rows.iter()
            .map(|row| {
                self.heard(row);
                Ok(Listed {
                    key: column(row, "key")?,
                    version: version_of(row)?,
                    size: u64::try_from(column::<i64>(row, "size")?).unwrap_or(0),
                    modified_ms: u64::try_from(column::<i64>(row, "modified_ms")?).unwrap_or(0),
                })
            })
            .collect()
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let text = "DELETE FROM ksail_state WHERE stack = $1 AND key = ANY($2)";
        self.rows(text, &[&self.stack, &keys]).await.map(drop)
    }

    fn now_ms(&self) -> Option<u64> {
        let (now_ms, heard) = (*self.clock.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = i64::try_from(heard.elapsed().as_millis()).unwrap_or(0);
        u64::try_from(now_ms.saturating_add(since)).ok()
    }
}
