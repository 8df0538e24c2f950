//! The trait, and its contract.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ksail_model::{Address, Preview, ProviderConfig, Value};
use tokio_util::sync::CancellationToken;

use crate::{
    Applied, CallError, CreateRequest, DeleteRequest, Deleted, ForecastRequest, ObserveReply, Owned, PortInUse,
    PreviewRequest, Target, UpdateRequest, WaitRequest,
};

/// What every call gets.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The lineage of the state on whose behalf the call is made.
    pub lineage: String,
    /// The operation, if the call is part of one.
    pub operation: Option<String>,
    /// How long the call may take from now. Past it the provider answers
    /// [`Indeterminate`](crate::CallErrorKind::Indeterminate) (or `Unreachable`, where nothing was sent).
    pub timeout: Duration,
    /// Cancels the call. A provider looks at it at every await.
    pub cancel: CancellationToken,
}

/// A provider's open connection to one outside.
///
/// # Contract
///
/// The conformance suite (`ksail-conformance`) checks each of these on every provider, directly, through a pipe
/// and under injected faults.
///
/// 1. **Batches.** [`observe`](Self::observe) looks at all targets with one list a kind, not with one look-up a
///    target, and answers one observation a target, in order. What a list cannot tell (a container's environment) may be asked
///    of the things that it found, several at a time.
/// 2. **Unknown is never absent.** `Absent` is said only when the outside certainly answered that the thing is
///    not there. A timeout, a refused connection, a reply that cannot be read is an error of the whole batch,
///    or `Unknown` for the target.
/// 3. **Create is idempotent.** The mark (lineage, address, operation, generation) is written by the very call that
///    makes the thing. When a thing of that identity exists with our lineage and address, create completes what is missing
///    and returns it; it never makes a second one. If it exists without our mark: `NotOurs`, and nothing is
///    changed.
///    Ours in another generation is `Refused`: the engine deletes the old one first. What was adopted by its id
///    lacks the mark: `identity.id` (create) or `target.id` (update) finds it, and it may be changed. Of a shared thing
///    (an image) `Seen::mark` is the caller's own mark or none, and `list_owned` gives one entry a mark.
/// 4. **Lost replies.** A create, update or delete that is repeated after its reply was lost ends as if it had been
///    called once.
/// 5. **Indeterminate.** A call that was sent and whose outcome is not known (timeout, reset, cancelled in flight) is
///    `Indeterminate`, never `Refused` or `Transient`.
/// 6. **Delete of what is gone** is `WasAbsent`, not an error. A thing that does not carry our lineage is never
///    deleted: `NotOurs`. To update or to wait for what is not there is `Refused`.
/// 7. **Cancellation.** At every await the cancel token and the deadline are honoured within a second. (The near half of a
///    pipe gives the far side two more to tell whether something was sent.)
/// 8. **Readiness.** `create` and `update` return when the call is done, not when the thing is ready;
///    [`wait`](Self::wait) waits.
/// 9. **Secrets** are in no reply, no error and no log; observed ones appear as the fingerprint that the mark carries.
/// 10. **Quiet.** What `create` or `update` returned as `fields` is what `observe` returns while nobody changes
///     the thing.
///
/// After a crash of this process nothing is promised of a call that was under way, except that repeating
/// it is safe (3, 4).
#[async_trait]
pub trait Provider: Send + Sync {
    /// Looks at resources. An error means that nothing could be told of any.
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError>;

    /// Asks the outside what a change would give, without making it. One preview a request, in order.
    /// The default cannot tell.
    async fn preview(&self, _context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        Ok(requests.iter().map(|_| Preview::Unavailable).collect())
    }

    /// Makes a resource.
    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError>;

    /// Changes a resource in place.
    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError>;

    /// Deletes or releases a resource.
    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError>;

    /// Waits until a resource is ready and answers what it is then. At the deadline the answer is what it is
    /// (not ready, with why), not an error.
    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError>;

    /// Lists everything that carries a mark, of any lineage. What cannot carry one is left out.
    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError>;

    /// What else each deletion or change does in what the resource lives in, one fragment a line; in order. For a person only. The
    /// default knows of nothing.
    async fn forecast(
        &self,
        _context: &CallContext,
        requests: &[ForecastRequest],
    ) -> Result<Vec<Vec<String>>, CallError> {
        Ok(requests.iter().map(|_| Vec::new()).collect())
    }

    /// What a call of this session about a target, that is under way, waits for; asked while that has not returned. For a person
    /// only. The default tells nothing.
    async fn waits_for(&self, _context: &CallContext, _target: &Target) -> Result<Option<String>, CallError> {
        Ok(None)
    }

    /// Of the ports, those that something on the engine's machine holds already, in their order. The default knows of none.
    async fn ports_in_use(&self, _context: &CallContext, _ports: &[u16]) -> Result<Vec<PortInUse>, CallError> {
        Ok(Vec::new())
    }
}

/// A host whose attributes a session is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSession {
    /// The host's address.
    pub address: Address,
    /// Its fields and attributes joined into one map, as just seen or returned. They are not stored with the session.
    pub attributes: Value,
}

/// Opens sessions. The engine names no concrete provider: it asks for one by the name in a declaration.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Opens a session of a provider, to a host of the graph if the declarations have one. Cheap where nothing is
    /// there to talk to yet: a provider connects at its first call.
    async fn connect(
        &self,
        name: &str,
        config: &ProviderConfig,
        host: Option<&HostSession>,
    ) -> Result<Arc<dyn Provider>, CallError>;
}
