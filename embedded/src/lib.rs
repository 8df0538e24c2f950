//! The embedded engine: a simulation of a container engine that needs nothing installed.
//!
//! It answers the part of the Docker Engine interface that is needed to keep networks, volumes, images and
//! containers, on a Unix socket in its folder. Containers of the one built-in image ([`BUILTIN_IMAGE`]) run as real OCI
//! registries on real loopback ports, in this process; no other image can run. Kubernetes clusters, which a Docker Engine has
//! not, are served as simulated APIs, below `/ksail/clusters`. It says that it is a simulation in its
//! version, in its information and on its status page.
//!
//! Where it differs from a Docker Engine, beside what it does not answer at all:
//! - A mirror (a registry that pulls through) starts, and is ready, also while its upstream cannot be reached; the
//!   registry in a container asks its upstream first, and ends. Here what was kept is served, and the rest is an error.
//! - Names within a network lead to published ports only.
//! - The log of a container says when it began to serve and where, or why it could not, and no more.
//!
//! What it answered is on disk (synced) before the answer; after a kill at any moment everything that was answered is there
//! again, and what was half made is gone.

mod clusters;
mod digests;
mod durable;
mod engine;
mod folder;
mod interface;
mod log;
mod neighbours;
mod reference;
mod registry;
mod world;

pub use engine::{EngineError, EngineOptions, run};
pub use folder::ENGINE_FORMAT;
pub use world::BUILTIN_IMAGE;
