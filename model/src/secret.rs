//! Secrets by reference. A secret's text is in no type of this crate.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Path;

/// A sensitive value: where it comes from, and a keyed fingerprint that tells whether it changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Secret {
    /// The parts whose texts, joined, are the value. Empty where only the outside knows the value
    /// (a secret that was observed, not declared).
    pub parts: Vec<SecretPart>,
    /// The keyed fingerprint of the value when it was last resolved, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

impl Secret {
    /// The value of one environment variable.
    pub fn env(name: impl Into<String>) -> Self {
        Self { parts: vec![SecretPart::Env(name.into())], fingerprint: None }
    }

    /// A secret seen outside, of which only the fingerprint is known.
    pub fn observed(fingerprint: Fingerprint) -> Self {
        Self { parts: Vec::new(), fingerprint: Some(fingerprint) }
    }

    /// This secret without its fingerprint: the reference alone, as the content digest takes it.
    pub fn reference(&self) -> Self {
        Self { parts: self.parts.clone(), fingerprint: None }
    }
}

/// A part of a secret's text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretPart {
    /// Text that is not secret by itself (a separator between two references).
    Literal(String),
    /// The value of an environment variable, which must be set.
    Env(String),
    /// The content of a file, without its trailing newline; relative to the project's folder.
    File(String),
    /// A value that stands in a manifest, where the plan and the state do not repeat it.
    Manifest {
        /// The file, relative to the project's folder.
        file: String,
        /// Which of its documents, from 0.
        document: usize,
        /// Where in the document.
        path: Path,
    },
    /// What a command writes to its standard output, without its trailing newline: the program and its arguments, run in the
    /// project's folder, by no shell.
    Command(Vec<String>),
    /// The bytes of another part in base64, as the data of a Kubernetes Secret hold them. A trailing newline stays.
    Base64(Box<SecretPart>),
    /// A value that was generated and is sealed in the vault under this name.
    Vault(String),
}

impl fmt::Display for SecretPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("text"),
            Self::Env(name) => write!(f, "${{{name}}}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Manifest { file, path, .. } => write!(f, "{path} of {file}"),
            Self::Command(words) => write!(f, "the output of {}", words.first().map_or("nothing", String::as_str)),
            Self::Base64(part) => part.fmt(f),
            Self::Vault(name) => write!(f, "vault entry {name}"),
        }
    }
}

/// A keyed fingerprint (HMAC-SHA-256 with a key from the vault, hexadecimal). Without the key it
/// tells nothing of the value, not even by guessing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub String);
