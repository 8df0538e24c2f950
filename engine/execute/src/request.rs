//! What an apply is given, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use ksail_model::{RecordKey, Schemas};
use ksail_plan::{Plan, StepDo};
use ksail_provider::Connector;
use ksail_records::{Backend, LockOwner, Snapshot};
use tokio_util::sync::CancellationToken;

use crate::event::{Ending, EventSink};
use crate::limits::{Clock, Limits, Secrets};

/// All that an apply needs. The engine reads nothing else.
pub struct Apply {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Where the state is.
    pub backend: Arc<dyn Backend>,
    /// Opens provider sessions.
    pub connector: Arc<dyn Connector>,
    /// The kinds.
    pub schemas: Arc<dyn Schemas>,
    /// Resolves secrets.
    pub secrets: Arc<dyn Secrets>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Takes the events.
    pub sink: Arc<dyn EventSink>,
    /// The limits.
    pub limits: Limits,
    /// Who applies.
    pub owner: LockOwner,
    /// How long to wait for the lock.
    pub lock_wait: Duration,
    /// The id of the operation, should a new one begin.
    pub operation: String,
    /// Whether to apply what is unaffected where something differs from the plan.
    pub partial: bool,
    /// Cancelled: nothing new is begun, what is in flight finishes.
    pub stop: CancellationToken,
    /// Cancelled: calls in flight are cancelled too.
    pub abort: CancellationToken,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose.
    pub key: RecordKey,
    /// Which.
    pub step: StepDo,
    /// Why, without secrets.
    pub message: String,
    /// The next command.
    pub hint: Option<String>,
    /// Whether it is not known if it happened.
    pub indeterminate: bool,
}

/// A step that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Whose.
    pub key: RecordKey,
    /// Which.
    pub step: StepDo,
    /// What it waited for.
    pub by: RecordKey,
    /// Why, as a fragment.
    pub why: String,
}

/// What an apply did.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The operation.
    pub operation: String,
    /// How it ended.
    pub ending: Ending,
    /// Whether a killed operation went on.
    pub resumed: bool,
    /// Steps that were done, those of the killed operation included.
    pub done: usize,
    /// Steps that failed.
    pub failed: Vec<Failure>,
    /// Steps that were not done.
    pub skipped: Vec<Skipped>,
    /// The state afterwards.
    pub snapshot: Snapshot,
}
