//! A Kubernetes API that an embedded process serves: a simulation, which says so in its version (`v1.36.3+ksail.embedded`).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ksail_embedded_kubernetes::{Cluster, Settings};
//! let cluster = Cluster::open(std::path::Path::new("a/folder"), Settings::default())?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let kubeconfig = cluster.kubeconfig(listener.local_addr()?, "dev");
//! let cancel = tokio_util::sync::CancellationToken::new();
//! cluster.serve(listener, cancel).await?;
//! # Ok(()) }
//! ```
//!
//! - [`Cluster::open`] reads or makes everything in its folder (made if missing, private to the user, locked while it is open):
//!   the authority, certificate and tokens once, the objects in a log with snapshots. It blocks; in async code run it on a
//!   blocking thread.
//! - [`Cluster::serve`] serves HTTPS until the token is cancelled. Controllers work meanwhile: workloads make pods, which run on
//!   nodes; nodes are objects that clients create (`v1.Node`), and become Ready.
//! - [`Cluster::kubeconfig`] is what clients need: address, authority, token.
//!
//! A write is in the log before it is answered and synced, so that neither a kill nor a power cut loses it. Nothing runs in
//! pods: there are no logs, no exec and no traffic.

mod allocation;
mod api;
mod cluster;
mod controllers;
mod http;
mod identity;
mod merge;
mod quantity;
mod registry;
mod settings;
mod status;
mod store;
mod strategy;
mod tokens;
mod types;
mod write;

pub use cluster::{Cluster, OpenError, ServeError};
pub use settings::{Operator, Requirement, Settings, Stage, StageKind};
