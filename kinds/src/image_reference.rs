//! References of images in full.

/// The full form of a reference: with registry, repository and tag or digest.
pub fn full_reference(reference: &str) -> String {
    let (registry, rest) = match reference.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", reference),
    };
    let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
    let library = if registry == "docker.io" && !rest.contains('/') { "library/" } else { "" };
    let last = rest.rsplit('/').next().unwrap_or(rest);
    let tag = if last.contains([':', '@']) { "" } else { ":latest" };
    format!("{registry}/{library}{rest}{tag}")
}

/// The name under which containerd looks for an image when a pod asks for it: the full form, and beside a digest no tag, for
/// the digest alone says which content is meant.
pub fn canonical_reference(reference: &str) -> String {
    let full = full_reference(reference);
    let Some((name, digest)) = full.split_once('@') else { return full };
    let untagged = match name.rsplit_once(':') {
        Some((untagged, tag)) if !tag.contains('/') => untagged,
        _ => name,
    };
    format!("{untagged}@{digest}")
}

/// The digest by which a reference names its image, if it does.
pub fn digest_of_reference(reference: &str) -> Option<&str> {
    reference.split_once('@').map(|(_, digest)| digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_a_digest_a_tag_says_nothing() {
        let check = |text: &str, wanted: &str| assert_eq!(canonical_reference(text), wanted);
        check("registry:2", "docker.io/library/registry:2");
        check("registry:2@sha256:00", "docker.io/library/registry@sha256:00");
        check("registry@sha256:00", "docker.io/library/registry@sha256:00");
        check("localhost:5000/x@sha256:00", "localhost:5000/x@sha256:00");
        check("localhost:5000/x:1@sha256:00", "localhost:5000/x@sha256:00");
        assert_eq!(digest_of_reference("a:1@sha256:00"), Some("sha256:00"));
        assert_eq!(digest_of_reference("a:1"), None);
    }

    #[test]
    fn references_become_full() {
        let check = |text: &str, wanted: &str| assert_eq!(full_reference(text), wanted);
        check("registry", "docker.io/library/registry:latest");
        check("registry:2", "docker.io/library/registry:2");
        check("a/b", "docker.io/a/b:latest");
        check("index.docker.io/a/b:1", "docker.io/a/b:1");
        check("ghcr.io/a/b@sha256:00", "ghcr.io/a/b@sha256:00");
        check("localhost:5000/x", "localhost:5000/x:latest");
        check("localhost/x", "localhost/x:latest");
    }
}
