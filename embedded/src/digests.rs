//! SHA-256 digests of bytes and files. Other algorithms are not supported and refused.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// How much of a file is read at once while it is hashed, in bytes.
const HASH_BUFFER: usize = 256 * 1024;

/// A running hash.
#[derive(Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> String {
        to_hex(&self.0.finalize())
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The hexadecimal SHA-256 of bytes.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

/// The 64 hexadecimal digits of `sha256:…`, if it is one.
pub(crate) fn hex_of(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    is_hex64(hex).then_some(hex)
}

/// Whether a text is 64 lower-case hexadecimal digits.
pub(crate) fn is_hex64(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hexadecimal SHA-256 and length of a file.
pub(crate) fn hash_file(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; HASH_BUFFER];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hasher.finish(), length));
        }
        hasher.update(&buffer[..read]);
        length += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_sha256_digests_are_taken() {
        let hex = sha256_hex(b"");
        assert_eq!(hex_of(&format!("sha256:{hex}")), Some(hex.as_str()));
        for bad in
            ["", "sha256:", "sha256:zz", &hex, &format!("sha512:{hex}"), &format!("sha256:{}", hex.to_uppercase())]
        {
            assert_eq!(hex_of(bad), None, "{bad}");
        }
    }
}
