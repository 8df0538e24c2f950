//! What the compiler is given: texts, flags, and a narrow view of the outside.

use std::collections::BTreeMap;
use std::fmt;

/// A file's name and text.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The file, as the user named it.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl fmt::Debug for SourceFile {
    /// The text may hold a credential that somebody wrote there against the rules, so it is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceFile").field("name", &self.name).field("bytes", &self.text.len()).finish()
    }
}

/// All texts that make up one configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Sources {
    /// `ksail.yaml`.
    pub base: SourceFile,
    /// `ksail.<environment>.yaml`.
    pub overlay: Option<SourceFile>,
    /// Arguments of `--set`, each `path=value`.
    pub set: Vec<String>,
    /// The environment's name.
    pub environment: Option<String>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("base", &self.base)
            .field("overlay", &self.overlay)
            .field("set", &self.set.len())
            .field("environment", &self.environment)
            .finish()
    }
}

/// What the compiler may ask of the outside. The facade implements it; the compiler itself reads no
/// environment and no files.
pub trait Project {
    /// The value of an environment variable, if it is set. The compiler never puts the value of a variable that stands in a
    /// credential's place anywhere; it only asks whether it is set.
    fn env(&self, name: &str) -> Option<String>;

    /// What an archive of images holds. The path is relative to the project's folder.
    ///
    /// # Errors
    /// A fragment that says why it cannot be read.
    fn image_archive(&self, path: &str) -> Result<ArchiveFacts, String>;

    /// The bundle that all images are to be taken from, if one is given; a path as [`image_archive`](Self::image_archive) takes it.
    fn bundle(&self) -> Option<String> {
        None
    }

    /// The files of manifests that an entry of `spec.manifests` means: a file, all of a folder, or those that fit a pattern; in
    /// the order of their names. Relative to the project's folder.
    ///
    /// # Errors
    /// A fragment that says why there are none.
    fn manifests(&self, entry: &str) -> Result<Vec<SourceFile>, String>;

    /// A text file. The path is relative to the project's folder.
    ///
    /// # Errors
    /// A fragment that says why it cannot be read.
    fn file(&self, path: &str) -> Result<SourceFile, String>;

    /// Whether an expression over an object of Kubernetes can be used.
    ///
    /// # Errors
    /// What is wrong with it.
    fn expression(&self, text: &str) -> Result<(), BadExpression>;

    /// The kubeconfig that kubectl would write new entries to: below the home folder (`~/…`) or absolute.
    fn kubeconfig(&self) -> String;

    /// Whether a file or folder exists. The path is relative to the project's folder.
    fn exists(&self, path: &str) -> bool;
}

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadExpression {
    /// What, as a fragment.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What an archive of images holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveFacts {
    /// Its images by their canonical references: their digests, `sha256:…`.
    pub images: BTreeMap<String, String>,
}
