//! A provider in another process: requests and replies as JSON lines over a pair of byte streams.
//!
//! Each request line is `{"call": {"id": 1, "context": {…}, "call": {…}}}`; a cancellation is `{"cancel": {"id": 1}}`; each
//! reply line is `{"id": 1, "reply": {"Ok": …}}` or `{"id": 1, "reply": {"Err": {…}}}`. Calls run concurrently. When the
//! stream ends, every call under way is `Indeterminate`. A call whose caller drops it is cancelled at the far side.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ksail_model::Preview;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, ForecastRequest, ObserveReply, Owned,
    PortInUse, PreviewRequest, Provider, Target, UpdateRequest, WaitRequest,
};

/// How many lines may wait to be written before callers wait.
const QUEUE: usize = 256;

/// How long a cancelled call waits for the far side, which answers a cancellation within a second; it alone knows whether
/// something was sent.
const CANCELLED_WITHIN: Duration = Duration::from_secs(2);

/// How long after a call's deadline its answer is waited for.
const LATE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct WireContext {
    lineage: String,
    operation: Option<String>,
    timeout_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Call {
    Observe(Vec<Target>),
    Preview(Vec<PreviewRequest>),
    Create(Box<CreateRequest>),
    Update(Box<UpdateRequest>),
    Delete(Box<DeleteRequest>),
    Wait(Box<WaitRequest>),
    ListOwned,
    Forecast(Vec<ForecastRequest>),
    WaitsFor(Box<Target>),
    PortsInUse(Vec<u16>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToProvider {
    Call { id: u64, context: WireContext, call: Call },
    Cancel { id: u64 },
}

#[derive(Serialize, Deserialize)]
struct FromProvider {
    id: u64,
    reply: Result<serde_json::Value, CallError>,
}

type Waiting = Arc<std::sync::Mutex<HashMap<u64, oneshot::Sender<Result<serde_json::Value, CallError>>>>>;

/// The near half: a [`Provider`] whose calls go through a pipe.
pub struct PipeProvider {
    next: AtomicU64,
    to: mpsc::Sender<String>,
    waiting: Waiting,
    closed: CancellationToken,
}

impl PipeProvider {
    /// Talks to a provider over a pair of streams. Must be called within a tokio runtime.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        mut writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        let (to, mut lines) = mpsc::channel::<String>(QUEUE);
        let waiting: Waiting = Arc::default();
        let closed = CancellationToken::new();
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                if writer.write_all(line.as_bytes()).await.is_err() || writer.flush().await.is_err() {
                    return;
                }
            }
            // Where both directions are one socket, the far side would not see that the near one is gone.
            let _ = writer.shutdown().await;
        });
        let (replies, ended) = (Arc::clone(&waiting), closed.clone());
        tokio::spawn(async move {
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(message) = serde_json::from_str::<FromProvider>(&line) else { break };
                let waiter = replies.lock().ok().and_then(|mut map| map.remove(&message.id));
                if let Some(waiter) = waiter {
                    let _ = waiter.send(message.reply);
                }
            }
            ended.cancel();
            if let Ok(mut map) = replies.lock() {
                map.clear();
            }
        });
        Self { next: AtomicU64::new(1), to, waiting, closed }
    }

    async fn call<T: for<'de> Deserialize<'de>>(&self, context: &CallContext, call: Call) -> Result<T, CallError> {
        if context.cancel.is_cancelled() {
            return Err(CallError::cancelled());
        }
        if self.closed.is_cancelled() {
            return Err(CallError::unreachable("the provider's process has ended"));
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, mut receiver) = oneshot::channel();
        if let Ok(mut map) = self.waiting.lock() {
            map.insert(id, sender);
        }
        let wire = WireContext {
            lineage: context.lineage.clone(),
            operation: context.operation.clone(),
            timeout_ms: u64::try_from(context.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let _pending = Pending { pipe: self, id };
        let deadline = Instant::now() + context.timeout;
        let request = ToProvider::Call { id, context: wire, call };
        tokio::select! {
            sent = self.send(&request) => sent?,
            () = context.cancel.cancelled() => return Err(CallError::cancelled()),
            () = tokio::time::sleep_until(deadline) => {
                return Err(CallError::unreachable("the provider's process did not take the request before the deadline"));
            }
        }
        let lost = || CallError::indeterminate("the provider's process ended during the call");
        let reply = tokio::select! {
            reply = &mut receiver => reply.map_err(|_| lost())?,
            () = self.closed.cancelled() => return Err(lost()),
            () = context.cancel.cancelled() => {
                let answer = async {
                    self.send(&ToProvider::Cancel { id }).await.map_err(|_| lost())?;
                    receiver.await.map_err(|_| lost())
                };
                match tokio::time::timeout(CANCELLED_WITHIN, answer).await {
                    Ok(reply) => reply?,
                    Err(_) => return Err(CallError::indeterminate("cancelled, and the provider did not answer")),
                }
            }
            () = tokio::time::sleep_until(deadline + LATE) => {
                return Err(CallError::indeterminate("the provider did not answer before the deadline"));
            }
        };
        serde_json::from_value(reply?)
            .map_err(|error| CallError::indeterminate(format!("the provider's reply cannot be read: {error}")))
    }

    async fn send(&self, message: &ToProvider) -> Result<(), CallError> {
        let mut line = serde_json::to_string(message)
            .map_err(|error| CallError::refused(format!("the request cannot be written: {error}")))?;
        line.push('\n');
        self.to.send(line).await.map_err(|_| CallError::unreachable("the provider's process has ended"))
    }
}

/// A call whose reply is waited for. When its caller leaves before the reply (deadline, dropped future), nobody waits any
/// more and the far side is told to stop.
struct Pending<'a> {
    pipe: &'a PipeProvider,
    id: u64,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let unanswered = self.pipe.waiting.lock().is_ok_and(|mut map| map.remove(&self.id).is_some());
        if unanswered && let Ok(mut line) = serde_json::to_string(&ToProvider::Cancel { id: self.id }) {
            line.push('\n');
            // Where the queue is full the far side goes on until the call's deadline.
            let _ = self.pipe.to.try_send(line);
        }
    }
}

#[async_trait]
impl Provider for PipeProvider {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        self.call(context, Call::Observe(targets.to_vec())).await
    }

    async fn preview(&self, context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        self.call(context, Call::Preview(requests.to_vec())).await
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        self.call(context, Call::Create(Box::new(request.clone()))).await
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        self.call(context, Call::Update(Box::new(request.clone()))).await
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        self.call(context, Call::Delete(Box::new(request.clone()))).await
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        self.call(context, Call::Wait(Box::new(request.clone()))).await
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        self.call(context, Call::ListOwned).await
    }

    async fn forecast(
        &self,
        context: &CallContext,
        requests: &[ForecastRequest],
    ) -> Result<Vec<Vec<String>>, CallError> {
        self.call(context, Call::Forecast(requests.to_vec())).await
    }

    async fn waits_for(&self, context: &CallContext, target: &Target) -> Result<Option<String>, CallError> {
        self.call(context, Call::WaitsFor(Box::new(target.clone()))).await
    }

    async fn ports_in_use(&self, context: &CallContext, ports: &[u16]) -> Result<Vec<PortInUse>, CallError> {
        self.call(context, Call::PortsInUse(ports.to_vec())).await
    }
}

/// The far half: serves a provider over a pair of streams until the reader ends. Calls under way are then
/// cancelled.
pub async fn serve(
    provider: Arc<dyn Provider>,
    reader: impl AsyncRead + Send + Unpin,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> std::io::Result<()> {
    let writer = Arc::new(Mutex::new(writer));
    let running: Arc<std::sync::Mutex<HashMap<u64, CancellationToken>>> = Arc::default();
    let all = CancellationToken::new();
    let _end = all.clone().drop_guard();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let message: ToProvider =
            serde_json::from_str(&line).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
        match message {
            ToProvider::Cancel { id } => {
                if let Some(token) = running.lock().ok().and_then(|map| map.get(&id).cloned()) {
                    token.cancel();
                }
            }
            ToProvider::Call { id, context, call } => {
                let cancel = all.child_token();
                if let Ok(mut map) = running.lock() {
                    map.insert(id, cancel.clone());
                }
                let (provider, writer, running) = (Arc::clone(&provider), Arc::clone(&writer), Arc::clone(&running));
                tokio::spawn(async move {
                    let context = CallContext {
                        lineage: context.lineage,
                        operation: context.operation,
                        timeout: Duration::from_millis(context.timeout_ms),
                        cancel,
                    };
                    let reply = answer(provider.as_ref(), &context, call).await;
                    if let Ok(mut map) = running.lock() {
                        map.remove(&id);
                    }
                    if let Ok(mut line) = serde_json::to_string(&FromProvider { id, reply }) {
                        line.push('\n');
                        let mut writer = writer.lock().await;
                        // A near half that is gone cannot be told; it treats the call as indeterminate.
                        if writer.write_all(line.as_bytes()).await.is_ok() {
                            let _ = writer.flush().await;
                        }
                    }
                });
            }
        }
    }
    Ok(())
}

async fn answer(provider: &dyn Provider, context: &CallContext, call: Call) -> Result<serde_json::Value, CallError> {
    fn json<T: Serialize>(reply: &T) -> Result<serde_json::Value, CallError> {
        serde_json::to_value(reply)
            .map_err(|error| CallError::indeterminate(format!("the reply cannot be written: {error}")))
    }
    match call {
        Call::Observe(targets) => json(&provider.observe(context, &targets).await?),
        Call::Preview(requests) => json(&provider.preview(context, &requests).await?),
        Call::Create(request) => json(&provider.create(context, &request).await?),
        Call::Update(request) => json(&provider.update(context, &request).await?),
        Call::Delete(request) => json(&provider.delete(context, &request).await?),
        Call::Wait(request) => json(&provider.wait(context, &request).await?),
        Call::ListOwned => json(&provider.list_owned(context).await?),
        Call::Forecast(requests) => json(&provider.forecast(context, &requests).await?),
        Call::WaitsFor(target) => json(&provider.waits_for(context, &target).await?),
        Call::PortsInUse(ports) => json(&provider.ports_in_use(context, &ports).await?),
    }
}
