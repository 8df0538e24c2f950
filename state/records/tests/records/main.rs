//! Replay: which transitions are legal, and what they lead to.

mod arbitrary;
mod json;
mod oracle;
mod replay;
mod samples;
mod transitions;
