//! From references to texts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ksail_model::{Path, Secret, SecretPart, Value};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{SecretError, Vault, files};

/// A secret file larger than this is refused.
pub const SECRET_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a command wrote, or why there is nothing.
pub type CommandOutput = Result<Zeroizing<Vec<u8>>, String>;

/// Resolves references to secrets, from what the caller passes in.
pub struct Resolver<'a> {
    /// Looks an environment variable up.
    pub env: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// The project's folder, which paths of secret files are relative to.
    pub project: PathBuf,
    /// The text at a path of a document of a file of manifests; or why there is none, as a fragment without the text.
    pub manifest: &'a (dyn Fn(&str, usize, &Path) -> Result<String, String> + Sync),
    /// What a command writes to its standard output; or why there is nothing, as a fragment without what it wrote.
    pub command: &'a (dyn Fn(&[String]) -> CommandOutput + Sync),
    /// The vault, if there is one.
    pub vault: Option<&'a Vault>,
}

/// Bytes as a text, without one newline at its end.
fn text(bytes: &[u8]) -> Result<SecretString, &'static str> {
    let text = str::from_utf8(bytes).map_err(|_| "is not text")?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() { Err("is empty") } else { Ok(text.into()) }
}

fn no_output(words: &[String], why: String) -> SecretError {
    SecretError::NoOutput { program: words.first().cloned().unwrap_or_default(), why }
}

impl Resolver<'_> {
    /// The text of a secret: those of its parts, joined. A part that is missing or empty is an error that names it.
    pub fn resolve(&self, secret: &Secret) -> Result<SecretString, SecretError> {
        if secret.parts.is_empty() {
            return Err(SecretError::OnlyObserved);
        }
        let parts = secret.parts.iter().map(|part| self.part(part)).collect::<Result<Vec<_>, _>>()?;
        // Room for all from the start: a text that grows leaves copies behind that nobody zeroes.
        let mut text = String::with_capacity(parts.iter().map(|part| part.expose_secret().len()).sum());
        for part in &parts {
            text.push_str(part.expose_secret());
        }
        Ok(text.into())
    }

    fn part(&self, part: &SecretPart) -> Result<SecretString, SecretError> {
        match part {
            SecretPart::Literal(text) => Ok(text.as_str().into()),
            SecretPart::Env(name) => match (self.env)(name) {
                None => Err(SecretError::UnsetVariable { name: name.clone() }),
                Some(text) if text.is_empty() => Err(SecretError::EmptyVariable { name: name.clone() }),
                Some(text) => Ok(text.into()),
            },
            SecretPart::File(path) => {
                let bytes = self.file(path)?;
                text(&bytes).map_err(|why| SecretError::UnusableFile { path: self.project.join(path), why })
            }
            SecretPart::Command(words) => {
                let bytes = self.output(words)?;
                text(&bytes).map_err(|why| no_output(words, format!("what it writes {why}")))
            }
            SecretPart::Base64(part) => Ok(STANDARD.encode(self.bytes(part)?).into()),
            SecretPart::Manifest { file, document, path } => match (self.manifest)(file, *document, path) {
                Ok(text) => Ok(text.into()),
                Err(why) => Err(SecretError::NotInManifest { path: self.project.join(file), why }),
            },
            SecretPart::Vault(name) => {
                let vault = self.vault.ok_or_else(|| SecretError::NoVault { name: name.clone() })?;
                let missing = || SecretError::NoEntry { path: vault.path().to_owned(), name: name.clone() };
                vault.get(name).cloned().ok_or_else(missing)
            }
        }
    }

    /// The bytes of a part, which need not be text.
    fn bytes(&self, part: &SecretPart) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let bytes = match part {
            SecretPart::File(path) => self.file(path)?,
            SecretPart::Command(words) => self.output(words)?,
            other => Zeroizing::new(self.part(other)?.expose_secret().as_bytes().to_vec()),
        };
        match (bytes.is_empty(), part) {
            (true, SecretPart::File(path)) => {
                Err(SecretError::UnusableFile { path: self.project.join(path), why: "is empty" })
            }
            (true, SecretPart::Command(words)) => Err(no_output(words, "what it writes is empty".to_owned())),
            _ => Ok(bytes),
        }
    }

    fn file(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let path = self.project.join(path);
        match files::read_bounded(&path, SECRET_FILE_BYTES_MAX) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(SecretError::UnusableFile { path, why: "is too large" }),
            Err(source) => Err(SecretError::UnreadableFile { path, source }),
        }
    }

    fn output(&self, words: &[String]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        (self.command)(words).map_err(|why| no_output(words, why))
    }

    /// The value with a fingerprint in every secret that can be resolved here. Secrets that were only seen outside keep
    /// theirs. Without a vault there is no key: secrets are then resolved, so that a missing one shows, and have no
    /// fingerprint.
    pub fn fingerprinted(&self, value: &Value) -> Result<Value, SecretError> {
        let mut failed = None;
        let value = value.map_leaves(&mut |leaf| match leaf {
            Value::Secret(secret) if failed.is_none() && !secret.parts.is_empty() => match self.resolve(secret) {
                Ok(text) => {
                    let fingerprint = self.vault.map(|vault| vault.fingerprint(&text));
                    Some(Value::Secret(Secret { parts: secret.parts.clone(), fingerprint }))
                }
                Err(error) => {
                    failed = Some(error);
                    None
                }
            },
            _ => None,
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(value),
        }
    }

    /// The texts of all secrets in the value, by their paths.
    pub fn texts(&self, value: &Value) -> Result<BTreeMap<Path, SecretString>, SecretError> {
        value.secrets().into_iter().map(|(path, secret)| Ok((path, self.resolve(secret)?))).collect()
    }
}
