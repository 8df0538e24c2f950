//! The identity that the vault is sealed for: an age X25519 key.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use age::x25519;
use secrecy::{ExposeSecret as _, SecretString};

use crate::SecretError;
use crate::files::{self, Existing};

/// An identity file may hold a key and a few lines of comments.
const IDENTITY_FILE_BYTES_MAX: u64 = 16 * 1024;

/// Where the key lies below the user's folder of configuration.
const PLACE: &str = "ksail/age.key";

/// Where an identity came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityOrigin {
    /// The environment variable `KSAIL_AGE_KEY`.
    Environment,
    /// A file that was there.
    File(PathBuf),
    /// A file that was made just now. Without it the vault cannot be opened, so the user should hear of it.
    Created(PathBuf),
    /// It was made in memory.
    Generated,
}

impl fmt::Display for IdentityOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("KSAIL_AGE_KEY"),
            Self::File(path) | Self::Created(path) => write!(f, "{}", path.display()),
            Self::Generated => f.write_str("this process"),
        }
    }
}

/// A key that opens the vault. It is not printed.
#[derive(Clone)]
pub struct Identity {
    key: x25519::Identity,
    origin: IdentityOrigin,
}

impl Identity {
    /// A new key, in memory only.
    pub fn generate() -> Self {
        Self { key: x25519::Identity::generate(), origin: IdentityOrigin::Generated }
    }

    /// The file of the key, below the user's folder of configuration (`~/.config`).
    pub fn file_below(config: &Path) -> PathBuf {
        config.join(PLACE)
    }

    /// The key in `KSAIL_AGE_KEY`, if the caller found one there, else that in the file, which is made if it is missing.
    pub fn choose(environment: Option<&SecretString>, file: &Path) -> Result<Self, SecretError> {
        match environment {
            Some(text) => Self::parse(text, IdentityOrigin::Environment),
            None => Self::load_or_create(file),
        }
    }

    /// Reads a key. Empty lines and lines that begin with `#` are left out, as `age-keygen` writes them.
    pub fn parse(text: &SecretString, origin: IdentityOrigin) -> Result<Self, SecretError> {
        let bad = |why| SecretError::BadIdentity { origin: origin.clone(), why };
        let mut lines =
            text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = lines.next().ok_or_else(|| bad("it is empty"))?;
        if lines.next().is_some() {
            return Err(bad("it has more than one line"));
        }
        // What the parser says is about the text, so it is not passed on.
        let key = line.parse().map_err(|_| bad("it is not an X25519 secret key"))?;
        Ok(Self { key, origin })
    }

    /// The key in a file.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        let origin = IdentityOrigin::File(path.to_owned());
        let io = |source| SecretError::Io { doing: "read", path: path.to_owned(), source };
        let bytes = match files::read_bounded(path, IDENTITY_FILE_BYTES_MAX) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(SecretError::NoIdentity { path: path.to_owned() });
            }
            bytes => bytes.map_err(io)?,
        };
        let Some(text) = bytes.as_ref().and_then(|bytes| str::from_utf8(bytes).ok()) else {
            return Err(SecretError::BadIdentity { origin, why: "it is too long, or not text" });
        };
        Self::parse(&SecretString::from(text), origin)
    }

    /// The key in a file, which is made with a new key (mode 0600) if it is missing. Of two processes that do this at
    /// once both get the same key.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        match Self::load(path) {
            Err(SecretError::NoIdentity { .. }) => {}
            loaded => return loaded,
        }
        let key = x25519::Identity::generate();
        let text = key.to_string();
        let content = SecretString::from(format!("# {}\n{}\n", key.to_public(), text.expose_secret()));
        match files::write_whole(path, content.expose_secret().as_bytes(), Existing::Keep) {
            Ok(()) => Ok(Self { key, origin: IdentityOrigin::Created(path.to_owned()) }),
            Err(SecretError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(error),
        }
    }

    /// Where it came from.
    pub const fn origin(&self) -> &IdentityOrigin {
        &self.origin
    }

    /// The public half (`age1…`).
    pub fn recipient(&self) -> String {
        self.key.to_public().to_string()
    }

    /// The secret half, as `KSAIL_AGE_KEY` takes it.
    pub fn expose(&self) -> SecretString {
        self.key.to_string()
    }

    pub(crate) const fn key(&self) -> &x25519::Identity {
        &self.key
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("recipient", &self.recipient()).field("origin", &self.origin).finish()
    }
}
