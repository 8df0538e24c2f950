//! The cluster, over the wire.

mod crash;
mod definitions;
mod harness;
mod helm;
mod informers;
mod kubectl;
mod life;
mod same;
mod stages;
