//! The client side of the distribution interface: token and basic authentication, redirects, private CAs.
//!
//! Credentials go to the registry itself and to the token service that it names, never along a redirect to another
//! origin and never from an encrypted registry to a token service without encryption.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, HOST, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::UpstreamError;
use crate::{ACCEPT as MANIFESTS, Neighbours};

/// How long a connection to a registry may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a registry may be silent within a reply.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// The longest reply of a token service, in bytes.
const MAX_TOKEN_REPLY: usize = 256 * 1024;
/// How long a token is used where its service does not say, as the specification sets it.
const DEFAULT_TOKEN_LIFE: Duration = Duration::from_secs(60);
/// How long before its end a token is no longer used.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);
/// How many tokens are kept, one a repository; past it all are forgotten.
const MAX_TOKENS: usize = 1024;

/// How a registry is logged in to. Its texts are never printed.
#[derive(Clone)]
pub enum Credentials {
    /// A user and password.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for others.
    Identity(String),
    /// A token that is sent as it is.
    Bearer(String),
}

struct Token {
    text: String,
    until: Instant,
}

/// A registry elsewhere.
pub struct Upstream {
    http: reqwest::Client,
    base: Url,
    credentials: Option<Credentials>,
    tokens: Mutex<HashMap<String, Token>>,
    /// What is reached by name, and the client for it.
    within: Option<(Box<dyn Neighbours>, reqwest::Client)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Upstream {
    /// A client for the registry at a URL. Nothing is sent yet.
    ///
    /// # Errors
    /// The address is none, or no client can be made.
    pub fn new(address: &str, credentials: Option<Credentials>) -> Result<Self, UpstreamError> {
        Self::trusting(address, credentials, &[])
    }

    /// The same, for one whose certificate may be signed by these authorities too (texts in PEM). What is no certificate in
    /// them is left out.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn trusting(
        address: &str,
        credentials: Option<Credentials>,
        authorities: &[Vec<u8>],
    ) -> Result<Self, UpstreamError> {
        let bad = || UpstreamError::Address { address: without_userinfo(address) };
        let base = Url::parse(address).map_err(|_| bad())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(bad());
        }
        let http = client(is_loopback(&base), authorities)?;
        Ok(Self { http, base, credentials, tokens: Mutex::default(), within: None })
    }

    /// This client, within the networks of a container: names of its neighbours lead to them.
    ///
    /// # Errors
    /// No client can be made.
    pub fn within(mut self, neighbours: impl Neighbours + 'static) -> Result<Self, UpstreamError> {
        self.within = Some((Box::new(neighbours), client(true, &[])?));
        Ok(self)
    }

    /// A request for a URL, sent to a neighbour where the URL names one. Neighbours speak without encryption.
    fn request(&self, method: &Method, url: &Url) -> reqwest::RequestBuilder {
        let neighbour = self.within.as_ref().filter(|_| url.scheme() == "http").and_then(|(neighbours, http)| {
            let address = neighbours.find(url.host_str()?, url.port_or_known_default()?)?;
            let mut at = url.clone();
            at.set_ip_host(address.ip()).ok()?;
            at.set_port(Some(address.port())).ok()?;
            let host = url.port().map_or_else(
                || url.host_str().map(str::to_owned),
                |port| Some(format!("{}:{port}", url.host_str()?)),
            )?;
            Some(http.request(method.clone(), at).header(HOST, host))
        });
        neighbour.unwrap_or_else(|| self.http.request(method.clone(), url.clone()))
    }

    /// The registry's host and port, as messages name it.
    pub fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Asks whether anything answers as a registry.
    ///
    /// # Errors
    /// Nothing does.
    pub async fn ping(&self) -> Result<(), UpstreamError> {
        let url = self.url("")?;
        match self.send_once(&Method::GET, &url, None).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks for a manifest; `HEAD` where only its digest is wanted.
    ///
    /// # Errors
    /// The registry cannot be reached, or does not give it.
    pub async fn manifest(&self, method: Method, name: &str, reference: &str) -> Result<Response, UpstreamError> {
        self.get(method, name, &format!("{name}/manifests/{reference}")).await
    }

    /// Asks for a blob.
    ///
    /// # Errors
    /// The registry cannot be reached, or does not give it.
    pub async fn blob(&self, method: Method, name: &str, digest: &str) -> Result<Response, UpstreamError> {
        self.get(method, name, &format!("{name}/blobs/{digest}")).await
    }

    /// Asks for anything below `/v2/` that belongs to a repository.
    ///
    /// # Errors
    /// The registry cannot be reached, or does not give it.
    pub async fn get(&self, method: Method, name: &str, path: &str) -> Result<Response, UpstreamError> {
        let url = self.url(path)?;
        let response = self.send(&method, &url, name).await?;
        self.check(response, path)
    }

    fn url(&self, path: &str) -> Result<Url, UpstreamError> {
        let text = format!("{}/v2/{path}", self.base.as_str().trim_end_matches('/'));
        Url::parse(&text).map_err(|_| UpstreamError::Address { address: text })
    }

    fn check(&self, response: Response, what: &str) -> Result<Response, UpstreamError> {
        let (host, what, status) = (self.host(), what.to_owned(), response.status());
        match status {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(UpstreamError::NotFound { host, what }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let why = if self.credentials.is_some() {
                    "the credentials are not accepted"
                } else {
                    "it asks for credentials"
                };
                Err(UpstreamError::Denied { host, what, why: why.to_owned() })
            }
            status => {
                let retry_after =
                    response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
                Err(UpstreamError::Status { host, what, status, retry_after })
            }
        }
    }

    /// Sends with what is known of authentication, and once more if the registry challenges.
    async fn send(&self, method: &Method, url: &Url, name: &str) -> Result<Response, UpstreamError> {
        let known = self.known_authorization(name);
        let response = self.send_redirected(method, url, known.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(challenge) =
            response.headers().get_all(WWW_AUTHENTICATE).iter().find_map(|value| parse_challenge(value.to_str().ok()?))
        else {
            return Ok(response);
        };
        match self.answer_challenge(&challenge, name).await? {
            Some(authorization) => self.send_redirected(method, url, Some(&authorization)).await,
            None => Ok(response),
        }
    }

    fn known_authorization(&self, name: &str) -> Option<String> {
        if let Some(Credentials::Bearer(token)) = &self.credentials {
            return Some(format!("Bearer {token}"));
        }
        let tokens = self.tokens.lock().ok()?;
        let token = tokens.get(name).filter(|token| token.until > Instant::now())?;
        Some(token.text.clone())
    }

    async fn answer_challenge(&self, challenge: &Challenge, name: &str) -> Result<Option<String>, UpstreamError> {
        let (authorization, life) = match challenge {
            Challenge::Basic => match self.basic() {
                Some(basic) => (basic, Duration::from_secs(3600)),
                None => return Ok(None),
            },
            Challenge::Bearer { realm, service, scope } => {
                let scope = scope.clone().unwrap_or_else(|| format!("repository:{name}:pull"));
                let (token, life) = self.fetch_token(realm, service.as_deref(), &scope).await?;
                (format!("Bearer {token}"), life)
            }
        };
        if let Ok(mut tokens) = self.tokens.lock() {
            if tokens.len() >= MAX_TOKENS {
                tokens.clear();
            }
            let until = Instant::now() + life.saturating_sub(TOKEN_MARGIN);
            tokens.insert(name.to_owned(), Token { text: authorization.clone(), until });
        }
        Ok(Some(authorization))
    }

    fn basic(&self) -> Option<String> {
        match &self.credentials {
            Some(Credentials::Password { username, password }) => {
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
                Some(format!("Basic {pair}"))
            }
            _ => None,
        }
    }

    async fn fetch_token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
    ) -> Result<(String, Duration), UpstreamError> {
        let host = self.host();
        let invalid =
            |why: String| UpstreamError::Invalid { host: self.host(), what: "its token service".to_owned(), why };
        let mut url = Url::parse(realm).map_err(|_| invalid(format!("`{realm}` is not a URL")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(format!("`{realm}` is neither http nor https")));
        }
        if self.base.scheme() == "https" && url.scheme() == "http" {
            return Err(invalid(format!("`{realm}` is not encrypted while the registry is")));
        }
        let request = if let Some(Credentials::Identity(token)) = &self.credentials {
            let form = form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", service.unwrap_or_default())
                .append_pair("client_id", "ksail")
                .append_pair("scope", scope)
                .append_pair("refresh_token", token)
                .finish();
            let request = self.http.post(url.clone()).body(form);
            request.header("Content-Type", "application/x-www-form-urlencoded")
        } else {
            if let Some(service) = service {
                url.query_pairs_mut().append_pair("service", service);
            }
            url.query_pairs_mut().append_pair("scope", scope);
            let request = self.http.get(url.clone());
            match self.basic() {
                Some(basic) => request.header(AUTHORIZATION, basic),
                None => request,
            }
        };
        let response = request.send().await.map_err(|error| unreachable_error(&url, &error))?;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) {
            let why =
                format!("its token service {} does not accept the credentials", url.host_str().unwrap_or_default());
            return Err(UpstreamError::Denied { host, what: scope.to_owned(), why });
        }
        if !status.is_success() {
            return Err(UpstreamError::Status { host, what: "a token".to_owned(), status, retry_after: None });
        }
        let body = bounded_body(response, MAX_TOKEN_REPLY).await.map_err(invalid)?;
        let json: serde_json::Value =
            serde_json::from_slice(&body).map_err(|_| invalid("the reply is not JSON".to_owned()))?;
        let token = json.get("token").or_else(|| json.get("access_token")).and_then(serde_json::Value::as_str);
        let token = token.ok_or_else(|| invalid("the reply holds no token".to_owned()))?;
        let life =
            json.get("expires_in").and_then(serde_json::Value::as_u64).map_or(DEFAULT_TOKEN_LIFE, Duration::from_secs);
        Ok((token.to_owned(), life.max(DEFAULT_TOKEN_LIFE)))
    }

    async fn send_redirected(
        &self,
        method: &Method,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Response, UpstreamError> {
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let authorization = authorization.filter(|_| at.origin() == url.origin());
            let response = self.send_once(method, &at, authorization).await?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            let invalid = |why: &str| UpstreamError::Invalid {
                host: self.host(),
                what: url.path().to_owned(),
                why: why.to_owned(),
            };
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| at.join(location).ok());
            let next = next.ok_or_else(|| invalid("a redirect names no address"))?;
            if !matches!(next.scheme(), "http" | "https") || (at.scheme() == "https" && next.scheme() == "http") {
                return Err(invalid("a redirect leads to an address that is not encrypted"));
            }
            at = next;
        }
        Err(UpstreamError::Invalid {
            host: self.host(),
            what: url.path().to_owned(),
            why: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }

    async fn send_once(
        &self,
        method: &Method,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Response, UpstreamError> {
        let mut request = self.request(method, url).header(ACCEPT, MANIFESTS.join(", "));
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|error| unreachable_error(url, &error))
    }
}

/// Reads a whole reply that must not be longer than a bound, in bytes.
///
/// # Errors
/// It is longer, or breaks off.
pub async fn bounded_body(mut response: Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| causes(&error.without_url()))? {
        if body.len() + chunk.len() > limit {
            return Err(format!("the reply is longer than {limit} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn unreachable_error(url: &Url, error: &reqwest::Error) -> UpstreamError {
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    // The innermost cause says most (`connection refused`), and the address stands in the message already.
    let mut at: &dyn std::error::Error = error;
    while let Some(source) = at.source() {
        at = source;
    }
    let why = if error.is_timeout() { "it did not answer in time".to_owned() } else { at.to_string() };
    UpstreamError::Unreachable { host, why }
}

/// An error with its causes in one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        text.push_str(": ");
        text.push_str(&source.to_string());
        at = source.source();
    }
    text
}

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn without_userinfo(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => address.to_owned(),
    }
}

/// A client of our own TLS set-up: ring, and the machine's roots, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// name. This machine itself is never reached through a proxy.
fn client(loopback: bool, authorities: &[Vec<u8>]) -> Result<reqwest::Client, UpstreamError> {
    static TLS: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let tls_error = |why: String| UpstreamError::Tls { why };
    let made = |authorities| tls_config(authorities).map(Arc::new).map_err(|error| tls_error(error.to_string()));
    let tls = match TLS.get() {
        _ if !authorities.is_empty() => made(authorities)?,
        Some(config) => Arc::clone(config),
        None => {
            let config = made(&[])?;
            Arc::clone(TLS.get_or_init(|| config))
        }
    };
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.as_ref().clone())
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("ksail/", env!("CARGO_PKG_VERSION")));
    if loopback {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| tls_error(causes(&error)))
}

fn tls_config(authorities: &[Vec<u8>]) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for text in authorities {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(text).filter_map(Result::ok));
    }
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn parse_challenge(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameters = parse_parameters(rest);
    let get =
        |key: &str| parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.clone());
    Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
}

/// Reads `key="value",key=value`; quoted values may hold commas.
fn parse_parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, tail) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut escaped = false;
                let mut end = quoted.len();
                for (index, c) in quoted.char_indices() {
                    match c {
                        '\\' if !escaped => escaped = true,
                        '"' if !escaped => {
                            end = index + 1;
                            break;
                        }
                        c => {
                            value.push(c);
                            escaped = false;
                        }
                    }
                }
                (value, quoted.get(end..).unwrap_or_default())
            }
            None => {
                let (value, tail) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), tail)
            }
        };
        found.push((key.trim().to_owned(), value));
        rest = tail.trim_start_matches([',', ' ']);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            parse_challenge(header),
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".to_owned(),
                service: Some("registry.docker.io".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            })
        );
        assert_eq!(parse_challenge("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(
            parse_challenge("bearer realm=http://x/t, service=s"),
            Some(Challenge::Bearer { realm: "http://x/t".to_owned(), service: Some("s".to_owned()), scope: None })
        );
        assert_eq!(parse_challenge("Negotiate"), None);
        assert_eq!(parse_challenge("Bearer service=\"x\""), None);
    }

    #[test]
    fn a_refused_address_does_not_show_its_userinfo() {
        let error = Upstream::new("ftp://user:hunter2@host/", None).err().unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
