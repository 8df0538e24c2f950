//! The built binary, end to end: each test has a project and an engine of its own.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "seeds, counts and what did not run are for people")]

mod support;

mod choices;
mod cluster;
mod cluster_faults;
mod cluster_upgrades;
mod commands;
mod docker;
mod drift;
mod engines;
mod interrupts;
mod kills;
mod kubeconfig;
mod kubernetes;
mod lifecycle;
mod lost;
mod machines;
mod object_faults;
mod objects;
mod plans;
mod scripts;
mod secrets;
mod shared;
mod stages;
mod state;
mod tls;
mod undo;
