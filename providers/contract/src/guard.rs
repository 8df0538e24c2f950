//! The deadline and the cancellation of a call, at each of its awaits.

use std::future::Future;

use tokio::time::Instant;

use crate::{CallContext, CallError};

/// What ended an await early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The call was cancelled.
    Cancelled,
    /// Its deadline is past.
    Deadline,
}

/// Awaits, unless the call is cancelled or its deadline comes first. A cancellation goes before an answer, and an answer
/// before the deadline.
pub async fn guard<F: Future>(context: &CallContext, deadline: Instant, future: F) -> Result<F::Output, Stop> {
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(Stop::Cancelled),
        output = future => Ok(output),
        () = tokio::time::sleep_until(deadline) => Err(Stop::Deadline),
    }
}

impl Stop {
    /// What it means for the call: where something that changes was sent (`sent`) it may have happened.
    pub fn into_error(self, what: &str, place: &str, sent: bool) -> CallError {
        match self {
            Self::Cancelled if sent => CallError::indeterminate(format!("{what}: cancelled in flight")),
            Self::Cancelled => CallError::cancelled(),
            Self::Deadline if sent => {
                CallError::indeterminate(format!("{what}: no answer from {place} before the deadline"))
            }
            Self::Deadline => CallError::unreachable(format!("{what}: {place} did not answer before the deadline")),
        }
    }
}
