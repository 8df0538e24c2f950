//! Images of an archive in the nodes of a cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Spec;

/// Images that an archive brings into a machine, for what runs there. It lives in the machine. The identity's name is the
/// machine's. No attributes.
///
/// The images stay when it goes: pods may run of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageImportSpec {
    /// The archive, relative to the project's folder.
    pub path: String,
    /// By their canonical references, the digests of the images (`sha256:…`): of manifests, or what the references name.
    pub images: BTreeMap<String, String>,
    /// Whether it came with a bundle: then it stays declared by plans that are given none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bundle: bool,
}

impl Spec for ImageImportSpec {
    const KIND: &'static str = "image-import";
}
