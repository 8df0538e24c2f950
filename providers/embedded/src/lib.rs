//! The embedded engine process as a resource, and the Kubernetes clusters that it serves.
//!
//! An engine is a folder below the state's, and a background process that serves it. The folder holds the engine's
//! identity and our mark; the process is recognised by a nonce that it proves to know, never by its pid, and an OS lock in the
//! folder sees to it that there is one at most.

mod clusters;
mod folder;
mod holder;
mod process;
mod provider;
mod talk;

pub use clusters::ClusterProvider;
pub use provider::{EmbeddedProvider, SCOPE};
