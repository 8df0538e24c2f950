//! Which cluster: kubeconfig files and a context, and the open connection to it.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ksail_model::Scope;
use ksail_provider::{CallContext, CallError};
use kube::config::{KubeConfigOptions, Kubeconfig};
use sha2::{Digest as _, Sha256};
use tokio::sync::RwLock;

use crate::discovery::Discovery;
use crate::kept::Lead;
use crate::watch::Watches;

/// How long the server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Who tells a kubeconfig that lies in no file of this machine.
#[async_trait]
pub trait KubeconfigSource: Send + Sync {
    /// Where it comes from, for messages.
    fn place(&self) -> String;

    /// The kubeconfig. It is asked for when a session opens, and kept nowhere.
    ///
    /// # Errors
    /// It cannot be had now.
    async fn kubeconfig(&self, context: &CallContext) -> Result<Arc<str>, CallError>;
}

/// Where it is said how to reach a cluster.
#[derive(Clone)]
pub(crate) enum Access {
    Files(Connection),
    Told(Arc<dyn KubeconfigSource>),
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(connection) => connection.fmt(f),
            Self::Told(source) => f.write_str(&source.place()),
        }
    }
}

/// What leads to a cluster, as it was read.
pub(crate) enum Read<'a> {
    /// Files, and the digest of what stands in them.
    Files(&'a Connection, Lead),
    /// A text, and where it comes from.
    Text(Arc<str>, String),
}

impl Access {
    /// Reads what leads to the cluster.
    pub(crate) async fn read(&self, context: &CallContext) -> Result<Read<'_>, CallError> {
        Ok(match self {
            Self::Files(connection) => Read::Files(connection, connection.lead()),
            Self::Told(source) => Read::Text(source.kubeconfig(context).await?, source.place()),
        })
    }
}

impl Read<'_> {
    /// Two that are the same lead to a cluster in the same way.
    pub(crate) fn lead(&self) -> Lead {
        match self {
            Self::Files(_, lead) => *lead,
            Self::Text(text, place) => lead([place.as_bytes(), text.as_bytes()]),
        }
    }

    /// The client, where it leads, and by which authority the server there is known.
    pub(crate) async fn client(&self) -> Result<(kube::Client, String, Option<String>), CallError> {
        match self {
            Self::Files(connection, _) => Ok(connection.client().await?),
            Self::Text(text, place) => {
                // What it holds is no part of a message.
                let read = Kubeconfig::from_yaml(text)
                    .map_err(|_| CallError::unreachable(format!("the kubeconfig of {place} cannot be read")))?;
                let client = client(read, &KubeConfigOptions::default(), place).await;
                client.map_err(|error| CallError::unreachable(format!("{place}: {}", chain(error.as_ref()))))
            }
        }
    }
}

/// The digest of what leads to a cluster.
fn lead<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Lead {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// Which cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Kubeconfig files, taken together as kubectl takes `KUBECONFIG`: what stands first counts.
    pub kubeconfig: Vec<PathBuf>,
    /// The context; the current one if none is named.
    pub context: Option<String>,
}

/// Why a cluster cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No file is there.
    #[error("there is no kubeconfig at {0}")]
    NoKubeconfig(String),
    /// A file cannot be read, or not be taken together with the others.
    #[error("the kubeconfig {place} cannot be used: {why}")]
    Unusable {
        /// The files.
        place: String,
        /// Why, as a fragment.
        why: String,
    },
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.context {
            Some(context) => write!(f, "context {context} of {}", self.files()),
            None => write!(f, "the current context of {}", self.files()),
        }
    }
}

/// An open connection.
pub(crate) struct Session {
    pub(crate) client: kube::Client,
    /// Where it leads, for messages.
    pub(crate) place: String,
    /// By which authority the server is known.
    pub(crate) authority: Option<String>,
    /// The UID of `kube-system`, or what stands in for it.
    pub(crate) scope: Scope,
    pub(crate) discovery: RwLock<Arc<Discovery>>,
    /// Whether the server was seen to serve something else than was read of it.
    pub(crate) outdated: AtomicBool,
    pub(crate) watches: Watches,
}

impl Session {
    /// Whether its kinds are to be read again.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }
}

impl Connection {
    /// The digest of what stands in the files now, and of the context. What cannot be read is told of by who opens a session.
    fn lead(&self) -> Lead {
        let texts: Vec<Vec<u8>> = self.kubeconfig.iter().map(|file| fs::read(file).unwrap_or_default()).collect();
        let names = self.kubeconfig.iter().map(|file| file.as_os_str().as_encoded_bytes());
        let context = self.context.iter().map(String::as_bytes);
        lead(names.chain(texts.iter().map(Vec::as_slice)).chain(context))
    }

    fn files(&self) -> String {
        self.kubeconfig.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(":")
    }

    fn unusable(&self, error: &dyn std::error::Error) -> ConnectionError {
        ConnectionError::Unusable { place: self.files(), why: chain(error) }
    }

    /// The client, where it leads, and by which authority the server there is known: the digest of its certificates.
    pub(crate) async fn client(&self) -> Result<(kube::Client, String, Option<String>), ConnectionError> {
        let mut merged: Option<Kubeconfig> = None;
        for file in self.kubeconfig.iter().filter(|file| file.exists()) {
            let next = Kubeconfig::read_from(file).map_err(|error| self.unusable(&error))?;
            merged = Some(match merged {
                None => next,
                Some(first) => first.merge(next).map_err(|error| self.unusable(&error))?,
            });
        }
        let kubeconfig = merged.ok_or_else(|| ConnectionError::NoKubeconfig(self.files()))?;
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        client(kubeconfig, &options, &self.to_string()).await.map_err(|error| self.unusable(error.as_ref()))
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn client(
    kubeconfig: Kubeconfig,
    options: &KubeConfigOptions,
    named: &str,
) -> Result<(kube::Client, String, Option<String>), AnyError> {
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, options).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    if is_this_machine(&config.cluster_url) {
        // As kubectl: what is here is not asked of a proxy, whatever the environment says of proxies.
        config.proxy_url = None;
    }
    // Each call has its own deadline, and a watch is silent for long.
    config.read_timeout = None;
    // What is safe to repeat is ours to know.
    config.default_retry = false;
    let place = format!("{} ({named})", config.cluster_url);
    let authority = config.root_cert.as_ref().filter(|_| !config.accept_invalid_certs).map(|certificates| {
        let mut digest = Sha256::new();
        certificates.iter().for_each(|certificate| digest.update(certificate));
        digest.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    });
    Ok((kube::Client::try_from(config)?, place, authority))
}

/// Whether a server is on this machine.
fn is_this_machine(url: &http::Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

impl From<ConnectionError> for CallError {
    fn from(error: ConnectionError) -> Self {
        let hint = match &error {
            ConnectionError::NoKubeconfig(_) => {
                "name one in `spec.cluster.connection.kubeconfig`, or by the variable KUBECONFIG"
            }
            ConnectionError::Unusable { .. } => "`kubectl config get-contexts` tells which contexts there are",
        };
        Self::unreachable(error.to_string()).hint(hint)
    }
}

/// A message with its causes, none of them twice.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let told = source.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_machine_is_known_by_its_name_or_address() {
        for (url, is_here) in [
            ("https://127.0.0.1:6443", true),
            ("https://localhost:6443", true),
            ("https://[::1]:6443", true),
            ("https://[::]:6443", true),
            ("https://10.0.0.1:6443", false),
            ("https://localhost.example:6443", false),
        ] {
            assert_eq!(is_this_machine(&url.parse().unwrap()), is_here, "{url}");
        }
    }
}
