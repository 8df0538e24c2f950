//! The mark on an image. Images carry no labels of ours, so each owner holds one by a further tag:
//!
//! `ksail.io/owner/<lineage>/<cluster>/<kind>/<name…>[/r<reference>][/c]:g<generation>-<how>-<operation>`
//!
//! Every part of the path begins with `x`, and what may not stand in a repository's name is written `_` and two
//! hexadecimal digits. The reference stands there where it is not the last part of the address. `<how>` is one letter for the
//! source and one for whether the image was there before us; after `a` (archive) the archive's digest follows. An operation that is too long is
//! written as its SHA-256, so that of such a one only equality can be told.

use ksail_kinds::ImageSource;
use ksail_model::{Address, Digest, Mark};

use crate::reference::Reference;

/// Where the tags of owners are.
const OWNERS: &str = "ksail.io/owner/";
/// The longest tag and the longest name that engines take.
const LONGEST_TAG: usize = 128;
const LONGEST_NAME: usize = 255;
/// Of an operation no more than this is written, in characters.
const LONGEST_OPERATION: usize = 40;

/// How an image came onto the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// It had to be there.
    Present,
    /// Pulled.
    Pull,
    /// Loaded from an archive of this digest.
    Archive(String),
}

impl From<&ImageSource> for Source {
    fn from(source: &ImageSource) -> Self {
        match source {
            ImageSource::Present {} => Self::Present,
            ImageSource::Pull {} => Self::Pull,
            ImageSource::Archive { digest, .. } => Self::Archive(digest.clone()),
        }
    }
}

/// One owner's hold on an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnerTag {
    pub(crate) mark: Mark,
    pub(crate) reference: Reference,
    pub(crate) source: Source,
    /// Whether we brought the image, so that it may go with its last owner.
    pub(crate) brought: bool,
    /// Whether it is a claim on an image that is yet to be brought ([`crate::claim`]); written as `/c`.
    pub(crate) claim: bool,
}

impl OwnerTag {
    /// Repository and tag; `None` if they would be too long for engines.
    pub(crate) fn write(&self) -> Option<(String, String)> {
        let mut name = format!("{OWNERS}{}", escape(&self.mark.lineage, 'x'));
        let mut parts = vec![self.mark.address.cluster().to_owned(), self.mark.address.kind().to_owned()];
        parts.extend(self.mark.address.name_parts());
        for part in &parts {
            name.push('/');
            name.push_str(&escape(part, 'x'));
        }
        let reference = self.reference.to_string();
        if parts.last() != Some(&reference) {
            name.push('/');
            name.push_str(&escape(&reference, 'r'));
        }
        if self.claim {
            name.push_str("/c");
        }
        let how = match (&self.source, self.brought) {
            (Source::Present, _) => "pf".to_owned(),
            (Source::Pull, true) => "lb".to_owned(),
            (Source::Pull, false) => "lf".to_owned(),
            (Source::Archive(digest), brought) => {
                format!("a{}{}", if brought { 'b' } else { 'f' }, digest.strip_prefix("sha256:").unwrap_or(digest))
            }
        };
        let plain = self.mark.operation.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let operation = if plain && self.mark.operation.len() <= LONGEST_OPERATION {
            self.mark.operation.clone()
        } else {
            Digest::of_bytes(self.mark.operation.as_bytes()).short().to_owned()
        };
        let tag = format!("g{}-{how}-{operation}", self.mark.generation);
        (name.len() <= LONGEST_NAME && tag.len() <= LONGEST_TAG).then_some((name, tag))
    }

    /// Reads one of an image's tags; `None` if it is no owner's.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (name, tag) = text.strip_prefix(OWNERS)?.rsplit_once(':')?;
        let mut parts = Vec::new();
        let mut reference = None;
        let mut claim = false;
        for part in name.split('/') {
            match part.split_at_checked(1)? {
                ("x", rest) => parts.push(unescape(rest)?),
                ("r", rest) => reference = Some(unescape(rest)?),
                ("c", "") => claim = true,
                _ => return None,
            }
        }
        let [lineage, cluster, kind, name @ ..] = parts.as_slice() else { return None };
        let reference = reference.or_else(|| name.last().cloned())?;
        let names: Vec<&str> = name.iter().map(String::as_str).collect();
        let mut rest = tag.strip_prefix('g')?.splitn(3, '-');
        let generation = rest.next()?.parse().ok()?;
        let (how, digest) = rest.next()?.split_at_checked(2)?;
        let source = match how.get(..1)? {
            "p" => Source::Present,
            "l" => Source::Pull,
            "a" => Source::Archive(format!("sha256:{digest}")),
            _ => return None,
        };
        Some(Self {
            mark: Mark {
                lineage: lineage.clone(),
                address: Address::new(cluster, kind, &names),
                operation: rest.next()?.to_owned(),
                generation,
            },
            reference: Reference::parse(&reference),
            source,
            brought: how.ends_with('b'),
            claim,
        })
    }
}

fn escape(part: &str, first: char) -> String {
    let mut out = String::from(first);
    for byte in part.bytes() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("_{byte:02x}"));
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        if first == b'_' {
            bytes.push(u8::from_str_radix(rest.get(1..3)?, 16).ok()?);
            rest = &rest[3..];
        } else {
            bytes.push(first);
            rest = rest.get(1..)?;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &[&str], reference: &str, source: Source, brought: bool) -> OwnerTag {
        OwnerTag {
            mark: Mark {
                lineage: "0198c1d2-7e57-7000-8000-0123456789ab".to_owned(),
                address: Address::new("dev", "image", name),
                operation: "0198c1d2-aaaa-7000-8000-0123456789ab".to_owned(),
                generation: 2,
            },
            reference: Reference::parse(reference),
            source,
            brought,
            claim: false,
        }
    }

    #[test]
    fn tags_come_back() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for written in [
            tag(&["docker.io/library/registry:2.8.3"], "registry:2.8.3", Source::Pull, true),
            tag(&["registry"], "localhost:5050/Aß/b@sha256:00", Source::Present, false),
            tag(&["a", "b_c"], "ghcr.io/x/y:Z", Source::Archive(digest), true),
            OwnerTag { claim: true, ..tag(&["c"], "c:1", Source::Pull, true) },
        ] {
            let (name, tag) = written.write().unwrap();
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/._".contains(&byte))
            );
            assert_eq!(OwnerTag::read(&format!("{name}:{tag}")), Some(written));
        }
        assert_eq!(OwnerTag::read("registry:2"), None);
        assert_eq!(OwnerTag::read("ksail.io/owner/xa/xb:latest"), None);
    }

    #[test]
    fn long_operations_become_digests_and_long_names_are_refused() {
        let mut owner = tag(&["x"], "x:1", Source::Pull, true);
        owner.mark.operation = "o".repeat(200);
        let (name, written) = owner.write().unwrap();
        assert_eq!(OwnerTag::read(&format!("{name}:{written}")).unwrap().mark.operation.len(), 12);
        owner.mark.address = Address::new("dev", "image", &[&"x".repeat(250)]);
        assert_eq!(owner.write(), None);
    }
}
