//! The executor on a simulated outside, with the local state in a folder.

mod ahead;
mod events;
mod faults;
mod fuzz;
mod runs;
mod support;
