//! What the rules are written with: calls of one case, repeated under faults, and the outside's own view.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ksail_model::{Mark, Observation, Ownership, Path, Seen, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CallErrorKind, CreateRequest, DeleteRequest, Deleted, ObserveReply, Owned,
    PipeProvider, Provider, SecretText, Target, UpdateRequest, serve,
};
use tokio_util::sync::CancellationToken;

use super::listening::{Ear, Listening};
use super::{Breakage, Change, Gap, Limits, Setup, Way};
use crate::faults::{FaultPlan, Faulty};

/// How many bytes a pipe between the halves of a provider holds.
const PIPE_BYTES: usize = 64 * 1024;

/// How often a call that failed by a fault is repeated. The decorator lets a call through after far fewer.
const MOST_ATTEMPTS: usize = 12;

/// How long after a cancellation or deadline a call must have returned: the contract's second, and what a loaded
/// machine and a pipe add.
pub(super) const LEAVES_WITHIN: Duration = Duration::from_millis(1500);

/// Why a check ends early.
pub(super) enum Stop {
    Fail(String),
    NotApplicable(String),
}

impl From<Gap> for Stop {
    fn from(gap: Gap) -> Self {
        match gap {
            Gap::NotApplicable(why) => Self::NotApplicable(why),
            Gap::Broken(how) => Self::Fail(format!("the outside of the subject failed: {how}")),
        }
    }
}

/// How a check ends.
pub(super) type Checked<T = ()> = Result<T, Stop>;

pub(super) fn fail<T>(why: impl Into<String>) -> Checked<T> {
    Err(Stop::Fail(why.into()))
}

/// Fails unless the condition holds.
pub(super) fn ensure(condition: bool, why: impl FnOnce() -> String) -> Checked {
    if condition { Ok(()) } else { fail(why()) }
}

/// One check's surroundings.
pub(super) struct Harness {
    pub(super) setup: Setup,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) limits: Limits,
    pub(super) way: Way,
    ear: Ear,
}

impl Harness {
    pub(super) fn new(setup: Setup, limits: Limits, way: Way, ear: Ear) -> Self {
        let provider = wrap(Arc::clone(&setup.provider), way, &ear);
        Self { setup, provider, limits, way, ear }
    }

    /// The provider behind a broken connection, reached in the same way.
    pub(super) async fn broken(&self, how: Breakage) -> Checked<Arc<dyn Provider>> {
        Ok(wrap(self.setup.outside.broken(how).await?, self.way, &self.ear))
    }

    /// Keeps what is logged for the search for secrets.
    pub(super) fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        self.ear.subscriber()
    }

    pub(super) fn leaks(&self) -> Vec<String> {
        self.ear.leaks()
    }

    pub(super) fn target(&self) -> &Target {
        &self.setup.case.target
    }

    pub(super) fn context(&self) -> CallContext {
        self.context_of(self.limits.call, CancellationToken::new())
    }

    pub(super) fn context_of(&self, timeout: Duration, cancel: CancellationToken) -> CallContext {
        let operation = Some("op-1".to_owned());
        CallContext { lineage: self.setup.lineage.clone(), operation, timeout, cancel }
    }

    /// The mark of a generation of the case's thing.
    pub(super) fn mark(&self, generation: u32) -> Mark {
        Mark {
            lineage: self.setup.lineage.clone(),
            address: self.target().address.clone(),
            operation: "op-1".to_owned(),
            generation,
        }
    }

    /// Whether a mark is the one that is wanted, as far as marks of the case's things tell.
    pub(super) fn is_mark(&self, found: Option<&Mark>, wanted: &Mark) -> bool {
        if self.setup.case.tells_operation {
            return found == Some(wanted);
        }
        let told = |mark: &Mark| Mark { operation: String::new(), ..mark.clone() };
        found.is_some_and(|found| found.operation.is_empty() && told(found) == told(wanted))
    }

    pub(super) fn other_mark(&self) -> Mark {
        Mark { lineage: format!("{}-other", self.setup.lineage), operation: "op-other".to_owned(), ..self.mark(1) }
    }

    pub(super) fn create_request(&self) -> CreateRequest {
        CreateRequest { target: self.target().clone(), mark: self.mark(1), secrets: self.setup.case.secrets.clone() }
    }

    pub(super) fn update_request(&self, made: &Applied, change: &Change) -> UpdateRequest {
        UpdateRequest {
            target: Target { spec: Some(change.spec.clone()), id: made.seen.id.clone(), ..self.target().clone() },
            mark: Mark { operation: "op-2".to_owned(), ..self.mark(1) },
            current: made.seen.fields.clone(),
            changed: change.changed.clone(),
            secrets: change.secrets.clone(),
        }
    }

    /// The deletion of a thing that was made, or of one that was never seen.
    pub(super) fn delete_request(&self, made: Option<&Seen>) -> DeleteRequest {
        DeleteRequest {
            target: Target { id: made.and_then(|seen| seen.id.clone()), ..self.target().clone() },
            mark: self.mark(1),
            adopted: false,
            attributes: made.map_or_else(Value::empty_map, |seen| seen.attributes.clone()),
        }
    }

    /// Calls until the answer is not a fault's; once where no faults are injected.
    pub(super) async fn persist<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T, CallError> {
        let attempts = if matches!(self.way, Way::Faulty(_)) { MOST_ATTEMPTS } else { 1 };
        for _ in 1..attempts {
            match call().await {
                Err(error) if is_fault(error.kind) => {}
                result => return result,
            }
        }
        call().await
    }

    pub(super) async fn try_create(&self, request: &CreateRequest) -> Result<Applied, CallError> {
        let context = self.context();
        self.persist(|| self.provider.create(&context, request)).await
    }

    pub(super) async fn create(&self) -> Checked<Applied> {
        self.create_as(&self.create_request()).await
    }

    pub(super) async fn create_as(&self, request: &CreateRequest) -> Checked<Applied> {
        self.try_create(request).await.or_else(|error| fail(format!("create failed: {}", told(&error))))
    }

    pub(super) async fn update(&self, request: &UpdateRequest) -> Checked<Applied> {
        let context = self.context();
        self.persist(|| self.provider.update(&context, request))
            .await
            .or_else(|error| fail(format!("update failed: {}", told(&error))))
    }

    pub(super) async fn try_delete(&self, request: &DeleteRequest) -> Result<Deleted, CallError> {
        let context = self.context();
        self.persist(|| self.provider.delete(&context, request)).await
    }

    pub(super) async fn delete(&self, made: &Seen) -> Checked<Deleted> {
        let request = self.delete_request(Some(made));
        self.try_delete(&request).await.or_else(|error| fail(format!("delete failed: {}", told(&error))))
    }

    pub(super) async fn observe(&self, targets: &[Target]) -> Checked<ObserveReply> {
        let context = self.context();
        self.persist(|| self.provider.observe(&context, targets))
            .await
            .or_else(|error| fail(format!("observe failed: {}", told(&error))))
    }

    /// The case's thing as observed; it must be there.
    pub(super) async fn see(&self) -> Checked<Seen> {
        self.see_as(self.target()).await
    }

    pub(super) async fn see_as(&self, target: &Target) -> Checked<Seen> {
        let reply = self.observe(std::slice::from_ref(target)).await?;
        match reply.observations.as_slice() {
            [Observation::Present(seen)] => Ok((**seen).clone()),
            other => fail(format!("the thing is there and was observed as {other:?}")),
        }
    }

    pub(super) async fn list(&self) -> Checked<Vec<Owned>> {
        let context = self.context();
        self.persist(|| self.provider.list_owned(&context))
            .await
            .or_else(|error| fail(format!("list_owned failed: {}", told(&error))))
    }

    pub(super) async fn count(&self) -> Checked<usize> {
        Ok(self.setup.outside.count(self.target()).await?)
    }

    /// Fails unless the outside has so many things of the case's identity.
    pub(super) async fn expect(&self, wanted: usize, when: &str) -> Checked {
        let count = self.count().await?;
        ensure(count == wanted, || format!("the outside has {count} things {when}, and it should have {wanted}"))
    }

    /// The state of the case's thing by the outside's own means, where it tells one.
    pub(super) async fn state(&self) -> Checked<Option<String>> {
        match self.setup.outside.state(self.target()).await {
            Ok(state) => Ok(Some(state)),
            Err(Gap::NotApplicable(_)) => Ok(None),
            Err(gap) => Err(gap.into()),
        }
    }

    /// Lets calls that were given up come to their end outside.
    pub(super) async fn settle(&self) {
        tokio::time::sleep(self.limits.settle).await;
    }

    /// Goes on only where the ownership is this.
    pub(super) fn only_if(&self, ownership: Ownership) -> Checked {
        let ours = self.target().ownership;
        if ours == ownership {
            return Ok(());
        }
        Err(Stop::NotApplicable(format!("its ownership is {ours:?}, not {ownership:?}")))
    }

    /// Goes on only with what one state alone may have: a thing, or fields that nobody else has set.
    pub(super) fn only_if_exclusive(&self) -> Checked {
        match self.target().ownership {
            Ownership::Owned | Ownership::Fields => Ok(()),
            other => Err(Stop::NotApplicable(format!("its ownership is {other:?}"))),
        }
    }

    /// Goes on only where things carry marks.
    pub(super) fn only_if_marked(&self) -> Checked {
        if self.setup.case.carries_mark {
            return Ok(());
        }
        Err(Stop::NotApplicable("things of this kind carry no mark".to_owned()))
    }

    pub(super) fn change(&self) -> Checked<&Change> {
        self.setup
            .case
            .change
            .as_ref()
            .ok_or_else(|| Stop::NotApplicable("nothing of this kind is changed in place".to_owned()))
    }

    /// Every secret text of the case, by path in the first spec.
    pub(super) fn secrets(&self) -> &BTreeMap<Path, SecretText> {
        &self.setup.case.secrets
    }
}

fn is_fault(kind: CallErrorKind) -> bool {
    use CallErrorKind::{Cancelled, Indeterminate, Transient, Unreachable};
    matches!(kind, Transient | Unreachable | Indeterminate | Cancelled)
}

/// An error with its kind.
pub(super) fn told(error: &CallError) -> String {
    format!("{:?}: {error}", error.kind)
}

/// A provider as it is reached in a way, with an ear at the near end.
fn wrap(provider: Arc<dyn Provider>, way: Way, ear: &Ear) -> Arc<dyn Provider> {
    let inner: Arc<dyn Provider> = match way {
        Way::Direct => provider,
        Way::Pipe => Arc::new(through_pipe(provider)),
        Way::Faulty(seed) => Arc::new(Faulty::new(provider, FaultPlan::seeded(seed))),
    };
    Arc::new(Listening { inner, ear: ear.clone() })
}

/// A provider behind a pipe. Its far half ends when the near one is dropped.
fn through_pipe(provider: Arc<dyn Provider>) -> PipeProvider {
    let (near_writer, far_reader) = tokio::io::duplex(PIPE_BYTES);
    let (far_writer, near_reader) = tokio::io::duplex(PIPE_BYTES);
    tokio::spawn(async move {
        // A far half that fails is seen at the near one: every call is then indeterminate.
        let _ = serve(provider, far_reader, far_writer).await;
    });
    PipeProvider::new(near_reader, near_writer)
}
