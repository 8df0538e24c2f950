//! Plans and events as text, JSON and DOT. Everything here is a pure reader of a plan or of an event: it prints nothing,
//! asks no clock, and no text from outside reaches a terminal with its control characters.

pub mod dot;
pub mod events;
pub mod json;
mod mask;
mod outputs;
mod page;
mod printable;
pub mod text;
mod words;
