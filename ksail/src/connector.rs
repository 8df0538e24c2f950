//! Opens sessions of the providers that this build knows.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use ksail_model::{Path, ProviderConfig};
use ksail_provider::{CallError, Connector, HostSession, Provider};
use ksail_provider_docker::{DockerProvider, Endpoint};
use ksail_provider_embedded::EmbeddedProvider;

use crate::logged::Logged;
use crate::settings::Settings;

/// The providers of this build.
pub struct Connectors {
    settings: Settings,
    state_folder: PathBuf,
}

impl Connectors {
    /// Providers for a project whose state is in this folder.
    pub const fn new(settings: Settings, state_folder: PathBuf) -> Self {
        Self { settings, state_folder }
    }

    fn docker(&self, config: &ProviderConfig, host: Option<&HostSession>) -> Result<DockerProvider, CallError> {
        let endpoint = match host {
            Some(host) => {
                let socket =
                    host.attributes.get(&Path::key("socket")).and_then(|socket| socket.as_str().map(str::to_owned));
                let socket = socket.ok_or_else(|| CallError::refused(format!("{} tells no socket", host.address)))?;
                Endpoint::socket(socket)
            }
            None => {
                Endpoint::resolve(&config.settings, &|name| (self.settings.env)(name), self.settings.home().as_deref())
                    .map_err(|error| CallError::refused(error.to_string()))?
            }
        };
        Ok(DockerProvider::new(endpoint).project(self.settings.project.clone()))
    }
}

#[async_trait]
impl Connector for Connectors {
    async fn connect(
        &self,
        name: &str,
        config: &ProviderConfig,
        host: Option<&HostSession>,
    ) -> Result<Arc<dyn Provider>, CallError> {
        let inner: Arc<dyn Provider> = match config.kind.as_str() {
            "docker" => Arc::new(self.docker(config, host)?),
            "embedded" => Arc::new(EmbeddedProvider::new(self.settings.program.clone(), self.state_folder.clone())),
            other => {
                let message = format!("provider {name} is of kind {other}, which this ksail does not know");
                return Err(CallError::refused(message));
            }
        };
        let session = host.map_or_else(|| name.to_owned(), |host| format!("{name} in {}", host.address));
        tracing::debug!(session, "session opened");
        Ok(Arc::new(Logged { session, inner }))
    }
}
