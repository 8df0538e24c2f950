//! Full image references and their rewrites.

use crate::format::ImageRewrite;

/// The full form of a reference: with registry, repository and tag or digest.
pub(crate) fn full(reference: &str) -> String {
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

/// Applies the rewrite with the longest prefix, once. Answers the position of the rule, if one matched.
pub(crate) fn rewrite(reference: &str, rules: &[ImageRewrite]) -> (String, Option<usize>) {
    let matching = rules.iter().enumerate().filter_map(|(index, rule)| {
        let from = rule.from.trim_end_matches('/');
        let rest = reference.strip_prefix(from)?;
        (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some((from.len(), index, rest))
    });
    match matching.max_by_key(|(length, ..)| *length) {
        Some((_, index, rest)) => (format!("{}{rest}", rules[index].to.trim_end_matches('/')), Some(index)),
        None => (reference.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_full() {
        let check = |text: &str, wanted: &str| assert_eq!(full(text), wanted);
        check("registry", "docker.io/library/registry:latest");
        check("registry:2", "docker.io/library/registry:2");
        check("a/b", "docker.io/a/b:latest");
        check("index.docker.io/a/b:1", "docker.io/a/b:1");
        check("ghcr.io/a/b@sha256:00", "ghcr.io/a/b@sha256:00");
        check("localhost:5000/x", "localhost:5000/x:latest");
        check("localhost/x", "localhost/x:latest");
    }

    #[test]
    fn the_longest_whole_prefix_wins() {
        let rule = |from: &str, to: &str| ImageRewrite { from: from.to_owned(), to: to.to_owned() };
        let rules =
            [rule("docker.io", "r.example/hub/"), rule("docker.io/library/", "r.example/lib"), rule("ghcr", "x")];
        let check = |text: &str, wanted: &str| assert_eq!(rewrite(text, &rules).0, wanted);
        check("docker.io/a/b:1", "r.example/hub/a/b:1");
        check("docker.io/library/registry:2", "r.example/lib/registry:2");
        check("ghcr.io/a:1", "ghcr.io/a:1");
        assert_eq!(rewrite("docker.io/library/registry:2", &[rule("docker.io/library/registry", "r/x")]).0, "r/x:2");
    }
}
