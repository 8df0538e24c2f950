//! Addresses: `<cluster>/<kind>/<name>`, how a person and the state name a resource.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a resource: `<cluster>/<kind>/<name>`, where the name may have several parts
/// (`dev/object/apps.Deployment/kube-system/cilium-operator`).
///
/// A part that holds `/`, `%`, `#`, whitespace or a control character is percent-escaped. The text is canonical:
/// equal addresses have equal texts, and order is the order of texts. No file name is made from an
/// address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(Arc<str>);

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Fewer than three parts.
    #[error("address `{0}` has too few parts: it must read <cluster>/<kind>/<name>")]
    TooFewParts(String),
    /// A part is empty.
    #[error("address `{0}` has an empty part")]
    EmptyPart(String),
    /// A percent sign is not followed by two hexadecimal digits, or the bytes are not UTF-8.
    #[error("address `{0}` has a broken percent escape")]
    BadEscape(String),
}

fn must_escape(c: char) -> bool {
    c == '/' || c == '%' || c == '#' || c.is_whitespace() || c.is_control()
}

fn escape_into(out: &mut String, part: &str) {
    for c in part.chars() {
        if must_escape(c) {
            let mut buffer = [0u8; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
}

fn unescape(part: &str) -> Option<String> {
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let hex = part.get(at + 1..at + 3)?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

impl Address {
    /// Makes an address from unescaped parts. `name` must have at least one part and no part may be
    /// empty; both are programming errors and checked in debug builds.
    pub fn new(cluster: &str, kind: &str, name: &[&str]) -> Self {
        debug_assert!(!cluster.is_empty() && !kind.is_empty() && !name.is_empty());
        let mut text = String::with_capacity(cluster.len() + kind.len() + 16);
        escape_into(&mut text, cluster);
        text.push('/');
        escape_into(&mut text, kind);
        for part in name {
            debug_assert!(!part.is_empty());
            text.push('/');
            escape_into(&mut text, part);
        }
        Self(text.into())
    }

    /// Reads an address; escapes are brought to their canonical form.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let mut parts = Vec::new();
        for part in text.split('/') {
            if part.is_empty() {
                return Err(AddressError::EmptyPart(text.to_owned()));
            }
            parts.push(unescape(part).ok_or_else(|| AddressError::BadEscape(text.to_owned()))?);
        }
        if parts.len() < 3 {
            return Err(AddressError::TooFewParts(text.to_owned()));
        }
        let name: Vec<&str> = parts[2..].iter().map(String::as_str).collect();
        Ok(Self::new(&parts[0], &parts[1], &name))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn part(&self, index: usize) -> &str {
        self.0.split('/').nth(index).unwrap_or_default()
    }

    /// The cluster, still escaped.
    pub fn cluster(&self) -> &str {
        self.part(0)
    }

    /// The kind, still escaped (kinds hold nothing to escape in practice).
    pub fn kind(&self) -> &str {
        self.part(1)
    }

    /// The name after cluster and kind, still escaped.
    pub fn name(&self) -> &str {
        self.0.splitn(3, '/').nth(2).unwrap_or_default()
    }

    /// The parts of the name, unescaped.
    pub fn name_parts(&self) -> Vec<String> {
        self.name().split('/').map(|part| unescape(part).unwrap_or_else(|| part.to_owned())).collect()
    }

    /// The address without its cluster, as people write it where there is one cluster.
    pub fn without_cluster(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, rest)| rest)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// What `--target` and its kin select: an address, or a prefix of whole parts. The cluster may be
/// left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(String);

impl Selector {
    /// Reads a selector. A trailing `/` is ignored.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let trimmed = text.trim_end_matches('/');
        if trimmed.is_empty() || trimmed.split('/').any(str::is_empty) {
            return Err(AddressError::EmptyPart(text.to_owned()));
        }
        Ok(Self(trimmed.to_owned()))
    }

    /// Whether the address is selected, with or without its cluster.
    pub fn matches(&self, address: &Address) -> bool {
        let is_prefix = |text: &str| {
            text.strip_prefix(self.0.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        is_prefix(address.as_str()) || is_prefix(address.without_cluster())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_escaped_and_come_back() {
        let address = Address::new("dev", "image", &["docker.io/library/registry:3"]);
        assert_eq!(address.as_str(), "dev/image/docker.io%2Flibrary%2Fregistry:3");
        assert_eq!(address.name_parts(), ["docker.io/library/registry:3"]);
        assert_eq!(Address::parse(address.as_str()).unwrap(), address);
        assert_eq!(address.kind(), "image");
        assert_eq!(address.without_cluster(), "image/docker.io%2Flibrary%2Fregistry:3");
    }

    #[test]
    fn lower_case_escapes_become_canonical() {
        assert_eq!(Address::parse("dev/image/a%2fb").unwrap().as_str(), "dev/image/a%2Fb");
    }

    #[test]
    fn bad_texts_are_told_apart() {
        assert!(matches!(Address::parse("dev/image"), Err(AddressError::TooFewParts(_))));
        assert!(matches!(Address::parse("dev//x"), Err(AddressError::EmptyPart(_))));
        assert!(matches!(Address::parse("dev/a/%2"), Err(AddressError::BadEscape(_))));
        assert!(matches!(Address::parse("dev/a/%FF"), Err(AddressError::BadEscape(_))));
    }

    #[test]
    fn selectors_match_whole_parts() {
        let address = Address::parse("dev/mirror/docker.io").unwrap();
        for yes in ["dev", "dev/mirror", "mirror", "mirror/docker.io", "dev/mirror/docker.io", "mirror/"] {
            assert!(Selector::parse(yes).unwrap().matches(&address), "{yes}");
        }
        for no in ["dev/mirr", "docker.io", "mirror/docker", "prod"] {
            assert!(!Selector::parse(no).unwrap().matches(&address), "{no}");
        }
    }
}
