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

impl VolumeSpec {
    /// Whether a volume has no name but the id that the engine gave it, as those that it makes for an image's own mount points.
    pub fn is_anonymous(name: &str) -> bool {
        const DIGITS: usize = 64;
        name.len() == DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}
