//! The wait until ready.

use std::sync::Arc;
use std::time::Duration;

use ksail_model::{Readiness, Record, RecordKey, Status};
use ksail_plan::StepDo;
use ksail_provider::{Applied, CallError, CallErrorKind, Provider, WaitRequest};
use ksail_records::{Edit, Entry};
use tokio::time::Instant;

use super::{LATE, StepError, StepRunner, target_of};
use crate::journal::JournalError;
use crate::sessions::session_of;

impl StepRunner {
    /// The second half of a step: the wait until ready. It holds no call slot.
    pub(crate) async fn wait(&self, index: usize) -> Result<(), StepError> {
        let (key, step_kind) = (&self.plan.steps[index].key, self.plan.steps[index].what);
        let (started, began) = (self.at_ms(), Instant::now());
        let Some(record) = self.journal.read(|snapshot| snapshot.records.get(key).cloned()) else {
            return Err(self.failure(index, "its record is gone".to_owned(), None, false));
        };
        // A wait is all that a changed edge leads to, too.
        let refreshed = self.node(key).filter(|_| step_kind == StepDo::Wait).and_then(|node| node.refreshed.as_ref());
        let record = match refreshed {
            Some(refreshed) => {
                Arc::new(Record { declaration: refreshed.declaration.clone(), ..Arc::unwrap_or_clone(record) })
            }
            None => record,
        };
        let declaration = &record.declaration;
        let session = session_of(declaration);
        let provider = self.open(&session).await.map_err(|error| self.call_failure(index, error))?;
        let request = WaitRequest { target: target_of(key, declaration, Some(&record)) };
        let applied = match self.attempts_of_wait(&request, provider.as_ref()).await {
            Ok(applied) => applied,
            // It goes on being not ready, and is waited for again.
            Err(_) if self.abort.is_cancelled() => return Err(StepError::NotBegun),
            Err(error) => return Err(self.call_failure(index, error)),
        };
        let took = self.at_ms().saturating_sub(started);
        let failed = match &applied.seen.readiness {
            Readiness::Ready => None,
            Readiness::NotReady(why) => Some(why.clone()),
        };
        self.record_wait(step_kind, key, record, applied, took).await?;
        match failed {
            None => {
                self.step_done(index, started);
                Ok(())
            }
            Some(why) => {
                let (message, hint) = self.not_ready(&why, began.elapsed());
                Err(self.failure(index, message, Some(hint), false))
            }
        }
    }

    /// What is said of one that did not become ready. More time is advised only where time ran out: a provider also gives up
    /// what can no longer become ready.
    fn not_ready(&self, why: &str, waited: Duration) -> (String, String) {
        let mend = "mend what keeps it from being ready and run `ksail apply` again: it is waited for, not replaced";
        if waited < self.limits.wait_timeout / 2 {
            return (format!("it does not become ready: {why}"), mend.to_owned());
        }
        let seconds = self.limits.wait_timeout.as_secs();
        (format!("not ready after {seconds} s: {why}"), format!("{mend}; or give it more time with --timeout"))
    }

    async fn attempts_of_wait(&self, request: &WaitRequest, provider: &dyn Provider) -> Result<Applied, CallError> {
        let late = self.limits.wait_timeout.saturating_add(LATE);
        for attempt in 1.. {
            let context = self.context(self.limits.wait_timeout);
            let waited = tokio::time::timeout(late, provider.wait(&context, request))
                .await
                .unwrap_or_else(|_| Err(CallError::indeterminate(format!("no answer within {} s", late.as_secs()))));
            match waited {
                Err(error)
                    if attempt < self.limits.attempts
                        && !self.abort.is_cancelled()
                        && matches!(
                            error.kind,
                            CallErrorKind::Transient
                                | CallErrorKind::Unreachable
                                | CallErrorKind::Indeterminate
                                | CallErrorKind::Cancelled
                        ) =>
                {
                    tokio::select! {
                        () = tokio::time::sleep(self.limits.backoff(attempt + 1, error.retry_after_ms)) => {}
                        () = self.abort.cancelled() => return Err(error),
                    }
                }
                result => return result,
            }
        }
        Err(CallError::refused("no attempt was made"))
    }

    async fn record_wait(
        &self,
        step: StepDo,
        key: &RecordKey,
        record: Arc<Record>,
        applied: Applied,
        took: u64,
    ) -> Result<(), JournalError> {
        let mut durations = record.durations;
        let status = match applied.seen.readiness {
            Readiness::Ready => {
                match step {
                    StepDo::Update => durations.update_ms = Some(took),
                    _ => durations.create_ms = Some(took),
                }
                Status::Present
            }
            // What stands below the first line are a program's own words: they are shown, and not kept.
            Readiness::NotReady(why) => Status::NotReady { why: why.lines().next().unwrap_or_default().to_owned() },
        };
        let record = Record {
            id: applied.seen.id,
            fields: applied.seen.fields,
            attributes: applied.seen.attributes,
            scope: Some(applied.scope),
            status,
            durations,
            operation: self.operation.clone(),
            ..Arc::unwrap_or_clone(record)
        };
        self.journal.commit(vec![Entry::Edit(Box::new(Edit::Put { key: key.clone(), record: Arc::new(record) }))]).await
    }
}
