//! What the tasks and the measured engine process share.

pub mod graph;
