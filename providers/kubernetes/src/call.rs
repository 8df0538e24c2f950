//! One call of the contract: deadline, cancellation, and what each failure of a request means for it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use ksail_model::Scope;
use ksail_provider::{CallContext, CallError, CallErrorKind, Stop, guard};
use kube::client::Body;
use serde_json::Value as Json;
use tokio::sync::RwLock;
use tokio::time::Instant;

use crate::connection::{Access, Read, Session, chain};
use crate::discovery::{self, Api, Discovery};
use crate::kept::{Kept, Offer, Opened};
use crate::name::ObjectName;
use crate::refusal;
use crate::watch::Watches;

/// How often a read is tried in all, and the pause before it is repeated; it doubles.
const READ_TRIES: u32 = 4;
const READ_PAUSE: Duration = Duration::from_millis(100);
/// How often where the server says that it has too much to do, as it does for seconds while it prepares to serve a new kind; and the longest
/// pause where it does not say when to come again.
const BUSY_TRIES: u32 = 15;
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// How much of the deadline is kept back, so that an answer is out before the caller gives up.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// The shortest text that is blotted out of messages, in bytes. Shorter ones stand in every sentence.
const SHORTEST_SECRET: usize = 3;
/// What is shown in place of a secret.
const WITHHELD: &str = "(sensitive value)";

/// One call under way.
pub(crate) struct Call {
    pub(crate) session: Arc<Session>,
    pub(crate) context: CallContext,
    pub(crate) deadline: Instant,
    /// Whether a request that changes something is on its way, or was and its reply is not known.
    sent: AtomicBool,
    /// Texts that may stand in no message.
    secrets: Vec<String>,
}

/// What the server answered.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Json,
}

/// How a request to the server is put.
struct Ask<'a> {
    method: Method,
    path: &'a str,
    content_type: Option<&'a str>,
    accept: &'a str,
    body: Vec<u8>,
}

async fn exchange(client: &kube::Client, ask: &Ask<'_>) -> Result<Reply, kube::Error> {
    let mut request = Request::builder().method(ask.method.clone()).uri(ask.path).header(header::ACCEPT, ask.accept);
    if let Some(content_type) = ask.content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    let request = request.body(Body::from(ask.body.clone())).map_err(kube::Error::HttpError)?;
    let response = client.send(request).await?;
    let status = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok())
        .map(Duration::from_secs);
    let body: Bytes = response.into_body().collect().await?.to_bytes();
    let body = match serde_json::from_slice(&body) {
        Ok(json) => json,
        // What stands between us and the server does not speak JSON.
        Err(_) if !status.is_success() => Json::String(String::from_utf8_lossy(&body).chars().take(300).collect()),
        Err(error) => return Err(kube::Error::SerdeError(error)),
    };
    Ok(Reply { status, retry_after, body })
}

/// Whether a request certainly did not go out.
fn never_sent(error: &kube::Error) -> bool {
    match error {
        kube::Error::Auth(_) | kube::Error::HttpError(_) | kube::Error::BuildRequest(_) => true,
        other => chain(other).contains("client error (Connect)"),
    }
}

impl Call {
    /// Opens a session, or takes up one that is kept. `ahead`: for whoever comes next.
    pub(crate) async fn open(
        connection: &Access,
        kept: Option<&Kept>,
        ahead: bool,
        context: &CallContext,
    ) -> Result<Arc<Session>, CallError> {
        let deadline = deadline(context);
        let opening = async {
            let read = connection.read(context).await?;
            let Some(kept) = kept else { return connect(&read).await };
            let place = kept.place(read.lead());
            let mut open = place.lock().await;
            match Opened::take_up(&mut open) {
                Some(Offer::New(session)) => return Ok(session),
                Some(Offer::Failed(error)) => return Err(error),
                // Another cluster may have come to be where it leads. What fails here is told of when it fails again.
                Some(Offer::Used(session)) if scope(&session).await.is_ok_and(|scope| scope == session.scope) => {
                    return Ok(session);
                }
                Some(Offer::Used(_)) | None => {}
            }
            let session = connect(&read).await;
            *open = match &session {
                Ok(session) => Some(Opened::now(session, ahead)),
                Err(error) => ahead.then(|| Opened::Failed(error.clone())),
            };
            session
        };
        match guard(context, deadline, opening).await {
            Ok(session) => session,
            Err(Stop::Cancelled) => Err(CallError::cancelled()),
            Err(Stop::Deadline) => {
                Err(CallError::unreachable(format!("the cluster of {connection} did not answer before the deadline")))
            }
        }
    }

    pub(crate) fn new(session: Arc<Session>, context: &CallContext) -> Self {
        Self {
            session,
            context: context.clone(),
            deadline: deadline(context),
            sent: AtomicBool::new(false),
            secrets: Vec::new(),
        }
    }

    /// Keeps these texts out of all messages of the call.
    pub(crate) fn hide<'t>(&mut self, texts: impl IntoIterator<Item = &'t str>) {
        self.secrets.extend(texts.into_iter().filter(|text| text.len() >= SHORTEST_SECRET).map(str::to_owned));
    }

    /// A message with the call's secrets blotted out.
    pub(crate) fn redact(&self, mut error: CallError) -> CallError {
        for text in [Some(&mut error.message), error.hint.as_mut()].into_iter().flatten() {
            *text = withheld(text, &self.secrets);
        }
        error
    }

    /// A refusal that names the place.
    pub(crate) fn refused(&self, what: &str, why: &str) -> CallError {
        self.redact(CallError::refused(format!("{what} in {}: {why}", self.session.place)))
    }

    fn stopped(&self, what: &str, stop: Stop) -> CallError {
        stop.into_error(what, &self.session.place, self.sent.load(Ordering::Relaxed))
    }

    /// Waits, unless the call ends first.
    pub(crate) async fn pause(&self, what: &str, pause: Duration) -> Result<(), CallError> {
        guard(&self.context, self.deadline, tokio::time::sleep(pause)).await.map_err(|stop| self.stopped(what, stop))
    }

    /// Waits until something happens, at most this long, unless the call ends first.
    pub(crate) async fn until(
        &self,
        what: &str,
        event: impl Future<Output = ()>,
        longest: Duration,
    ) -> Result<(), CallError> {
        let waiting = async { drop(tokio::time::timeout(longest, event).await) };
        guard(&self.context, self.deadline, waiting).await.map_err(|stop| self.stopped(what, stop))
    }

    /// Reads, again where the server is busy or the reply was lost. `None`: the server says that it is not there.
    pub(crate) async fn read(&self, what: &str, path: &str) -> Result<Option<Json>, CallError> {
        let reading = raw_read(&self.session, path, "application/json", what);
        match guard(&self.context, self.deadline, reading).await {
            Ok(Ok(found)) => Ok(found),
            // A read that fails tells nothing of a change that was sent before it.
            Ok(Err(error)) if self.sent.load(Ordering::Relaxed) => Err(CallError::indeterminate(error.message)),
            Ok(Err(error)) => Err(error),
            Err(stop) => Err(self.stopped(what, stop)),
        }
    }

    /// Asks the server to change something, once. Any answer is an answer; no answer is an error.
    pub(crate) async fn change(
        &self,
        what: &str,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Reply, CallError> {
        if self.context.cancel.is_cancelled() {
            return Err(self.stopped(what, Stop::Cancelled));
        }
        let ask = Ask { method, path, content_type: Some(content_type), accept: "application/json", body };
        let before = self.sent.swap(true, Ordering::Relaxed);
        let reply = guard(&self.context, self.deadline, exchange(&self.session.client, &ask))
            .await
            .map_err(|stop| self.stopped(what, stop))?;
        match reply {
            Ok(reply) => {
                // What was made is not undone by what fails afterwards.
                let is_done = reply.status.is_success();
                self.sent.store(before || is_done || refusal::is_open(&reply), Ordering::Relaxed);
                Ok(reply)
            }
            Err(error) => {
                let message = format!("{what} in {}: {}", self.session.place, chain(&error));
                let told = if never_sent(&error) && !before {
                    self.sent.store(false, Ordering::Relaxed);
                    CallError::unreachable(message)
                } else {
                    CallError::indeterminate(message)
                };
                Err(self.redact(told))
            }
        }
    }

    /// Something that was sent before this call is on its way.
    pub(crate) fn is_under_way(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// The kind of an object, if the server serves it. Where it does not, it is asked again: the kind may be new.
    pub(crate) async fn api(
        &self,
        what: &str,
        name: &ObjectName,
        version: Option<&str>,
    ) -> Result<Option<Api>, CallError> {
        let known = Arc::clone(&*self.session.discovery.read().await);
        if !self.session.outdated.load(Ordering::Relaxed)
            && let Some(api) = known.find(&name.group, &name.kind, version)
            && version.is_none_or(|version| version == api.version)
        {
            return Ok(Some(api.clone()));
        }
        Ok(self.discovered(what).await?.find(&name.group, &name.kind, version).cloned())
    }

    /// The kinds as they were read last; read again where the server was seen to serve something else.
    pub(crate) async fn kinds(&self) -> Result<Arc<Discovery>, CallError> {
        if self.session.outdated.load(Ordering::Relaxed) {
            return self.discovered("ask for the kinds").await;
        }
        Ok(Arc::clone(&*self.session.discovery.read().await))
    }

    /// Asks for the kinds again.
    async fn discovered(&self, what: &str) -> Result<Arc<Discovery>, CallError> {
        // What is found out of date from here on is so after this.
        self.session.outdated.store(false, Ordering::Relaxed);
        let fresh = guard(&self.context, self.deadline, discover(&self.session)).await;
        let fresh = fresh.map_err(|stop| self.stopped(what, stop)).and_then(|fresh| fresh);
        let fresh = Arc::new(fresh.inspect_err(|_| self.session.outdated.store(true, Ordering::Relaxed))?);
        *self.session.discovery.write().await = Arc::clone(&fresh);
        Ok(fresh)
    }

    /// The kind was asked for under a path that the server does not serve any more.
    pub(crate) fn is_outdated(&self, what: &str) -> CallError {
        outdated(&self.session, what)
    }
}

/// The text with each of the secrets blotted out, the longest where several begin.
fn withheld(text: &str, secrets: &[String]) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        match secrets.iter().filter(|secret| rest.starts_with(secret.as_str())).max_by_key(|secret| secret.len()) {
            Some(secret) => {
                told.push_str(WITHHELD);
                rest = &rest[secret.len()..];
            }
            None => {
                told.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    told
}

fn deadline(context: &CallContext) -> Instant {
    Instant::now() + context.timeout.saturating_sub(LAST_WORDS.min(context.timeout / 10))
}

/// Connects: what is served, and which cluster it is.
async fn connect(read: &Read<'_>) -> Result<Arc<Session>, CallError> {
    let (client, place, authority) = read.client().await?;
    let mut session = Session {
        client,
        place,
        authority,
        scope: Scope("".into()),
        discovery: RwLock::default(),
        outdated: AtomicBool::new(false),
        watches: Watches::default(),
    };
    let (scope, discovery) = futures::try_join!(scope(&session), discover(&session))?;
    session.scope = scope;
    session.discovery = RwLock::new(Arc::new(discovery));
    Ok(Arc::new(session))
}

/// Which cluster a session leads to.
async fn scope(session: &Session) -> Result<Scope, CallError> {
    let path = "/api/v1/namespaces/kube-system";
    let found = match raw_read(session, path, "application/json", "look at namespace kube-system").await {
        // With rights in some namespaces only, the cluster is known by the authority that its server proves itself by.
        Err(error) if error.kind == CallErrorKind::Refused => {
            return known_by(session.authority.as_deref(), error).map(|known| Scope(known.into()));
        }
        found => found?,
    };
    let uid = found.and_then(|found| found["metadata"]["uid"].as_str().map(|uid| Scope(uid.into())));
    uid.ok_or_else(|| {
        CallError::unreachable(format!("{} has no namespace kube-system, by whose UID it is known", session.place))
            .hint("wait until the cluster is up")
    })
}

async fn discover(session: &Session) -> Result<Discovery, CallError> {
    let what = "ask for the kinds";
    let (core, groups) = futures::try_join!(
        raw_read(session, "/api", discovery::ACCEPT, what),
        raw_read(session, "/apis", discovery::ACCEPT, what)
    )?;
    let mut found = Discovery::default();
    for reply in [core, groups].into_iter().flatten() {
        if reply["kind"] != "APIGroupDiscoveryList" {
            let message = format!("{} does not speak aggregated discovery", session.place);
            return Err(CallError::refused(message).hint("Kubernetes 1.27 and later do"));
        }
        found.add(&reply);
    }
    Ok(found)
}

fn outdated(session: &Session, what: &str) -> CallError {
    session.outdated.store(true, Ordering::Relaxed);
    CallError::transient(format!("{what} in {}: the server no longer serves this kind in this version", session.place))
}

/// What a cluster is known by whose namespace kube-system may not be looked at.
fn known_by(authority: Option<&str>, refused: CallError) -> Result<String, CallError> {
    match authority {
        Some(authority) => Ok(format!("ca-{authority}")),
        None => Err(refused.hint(
            "the cluster is known by the UID of its namespace kube-system: let this login `get` it, or name the cluster's own \
             certificate authority in the kubeconfig, by which it is known otherwise",
        )),
    }
}

/// Reads without a guard.
async fn raw_read(session: &Session, path: &str, accept: &str, what: &str) -> Result<Option<Json>, CallError> {
    let ask = Ask { method: Method::GET, path, content_type: None, accept, body: Vec::new() };
    let mut pause = READ_PAUSE;
    for attempt in 1.. {
        let last = attempt >= READ_TRIES;
        match exchange(&session.client, &ask).await {
            Ok(reply) if reply.status.is_success() => return Ok(Some(reply.body)),
            Ok(reply) if refusal::is_absent(&reply) => return Ok(None),
            Ok(reply) if refusal::is_no_path(&reply) => return Err(outdated(session, what)),
            Ok(reply) => {
                let error = refusal::of_read(&session.place, what, &reply);
                let is_busy = reply.status == StatusCode::TOO_MANY_REQUESTS;
                let last = if is_busy { attempt == BUSY_TRIES } else { attempt >= READ_TRIES };
                if last || !refusal::may_pass(&reply) {
                    return Err(error);
                }
                tokio::time::sleep(reply.retry_after.unwrap_or(pause.min(BUSY_PAUSE))).await;
            }
            Err(error) => {
                let refused = matches!(error, kube::Error::SerdeError(_) | kube::Error::HttpError(_));
                if last || never_sent(&error) || refused {
                    let message = format!("{what} in {}: {}", session.place, chain(&error));
                    let told = CallError::unreachable(message);
                    return Err(match error {
                        kube::Error::Auth(_) => told.hint("`kubectl auth whoami` tells whether the login works"),
                        _ => told,
                    });
                }
                tokio::time::sleep(pause).await;
            }
        }
        pause *= 2;
    }
    Err(CallError::unreachable(format!("{what} in {}: no attempt was made", session.place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blotted_out_once() {
        let secrets = ["value", "hush", "hush-hush"].map(str::to_owned);
        assert_eq!(withheld("ü: hush-hush, hush!", &secrets), format!("ü: {WITHHELD}, {WITHHELD}!"));
        assert_eq!(withheld("a value", &secrets), format!("a {WITHHELD}"));
    }
}
