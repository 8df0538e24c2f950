//! A proxy before a Kubernetes API server that fails as a test asks: it resets connections, is slow, answers 429 and 500, loses
//! replies, and ends watches in all the ways in which they end.

mod body;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http_body_util::BodyExt as _;
use serde_json::json;

/// What is told of an error of the proxy itself.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection ends before anything is passed on.
    Reset,
    /// It is passed on, and its reply is lost.
    LostReply,
    /// 429: too many requests; wait a second.
    TooMany,
    /// 503: a server that is down for a moment.
    Down,
    /// 500: a fault of the server after which nobody knows.
    Internal,
    /// It is passed on later.
    Delay(Duration),
    /// 410: what a watch would go on from is too old.
    Gone,
    /// A watch's connection ends after so many events.
    Cut(usize),
    /// A watch tells so many events and then an error: what it goes on from is too old.
    Expired(usize),
    /// A watch tells so many events and then nothing more; its connection stays open.
    Silent(usize),
    /// A watch keeps so many events to itself, tells only how far it is, and then its connection ends.
    Bookmarked(usize),
}

/// A request, as the proxy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    /// `GET`, `PATCH`.
    pub method: String,
    /// Without its query.
    pub path: String,
    /// The query, or nothing.
    pub query: String,
}

impl Asked {
    /// Whether it is a watch.
    pub fn is_watch(&self) -> bool {
        self.parameter("watch").is_some()
    }

    /// Whether it changes something.
    pub fn is_change(&self) -> bool {
        self.method != "GET" && self.parameter("dryRun").is_none()
    }

    /// The value of a parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

type Choose = dyn FnMut(&Asked) -> Fault + Send;
type Around = dyn Fn() + Send + Sync;

struct Inner {
    client: kube::Client,
    choose: Mutex<Box<Choose>>,
    asked: Mutex<Vec<Asked>>,
    /// Told before a change is passed on, and when the server has answered it.
    around: Box<Around>,
}

/// A proxy on a port of this machine. Its tasks end with their runtime.
pub struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl Proxy {
    /// Before the server of a kubeconfig's current context.
    ///
    /// # Errors
    /// If the kubeconfig cannot be used, or no port is free.
    pub async fn before(kubeconfig: &Path) -> Result<Self, Failure> {
        Self::with(kubeconfig, || {}).await
    }

    /// The same; `around` is called before and after each change.
    ///
    /// # Errors
    /// If the kubeconfig cannot be used, or no port is free.
    pub async fn with(kubeconfig: &Path, around: impl Fn() + Send + Sync + 'static) -> Result<Self, Failure> {
        let config = kube::config::Kubeconfig::read_from(kubeconfig)?;
        let mut config =
            kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await?;
        // A watch is silent for long.
        config.read_timeout = None;
        let inner = Arc::new(Inner {
            client: kube::Client::try_from(config)?,
            choose: Mutex::new(Box::new(|_| Fault::None)),
            asked: Mutex::default(),
            around: Box::new(around),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(pass).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, inner })
    }

    /// Chooses what happens to each request from now on.
    pub fn choose(&self, choose: impl FnMut(&Asked) -> Fault + Send + 'static) {
        *self.inner.choose.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(choose);
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes a kubeconfig that leads here into a folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn kubeconfig(&self, folder: &Path) -> Result<PathBuf, Failure> {
        let path = folder.join(format!("proxy-{}.kubeconfig", self.address.port()));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'http://{}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n",
            self.address
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

fn status(code: u16, message: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code});
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static("application/json"));
    if code == 429 {
        headers.insert("retry-after", http::HeaderValue::from_static("1"));
    }
    response
}

async fn pass(State(proxy): State<Arc<Inner>>, request: Request) -> Response {
    let asked = Asked {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
    };
    let fault = (proxy.choose.lock().unwrap_or_else(PoisonError::into_inner))(&asked);
    proxy.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    match fault {
        Fault::Reset => lost(),
        Fault::TooMany => return status(429, "too many requests"),
        Fault::Down => return status(503, "shutting down"),
        Fault::Internal => return status(500, "etcdserver: request timed out"),
        Fault::Gone => return status(410, "too old resource version"),
        Fault::Delay(long) => tokio::time::sleep(long).await,
        _ => {}
    }
    match forward(&proxy, &asked, request, fault).await {
        Ok(_) if fault == Fault::LostReply => lost(),
        Ok(reply) => reply,
        // The server behind is not there.
        Err(_) => lost(),
    }
}

/// Ends the connection without a reply: its task unwinds, and nobody is told of a panic.
fn lost() -> ! {
    std::panic::resume_unwind(Box::new("the connection ends"))
}

async fn forward(proxy: &Inner, asked: &Asked, request: Request, fault: Fault) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut onward = http::Request::builder().method(parts.method).uri(parts.uri.to_string());
    for name in ["content-type", "accept"] {
        if let Some(value) = parts.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    if asked.is_change() {
        (proxy.around)();
    }
    let reply = proxy.client.send(onward.body(kube::client::Body::from(body.to_vec()))?).await?;
    if asked.is_change() {
        (proxy.around)();
    }
    let code = reply.status();
    let body = if asked.is_watch() && code.is_success() {
        Body::from_stream(body::watched(reply.into_body(), fault))
    } else {
        Body::from(reply.into_body().collect().await?.to_bytes())
    };
    Ok(Response::builder().status(code).header("content-type", "application/json").body(body)?)
}
