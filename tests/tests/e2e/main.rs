//! The built binary, end to end: each test has a project and an engine of its own.

mod support;

mod choices;
mod commands;
mod docker;
mod drift;
mod engines;
mod interrupts;
mod kills;
mod lifecycle;
mod lost;
mod plans;
mod secrets;
mod state;
