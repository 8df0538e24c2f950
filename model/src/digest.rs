//! Content digests.

use std::fmt;
use std::io::{self, BufWriter, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest, written `sha256:<64 hexadecimal digits>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

/// How much is hashed at once.
const PIECE_BYTES: usize = 8 * 1024;

/// Takes what is written into a hash; that cannot fail.
struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Digest {
    /// The digest of bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::of_hash(Sha256::new_with_prefix(bytes))
    }

    /// The digest of a value's JSON. Equal values give equal digests on every machine, because all
    /// maps in the model are ordered.
    pub fn of<T: Serialize>(value: &T) -> Self {
        // A whole plan is many megabytes of JSON, which nobody needs but the hash.
        let mut out = BufWriter::with_capacity(PIECE_BYTES, Hashing(Sha256::new()));
        let written = serde_json::to_writer(&mut out, value);
        match out.into_inner() {
            Ok(Hashing(hash)) if written.is_ok() => Self::of_hash(hash),
            _ => Self::of_bytes(b""),
        }
    }

    fn of_hash(hash: Sha256) -> Self {
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in hash.finalize() {
            for digit in [byte >> 4, byte & 0xf] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
            }
        }
        Self(text)
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve hexadecimal digits, for people.
    pub fn short(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0).get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_the_digest_of_its_json_however_long_it_is() {
        for length in [0, 1, PIECE_BYTES - 2, PIECE_BYTES, 5 * PIECE_BYTES] {
            let value = "x".repeat(length);
            assert_eq!(Digest::of(&value), Digest::of_bytes(format!("\"{value}\"").as_bytes()));
        }
    }

    #[test]
    fn known_vector() {
        assert_eq!(
            Digest::of_bytes(b"").as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(Digest::of_bytes(b"").short(), "e3b0c44298fc");
    }
}
