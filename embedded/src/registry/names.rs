//! Names of repositories and tags, and the paths of the distribution interface.

/// The longest name of a repository.
const MAX_NAME: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;

/// What a request's path names, below `/v2/`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    Base,
    Catalog,
    Tags { name: &'a str },
    Manifest { name: &'a str, reference: &'a str },
    Blob { name: &'a str, digest: &'a str },
    Uploads { name: &'a str },
    Upload { name: &'a str, id: &'a str },
    Referrers { name: &'a str, digest: &'a str },
}

impl<'a> Resource<'a> {
    /// Reads a path; `None` if it is none of the interface's.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        if rest.is_empty() || rest == "/" {
            return Some(Self::Base);
        }
        let rest = rest.strip_prefix('/')?;
        if rest == "_catalog" {
            return Some(Self::Catalog);
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Some(Self::Tags { name });
        }
        if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
            return Some(Self::Uploads { name });
        }
        let (head, last) = rest.rsplit_once('/')?;
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            return Some(Self::Upload { name, id: last });
        }
        if let Some(name) = head.strip_suffix("/manifests") {
            return Some(Self::Manifest { name, reference: last });
        }
        if let Some(name) = head.strip_suffix("/blobs") {
            return Some(Self::Blob { name, digest: last });
        }
        let name = head.strip_suffix("/referrers")?;
        Some(Self::Referrers { name, digest: last })
    }

    /// The repository, if the path names one.
    pub(crate) const fn name(&self) -> Option<&'a str> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Tags { name }
            | Self::Manifest { name, .. }
            | Self::Blob { name, .. }
            | Self::Uploads { name }
            | Self::Upload { name, .. }
            | Self::Referrers { name, .. } => Some(name),
        }
    }
}

/// Whether a text is a repository's name. Such a name is also a safe relative path: no part begins with a dot or an
/// underscore.
pub(crate) fn is_repository(name: &str) -> bool {
    name.len() <= MAX_NAME && !name.is_empty() && name.split('/').all(is_component)
}

fn is_component(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !part.starts_with(alphanumeric) || !part.ends_with(alphanumeric) {
        return false;
    }
    part.split(alphanumeric)
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

/// Whether a text is a tag.
pub(crate) fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        let digest = "sha256:00";
        for (path, resource) in [
            ("/v2/", Resource::Base),
            ("/v2/_catalog", Resource::Catalog),
            ("/v2/a/b/tags/list", Resource::Tags { name: "a/b" }),
            ("/v2/a/manifests/v1", Resource::Manifest { name: "a", reference: "v1" }),
            ("/v2/a/b/blobs/sha256:00", Resource::Blob { name: "a/b", digest }),
            ("/v2/a/blobs/uploads/", Resource::Uploads { name: "a" }),
            ("/v2/a/blobs/uploads/x", Resource::Upload { name: "a", id: "x" }),
            ("/v2/a/referrers/sha256:00", Resource::Referrers { name: "a", digest }),
        ] {
            assert_eq!(Resource::parse(path), Some(resource), "{path}");
        }
        assert_eq!(Resource::parse("/v1/x"), None);
        assert_eq!(Resource::parse("/v2/x"), None);
    }

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for good in ["a", "a/b", "a.b_c__d--e/0", "library/registry"] {
            assert!(is_repository(good), "{good}");
        }
        for bad in ["", "/a", "a//b", "..", "a/../b", "_uploads", "A", "a/_b", "a..b", "a_-b", "a/", ".a"] {
            assert!(!is_repository(bad), "{bad}");
        }
        assert!(is_tag("v1.0-rc_1") && !is_tag(".x") && !is_tag("") && !is_tag("a/b"));
    }
}
