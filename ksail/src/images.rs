//! Images that a person puts into the nodes of a cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ksail_compiler::format::Provider as ProviderName;
use ksail_model::ProviderConfig;
use ksail_provider::CallContext;
use ksail_provider_docker::{ImagesFrom, NodeImages};
use tokio_util::sync::CancellationToken;

use crate::clusters::refused;
use crate::connector::docker;
use crate::error::{Error, codes};
use crate::platform::Platform;
use crate::settings::Settings;

/// How long all nodes may take to get images.
const LOAD_TIMEOUT: Duration = Duration::from_secs(3600);
/// Where large files that are gone soon are put, if the environment names no other folder.
const SCRATCH: &str = "/var/tmp";

/// What shall be put into nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSet {
    /// Images of the engine, by their names.
    Engine(Vec<String>),
    /// All of an archive.
    Archive(PathBuf),
}

/// A folder for large files that are gone soon.
pub(crate) fn scratch(settings: &Settings) -> PathBuf {
    let named = (settings.env)("TMPDIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let usual = || Some(PathBuf::from(SCRATCH)).filter(|folder| folder.is_dir());
    named.or_else(usual).unwrap_or_else(|| Path::new("/tmp").to_owned())
}

impl Platform {
    /// Puts images into nodes of the project's cluster, all or those that are named.
    ///
    /// # Errors
    /// The provider has no nodes; there is no such image, archive, cluster or node; or a node does not run.
    pub async fn load_images(
        &self,
        images: &ImageSet,
        nodes: &[String],
        cancel: CancellationToken,
    ) -> Result<Vec<NodeImages>, Error> {
        let provider = self.loaded.config.provider();
        if provider != ProviderName::Docker {
            let message = format!("provider {provider} has no nodes that images could be loaded into");
            let hint = match provider {
                ProviderName::Embedded => "its cluster runs no containers, so that its pods need no images",
                _ => "push them to a registry that the cluster pulls from",
            };
            return Err(Error::new(codes::NOT_FOUND, message, hint));
        }
        let engine = docker(&self.settings, &ProviderConfig::default(), None).map_err(refused)?;
        let context = CallContext { lineage: String::new(), operation: None, timeout: LOAD_TIMEOUT, cancel };
        let scratch = scratch(&self.settings);
        let from = match images {
            ImageSet::Engine(names) => ImagesFrom::Engine { names, scratch: &scratch },
            ImageSet::Archive(path) => ImagesFrom::Archive(path),
        };
        engine.load_images(&context, self.loaded.config.name(), nodes, from).await.map_err(refused)
    }
}
