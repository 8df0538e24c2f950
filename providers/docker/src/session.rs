//! The open connection: found at the first call, and kept.

use std::error::Error as _;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use ksail_model::Scope;
use ksail_provider::CallError;

use crate::endpoint::{Endpoint, Transport};
use crate::podman;

/// The oldest API that is spoken.
pub(crate) const OLDEST_API: (u32, u32) = (1, 41);
/// How long one of several places may take to answer before the next is tried.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// The client library's own limit in seconds. Each call has its own, shorter deadline.
const CLIENT_TIMEOUT: u64 = 24 * 3600;

/// An engine that answered.
pub(crate) struct Session {
    pub(crate) docker: Docker,
    /// The engine's id.
    pub(crate) scope: Scope,
    /// Where it is, for messages.
    pub(crate) place: String,
    /// Whether the ports that it publishes are on this machine.
    pub(crate) local: bool,
    /// Whether it is Podman ([`crate::podman`]).
    pub(crate) is_podman: bool,
}

/// Why one place was not taken.
enum Miss {
    /// It could not be reached.
    Unreachable(String),
    /// It answered, and cannot be used.
    Unusable(CallError),
}

impl Session {
    /// Finds the engine: the first place that answers.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, CallError> {
        let several = endpoint.transports.len() > 1;
        let mut tried = Vec::new();
        for transport in &endpoint.transports {
            let attempt = Self::connect(transport);
            let reply = if several {
                tokio::time::timeout(PLACE_TIMEOUT, attempt).await.unwrap_or_else(|_| {
                    Err(Miss::Unreachable(format!("did not answer within {} s", PLACE_TIMEOUT.as_secs())))
                })
            } else {
                attempt.await
            };
            match reply {
                Ok(session) => return Ok(session),
                Err(Miss::Unusable(error)) => return Err(error),
                Err(Miss::Unreachable(why)) => tried.push(format!("{transport}: {why}{}", trust(transport))),
            }
        }
        let hint = if tried.iter().any(|line| line.contains("ermission denied")) {
            "the socket may not be opened by this user: join the group `docker`, or run as a user who may"
        } else if several {
            "start Docker, or say where it is: `docker context use NAME`, or DOCKER_HOST=unix:///path/to/docker.sock"
        } else {
            "start the engine, or correct what names it"
        };
        Err(CallError::unreachable(format!(
            "no docker engine answers at {} ({})",
            if several { "any known place".to_owned() } else { endpoint.named_by.clone() },
            tried.join("; ")
        ))
        .hint(hint))
    }

    async fn connect(transport: &Transport) -> Result<Self, Miss> {
        let docker = client(transport).map_err(|error| Miss::Unreachable(cause(&error)))?;
        // The answer says which API the engine speaks; requests name no version, so that the engine answers in its own newest.
        let version = docker.version().await.map_err(|error| Miss::Unreachable(cause(&error)))?;
        let spoken = version.api_version.unwrap_or_default();
        let components = version.components.unwrap_or_default();
        let is_podman = podman::is_podman(&components);
        if api(&spoken).is_none_or(|version| version < OLDEST_API) {
            let (major, minor) = OLDEST_API;
            return Err(Miss::Unusable(
                CallError::refused(format!(
                    "the engine at {transport} speaks API `{spoken}`, and at least {major}.{minor} is needed"
                ))
                .hint("update the engine: Docker 20.10, Podman 4 or newer"),
            ));
        }
        let info = docker.info().await.map_err(|error| Miss::Unreachable(cause(&error)))?;
        let id =
            if is_podman { podman::id(info.name, info.docker_root_dir) } else { info.id.filter(|id| !id.is_empty()) };
        let Some(id) = id else {
            return Err(Miss::Unusable(CallError::refused(format!("the engine at {transport} tells no id"))));
        };
        tracing::debug!(place = %transport, api = %spoken, engine = %id, "connected");
        Ok(Self {
            docker,
            scope: Scope(id.into()),
            place: transport.to_string(),
            local: transport.is_local(),
            is_podman,
        })
    }
}

/// What was shown and trusted, for a refusal of TLS tells little.
fn trust(transport: &Transport) -> String {
    match transport {
        Transport::Tls { folder, .. } => {
            format!("; it was talked to with ca.pem, cert.pem and key.pem of {}", folder.display())
        }
        _ => String::new(),
    }
}

fn client(transport: &Transport) -> Result<Docker, bollard::errors::Error> {
    match transport {
        Transport::Unix(path) => {
            Docker::connect_with_unix(&path.to_string_lossy(), CLIENT_TIMEOUT, API_DEFAULT_VERSION)
        }
        #[cfg(windows)]
        Transport::Pipe(path) => Docker::connect_with_named_pipe(path, CLIENT_TIMEOUT, API_DEFAULT_VERSION),
        #[cfg(not(windows))]
        Transport::Pipe(path) => Err(bollard::errors::Error::UnsupportedURISchemeError { uri: path.clone() }),
        Transport::Tcp(address) => Docker::connect_with_http(address, CLIENT_TIMEOUT, API_DEFAULT_VERSION),
        Transport::Tls { address, folder } => Docker::connect_with_ssl(
            address,
            &folder.join("key.pem"),
            &folder.join("cert.pem"),
            &folder.join("ca.pem"),
            CLIENT_TIMEOUT,
            API_DEFAULT_VERSION,
        ),
    }
}

fn api(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What is at the bottom of a client error, without the wrappings that say nothing. An answer that could not be read is
/// not quoted: it may hold a container's environment.
pub(crate) fn cause(error: &bollard::errors::Error) -> String {
    match error {
        bollard::errors::Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        bollard::errors::Error::DockerStreamError { error } => error.trim().to_owned(),
        bollard::errors::Error::JsonDataError { .. } | bollard::errors::Error::JsonSerdeError { .. } => {
            "the answer cannot be read".to_owned()
        }
        bollard::errors::Error::SocketNotFoundError(_) => "the socket does not exist".to_owned(),
        other => {
            let mut text = other.to_string();
            let mut next = other.source();
            while let Some(source) = next {
                text = source.to_string();
                next = source.source();
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(api("1.9").is_some_and(|version| version < OLDEST_API));
        assert!(api("1.41").is_some_and(|version| version >= OLDEST_API));
        assert!(api("1.100").is_some_and(|version| version >= OLDEST_API));
        assert_eq!(api("new"), None);
    }
}
