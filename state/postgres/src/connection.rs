//! One connection, opened when it is needed and again when it is lost. Requests share it: the protocol lets them overlap.

use std::sync::Arc;
use std::time::Duration;

use ksail_state_remote::{StoreError, StoreErrorKind};
use tokio::sync::Mutex;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::errors::told;
use crate::place::PostgresPlace;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement may take on the server, in milliseconds: what was given up here must not go on there.
const STATEMENT_TIMEOUT_MS: u32 = 30_000;

/// The connection to one database.
pub(crate) struct Connection {
    place: PostgresPlace,
    client: Mutex<Option<Arc<Client>>>,
}

impl Connection {
    pub(crate) fn new(place: PostgresPlace) -> Self {
        Self { place, client: Mutex::new(None) }
    }

    /// A client that is connected, as far as is known.
    pub(crate) async fn client(&self) -> Result<Arc<Client>, StoreError> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.connect().await?);
        *slot = Some(Arc::clone(&client));
        Ok(client)
    }

    async fn connect(&self) -> Result<Client, StoreError> {
        let mut config: Config = self.place.config.clone();
        config.connect_timeout(CONNECT_TIMEOUT);
        let options = format!("-c statement_timeout={STATEMENT_TIMEOUT_MS} -c synchronous_commit=on");
        // A pooler in front may not take options at the start: they only help.
        if config.get_options().is_none() {
            config.options(&options);
        }
        if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = config.connect(NoTls).await.map_err(|error| told(&error))?;
            tokio::spawn(connection);
            return Ok(client);
        }
        let (client, connection) = config.connect(self.tls()?).await.map_err(|error| told(&error))?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn tls(&self) -> Result<MakeRustlsConnect, StoreError> {
        let unfit = |why: String| StoreError::new(StoreErrorKind::Unfit, why);
        let mut roots = rustls::RootCertStore::empty();
        match &self.place.roots {
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
            Some(file) => {
                let failed =
                    |why: String| unfit(format!("the certificates in {} cannot be read: {why}", file.display()));
                let found = rustls_native_certs::load_certs_from_paths(Some(file), None);
                if found.certs.is_empty() {
                    let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
                    return Err(failed(why));
                }
                roots.add_parsable_certificates(found.certs);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unfit(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(tls))
    }
}
