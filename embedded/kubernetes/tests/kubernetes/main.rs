//! The cluster, over the wire.

mod crash;
mod definitions;
mod harness;
mod helm;
mod informers;
mod kubectl;
mod life;
mod requests;
mod same;
mod stages;
