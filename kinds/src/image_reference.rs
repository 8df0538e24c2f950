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

#[cfg(test)]
mod tests {
    use super::*;

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
