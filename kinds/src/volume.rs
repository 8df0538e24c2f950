//! Volumes.

use serde::{Deserialize, Serialize};

use crate::Spec;

/// A named volume. The identity's name is the volume's name. Attributes: `mountpoint`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// The driver (`local`).
    pub driver: String,
}

impl Spec for VolumeSpec {
    const KIND: &'static str = "volume";
}
