//! Versions of Kubernetes.

/// A version as Kubernetes states it, `v1.36.3`, of which a file may leave out the `v`.
pub(crate) fn canonical(text: &str) -> String {
    format!("v{}", text.trim().trim_start_matches('v'))
}

/// Whether a text is a version: `1.36.3`, with or without a `v`.
pub(crate) fn is_version(text: &str) -> bool {
    let numbers: Vec<&str> = text.trim().strip_prefix('v').unwrap_or(text.trim()).split('.').collect();
    numbers.len() == 3 && numbers.iter().all(|part| part.parse::<u32>().is_ok())
}

/// The second number of a version.
pub(crate) fn minor(version: &str) -> Option<u32> {
    version.trim().trim_start_matches('v').split('.').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{canonical, is_version};

    #[test]
    fn versions_have_three_numbers() {
        assert_eq!((canonical("1.36.3"), canonical("v1.36.3")), ("v1.36.3".to_owned(), "v1.36.3".to_owned()));
        for text in ["1.36.3", "v1.36.0"] {
            assert!(is_version(text), "{text}");
        }
        for text in ["1.36", "latest", "", "v1.36.x", "vv1.36.3", "1.36.3-rc.1"] {
            assert!(!is_version(text), "{text}");
        }
    }
}
