//! Providers that break one rule each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ksail_conformance::world::{Thing, World};
use ksail_model::{Mark, Observation, Path, Preview, Scope, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CallErrorKind, CreateRequest, DeleteRequest, Deleted, ObserveReply, Owned,
    PreviewRequest, Provider, SecretText, Target, UpdateRequest, WaitRequest,
};
use tokio_util::sync::CancellationToken;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Makes a second thing where one is there already.
    DuplicateCreate,
    /// Takes no answer for "it is not there".
    AbsentOnTimeout,
    /// Does not listen to the cancel token while a call is under way.
    LostCancel,
    /// Deletes whatever has the name.
    ForeignDelete,
    /// Quotes its request, with the secret, when it fails.
    LeakedSecret,
    /// Tells the log what it sends.
    LoggedSecret,
    /// Shows a secret's field as it likes.
    LostFingerprint,
    /// Answers a batch in an order of its own.
    ShuffledBatch,
    /// Takes for its own whatever has the name.
    StolenThing,
    /// Writes a mark of its own.
    WrongMark,
    /// Calls refused what was not answered.
    RefusedOnTimeout,
    /// Says that it sent nothing, of a call that was cancelled in flight.
    DeniedCall,
    /// Does not know that time is up.
    LostDeadline,
    /// Calls it an error that there is nothing to delete.
    GoneIsError,
    /// Does not delete what was imported.
    KeptImport,
    /// Deletes what others share.
    DeletedShare,
    /// Makes anew instead of changing.
    RemadeByUpdate,
    /// Cannot change twice.
    OneUpdateOnly,
    /// Cannot create twice.
    OneCreateOnly,
    /// Cannot delete twice.
    OneDeleteOnly,
    /// Has no patience.
    HastyWait,
    /// Calls it an error that a thing is not ready.
    WaitIsError,
    /// Returns more than it observes.
    NoisyFields,
    /// Forgets what it made.
    ForgetfulList,
    /// Previews by doing.
    PreviewThatMakes,
}

pub(crate) struct Bad {
    pub(crate) good: Arc<dyn Provider>,
    pub(crate) world: World,
    pub(crate) flaw: Flaw,
}

impl Bad {
    fn context(&self, context: &CallContext) -> CallContext {
        let mut context = context.clone();
        if self.flaw == Flaw::LostCancel && !context.cancel.is_cancelled() {
            context.cancel = CancellationToken::new();
        }
        if self.flaw == Flaw::LostDeadline {
            context.timeout *= 1000;
        }
        context
    }

    /// The mark that the thing carries, whoever's it is.
    fn mark_there(&self, target: &Target) -> Option<Option<Mark>> {
        let things = self.world.find(target.address.kind(), &target.identity.name).ok()?;
        things.first().map(|thing| thing.marks.first().cloned())
    }

    fn change(&self, target: &Target, change: impl FnMut(&mut Thing)) {
        let _ = self.world.modify(target.address.kind(), &target.identity.name, change);
    }

    /// What a call that failed says.
    fn error(&self, mut error: CallError, secrets: &BTreeMap<Path, SecretText>) -> CallError {
        match self.flaw {
            Flaw::LeakedSecret => {
                let texts: Vec<&str> = secrets.values().map(|secret| secret.expose()).collect();
                error.message = format!("{} with {}", error.message, texts.join(" "));
            }
            Flaw::RefusedOnTimeout if error.kind == CallErrorKind::Indeterminate => {
                error.kind = CallErrorKind::Refused;
            }
            Flaw::DeniedCall if error.kind == CallErrorKind::Indeterminate => {
                error.kind = CallErrorKind::Unreachable;
            }
            _ => {}
        }
        error
    }

    /// What is done before a creation.
    fn before_create(&self, request: &CreateRequest) -> Result<CreateRequest, CallError> {
        let mut request = request.clone();
        let there = self.mark_there(&request.target);
        match self.flaw {
            Flaw::LoggedSecret => {
                for secret in request.secrets.values() {
                    tracing::trace!(body = secret.expose(), "request");
                }
            }
            Flaw::StolenThing => self.change(&request.target, |thing| thing.marks = vec![request.mark.clone()]),
            Flaw::WrongMark => request.mark.operation = "another".to_owned(),
            Flaw::OneCreateOnly if there.is_some() => return Err(CallError::refused("it is there already")),
            _ => {}
        }
        Ok(request)
    }

    /// What is done after a creation of what was there, or not.
    fn after_create(&self, request: &CreateRequest, there: bool, made: &mut Applied) {
        match self.flaw {
            Flaw::DuplicateCreate if there => {
                let (kind, name) = (request.target.address.kind(), &request.target.identity.name);
                let thing = Thing::foreign(kind, name, made.seen.fields.clone());
                let _ = self.world.put(thing.marked(request.mark.clone()));
            }
            Flaw::NoisyFields => {
                made.seen.fields.set(&Path::key("started"), Value::from("just now"));
            }
            _ => {}
        }
    }
}

#[async_trait]
impl Provider for Bad {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        let mut answer = self.good.observe(&self.context(context), targets).await;
        match (&mut answer, self.flaw) {
            (Err(error), Flaw::AbsentOnTimeout) if error.kind == CallErrorKind::Indeterminate => {
                let observations = targets.iter().map(|_| Observation::Absent).collect();
                answer = Ok(ObserveReply { scope: Scope("scope-1".into()), observations });
            }
            (Ok(reply), Flaw::ShuffledBatch) => reply.observations.sort_by_key(|seen| seen.seen().is_none()),
            (Ok(reply), Flaw::LostFingerprint) => {
                for observation in &mut reply.observations {
                    if let Observation::Present(seen) = observation {
                        seen.fields.set(&Path::key("password"), Value::from("******"));
                    }
                }
            }
            _ => {}
        }
        answer
    }

    async fn preview(&self, context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        if self.flaw == Flaw::PreviewThatMakes {
            for request in requests {
                let (kind, name) = (request.target.address.kind(), &request.target.identity.name);
                let _ = self.world.put(Thing::foreign(kind, name, Value::empty_map()));
            }
        }
        self.good.preview(&self.context(context), requests).await
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        let there = self.mark_there(&request.target).is_some();
        let request = self.before_create(request)?;
        let made = self.good.create(&self.context(context), &request).await;
        let mut made = made.map_err(|error| self.error(error, &request.secrets))?;
        self.after_create(&request, there, &mut made);
        Ok(made)
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        match self.flaw {
            Flaw::RemadeByUpdate => self.change(&request.target, |thing| thing.id.push('x')),
            Flaw::OneUpdateOnly if request.mark.operation == "op-2" => {
                let there = self.mark_there(&request.target).flatten();
                if there.is_some_and(|mark| mark.operation == "op-2") {
                    return Err(CallError::refused("it is changed already"));
                }
            }
            _ => {}
        }
        let changed = self.good.update(&self.context(context), request).await;
        changed.map_err(|error| self.error(error, &request.secrets))
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        let (mut request, there) = (request.clone(), self.mark_there(&request.target));
        match (self.flaw, &there) {
            (Flaw::ForeignDelete, Some(Some(mark))) => request.mark = mark.clone(),
            (Flaw::ForeignDelete, Some(None)) => request.adopted = true,
            (Flaw::KeptImport, _) => request.adopted = false,
            (Flaw::OneDeleteOnly, None) if request.target.id.is_some() => {
                return Err(CallError::refused("it is gone already"));
            }
            _ => {}
        }
        let deleted = self.good.delete(&self.context(context), &request).await;
        match (self.flaw, &deleted) {
            (Flaw::GoneIsError, Ok(Deleted::WasAbsent)) => return Err(CallError::refused("no such thing")),
            (Flaw::DeletedShare, Ok(Deleted::Released)) => {
                let _ = self.world.remove(request.target.address.kind(), &request.target.identity.name);
            }
            _ => {}
        }
        deleted.map_err(|error| self.error(error, &BTreeMap::new()))
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        let mut context = self.context(context);
        if self.flaw == Flaw::HastyWait {
            context.timeout = Duration::ZERO;
        }
        match self.good.wait(&context, request).await {
            Ok(waited) if self.flaw == Flaw::WaitIsError && !waited.seen.readiness.is_ready() => {
                Err(CallError::indeterminate("not ready in time"))
            }
            answer => answer,
        }
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        let mut owned = self.good.list_owned(&self.context(context)).await?;
        if self.flaw == Flaw::ForgetfulList {
            owned.pop();
        }
        Ok(owned)
    }
}
