//! Dispatch of a plan with a durable intent before every call.
//!
//! The engine reads no environment, folder or clock of its own, installs no signal handler, never prints or
//! exits. What it needs stands in [`Apply`].

mod apply;
mod dispatch;
mod event;
mod journal;
mod limits;
mod look;
mod sessions;
mod step;

pub use apply::{Apply, ApplyError, Failure, Skipped, Summary, apply};
pub use event::{Ending, Event, EventSink, Silent};
pub use journal::JournalError;
pub use limits::{Clock, Limits, NoSecrets, Secrets};
pub use look::Looker;
