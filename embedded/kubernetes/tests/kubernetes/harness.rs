//! Clusters that are served for a test, and a client.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ksail_embedded_kubernetes::{Cluster, Settings};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long something that happens by itself may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of an API server.
#[derive(Clone)]
pub(crate) struct Client {
    client: reqwest::Client,
    server: String,
    token: Option<String>,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

fn field(kubeconfig: &str, name: &str) -> Option<String> {
    let (_, rest) = kubeconfig.split_once(&format!("{name}: "))?;
    Some(rest.split_whitespace().next()?.to_owned())
}

fn decoded(kubeconfig: &str, name: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(field(kubeconfig, name)?).ok()
}

impl Client {
    /// A client of the server of a kubeconfig that holds everything itself.
    pub(crate) fn of(kubeconfig: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = decoded(kubeconfig, "certificate-authority-data").unwrap();
        let authority = reqwest::Certificate::from_pem(&authority).unwrap();
        let mut builder = reqwest::Client::builder().tls_certs_only([authority]);
        if let Some(mut identity) = decoded(kubeconfig, "client-certificate-data") {
            identity.extend(decoded(kubeconfig, "client-key-data").unwrap());
            builder = builder.identity(reqwest::Identity::from_pem(&identity).unwrap());
        }
        Self {
            client: builder.build().unwrap(),
            server: field(kubeconfig, "server").unwrap(),
            token: field(kubeconfig, "token"),
        }
    }

    /// The same server, for another user, or none.
    pub(crate) fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// Asks; an error is one of the connection.
    pub(crate) async fn try_ask(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Answer, reqwest::Error> {
        self.try_ask_as(method, path, (content_type, "application/json"), body).await
    }

    /// Asks with the media types of what is sent and of what is wanted.
    pub(crate) async fn try_ask_as(
        &self,
        method: &str,
        path: &str,
        (content_type, accept): (&str, &str),
        body: Option<&Value>,
    ) -> Result<Answer, reqwest::Error> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.server))
            .header("accept", accept)
            .header("content-type", content_type);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await?;
        let code = answer.status().as_u16();
        let bytes = answer.bytes().await?;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Answer { code, body })
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, content_type: &str, body: Option<&Value>) -> Answer {
        self.try_ask(method, path, content_type, body).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "application/json", None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "application/json", Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, "application/json", None).await
    }

    /// Asks until the answer is as it should become.
    pub(crate) async fn until(&self, path: &str, is: impl Fn(&Answer) -> bool) -> Answer {
        let asking = async {
            loop {
                let answer = self.get(path).await;
                if is(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => panic!("{path} did not become what it should: {:?}", self.get(path).await),
        }
    }
}

/// A cluster that is served until this is dropped.
pub(crate) struct Served {
    pub(crate) client: Client,
    pub(crate) kubeconfig: String,
    pub(crate) address: SocketAddr,
    _cancel: DropGuard,
    served: tokio::task::JoinHandle<()>,
}

impl Served {
    pub(crate) async fn open(folder: &Path) -> Self {
        Self::with(folder, Settings::default()).await
    }

    pub(crate) async fn with(folder: &Path, settings: Settings) -> Self {
        Self::at(folder, settings, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn at(folder: &Path, settings: Settings, address: SocketAddr) -> Self {
        let cluster = Cluster::open(folder, settings).unwrap();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let kubeconfig = cluster.kubeconfig(address, "test");
        let cancel = CancellationToken::new();
        let served = tokio::spawn({
            let cancel = cancel.clone();
            async move { cluster.serve(listener, cancel).await.unwrap() }
        });
        Self { client: Client::of(&kubeconfig), kubeconfig, address, _cancel: cancel.drop_guard(), served }
    }

    /// Stops serving, and waits for the end.
    pub(crate) async fn stop(self) {
        drop(self._cancel);
        drop(self.client);
        self.served.await.unwrap();
    }
}
