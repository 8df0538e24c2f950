//! Events: one closed enum, of which terminal, JSON lines and recordings are readers.

use ksail_model::RecordKey;
use ksail_plan::{Counts, StepDo};
use serde::{Deserialize, Serialize};

/// How an apply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All that was planned is done.
    Complete,
    /// Some nodes failed or were blocked.
    Partial,
    /// Interrupted in order; the same command goes on.
    Interrupted,
}

/// Something that happened during an apply. Times are milliseconds since the apply began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Event {
    /// The apply begins.
    Started {
        /// The operation's id.
        operation: String,
        /// Whether a killed operation goes on.
        resumed: bool,
        /// What is planned.
        counts: Counts,
        /// How many steps there are, of which so many are done already (resumed).
        steps: usize,
        /// Steps done before.
        done: usize,
    },
    /// The changing nodes are being looked at again.
    Verifying {
        /// How many.
        nodes: usize,
    },
    /// What a call of a killed operation turned out to be.
    Resolved {
        /// Whose.
        key: RecordKey,
        /// What, as a fragment (`its create had succeeded`).
        what: String,
    },
    /// A step's call is being made.
    StepStarted {
        /// Whose.
        key: RecordKey,
        /// What.
        step: StepDo,
        /// When.
        at_ms: u64,
        /// How long it took last time, or the kind's estimate.
        estimate_ms: u64,
    },
    /// A step's call is tried again.
    StepRetried {
        /// Whose.
        key: RecordKey,
        /// What.
        step: StepDo,
        /// Which try comes, from 2.
        attempt: u32,
        /// Why, without secrets.
        message: String,
        /// How long is waited before it.
        wait_ms: u64,
    },
    /// The call has returned; it is waited until the thing is ready.
    StepWaiting {
        /// Whose.
        key: RecordKey,
        /// Why it is not ready, as a fragment.
        why: String,
        /// When.
        at_ms: u64,
    },
    /// A step's call is under way and waits for something.
    StepHeld {
        /// Whose.
        key: RecordKey,
        /// What.
        step: StepDo,
        /// For what, as a fragment.
        why: String,
        /// When.
        at_ms: u64,
    },
    /// A step is over.
    StepDone {
        /// Whose.
        key: RecordKey,
        /// What.
        step: StepDo,
        /// When.
        at_ms: u64,
        /// How long it took.
        took_ms: u64,
    },
    /// A step failed.
    StepFailed {
        /// Whose.
        key: RecordKey,
        /// What.
        step: StepDo,
        /// When.
        at_ms: u64,
        /// Why, without secrets.
        message: String,
        /// The next command.
        hint: Option<String>,
        /// Whether it is not known if it happened.
        indeterminate: bool,
    },
    /// A step is not done because of another.
    StepBlocked {
        /// Whose.
        key: RecordKey,
        /// What.
        step: StepDo,
        /// The step that failed or was blocked.
        by: RecordKey,
        /// Why, as a fragment.
        why: String,
    },
    /// Something to say that belongs to no step (a cancellation was heard, a lock is waited for).
    Note {
        /// What.
        message: String,
    },
    /// The apply is over.
    Finished {
        /// The operation's id.
        operation: String,
        /// How.
        ending: Ending,
        /// Steps done.
        done: usize,
        /// Steps that failed.
        failed: usize,
        /// Steps blocked by those, or not begun.
        blocked: usize,
        /// When.
        at_ms: u64,
    },
}

/// Takes events. It must not block: a slow terminal may not slow the apply.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Takes and forgets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl EventSink for Silent {
    fn event(&self, _: Event) {}
}
