//! Rewrites of full image references.

use crate::format::ImageRewrite;

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
