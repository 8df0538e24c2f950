//! Opens sessions of simulated providers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ksail_model::{Address, ProviderConfig, Value};
use ksail_provider::{CallError, Connector, HostSession, Provider};

use super::World;
use super::provider::Host;

/// A session that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The provider's name.
    pub name: String,
    /// The host, if there is one.
    pub host: Option<Address>,
    /// The host's attributes as they were given.
    pub attributes: Option<Value>,
}

type Decorate = Arc<dyn Fn(&str, Arc<dyn Provider>) -> Arc<dyn Provider> + Send + Sync>;

/// A [`Connector`] over simulated worlds, one a provider name (names may share a world).
///
/// A session to a host is made from the host's attribute `id`: what is made in it has that id as its scope,
/// is gone with the host (by hand or by call, where host and contents are in one world), and cannot be reached while the
/// host is gone or not ready.
#[derive(Clone, Default)]
pub struct SimulatedConnector {
    worlds: BTreeMap<String, World>,
    decorate: Option<Decorate>,
    sessions: Arc<Mutex<Vec<SessionRecord>>>,
}

impl SimulatedConnector {
    /// No worlds.
    pub fn new() -> Self {
        Self::default()
    }

    /// One world under one name.
    pub fn of(name: &str, world: &World) -> Self {
        Self::new().with(name, world)
    }

    /// With a world under a name.
    #[must_use]
    pub fn with(mut self, name: &str, world: &World) -> Self {
        self.worlds.insert(name.to_owned(), world.clone());
        self
    }

    /// Wraps every provider that it opens, by the provider's name (in [`Faulty`](crate::faults::Faulty), say).
    #[must_use]
    pub fn decorated(
        mut self,
        decorate: impl Fn(&str, Arc<dyn Provider>) -> Arc<dyn Provider> + Send + Sync + 'static,
    ) -> Self {
        self.decorate = Some(Arc::new(decorate));
        self
    }

    /// The sessions opened so far, in order.
    pub fn sessions(&self) -> Vec<SessionRecord> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Connector for SimulatedConnector {
    async fn connect(
        &self,
        name: &str,
        _config: &ProviderConfig,
        host: Option<&HostSession>,
    ) -> Result<Arc<dyn Provider>, CallError> {
        let Some(world) = self.worlds.get(name) else {
            return Err(CallError::refused(format!("there is no simulated provider `{name}`")));
        };
        let mut provider = world.provider();
        if let Some(session) = host {
            let Some(id) = session.attributes.field("id").and_then(Value::as_str) else {
                return Err(CallError::refused(format!("host {} has no attribute `id`", session.address)));
            };
            let worlds = self.worlds.values().cloned().collect();
            provider = provider.hosted(Host { id: id.to_owned(), address: session.address.clone(), worlds });
        }
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(SessionRecord {
            name: name.to_owned(),
            host: host.map(|session| session.address.clone()),
            attributes: host.map(|session| session.attributes.clone()),
        });
        let provider: Arc<dyn Provider> = Arc::new(provider);
        Ok(match &self.decorate {
            Some(decorate) => decorate(name, provider),
            None => provider,
        })
    }
}
