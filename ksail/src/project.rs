//! The project's files: the configuration, and what the compiler may ask of the outside.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ksail_compiler::{ArchiveFacts, BadExpression, Project, SourceFile, Sources};
use ksail_expressions::Expression;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, codes};
use crate::settings::Settings;

/// The largest configuration that is read.
const LARGEST_CONFIG_BYTES: u64 = 4 * 1024 * 1024;
/// The largest index of an image archive that is read.
const LARGEST_INDEX_BYTES: u64 = 16 * 1024 * 1024;

/// Which files make up the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFiles {
    /// The file.
    pub base: PathBuf,
    /// The environment's file.
    pub overlay: Option<PathBuf>,
}

/// Finds and reads the configuration.
pub(crate) fn read_sources(settings: &Settings) -> Result<(Sources, ConfigFiles), Error> {
    if !settings.project.is_dir() {
        let message = format!("there is no folder {}", settings.project.display());
        return Err(Error::new(codes::IO, message, "-C names the project's folder"));
    }
    let named = settings.file.clone().unwrap_or_else(|| PathBuf::from("ksail.yaml"));
    let base = settings.project.join(&named);
    let overlay = settings.environment.as_ref().map(|environment| {
        let stem = named.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let extension =
            named.extension().map_or_else(|| "yaml".into(), |extension| extension.to_string_lossy().into_owned());
        named.with_file_name(format!("{stem}.{environment}.{extension}"))
    });
    let base_file = read_text(&base, &named).map_err(|error| match &error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Error::new(
            codes::IO,
            match settings.project.as_os_str().to_str() {
                Some(".") => format!("there is no {} here", named.display()),
                _ => format!("there is no {} in {}", named.display(), settings.project.display()),
            },
            "`ksail init` writes one; -f names another file, -C another folder",
        ),
        _ => error,
    })?;
    let overlay_file = match (&overlay, &settings.environment) {
        (Some(file), Some(environment)) => {
            let path = settings.project.join(file);
            Some(read_text(&path, file).map_err(|error| match &error {
                Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Error::new(
                    codes::IO,
                    format!("environment {environment} has no file: there is no {}", path.display()),
                    "write it, with only what differs from ksail.yaml, or choose another --environment",
                ),
                _ => error,
            })?)
        }
        _ => None,
    };
    let files = ConfigFiles { base: named, overlay };
    let sources = Sources {
        base: base_file,
        overlay: overlay_file,
        set: settings.set.clone(),
        environment: settings.environment.clone(),
    };
    Ok((sources, files))
}

fn read_text(path: &Path, named: &Path) -> Result<SourceFile, Error> {
    let io = |source| Error::Io { doing: "read", path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(io)?.len();
    if size > LARGEST_CONFIG_BYTES {
        let message = format!("{} has {size} bytes; at most {LARGEST_CONFIG_BYTES} are read", path.display());
        return Err(Error::new(codes::IO, message, "is it the right file?"));
    }
    let text = fs::read_to_string(path).map_err(io)?;
    tracing::debug!(path = %path.display(), bytes = text.len(), "configuration read");
    Ok(SourceFile { name: named.display().to_string(), text })
}

/// What the compiler may ask of the outside.
pub(crate) struct ProjectView<'a>(pub(crate) &'a Settings);

impl Project for ProjectView<'_> {
    fn env(&self, name: &str) -> Option<String> {
        (self.0.env)(name)
    }

    fn image_archive(&self, path: &str) -> Result<ArchiveFacts, String> {
        read_archive(&self.0.project.join(path))
    }

    fn manifests(&self, entry: &str) -> Result<Vec<SourceFile>, String> {
        crate::manifest_files::read(&self.0.project, entry)
    }

    fn file(&self, path: &str) -> Result<SourceFile, String> {
        let text = fs::read_to_string(self.0.project.join(path)).map_err(|error| error.to_string())?;
        Ok(SourceFile { name: path.to_owned(), text })
    }

    fn expression(&self, text: &str) -> Result<(), BadExpression> {
        let checked = Expression::parse(text).map(drop);
        checked.map_err(|error| BadExpression { message: error.to_string(), hint: error.hint() })
    }

    fn kubeconfig(&self) -> String {
        let (settings, here) = (self.0, std::path::absolute(".").unwrap_or_default());
        ksail_provider_kubeconfig::default_file(
            (settings.env)("KUBECONFIG").as_deref(),
            settings.home().as_deref(),
            &here,
        )
    }

    fn exists(&self, path: &str) -> bool {
        self.0.project.join(path).exists()
    }
}

/// Reads an archive of images once: its digest, and the references in `manifest.json` (`docker save`) or `index.json` (OCI
/// layout).
fn read_archive(path: &Path) -> Result<ArchiveFacts, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let mut archive = tar::Archive::new(Hashing { inner: file, digest: Sha256::new() });
    let mut references = Vec::new();
    let mut known = false;
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| format!("it is not a tar: {error}"))?;
        let name = entry.path().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        if !matches!(name.trim_start_matches("./"), "manifest.json" | "index.json") {
            continue;
        }
        let mut text = String::new();
        entry
            .by_ref()
            .take(LARGEST_INDEX_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| format!("{name}: {error}"))?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        known = true;
        references.extend(if name.ends_with("manifest.json") { saved(&json) } else { laid_out(&json) });
    }
    let mut reader = archive.into_inner();
    std::io::copy(&mut reader, &mut std::io::sink()).map_err(|error| error.to_string())?;
    if !known {
        return Err("it is not an image archive: it has neither manifest.json nor index.json".to_owned());
    }
    references.sort();
    references.dedup();
    if references.is_empty() {
        return Err("its images have no names: save them by name, not by id".to_owned());
    }
    let digest = reader.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(ArchiveFacts { digest: format!("sha256:{digest}"), references })
}

/// The names in `docker save`'s index.
fn saved(json: &serde_json::Value) -> Vec<String> {
    let images = json.as_array().into_iter().flatten();
    images
        .flat_map(|image| image["RepoTags"].as_array().into_iter().flatten())
        .filter_map(|tag| tag.as_str().map(str::to_owned))
        .collect()
}

/// The names in an OCI layout's index: containerd's annotation is the whole reference, the standard's often only a tag.
fn laid_out(json: &serde_json::Value) -> Vec<String> {
    let manifests = json["manifests"].as_array().into_iter().flatten();
    manifests
        .filter_map(|manifest| {
            let annotations = &manifest["annotations"];
            let whole = annotations["io.containerd.image.name"].as_str();
            let standard =
                annotations["org.opencontainers.image.ref.name"].as_str().filter(|name| name.contains(['/', ':']));
            whole.or(standard).map(str::to_owned)
        })
        .collect()
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    digest: Sha256,
}

impl<R: std::io::Read> std::io::Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}
