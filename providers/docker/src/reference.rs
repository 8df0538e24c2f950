//! References of images, in full and as engines shorten them.

use std::fmt;

/// The registry that a reference without a host means.
pub(crate) const DEFAULT_HOST: &str = "docker.io";

/// An image reference with all its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    /// The registry's host, with its port.
    pub(crate) host: String,
    /// The repository.
    pub(crate) repository: String,
    /// The tag; left out only where there is a digest.
    pub(crate) tag: Option<String>,
    /// The digest (`sha256:…`).
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// Reads a reference; what is left out is filled in as every engine does.
    pub(crate) fn parse(text: &str) -> Self {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        let (host, repository) = match name.split_once('/') {
            Some((host, repository)) if host.contains(['.', ':']) || host == "localhost" => (host, repository),
            _ => (DEFAULT_HOST, name),
        };
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        let repository = if host == DEFAULT_HOST && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Self { host: host.to_owned(), repository, tag, digest }
    }

    /// Host and repository.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// Whether both mean the same image. A digest decides, where there is one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same_content = match (&self.digest, &other.digest) {
            (None, None) => self.tag == other.tag,
            (one, another) => one == another,
        };
        self.host == other.host && self.repository == other.repository && same_content
    }

    /// Whether the engine's list of tags and digests of one image holds this reference. A digest decides, where there is one.
    pub(crate) fn is_among(&self, tags: &[String], digests: &[String]) -> bool {
        let same_name = |other: &Self| other.host == self.host && other.repository == self.repository;
        match &self.digest {
            Some(digest) => digests
                .iter()
                .map(|text| Self::parse(text))
                .any(|other| same_name(&other) && other.digest.as_ref() == Some(digest)),
            None => tags.iter().map(|text| Self::parse(text)).any(|other| same_name(&other) && other.tag == self.tag),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_become_full() {
        for (short, full) in [
            ("registry", "docker.io/library/registry:latest"),
            ("registry:2", "docker.io/library/registry:2"),
            ("index.docker.io/me/x:1", "docker.io/me/x:1"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5050/a/b:c", "localhost:5050/a/b:c"),
            ("ghcr.io/a/b@sha256:00", "ghcr.io/a/b@sha256:00"),
            ("ghcr.io/a/b:1@sha256:00", "ghcr.io/a/b:1@sha256:00"),
        ] {
            assert_eq!(Reference::parse(short).to_string(), full);
            assert_eq!(Reference::parse(full).to_string(), full);
        }
    }

    #[test]
    fn engines_lists_are_matched() {
        let tags = ["registry:2".to_owned(), "localhost:5050/x:1".to_owned()];
        let digests = ["registry@sha256:aa".to_owned()];
        let among = |text: &str| Reference::parse(text).is_among(&tags, &digests);
        assert!(among("docker.io/library/registry:2"));
        assert!(among("registry@sha256:aa"));
        assert!(among("registry:9@sha256:aa"));
        assert!(!among("registry:3"));
        assert!(!among("registry@sha256:bb"));
        assert!(!among("ghcr.io/library/registry:2"));
    }
}
