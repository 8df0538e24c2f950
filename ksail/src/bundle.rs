//! Bundles: all images that a plan needs in one archive, so that a cluster can be made where nothing can be pulled.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ksail_archives::{Archive, Chosen, write};
use ksail_compiler::format::Provider as ProviderName;
use ksail_compiler::{ImageFrom, NeededImage, declare_import, needed_images};
use ksail_kinds::{ImageImportSpec, Spec as _, digest_of_reference};
use ksail_model::{DeclaredGraph, ProviderConfig};
use ksail_provider::CallContext;
use ksail_records::Snapshot;
use tokio_util::sync::CancellationToken;

use crate::clusters::refused;
use crate::connector::docker;
use crate::error::{Error, codes};
use crate::images::scratch;
use crate::platform::Platform;

/// How long all images may take to be pulled and saved.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// What a bundle is called as long as it is not whole.
const PARTIAL: &str = "partial";

/// A bundle that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The images in it, by their canonical references: their digests.
    pub images: BTreeMap<String, String>,
    /// Those that the engine lacked, and has now.
    pub pulled: Vec<String>,
}

/// An archive with the names of the images that are taken from it, there and in the bundle.
type Taken = (Arc<Archive>, Vec<(String, String)>);

impl Platform {
    /// Writes a bundle: an OCI layout in a tar, with every image that a plan of the project needs. What the engine lacks of them
    /// it pulls first, and keeps. Images that are named by a digest come from their registries.
    ///
    /// # Errors
    /// The file does not compile, the provider has no engine, an image cannot be had, or the bundle cannot be written.
    pub async fn create_bundle(&self, out: &Path, cancel: CancellationToken) -> Result<Bundle, Error> {
        let provider = self.loaded.config.provider();
        if provider != ProviderName::Docker {
            return Err(no_images(&provider.to_string()));
        }
        let stack = self.stack()?;
        let needed = needed_images(&self.loaded, &stack.graph);
        if needed.is_empty() {
            let message = "what the file declares needs no images";
            return Err(Error::new(codes::NOT_FOUND, message, "`ksail plan` shows what is declared"));
        }
        let (taken, pulled) = self.take(&needed, cancel).await?;
        let mut images = BTreeMap::new();
        for (archive, names) in &taken {
            for (from, name) in names {
                let image = archive.image(from).map_err(|error| broken(&error.to_string()))?;
                images.insert(name.clone(), image.digest().to_owned());
            }
        }
        let path = out.to_owned();
        let writing = tokio::task::spawn_blocking(move || write_bundle(&path, &taken));
        let bytes = writing.await.map_err(|error| broken(&error.to_string()))??;
        Ok(Bundle { path: out.to_owned(), bytes, images, pulled })
    }

    /// Opens the archives that hold what is needed; what only the engine has is saved by it.
    async fn take(
        &self,
        needed: &[NeededImage],
        cancel: CancellationToken,
    ) -> Result<(Vec<Taken>, Vec<String>), Error> {
        let mut by_archive: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
        let mut of_engine = Vec::new();
        for image in needed {
            match &image.from {
                ImageFrom::Archive(path) => {
                    let names = by_archive.entry(path).or_default();
                    names.push((image.reference.clone(), image.reference.clone()));
                }
                ImageFrom::Engine(reference) => of_engine.push((reference.clone(), image.reference.clone())),
            }
        }
        let mut taken = Vec::new();
        for (path, names) in by_archive {
            let path = self.settings.project.join(path);
            let io = |source| Error::Io { doing: "read", path: path.clone(), source };
            let archive = Archive::read(File::open(&path).map_err(io)?, std::env::consts::ARCH);
            taken.push((Arc::new(archive.map_err(|error| broken(&format!("{}: {error}", path.display())))?), names));
        }
        let mut pulled = Vec::new();
        if !of_engine.is_empty() {
            let engine = docker(&self.settings, &ProviderConfig::default(), None).map_err(refused)?;
            let context = CallContext { lineage: String::new(), operation: None, timeout: TIMEOUT, cancel };
            let mut names: Vec<String> = of_engine.iter().map(|(from, _)| from.clone()).collect();
            names.sort();
            names.dedup();
            let saved = engine.save_images(&context, &names, &scratch(&self.settings)).await.map_err(refused)?;
            pulled = saved.pulled;
            let (pinned, tagged) = of_engine.into_iter().partition(|(from, _)| digest_of_reference(from).is_some());
            let archives = [(saved.of_engine, tagged), (saved.of_registries, pinned)];
            taken.extend(archives.into_iter().filter_map(|(archive, names)| Some((archive?, names))));
        }
        Ok((taken, pulled))
    }
}

pub(crate) fn no_images(provider: &str) -> Error {
    let message = format!("a bundle is for an engine that pulls images, and provider {provider} has none");
    let hint = match provider {
        "Embedded" => "leave it out: the embedded engine has its image built in, and its pods need none",
        _ => "leave it out: nodes of such a cluster pull their images themselves",
    };
    Error::new(codes::NOT_FOUND, message, hint)
}

fn broken(why: &str) -> Error {
    Error::new(codes::IO, format!("the bundle cannot be written: {why}"), "run the same command again")
}

/// Writes beside the place, and puts it there when it is whole.
fn write_bundle(path: &Path, taken: &[Taken]) -> Result<u64, Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{PARTIAL}"));
    let partial = path.with_file_name(name);
    let written = write_and_sync(&partial, taken).and_then(|bytes| {
        std::fs::rename(&partial, path).map(|()| bytes).map_err(|source| Error::Io {
            doing: "rename",
            path: partial.clone(),
            source,
        })
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

fn write_and_sync(partial: &Path, taken: &[Taken]) -> Result<u64, Error> {
    let io = |source| Error::Io { doing: "write", path: partial.to_owned(), source };
    let mut chosen = Vec::new();
    for (archive, names) in taken {
        chosen.extend(names.iter().map(|(from, name)| Chosen { archive, from, name }));
    }
    // The same images are the same bundle, wherever they came from.
    chosen.sort_by(|a, b| a.name.cmp(b.name));
    let file = write(&chosen, File::create(partial).map_err(io)?).map_err(|error| broken(&error.to_string()))?;
    file.sync_all().map_err(io)?;
    Ok(file.metadata().map_err(io)?.len())
}

/// Declares what a bundle has brought into nodes, as it is recorded, where none is given now: the nodes have their images, whoever
/// plans next.
pub(crate) fn keep_imports(graph: &mut DeclaredGraph, snapshot: &Snapshot) {
    for (key, record) in &snapshot.records {
        let declaration = &record.declaration;
        let host = declaration.host.as_ref();
        let is_kept = key.deposed.is_none()
            && key.address.kind() == ImageImportSpec::KIND
            && !graph.declarations.contains_key(&key.address)
            && host.is_some_and(|host| graph.declarations.contains_key(host))
            && ImageImportSpec::from_value(&declaration.spec).is_ok_and(|spec| spec.bundle);
        if is_kept {
            declare_import(graph, declaration.as_ref().clone());
        }
    }
}
