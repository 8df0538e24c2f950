//! A decorator that looks for secrets in all that a provider says.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ksail_model::Preview;
use ksail_provider::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, ForecastRequest, ObserveReply, Owned,
    PortInUse, PreviewRequest, Provider, Target, UpdateRequest, WaitRequest,
};
use serde::Serialize;

/// What was overheard, and what must not be.
#[derive(Clone, Default)]
pub(super) struct Ear {
    canaries: Arc<[String]>,
    leaks: Arc<Mutex<Vec<String>>>,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Ear {
    pub(super) fn new(canaries: Vec<String>) -> Self {
        Self { canaries: canaries.into(), ..Self::default() }
    }

    /// A subscriber that keeps all that is logged.
    pub(super) fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        let log = Arc::clone(&self.log);
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || LogWriter(Arc::clone(&log)))
            .finish()
    }

    /// Where a secret was heard. The secret itself is not told.
    pub(super) fn leaks(&self) -> Vec<String> {
        let mut leaks = self.leaks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_secret(&String::from_utf8_lossy(&log)) {
            leaks.push("the log".to_owned());
        }
        leaks
    }

    fn is_secret(&self, text: &str) -> bool {
        self.canaries.iter().any(|canary| text.contains(canary))
    }

    fn hear<T: Debug + Serialize>(&self, method: &str, result: Result<T, CallError>) -> Result<T, CallError> {
        let (what, texts) = match &result {
            Ok(reply) => ("reply", [format!("{reply:?}"), serde_json::to_string(reply).unwrap_or_default()]),
            Err(error) => ("error", [format!("{error:?} {error}"), serde_json::to_string(error).unwrap_or_default()]),
        };
        if texts.iter().any(|text| self.is_secret(text)) {
            let mut leaks = self.leaks.lock().unwrap_or_else(PoisonError::into_inner);
            leaks.push(format!("the {what} of {method}"));
        }
        result
    }
}

struct LogWriter(Arc<Mutex<Vec<u8>>>);

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A provider with an ear at its door.
pub(super) struct Listening {
    pub(super) inner: Arc<dyn Provider>,
    pub(super) ear: Ear,
}

#[async_trait]
impl Provider for Listening {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        self.ear.hear("observe", self.inner.observe(context, targets).await)
    }

    async fn preview(&self, context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        self.ear.hear("preview", self.inner.preview(context, requests).await)
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        self.ear.hear("create", self.inner.create(context, request).await)
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        self.ear.hear("update", self.inner.update(context, request).await)
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        self.ear.hear("delete", self.inner.delete(context, request).await)
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        self.ear.hear("wait", self.inner.wait(context, request).await)
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        self.ear.hear("list_owned", self.inner.list_owned(context).await)
    }

    async fn forecast(
        &self,
        context: &CallContext,
        requests: &[ForecastRequest],
    ) -> Result<Vec<Vec<String>>, CallError> {
        self.ear.hear("forecast", self.inner.forecast(context, requests).await)
    }

    async fn waits_for(&self, context: &CallContext, target: &Target) -> Result<Option<String>, CallError> {
        self.ear.hear("waits_for", self.inner.waits_for(context, target).await)
    }

    async fn ports_in_use(&self, context: &CallContext, ports: &[u16]) -> Result<Vec<PortInUse>, CallError> {
        self.ear.hear("ports_in_use", self.inner.ports_in_use(context, ports).await)
    }
}
