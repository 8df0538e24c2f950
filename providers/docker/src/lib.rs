//! Networks, volumes, images, containers, registries, mirrors and the machines of clusters on a Docker Engine, or on what serves its API: Docker
//! Desktop, colima, OrbStack, rootless Docker, Podman and the embedded engine.
//!
//! - [`Endpoint`] tells where the engine is, from settings, environment, Docker contexts and known sockets.
//! - [`DockerProvider`] is the provider's open connection to it.
//!
//! Whose a thing is stands on the thing: labels that begin with `dev.ksail.`, and for images, which cannot be
//! labelled, a further tag `ksail.io/owner/…`.

mod addon;
mod archive;
mod bootstrap;
mod call;
mod certificates;
mod claim;
mod cluster;
mod compare;
mod container;
mod control_plane;
mod credentials;
mod digest;
mod drain;
mod endpoint;
mod etcd;
mod exec;
mod host;
mod image;
mod image_fetch;
mod image_import;
mod image_load;
mod ipv6;
mod joining;
mod kubeadm_changes;
mod kubeadm_documents;
mod labels;
mod load_balancer;
mod log_lines;
mod logs;
mod machine;
mod machine_plan;
mod made_by_kind;
mod network;
mod node_addresses;
mod node_images;
mod nodes;
mod observed;
mod owner_tag;
mod ownership;
mod pinned;
mod plan;
mod podman;
mod port_holder;
mod ports;
mod probe;
mod provider;
mod proxies;
mod reconfigure;
mod reference;
mod registration;
mod session;
mod steps;
mod subnets;
mod upgrade;
mod volume;
mod wait;
mod why_not;
mod written;

pub use endpoint::{Endpoint, EndpointError};
pub use host::{HostFacts, OwnFacts};
pub use image_load::{ImagesFrom, NodeImages, SavedImages};
pub use ipv6::Ipv6;
pub use logs::ExportedLogs;
pub use nodes::NodeContainer;
pub use provider::DockerProvider;

// The client library logs requests and answers whole, and those hold passwords.
const _: () =
    assert!(log::STATIC_MAX_LEVEL as usize <= log::LevelFilter::Info as usize, "the client would log secrets");
