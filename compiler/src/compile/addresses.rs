//! Addresses as the file writes them.

use ksail_kinds::KINDS;
use ksail_model::{Address, AddressError};

/// Reads an address; the cluster may be left out. In names of images `/` need not be escaped.
pub(crate) fn read(text: &str, cluster: &str) -> Result<Address, AddressError> {
    let is_kind = |part: &str| KINDS.iter().any(|schema| schema.kind == part);
    let mut parts = text.splitn(3, '/');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // A cluster may be called like a kind; then what comes second tells.
    let (cluster, rest) = if is_kind(first) && !(first == cluster && is_kind(second) && parts.next().is_some()) {
        (cluster, text)
    } else {
        match text.split_once('/') {
            Some((cluster, rest)) => (cluster, rest),
            None => return Err(AddressError::TooFewParts(text.to_owned())),
        }
    };
    match rest.strip_prefix("image/") {
        Some(reference) if !reference.is_empty() && !reference.contains('%') => {
            if cluster.is_empty() {
                return Err(AddressError::EmptyPart(text.to_owned()));
            }
            Ok(Address::new(cluster, "image", &[reference]))
        }
        _ => Address::parse(&format!("{cluster}/{rest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_cluster_may_be_left_out() {
        let check = |text: &str, cluster: &str, wanted: &str| {
            assert_eq!(read(text, cluster).unwrap().as_str(), wanted, "{text}");
        };
        check("registry/local", "dev", "dev/registry/local");
        check("dev/registry/local", "dev", "dev/registry/local");
        check("old/registry/local", "dev", "old/registry/local");
        check("network/network/main", "network", "network/network/main");
        check("network/main", "network", "network/network/main");
        check("image/docker.io/library/registry:2", "dev", "dev/image/docker.io%2Flibrary%2Fregistry:2");
        check("dev/image/docker.io%2Fa", "dev", "dev/image/docker.io%2Fa");
        for bad in ["", "registry", "registry/", "a/b", "/registry/local", "dev//local"] {
            assert!(read(bad, "dev").is_err(), "{bad}");
        }
    }
}
