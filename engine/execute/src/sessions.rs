//! Sessions: open connections of providers to hosts, in memory only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ksail_model::{Declaration, ProviderConfig, RecordKey, Value};
use ksail_provider::{CallError, Connector, HostSession, Provider};

/// Which session: a provider's name and the host, if the graph has one.
pub(crate) type SessionKey = (String, Option<RecordKey>);

/// The session that a declaration's calls go to.
pub(crate) fn session_of(declaration: &Declaration) -> SessionKey {
    (declaration.provider.clone(), declaration.host.clone().map(RecordKey::current))
}

/// A session, with the host's attributes that it was made from.
type Open = (Option<Value>, Arc<dyn Provider>);

/// Open sessions, each made from its host's attributes and made again when those change.
pub(crate) struct Sessions {
    connector: Arc<dyn Connector>,
    providers: std::collections::BTreeMap<String, ProviderConfig>,
    open: Mutex<HashMap<SessionKey, Open>>,
}

impl Sessions {
    pub(crate) fn new(
        connector: Arc<dyn Connector>,
        providers: std::collections::BTreeMap<String, ProviderConfig>,
    ) -> Self {
        Self { connector, providers, open: Mutex::default() }
    }

    /// The session of a provider to a host with these attributes.
    pub(crate) async fn open(
        &self,
        key: &SessionKey,
        host_attributes: Option<Value>,
    ) -> Result<Arc<dyn Provider>, CallError> {
        if let Ok(open) = self.open.lock()
            && let Some((made_from, provider)) = open.get(key)
            && *made_from == host_attributes
        {
            return Ok(Arc::clone(provider));
        }
        let (name, host) = key;
        let config = self.providers.get(name).ok_or_else(|| {
            CallError::refused(format!("no provider {name} is configured in the plan or in the state"))
        })?;
        let session = match (host, &host_attributes) {
            (Some(host), Some(attributes)) => {
                Some(HostSession { address: host.address.clone(), attributes: attributes.clone() })
            }
            _ => None,
        };
        let provider = self.connector.connect(name, config, session.as_ref()).await?;
        if let Ok(mut open) = self.open.lock() {
            open.insert(key.clone(), (host_attributes, Arc::clone(&provider)));
        }
        Ok(provider)
    }
}
