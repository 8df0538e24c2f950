//! The suite against the simulated provider and against providers that break one rule each; the decorator; the world.

mod faults;
mod pipe;
mod planted;
mod subject;
mod suite;
mod world;
