//! Pinned images of what ksail makes by itself. Data.

/// An image of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CatalogueImage {
    /// The entry's name, as origins show it.
    pub(crate) entry: &'static str,
    /// The full reference.
    pub(crate) reference: &'static str,
}

/// The version of Kubernetes whose types the embedded engine's clusters have, and which they state where the file names none.
pub(crate) const EMBEDDED_KUBERNETES: &str = "v1.36.3";

/// The version of Kubernetes of clusters on a Docker Engine where the file names none: one that kind 0.33 has a node image of.
pub(crate) const NODE_KUBERNETES: &str = "v1.36.4";

/// The node image of a version of Kubernetes, without its tag.
pub(crate) const NODE_IMAGE: &str = "docker.io/kindest/node";

/// What stands before several control planes on a Docker Engine: an image of HAProxy that has a shell.
pub(crate) const LOAD_BALANCER: CatalogueImage =
    CatalogueImage { entry: "load balancer", reference: "docker.io/library/haproxy:3.2-alpine" };

/// The registry behind local registries and mirrors on a Docker Engine.
pub(crate) const REGISTRY: CatalogueImage =
    CatalogueImage { entry: "registry", reference: "docker.io/library/registry:2.8.3" };

/// The same on the embedded engine, which has it built in.
pub(crate) const EMBEDDED_REGISTRY: CatalogueImage =
    CatalogueImage { entry: "registry on the embedded engine", reference: "ksail.io/embedded/registry:1" };
