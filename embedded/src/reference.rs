//! References of images: the full form that is stored, and the short one that people see.

use crate::digests;

/// What stands for Docker Hub in full references.
const HUB: &str = "docker.io";
/// Where Docker Hub's registry is.
const HUB_REGISTRY: &str = "registry-1.docker.io";

/// A reference in full: host, repository, and a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) host: String,
    pub(crate) repository: String,
    /// A tag, or `sha256:…`.
    pub(crate) version: String,
}

impl Reference {
    /// Reads a reference as people write it: Docker Hub and its `library` are added, and the tag `latest`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digests::hex_of(digest).map(|_| digest)?)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let (host, repository) = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest.to_owned()),
            Some(_) => (HUB, name.to_owned()),
            None => (HUB, format!("library/{name}")),
        };
        let host = if matches!(host, "index.docker.io" | HUB_REGISTRY) { HUB } else { host };
        let valid = crate::registry::is_repository(&repository) && tag.is_none_or(crate::registry::is_tag);
        let version = digest.or(tag).unwrap_or("latest").to_owned();
        valid.then(|| Self { host: host.to_owned(), repository, version })
    }

    /// Whether it names content rather than a tag.
    pub(crate) fn is_digest(&self) -> bool {
        self.version.contains(':')
    }

    /// Host and repository in full.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// The full reference.
    pub(crate) fn full(&self) -> String {
        format!("{}{}{}", self.name(), if self.is_digest() { '@' } else { ':' }, self.version)
    }

    /// The host whose registry answers for it.
    pub(crate) fn registry_host(&self) -> &str {
        if self.host == HUB { HUB_REGISTRY } else { &self.host }
    }
}

/// The short form of a full reference: without Docker Hub and its `library`.
pub(crate) fn familiar(full: &str) -> &str {
    let short = full.strip_prefix("docker.io/").unwrap_or(full);
    match short.strip_prefix("library/") {
        Some(rest) if short.len() < full.len() => rest,
        _ => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_made_full_and_short() {
        for (text, full, short) in [
            ("registry", "docker.io/library/registry:latest", "registry:latest"),
            ("a/b:1", "docker.io/a/b:1", "a/b:1"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x/y:z", "localhost:5000/x/y:z", "localhost:5000/x/y:z"),
            ("index.docker.io/library/a:1", "docker.io/library/a:1", "a:1"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.full(), full, "{text}");
            assert_eq!(familiar(&reference.full()), short, "{text}");
        }
        let digest = format!("x.io/a:1@sha256:{}", digests::sha256_hex(b""));
        let reference = Reference::parse(&digest).unwrap();
        assert!(reference.is_digest() && !reference.full().contains(":1@"));
        for bad in ["", "A", "a b", "x.io/", "a@sha256:1", "a:"] {
            assert_eq!(Reference::parse(bad), None, "{bad}");
        }
    }
}
