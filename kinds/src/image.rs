//! Images on an engine.

use serde::{Deserialize, Serialize};

use crate::Spec;

/// How an image comes onto the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, tag = "from")]
pub enum ImageSource {
    /// It must be there already; it is neither pulled nor removed.
    Present {},
    /// Pulled where it is absent.
    Pull {},
    /// Loaded from a tar (the `docker save` layout or an OCI layout).
    Archive {
        /// The file, relative to the project's folder.
        path: String,
        /// Digest of the image's manifest in it at planning (`sha256:…`), so that another content is a change and a file
        /// whose image changed since the plan is refused.
        digest: String,
    },
}

/// An image. The identity's name is the full reference (`docker.io/library/registry:3`). Shared ownership: it is removed only
/// when no other lineage's mark remains and it was not there before us. Attributes: `id` (the engine's image id), `digest` (the
/// repository digest, where there is one).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// The full reference.
    pub reference: String,
    /// How it comes here.
    pub source: ImageSource,
}

impl Spec for ImageSpec {
    const KIND: &'static str = "image";
}
