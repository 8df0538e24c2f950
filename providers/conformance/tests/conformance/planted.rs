//! Providers that break one rule each.

use std::sync::Arc;

use async_trait::async_trait;
use ksail_conformance::world::{Thing, World};
use ksail_model::{Mark, Observation, Preview, Scope, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CallErrorKind, CreateRequest, DeleteRequest, Deleted, ObserveReply, Owned,
    PreviewRequest, Provider, Target, UpdateRequest, WaitRequest,
};
use tokio_util::sync::CancellationToken;

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    DuplicateCreate,
    AbsentOnTimeout,
    LostCancel,
    ForeignDelete,
    LeakedSecret,
    LoggedSecret,
}

struct Bad {
    good: Arc<dyn Provider>,
    world: World,
    flaw: Flaw,
}

fn spoil(flaw: Flaw, good: Arc<dyn Provider>, world: &World) -> Arc<dyn Provider> {
    Arc::new(Bad { good, world: world.clone(), flaw })
}

/// Makes a second thing where one is there already.
pub(crate) fn duplicate_create(good: Arc<dyn Provider>, world: &World) -> Arc<dyn Provider> {
    spoil(Flaw::DuplicateCreate, good, world)
}

/// Takes no answer for "it is not there".
pub(crate) fn absent_on_timeout(good: Arc<dyn Provider>, world: &World) -> Arc<dyn Provider> {
    spoil(Flaw::AbsentOnTimeout, good, world)
}

/// Does not listen to the cancel token while a call is under way.
pub(crate) fn lost_cancel(good: Arc<dyn Provider>, world: &World) -> Arc<dyn Provider> {
    spoil(Flaw::LostCancel, good, world)
}

/// Deletes whatever has the name.
pub(crate) fn foreign_delete(good: Arc<dyn Provider>, world: &World) -> Arc<dyn Provider> {
    spoil(Flaw::ForeignDelete, good, world)
}

/// Quotes its request, with the secret, when it cannot reach the outside.
pub(crate) fn leaked_secret(good: Arc<dyn Provider>, world: &World) -> Arc<dyn Provider> {
    spoil(Flaw::LeakedSecret, good, world)
}

/// Tells the log what it sends.
pub(crate) fn logged_secret(good: Arc<dyn Provider>, world: &World) -> Arc<dyn Provider> {
    spoil(Flaw::LoggedSecret, good, world)
}

impl Bad {
    fn context(&self, context: &CallContext) -> CallContext {
        let mut context = context.clone();
        if self.flaw == Flaw::LostCancel && !context.cancel.is_cancelled() {
            context.cancel = CancellationToken::new();
        }
        context
    }

    /// The mark that the thing carries, whoever's it is.
    fn mark_there(&self, target: &Target) -> Option<Option<Mark>> {
        let things = self.world.find(target.address.kind(), &target.identity.name).ok()?;
        things.first().map(|thing| thing.marks.first().cloned())
    }
}

#[async_trait]
impl Provider for Bad {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        match self.good.observe(&self.context(context), targets).await {
            Err(error) if self.flaw == Flaw::AbsentOnTimeout && error.kind == CallErrorKind::Indeterminate => {
                let observations = targets.iter().map(|_| Observation::Absent).collect();
                Ok(ObserveReply { scope: Scope("scope-1".to_owned()), observations })
            }
            answer => answer,
        }
    }

    async fn preview(&self, context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        self.good.preview(&self.context(context), requests).await
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        let target = &request.target;
        if self.flaw == Flaw::LoggedSecret {
            for secret in request.secrets.values() {
                tracing::trace!(body = secret.expose(), "request");
            }
        }
        let there = self.mark_there(target);
        let made = self.good.create(&self.context(context), request).await;
        match self.flaw {
            Flaw::DuplicateCreate if made.is_ok() && there.is_some() => {
                let fields = made.as_ref().map(|made| made.seen.fields.clone()).unwrap_or(Value::Null);
                let thing = Thing::foreign(target.address.kind(), &target.identity.name, fields);
                let _ = self.world.put(thing.marked(request.mark.clone()));
            }
            Flaw::LeakedSecret => {
                return made.map_err(|mut error| {
                    let texts: Vec<&str> = request.secrets.values().map(|secret| secret.expose()).collect();
                    error.message = format!("{} with {}", error.message, texts.join(" "));
                    error
                });
            }
            _ => {}
        }
        made
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        self.good.update(&self.context(context), request).await
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        let mut request = request.clone();
        if self.flaw == Flaw::ForeignDelete
            && let Some(there) = self.mark_there(&request.target)
        {
            match there {
                Some(mark) => request.mark = mark,
                None => request.adopted = true,
            }
        }
        self.good.delete(&self.context(context), &request).await
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        self.good.wait(&self.context(context), request).await
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        self.good.list_owned(&self.context(context)).await
    }
}
