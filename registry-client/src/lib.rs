//! The client side of the distribution interface of registries. It knows nothing of ksail.
//!
//! [`Upstream`] asks one registry for manifests and blobs: with token and basic authentication, redirects and private
//! authorities. What it gives is not verified: whoever asks knows the digest.

mod client;
mod error;

pub use client::{Credentials, Upstream, bounded_body, causes, is_loopback};
pub use error::UpstreamError;

use std::net::SocketAddr;

/// All that is asked for when a manifest of any kind is wanted: images and indexes, as the standard and as Docker calls them.
pub const ACCEPT: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Who is reached by a name that the machine's own resolver does not know.
pub trait Neighbours: Send + Sync {
    /// Where a port of that name is, if there is one now.
    fn find(&self, name: &str, port: u16) -> Option<SocketAddr>;
}
