//! A provider that does nothing, at once or after the graph's call times.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ksail_model::{Mark, Observation, ProviderConfig, Readiness, Scope, Seen, Value};
use ksail_provider::{
    Applied, CallContext, CallError, Connector, CreateRequest, DeleteRequest, Deleted, HostSession, ObserveReply,
    Owned, Provider, Target, UpdateRequest, WaitRequest,
};

/// Keeps nothing: what has an id is there, as the request's spec says.
#[derive(Debug, Clone)]
pub(crate) struct Nothing {
    /// How long calls take, by name; what is left out returns at once.
    times: Arc<HashMap<String, Duration>>,
    scope: Scope,
}

fn seen(target: &Target, mark: Option<Mark>) -> Seen {
    let fields = target.spec.clone().unwrap_or_default();
    let output = fields.field("input").cloned().unwrap_or_default();
    Seen {
        id: Some(format!("id-{}", target.identity.name)),
        fields,
        attributes: Value::map([("output", output)]),
        mark,
        readiness: Readiness::Ready,
        others: Vec::new(),
    }
}

impl Nothing {
    /// Calls take as long as they are said to, by name.
    pub(crate) fn new(times: HashMap<String, Duration>) -> Self {
        Self { times: Arc::new(times), scope: Scope("nowhere".into()) }
    }

    async fn take_time(&self, target: &Target) {
        if let Some(time) = self.times.get(&target.identity.name) {
            tokio::time::sleep(*time).await;
        }
    }

    async fn applied(&self, target: &Target, mark: &Mark) -> Applied {
        self.take_time(target).await;
        Applied { scope: self.scope.clone(), seen: seen(target, Some(mark.clone())) }
    }
}

#[async_trait]
impl Provider for Nothing {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        let observe = |target: &Target| match target.id {
            None => Observation::Absent,
            Some(_) => {
                let mark = Mark {
                    lineage: context.lineage.clone(),
                    address: target.address.clone(),
                    operation: String::new(),
                    generation: 1,
                };
                Observation::Present(Box::new(seen(target, Some(mark))))
            }
        };
        Ok(ObserveReply { scope: self.scope.clone(), observations: targets.iter().map(observe).collect() })
    }

    async fn create(&self, _: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        Ok(self.applied(&request.target, &request.mark).await)
    }

    async fn update(&self, _: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        Ok(self.applied(&request.target, &request.mark).await)
    }

    async fn delete(&self, _: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        self.take_time(&request.target).await;
        Ok(Deleted::Gone)
    }

    async fn wait(&self, _: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        Ok(Applied { scope: self.scope.clone(), seen: seen(&request.target, None) })
    }

    async fn list_owned(&self, _: &CallContext) -> Result<Vec<Owned>, CallError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Connector for Nothing {
    async fn connect(
        &self,
        _: &str,
        _: &ProviderConfig,
        _: Option<&HostSession>,
    ) -> Result<Arc<dyn Provider>, CallError> {
        Ok(Arc::new(self.clone()))
    }
}
