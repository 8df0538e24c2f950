//! The cluster, over the wire.

mod crash;
mod harness;
mod kubectl;
mod life;
mod same;
mod stages;
