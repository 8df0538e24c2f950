//! The planner on hand-made and generated graphs.

mod hosts;
mod intents;
mod orders;
mod others;
mod properties;
mod rules;
mod stories;
mod support;
