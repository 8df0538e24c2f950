//! The vault: generated secrets and the key of the fingerprints, sealed with age.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use age::DecryptError;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ksail_model::Fingerprint;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::files::{self, Existing};
use crate::{Identity, SecretError};

/// The version of what is sealed. A newer one is refused.
pub const VAULT_FORMAT: u32 = 1;

/// A vault larger than this is refused; it holds passwords and tokens, not files.
pub const VAULT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Length of the fingerprints' key.
const KEY_BYTES: usize = 32;

type Key = [u8; KEY_BYTES];

/// What is sealed, as it is written.
#[derive(Serialize)]
struct Contents<'a> {
    format: u32,
    fingerprint_key: &'a Key,
    entries: BTreeMap<&'a str, &'a str>,
}

/// What is sealed, as it is read.
#[derive(Deserialize)]
struct Opened {
    fingerprint_key: SecretBox<Key>,
    entries: BTreeMap<String, SecretString>,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Generated secrets by name, and the key of the fingerprints.
///
/// Every change is durable when it returns. Only the holder of the stack's lock may change a vault: two writers at once
/// would each leave only their own changes.
pub struct Vault {
    path: PathBuf,
    identity: Identity,
    key: SecretBox<Key>,
    entries: BTreeMap<String, SecretString>,
}

impl Vault {
    /// Makes a vault with a new fingerprint key and stores it.
    pub fn create(path: &Path, identity: &Identity) -> Result<Self, SecretError> {
        let mut key = SecretBox::new(Box::new([0; KEY_BYTES]));
        getrandom::fill(secrecy::ExposeSecretMut::expose_secret_mut(&mut key))
            .map_err(|source| SecretError::NoRandomness { source })?;
        let vault = Self { path: path.to_owned(), identity: identity.clone(), key, entries: BTreeMap::new() };
        match vault.store(&vault.entries, Existing::Keep) {
            Err(SecretError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {
                Err(SecretError::VaultExists { path: path.to_owned() })
            }
            stored => stored.map(|()| vault),
        }
    }

    /// Opens a vault; [`SecretError::VaultMissing`] if there is none.
    pub fn open(path: &Path, identity: &Identity) -> Result<Self, SecretError> {
        let damaged = |why| SecretError::VaultDamaged { path: path.to_owned(), why };
        let sealed = match files::read_bounded(path, VAULT_BYTES_MAX) {
            Ok(Some(sealed)) => sealed,
            Ok(None) => return Err(damaged("it is too large")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(SecretError::VaultMissing { path: path.to_owned() });
            }
            Err(source) => return Err(SecretError::Io { doing: "read", path: path.to_owned(), source }),
        };
        let plain = Zeroizing::new(age::decrypt(identity.key(), &sealed).map_err(|error| match error {
            DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed => {
                SecretError::WrongIdentity { path: path.to_owned(), origin: identity.origin().clone() }
            }
            DecryptError::UnknownFormat | DecryptError::InvalidHeader => damaged("it is not an age file"),
            _ => damaged("it does not match its seal"),
        })?);
        // Errors of the parser could quote what was sealed, so they are not passed on.
        let format = serde_json::from_slice(&plain).map_or(VAULT_FORMAT, |FormatOnly { format }| format);
        if format > VAULT_FORMAT {
            return Err(SecretError::NewerVault { path: path.to_owned(), found: format, known: VAULT_FORMAT });
        }
        let opened: Opened =
            serde_json::from_slice(&plain).map_err(|_| damaged("what is sealed in it is not a vault's"))?;
        Ok(Self {
            path: path.to_owned(),
            identity: identity.clone(),
            key: opened.fingerprint_key,
            entries: opened.entries,
        })
    }

    /// Opens the vault, or makes it if there is none.
    pub fn open_or_create(path: &Path, identity: &Identity) -> Result<Self, SecretError> {
        match Self::open(path, identity) {
            Err(SecretError::VaultMissing { .. }) => Self::create(path, identity),
            opened => opened,
        }
    }

    /// Keeps a sealed vault that came from elsewhere at this path, in place of what was there.
    pub fn keep(path: &Path, sealed: &[u8]) -> Result<(), SecretError> {
        if sealed.len() as u64 > VAULT_BYTES_MAX {
            return Err(SecretError::VaultDamaged { path: path.to_owned(), why: "it is too large" });
        }
        files::write_whole(path, sealed, Existing::Replace)
    }

    /// A vault as it is sealed; `None` if there is none.
    pub fn sealed(path: &Path) -> Result<Option<Vec<u8>>, SecretError> {
        match files::read_bounded(path, VAULT_BYTES_MAX) {
            Ok(Some(sealed)) => Ok(Some(sealed.to_vec())),
            Ok(None) => Err(SecretError::VaultDamaged { path: path.to_owned(), why: "it is too large" }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SecretError::Io { doing: "read", path: path.to_owned(), source }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The text of an entry.
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.entries.get(name)
    }

    /// Seals a text under a name, in place of what had that name. When this returns an error nothing has changed, but
    /// the text may be found under that name after a crash.
    pub fn seal(&mut self, name: &str, text: SecretString) -> Result<(), SecretError> {
        let mut entries = self.entries.clone();
        entries.insert(name.to_owned(), text);
        self.store(&entries, Existing::Replace)?;
        self.entries = entries;
        Ok(())
    }

    /// The keyed fingerprint of a text: equal for equal texts, and telling nothing of them without this vault's key.
    pub fn fingerprint(&self, text: &SecretString) -> Fingerprint {
        // HMAC takes keys of any length, so this cannot fail.
        let mut mac = match Hmac::<Sha256>::new_from_slice(self.key.expose_secret()) {
            Ok(mac) => mac,
            Err(error) => unreachable!("{error}"),
        };
        mac.update(text.expose_secret().as_bytes());
        let mut hex = String::with_capacity(2 * KEY_BYTES);
        for byte in mac.finalize().into_bytes() {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Fingerprint(hex)
    }

    fn store(&self, entries: &BTreeMap<String, SecretString>, existing: Existing) -> Result<(), SecretError> {
        let write = |source| SecretError::Io { doing: "write", path: self.path.clone(), source };
        let contents = Contents {
            format: VAULT_FORMAT,
            fingerprint_key: self.key.expose_secret(),
            entries: entries.iter().map(|(name, text)| (name.as_str(), text.expose_secret())).collect(),
        };
        let mut plain = Zeroizing::new(Vec::with_capacity(room(entries)));
        serde_json::to_writer(&mut *plain, &contents).map_err(|error| write(error.into()))?;
        // Sealing makes it a little longer; what is far too long need not be sealed to know that.
        if plain.len() as u64 > VAULT_BYTES_MAX {
            return Err(write(ErrorKind::FileTooLarge.into()));
        }
        let sealed = age::encrypt(&self.identity.key().to_public(), &plain)
            .map_err(|error| write(std::io::Error::other(error)))?;
        if sealed.len() as u64 > VAULT_BYTES_MAX {
            return Err(write(ErrorKind::FileTooLarge.into()));
        }
        files::write_whole(&self.path, &sealed, existing)
    }
}

/// Enough for the JSON of the contents, so that the buffer does not grow and leave copies behind. An escaped character
/// takes at most six bytes.
fn room(entries: &BTreeMap<String, SecretString>) -> usize {
    let texts: usize = entries.iter().map(|(name, text)| 6 * (name.len() + text.expose_secret().len()) + 8).sum();
    texts + 64 + 4 * KEY_BYTES + 64
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("path", &self.path).field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}
