//! The HTTP client of the store: our own TLS set-up (ring, the machine's roots), and the store's clock out of its answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ksail_state_remote::{StoreError, StoreErrorKind};
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nothing may come of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The time of day by the answers' `Date`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerClock(Arc<Mutex<Option<(u64, Instant)>>>);

impl ServerClock {
    fn heard(&self, date: &str) {
        if let Some(ms) = date_ms(date) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((ms, Instant::now()));
        }
    }

    pub(crate) fn now_ms(&self) -> Option<u64> {
        let (ms, at) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(ms + u64::try_from(at.elapsed().as_millis()).unwrap_or(0))
    }
}

/// The milliseconds since the epoch of an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date_ms(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    // Days since the epoch by the civil calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

/// Makes the client.
#[derive(Debug)]
pub(crate) struct Connector {
    client: reqwest::Client,
    clock: ServerClock,
}

impl Connector {
    /// `extra_roots`: certificates in PEM that are trusted beside the machine's.
    pub(crate) fn new(clock: ServerClock, loopback: bool) -> Result<Self, StoreError> {
        let failed = |why: String| StoreError::new(StoreErrorKind::Unfit, format!("no TLS client can be made: {why}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        // SSL_CERT_FILE and SSL_CERT_DIR name others than the machine's.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(concat!("ksail/", env!("CARGO_PKG_VERSION")));
        // This machine itself is never reached through a proxy.
        if loopback {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| failed(error.to_string()))?;
        Ok(Self { client, clock })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Listening { client: self.client.clone(), clock: self.clock.clone() }))
    }
}

/// A client that listens to the dates of answers.
#[derive(Debug)]
struct Listening {
    client: reqwest::Client,
    clock: ServerClock,
}

#[async_trait]
impl HttpService for Listening {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = HttpService::call(&self.client, request).await?;
        if let Some(date) = response.headers().get("date").and_then(|date| date.to_str().ok()) {
            self.clock.heard(date);
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        assert_eq!(date_ms("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(date_ms("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        assert_eq!(date_ms("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199_000));
        assert_eq!(date_ms("yesterday"), None);
    }
}
