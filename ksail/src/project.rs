//! The project's files: the configuration, and what the compiler may ask of the outside.

use std::fs;
use std::path::{Path, PathBuf};

use ksail_archives::Archive;
use ksail_compiler::{ArchiveFacts, BadExpression, Project, SourceFile, Sources};
use ksail_expressions::Expression;

use crate::error::{Error, codes};
use crate::settings::Settings;

/// The largest configuration that is read.
const LARGEST_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

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

    fn bundle(&self) -> Option<String> {
        self.0.bundle.as_ref().map(|path| path.display().to_string())
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

/// What an archive holds, by its small documents: no image is read.
fn read_archive(path: &Path) -> Result<ArchiveFacts, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let archive = Archive::read(file, std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let images = archive.images().iter().map(|(name, image)| (name.clone(), image.digest().to_owned()));
    Ok(ArchiveFacts { images: images.collect() })
}
