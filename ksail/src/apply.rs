//! Applying a plan.

use std::sync::Arc;
use std::time::Duration;

use ksail_execute::{Apply, Clock, Event, EventSink, Limits, Summary, apply, check_fit};
use ksail_kinds::BuiltinKinds;
use ksail_plan::Plan;
use ksail_records::{Snapshot, State};
use tokio_util::sync::CancellationToken;

use crate::choices::refuse_taken;
use crate::error::{Error, Exit};
use crate::platform::Platform;
use crate::settings::{new_id, now_ms};

/// How a plan shall be applied.
#[derive(Clone)]
pub struct ApplyOptions {
    /// Limits of calls, waits and retries.
    pub limits: Limits,
    /// How long to wait for the lock.
    pub lock_wait: Duration,
    /// Whether to apply what is unaffected where something differs from the plan.
    pub partial: bool,
    /// Takes the events.
    pub sink: Arc<dyn EventSink>,
    /// The first interrupt: nothing new is begun.
    pub stop: CancellationToken,
    /// The second interrupt: calls are cancelled.
    pub abort: CancellationToken,
    /// What is done, for others who meet the lock (`apply`).
    pub doing: &'static str,
}

/// What an apply did.
pub struct Applied {
    /// Steps, failures, and the state afterwards.
    pub summary: Summary,
}

impl Applied {
    /// The exit code of the command.
    pub const fn exit(&self) -> Exit {
        match self.summary.ending {
            ksail_execute::Ending::Complete => Exit::Done,
            ksail_execute::Ending::Partial => Exit::Partial,
            ksail_execute::Ending::Interrupted => Exit::Interrupted,
        }
    }
}

/// The system's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        now_ms()
    }
}

impl Platform {
    /// Stores what an earlier apply could not store, where there is nothing else to apply. Answers what was done, a sentence each.
    pub async fn store_rescued(&self, lock_wait: Duration) -> Result<Vec<String>, Error> {
        let place = self.place(&self.stack_name())?;
        let mut writer = place.backend.lock(&self.owner("apply"), lock_wait).await?;
        let loaded = writer.load().await;
        let released = writer.release().await;
        let stored = loaded?;
        released?;
        Ok(stored.warnings)
    }

    /// Applies a plan of this project's stack. The declarations are those of the plan: the file is not compiled again.
    pub async fn apply(&self, plan: Arc<Plan>, options: &ApplyOptions) -> Result<Applied, Error> {
        let place = self.place(&plan.header.stack)?;
        place.secrets.share(place.backend.as_ref(), &plan).await?;
        place.secrets.check(&plan)?;
        if let Some(aside) = self.make_room(&plan, options.lock_wait).await? {
            let message = format!("the state that was begun beside the lost one is kept in {aside}");
            options.sink.event(Event::Note { message });
        }
        // A state that cannot be read is told of by the apply itself.
        if let Ok(stored) = place.backend.read().await {
            // Before the ports: a plan of another state has nothing to do with who holds them here.
            check_fit(&plan, stored.state.as_ref().map(State::snapshot)).map_err(Error::Apply)?;
            let none = || Snapshot::empty(&plan.header.lineage, &plan.header.stack, None);
            let snapshot = stored.state.map_or_else(none, State::into_snapshot);
            if !options.partial {
                refuse_taken(&plan, &snapshot, &place.connector).await?;
            }
        }
        let summary = apply(Apply {
            plan,
            backend: Arc::clone(&place.backend),
            connector: Arc::clone(&place.connector),
            schemas: Arc::new(BuiltinKinds),
            secrets: place.secrets,
            clock: Arc::new(SystemClock),
            sink: Arc::clone(&options.sink),
            limits: options.limits.clone(),
            owner: self.owner(options.doing),
            lock_wait: options.lock_wait,
            operation: new_id(),
            partial: options.partial,
            stop: options.stop.clone(),
            abort: options.abort.clone(),
        })
        .await?;
        Ok(Applied { summary })
    }
}
