//! The text of a secret on its way to a provider.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A secret's text. It is zeroed when dropped and never printed. It is serialised only when it crosses the pipe
/// to a provider in another process; nothing that holds one is ever written to disk.
#[derive(Clone)]
pub struct SecretText(SecretString);

impl SecretText {
    /// Takes the text.
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The text, for the call that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(sensitive value)")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}
