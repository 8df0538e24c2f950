//! Dispatch of a plan with a durable intent before every call.

mod event;

pub use event::{Ending, Event, EventSink, Silent};
