//! Dispatch of a plan with a durable intent before every call.
//!
//! The engine reads no environment, folder or clock of its own, installs no signal handler, never prints or
//! exits. What it needs stands in [`Apply`].

mod apply;
mod dispatch;
mod event;
mod fit;
mod journal;
mod kept_plan;
mod limits;
mod look;
mod pace;
mod request;
mod sessions;
mod step;

pub use apply::{ApplyError, apply};
pub use event::{Ending, Event, EventSink, Silent};
pub use fit::check_fit;
pub use journal::JournalError;
pub use limits::{Clock, Limits, NoSecrets, Secrets, workers};
pub use look::Looker;
pub use request::{Apply, Failure, Skipped, Summary};
