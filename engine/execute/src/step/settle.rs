//! What is found out of a thing in the step itself, because its host serves only now: what became of a call that a kill left open, and
//! whether the thing is as it was recorded.

use ksail_model::{Declaration, Mark, Observation, Record, RecordKey, Status};
use ksail_plan::{Action, LookItem, Observed, PlanNode, diff, resolve_open_intents};
use ksail_provider::Provider;
use ksail_records::{Call, Entry, OpenIntent, Outcome, OutcomeKind, Snapshot};

use super::{Called, StepError, StepRunner};
use crate::look::target;

/// Whether an open call is a create that was not seen to be made, of what was not there before and is made again in the same place. It may
/// come to be yet, so that its intent is kept until the next one takes its place.
pub(crate) fn is_made_again(snapshot: &Snapshot, outcome: &Outcome, wanted: &Declaration) -> bool {
    let is_first = |open: &OpenIntent| {
        let is_in_place = |declaration: &Declaration| wanted.is_in_place_of(declaration);
        open.intent.call == Call::Create
            && open.previous.is_none()
            && open.intent.declaration.as_deref().is_some_and(is_in_place)
    };
    matches!(outcome.kind, OutcomeKind::NotDone { .. }) && snapshot.open.get(&outcome.key).is_some_and(is_first)
}

impl StepRunner {
    pub(super) fn is_open(&self, key: &RecordKey) -> bool {
        self.journal.read(|snapshot| snapshot.open.contains_key(key))
    }

    /// A call that a killed operation left open in a host that served only now: what became of it is found out and recorded, unless
    /// the next call is the same.
    pub(super) async fn settle(
        &self,
        index: usize,
        key: &RecordKey,
        provider: &dyn Provider,
        again: Option<&Declaration>,
    ) -> Result<(), StepError> {
        let open = self.journal.read(|snapshot| {
            Some((snapshot.open.get(key)?.clone(), snapshot.records.get(key)?.clone(), snapshot.lineage.clone()))
        });
        let Some((open, record, lineage)) = open else { return Ok(()) };
        let item = LookItem::of_record(key.clone(), &record);
        let context = self.context(self.limits.observe_timeout);
        let reply =
            provider.observe(&context, &[target(&item)]).await.map_err(|error| self.call_failure(index, error))?;
        let observed = reply
            .observations
            .into_iter()
            .next()
            .map(|observation| Observed { observation, scope: Some(reply.scope.clone()) });
        let mut one = Snapshot::empty(lineage, self.plan.header.stack.clone(), None);
        one.open.insert(key.clone(), open);
        let observations = observed.into_iter().map(|observed| (key.clone(), observed)).collect();
        let found = resolve_open_intents(&one, &observations, self.schemas.as_ref(), self.clock.now_ms());
        let Some(resolution) = found.into_iter().next() else {
            let message = "what became of the call that a killed operation made cannot be told yet".to_owned();
            return Err(self.failure(
                index,
                message,
                Some("run `ksail apply` again when the call's deadline is past".to_owned()),
                true,
            ));
        };
        let stays_open = again
            .is_some_and(|wanted| self.journal.read(|snapshot| is_made_again(snapshot, &resolution.outcome, wanted)));
        if !stays_open {
            self.journal.commit(vec![Entry::Outcome(Box::new(resolution.outcome))]).await?;
        }
        Ok(())
    }

    /// Whether the call that was settled had made what is wanted.
    pub(super) fn settled_as_wanted(&self, key: &RecordKey, wanted: &Declaration) -> Option<Called> {
        let schema = self.schemas.schema(key.address.kind())?;
        self.journal.read(|snapshot| {
            let record = snapshot.records.get(key)?;
            let called = match &record.status {
                Status::Present => Called::Ready,
                Status::NotReady { .. } => Called::NotReady,
                _ => return None,
            };
            diff(&record.fields, &wanted.spec, schema).is_empty().then_some(called)
        })
    }

    /// A node whose host came first is seen now for the first time: it must be as recorded.
    pub(super) async fn look_again(
        &self,
        index: usize,
        node: &PlanNode,
        record: Option<&Record>,
        provider: &dyn Provider,
    ) -> Result<(), StepError> {
        let Some(record) = record else { return Ok(()) };
        let item = LookItem::of_record(node.key.clone(), record);
        let context = self.context(self.limits.observe_timeout);
        let reply =
            provider.observe(&context, &[target(&item)]).await.map_err(|error| self.call_failure(index, error))?;
        // The very thing that is made anew may be otherwise than recorded: stopped, because somebody took its port.
        let is_replaced = matches!(node.action, Action::Replace { .. });
        let is_ours = |mark: &Mark| mark.is_of(&self.plan.header.lineage, &node.key.address, record.generation);
        let same = match reply.observations.first() {
            Some(Observation::Present(seen)) => {
                let is_it = seen.id == record.id && seen.mark.as_ref().is_some_and(is_ours);
                seen.fields == record.fields || (is_replaced && is_it)
            }
            _ => false,
        };
        if same && record.scope.as_ref().is_none_or(|scope| *scope == reply.scope) {
            return Ok(());
        }
        let message = "it is not as recorded, now that its host serves".to_owned();
        Err(self.failure(index, message, Some("`ksail plan` shows what is there now".to_owned()), false))
    }
}
