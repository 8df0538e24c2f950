//! What can go wrong with secrets. No message holds a secret's text.

use std::io;
use std::path::PathBuf;

use crate::IdentityOrigin;

/// Why a secret cannot be resolved, or the vault not be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// An environment variable that a secret names is not set.
    #[error("environment variable {name} is not set")]
    UnsetVariable {
        /// The variable.
        name: String,
    },
    /// An environment variable that a secret names is empty.
    #[error("environment variable {name} is empty")]
    EmptyVariable {
        /// The variable.
        name: String,
    },
    /// A file that a secret names cannot be read.
    #[error("secret file {} cannot be read", path.display())]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that a secret names holds nothing that can be a secret.
    #[error("secret file {} {why}", path.display())]
    UnusableFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A manifest no longer has the value that a secret names.
    #[error("the manifest {} cannot give the value: {why}", path.display())]
    NotInManifest {
        /// The file.
        path: PathBuf,
        /// Why, as a fragment.
        why: String,
    },
    /// A command that a secret names gave nothing. What it wrote is not told: the secret may be in it.
    #[error("the command {program} gives no secret: {why}")]
    NoOutput {
        /// The program.
        program: String,
        /// Why, as a fragment.
        why: String,
    },
    /// A secret names the vault, and there is none.
    #[error("vault entry {name} is needed, and there is no vault")]
    NoVault {
        /// The entry.
        name: String,
    },
    /// The vault has no such entry.
    #[error("the vault {} has no entry {name}", path.display())]
    NoEntry {
        /// The vault.
        path: PathBuf,
        /// The entry.
        name: String,
    },
    /// The secret was seen outside; only its fingerprint is known.
    #[error("the secret was only seen outside and its text is not known")]
    OnlyObserved,
    /// There is no vault at this path.
    #[error("there is no vault at {}", path.display())]
    VaultMissing {
        /// The vault.
        path: PathBuf,
    },
    /// There is a vault at this path already.
    #[error("there is a vault at {} already", path.display())]
    VaultExists {
        /// The vault.
        path: PathBuf,
    },
    /// The vault was sealed for another identity.
    #[error("the vault {} is sealed for another identity than that of {origin}", path.display())]
    WrongIdentity {
        /// The vault.
        path: PathBuf,
        /// Where the identity came from.
        origin: IdentityOrigin,
    },
    /// The vault was changed or cut off.
    #[error("the vault {} is damaged: {why}", path.display())]
    VaultDamaged {
        /// The vault.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The vault was written by a newer ksail.
    #[error("the vault {} has format {found}; this ksail reads up to {known}", path.display())]
    NewerVault {
        /// The vault.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// There is a vault, and no identity to open it with.
    #[error("there is no age identity: KSAIL_AGE_KEY is not set, and {} is not there", path.display())]
    NoIdentity {
        /// Where the identity would be.
        path: PathBuf,
    },
    /// An identity cannot be understood.
    #[error("{origin} holds no usable age identity: {why}")]
    BadIdentity {
        /// Where it came from.
        origin: IdentityOrigin,
        /// What is wrong.
        why: &'static str,
    },
    /// The system has no randomness to give.
    #[error("the system gives no random bytes")]
    NoRandomness {
        /// What the system said.
        source: getrandom::Error,
    },
    /// Anything else of the system.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried (`read`, `write`).
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SecretError {
    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnsetVariable { name } | Self::EmptyVariable { name } => {
                Some(format!("set it for this command: {name}=… ksail …"))
            }
            Self::UnreadableFile { path, .. } | Self::UnusableFile { path, .. } => {
                Some(format!("the secret is the whole text of {}, with at most one newline at its end", path.display()))
            }
            Self::NoOutput { program, .. } => Some(format!(
                "run it yourself in the project's folder, as what it writes is not shown here; {program} must answer by itself, without a \
                 terminal"
            )),
            Self::NotInManifest { .. } => Some("plan again, with the manifests as they are".to_owned()),
            Self::NoVault { name } | Self::NoEntry { name, .. } => {
                Some(format!("{name} was sealed where it was generated: bring the vault.age of that checkout here"))
            }
            Self::VaultMissing { .. } => Some("the first apply makes one".to_owned()),
            Self::WrongIdentity { .. } | Self::NoIdentity { .. } => Some(
                "set KSAIL_AGE_KEY to the identity that the vault was made with: age.key in the ksail folder of whoever \
                 applied first"
                    .to_owned(),
            ),
            Self::VaultDamaged { path, .. } => Some(format!("restore {} from a copy", path.display())),
            Self::NewerVault { .. } => Some("use that newer ksail".to_owned()),
            Self::BadIdentity { .. } => Some("it is one line that begins with AGE-SECRET-KEY-1".to_owned()),
            Self::OnlyObserved | Self::VaultExists { .. } | Self::NoRandomness { .. } | Self::Io { .. } => None,
        }
    }
}
