//! Secrets by reference, the vault, and keyed fingerprints.
//!
//! A declaration holds references ([`ksail_model::Secret`]). The [`Resolver`] turns them into texts at the moment of
//! need; the [`Vault`] keeps generated ones, sealed with age for an [`Identity`], and the key of the fingerprints. Texts
//! are [`secrecy::SecretString`] and appear in no `Debug` output and no error.
//!
//! This crate reads no environment and knows no folder of its own: the caller passes both in.

mod error;
mod files;
mod identity;
mod resolver;
mod vault;

pub use error::SecretError;
pub use identity::{Identity, IdentityOrigin};
pub use resolver::{CommandOutput, Resolver, SECRET_FILE_BYTES_MAX};
pub use vault::{VAULT_BYTES_MAX, VAULT_FORMAT, Vault};
