//! How a call fails.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a failure means for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallErrorKind {
    /// It certainly did not happen, and may succeed when tried again (busy, rate limit).
    Transient,
    /// It certainly did not happen and will not without a change (refused, invalid).
    Refused,
    /// A thing of that identity exists and carries no mark of ours, or another's. Nothing was changed.
    NotOurs,
    /// The outside could not be reached; the call was certainly not sent.
    Unreachable,
    /// It is not known whether it happened: timeout, lost reply, cancelled in flight. The intent stays open.
    Indeterminate,
    /// The call was cancelled before anything was sent.
    Cancelled,
}

/// A call that failed. A message holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What it means.
    pub kind: CallErrorKind,
    /// What failed, where and why; a lowercase fragment that names the address that was called.
    pub message: String,
    /// The next command or action, if there is one.
    pub hint: Option<String>,
    /// How long the outside asked to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl CallError {
    /// A failure of a kind.
    pub fn new(kind: CallErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, retry_after_ms: None }
    }

    /// Did not happen; worth another try.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(CallErrorKind::Transient, message)
    }

    /// Did not happen and will not.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(CallErrorKind::Refused, message)
    }

    /// Exists and is not ours.
    pub fn not_ours(message: impl Into<String>) -> Self {
        Self::new(CallErrorKind::NotOurs, message)
    }

    /// Could not be reached; nothing was sent.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(CallErrorKind::Unreachable, message)
    }

    /// May or may not have happened.
    pub fn indeterminate(message: impl Into<String>) -> Self {
        Self::new(CallErrorKind::Indeterminate, message)
    }

    /// Cancelled before anything was sent.
    pub fn cancelled() -> Self {
        Self::new(CallErrorKind::Cancelled, "cancelled before the call was sent")
    }

    /// This error with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// This error with the wait that the outside asked for.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }
}
