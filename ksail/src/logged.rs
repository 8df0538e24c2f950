//! A decorator of providers that logs every call: what was asked, how long it took, and what was answered. Values are in no
//! line, for they may be secrets.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use ksail_model::{Observation, Preview, Readiness};
use ksail_provider::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, ForecastRequest, ObserveReply, Owned,
    PortInUse, PreviewRequest, Provider, Target, UpdateRequest, WaitRequest,
};
use tracing::{debug, trace};

/// A provider whose calls are logged.
pub(crate) struct Logged {
    /// The session: the provider's name, and the host that it reaches into.
    pub(crate) session: String,
    pub(crate) inner: Arc<dyn Provider>,
}

impl Logged {
    async fn log<T>(
        &self,
        method: &'static str,
        what: &(dyn std::fmt::Display + Sync),
        call: impl Future<Output = Result<T, CallError>>,
        answer: impl Fn(&T) -> String,
    ) -> Result<T, CallError> {
        let session = self.session.as_str();
        trace!(session, method, %what, "call begins");
        let began = Instant::now();
        let result = call.await;
        let took = began.elapsed();
        match &result {
            Ok(reply) => debug!(session, method, %what, ?took, answer = answer(reply), "called"),
            Err(error) => {
                debug!(session, method, %what, ?took, kind = ?error.kind, error = %error.message, "call failed")
            }
        }
        result
    }
}

fn applied(reply: &Applied) -> String {
    let id = reply.seen.id.as_deref().unwrap_or("-");
    match &reply.seen.readiness {
        Readiness::Ready => format!("ready, id {id}"),
        Readiness::NotReady(why) => format!("not ready ({why}), id {id}"),
    }
}

fn observation(seen: &Observation) -> String {
    match seen {
        Observation::Present(seen) => {
            let ready = if seen.readiness.is_ready() { "ready" } else { "not ready" };
            format!("present, {ready}, id {}", seen.id.as_deref().unwrap_or("-"))
        }
        Observation::Absent => "absent".to_owned(),
        Observation::Unknown(why) => format!("unknown: {why}"),
    }
}

/// How many of a batch are what, which tells more than their number.
fn observed(reply: &ObserveReply) -> String {
    let count = |is: fn(&Observation) -> bool| reply.observations.iter().filter(|seen| is(seen)).count();
    format!(
        "{} present, {} absent, {} unknown, in {}",
        count(|seen| matches!(seen, Observation::Present(_))),
        count(|seen| matches!(seen, Observation::Absent)),
        count(|seen| matches!(seen, Observation::Unknown(_))),
        reply.scope
    )
}

#[async_trait]
impl Provider for Logged {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        let what = format!("{} resources", targets.len());
        let reply = self.log("observe", &what, self.inner.observe(context, targets), observed).await?;
        for (target, seen) in targets.iter().zip(&reply.observations) {
            trace!(session = self.session, address = %target.address, seen = observation(seen), "observed");
        }
        Ok(reply)
    }

    async fn preview(&self, context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        let what = format!("{} resources", requests.len());
        let told = |reply: &Vec<Preview>| {
            let some = reply.iter().filter(|preview| **preview != Preview::Unavailable).count();
            format!("{some} of them foretold")
        };
        self.log("preview", &what, self.inner.preview(context, requests), told).await
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        self.log("create", &request.target.address, self.inner.create(context, request), applied).await
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        self.log("update", &request.target.address, self.inner.update(context, request), applied).await
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        let told = |reply: &Deleted| format!("{reply:?}");
        self.log("delete", &request.target.address, self.inner.delete(context, request), told).await
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        self.log("wait", &request.target.address, self.inner.wait(context, request), applied).await
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        let told = |reply: &Vec<Owned>| format!("{} things", reply.len());
        self.log("list_owned", &"all that carries a mark", self.inner.list_owned(context), told).await
    }

    async fn forecast(
        &self,
        context: &CallContext,
        requests: &[ForecastRequest],
    ) -> Result<Vec<Vec<String>>, CallError> {
        let told = |reply: &Vec<Vec<String>>| format!("{} lines", reply.iter().map(Vec::len).sum::<usize>());
        let what = format!("{} resources", requests.len());
        self.log("forecast", &what, self.inner.forecast(context, requests), told).await
    }

    async fn waits_for(&self, context: &CallContext, target: &Target) -> Result<Option<String>, CallError> {
        // Asked again and again: it would drown all else.
        self.inner.waits_for(context, target).await
    }

    async fn ports_in_use(&self, context: &CallContext, ports: &[u16]) -> Result<Vec<PortInUse>, CallError> {
        let told = |reply: &Vec<PortInUse>| {
            let held: Vec<String> = reply.iter().map(|held| format!("{} by {}", held.port, held.holder)).collect();
            if held.is_empty() { "none".to_owned() } else { held.join(", ") }
        };
        let what = format!("{} ports", ports.len());
        self.log("ports_in_use", &what, self.inner.ports_in_use(context, ports), told).await
    }
}
