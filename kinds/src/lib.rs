//! The typed spec and schema of every kind of resource: typed at both ends (compiler and provider), generic in the
//! middle. Pure.

mod authority;
mod catalogue;
mod certificate;
mod cluster;
mod container;
mod containerd;
mod engine;
mod image;
mod image_import;
mod image_reference;
mod kubeconfig;
mod load_balancer;
mod machine;
mod mirror;
mod network;
mod node;
mod registry;
mod volume;

pub use authority::host_and_port;
pub use catalogue::{BuiltinKinds, KINDS};
pub use certificate::Validity;
pub use cluster::{ClusterSpec, Stage, StageRequirement};
pub use container::{ContainerSpec, HealthCheck, Mount, Port, Protocol, Restart};
pub use containerd::ContainerdPatches;
pub use engine::EngineSpec;
pub use image::{ImageSource, ImageSpec};
pub use image_import::ImageImportSpec;
pub use image_reference::{canonical_reference, digest_of_reference, full_reference};
pub use kubeconfig::KubeconfigSpec;
pub use load_balancer::LoadBalancerSpec;
pub use machine::{
    AddonSpec, BootstrapAction, BootstrapSpec, EtcdMemberSpec, MachineMount, MachineRole, MachineSpec, Propagation,
};
pub use mirror::MirrorSpec;
pub use network::NetworkSpec;
pub use node::{KUBELET_VERSION, NODE, takes_pods};
pub use registry::RegistrySpec;
pub use volume::VolumeSpec;

use ksail_model::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value is not in the shape of its kind's spec.
#[derive(Debug, thiserror::Error)]
#[error("the spec is not that of a {kind}")]
pub struct SpecError {
    kind: &'static str,
    source: serde_json::Error,
}

/// A kind's typed spec.
pub trait Spec: Serialize + DeserializeOwned {
    /// The kind, as it stands in addresses.
    const KIND: &'static str;

    /// The spec as a generic value. Optional fields that are not given are left out.
    fn to_value(&self) -> Value {
        serde_json::to_value(self).and_then(serde_json::from_value).unwrap_or_default()
    }

    /// The spec from a generic value; unknown fields are errors.
    fn from_value(value: &Value) -> Result<Self, SpecError> {
        serde_json::to_value(value)
            .and_then(serde_json::from_value)
            .map_err(|source| SpecError { kind: Self::KIND, source })
    }
}
