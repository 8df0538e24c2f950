//! What goes wrong with a registry.

use reqwest::StatusCode;

/// Why a registry did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It has no address that could be used.
    #[error("the address `{address}` of a registry is not a URL of http or https")]
    Address {
        /// The address, without a password in it.
        address: String,
    },
    /// No client can be made.
    #[error("no TLS client can be made: {why}")]
    Tls {
        /// Why.
        why: String,
    },
    /// Nothing answers, or not in time, or it cannot be trusted.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// The host, with its port.
        host: String,
        /// Why.
        why: String,
    },
    /// It does not have this.
    #[error("{host} does not know {what}")]
    NotFound {
        /// The host, with its port.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// Whoever asks may not have this.
    #[error("{host} refuses access to {what}: {why}")]
    Denied {
        /// The host, with its port.
        host: String,
        /// What was asked for.
        what: String,
        /// Why.
        why: String,
    },
    /// It answered with a status that says nothing of the content.
    #[error("{host} answered {status} for {what}")]
    Status {
        /// The host, with its port.
        host: String,
        /// What was asked for.
        what: String,
        /// The status.
        status: StatusCode,
        /// When it may be asked again, as it says it.
        retry_after: Option<String>,
    },
    /// It answered with something else than what was asked for.
    #[error("{host} answered for {what} what cannot be used: {why}")]
    Invalid {
        /// The host, with its port.
        host: String,
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl UpstreamError {
    /// Whether the registry did not really answer, so that what is kept of it may stand in.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Tls { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }
}
