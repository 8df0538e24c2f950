//! What stands on the things that we make: the mark, and what the engine cannot tell of their specs.

use std::collections::HashMap;

use ksail_model::{Address, Fingerprint, Mark, Path, Secret, Value};

/// Labels as the engine has them.
pub(crate) type Labels = HashMap<String, String>;

pub(crate) const LINEAGE: &str = "dev.ksail.lineage";
const ADDRESS: &str = "dev.ksail.address";
const OPERATION: &str = "dev.ksail.operation";
const GENERATION: &str = "dev.ksail.generation";
pub(crate) const KIND: &str = "dev.ksail.kind";
/// Followed by the path of a secret leaf of the spec.
const FINGERPRINT: &str = "dev.ksail.fingerprint.";
/// The health check of a container, as JSON: it is made by us, not by the engine, so the engine cannot tell of it.
pub(crate) const HEALTH: &str = "dev.ksail.health";
/// The host whose images a mirror answers for.
pub(crate) const MIRROR_HOST: &str = "dev.ksail.mirror-host";
/// The names of the declared environment variables, as JSON: the engine adds the image's own.
pub(crate) const ENV_NAMES: &str = "dev.ksail.env";
/// Whether arguments were declared (`true`): else the engine reports the image's own.
pub(crate) const OWN_COMMAND: &str = "dev.ksail.own-command";

/// The range of a network's addresses that the engine gives by itself, for Podman does not tell it.
pub(crate) const GIVEN: &str = "dev.ksail.given";
pub(crate) const GIVEN_IPV6: &str = "dev.ksail.given-ipv6";

/// The labels of a thing: its mark, its kind, and the fingerprint of each secret of its spec.
pub(crate) fn labels(mark: &Mark, spec: &Value) -> Labels {
    let mut labels = Labels::from([
        (LINEAGE.to_owned(), mark.lineage.clone()),
        (ADDRESS.to_owned(), mark.address.to_string()),
        (OPERATION.to_owned(), mark.operation.clone()),
        (GENERATION.to_owned(), mark.generation.to_string()),
        (KIND.to_owned(), mark.address.kind().to_owned()),
    ]);
    for (path, secret) in spec.secrets() {
        // One that has no fingerprint yet is marked as a secret all the same.
        let fingerprint = secret.fingerprint.as_ref().map(|fingerprint| fingerprint.0.clone());
        labels.insert(format!("{FINGERPRINT}{path}"), fingerprint.unwrap_or_default());
    }
    labels
}

/// The mark, if the labels hold a whole one.
pub(crate) fn mark(labels: Option<&Labels>) -> Option<Mark> {
    let labels = labels?;
    Some(Mark {
        lineage: labels.get(LINEAGE)?.clone(),
        address: Address::parse(labels.get(ADDRESS)?).ok()?,
        operation: labels.get(OPERATION)?.clone(),
        generation: labels.get(GENERATION)?.parse().ok()?,
    })
}

/// The secret at a path of the spec as it is seen outside, if one was declared there.
pub(crate) fn secret(labels: Option<&Labels>, path: &Path) -> Option<Secret> {
    let fingerprint = labels?.get(&format!("{FINGERPRINT}{path}"))?;
    Some(Secret { parts: Vec::new(), fingerprint: (!fingerprint.is_empty()).then(|| Fingerprint(fingerprint.clone())) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_whole_or_not_at_all() {
        let written = Mark {
            lineage: "l-1".to_owned(),
            address: Address::new("dev", "mirror", &["docker.io/x"]),
            operation: "op".to_owned(),
            generation: 3,
        };
        let mut secret = Secret::env("TOKEN");
        secret.fingerprint = Some(Fingerprint("abcd".to_owned()));
        let spec = Value::map([("password", Value::Secret(secret)), ("host", Value::from("docker.io"))]);
        let mut labels = labels(&written, &spec);
        assert_eq!(mark(Some(&labels)), Some(written));
        assert_eq!(labels.get(KIND).map(String::as_str), Some("mirror"));
        let observed = Secret::observed(Fingerprint("abcd".to_owned()));
        assert_eq!(super::secret(Some(&labels), &Path::key("password")), Some(observed));
        assert_eq!(super::secret(Some(&labels), &Path::key("host")), None);
        labels.remove(OPERATION);
        assert_eq!(mark(Some(&labels)), None);
        assert_eq!(mark(None), None);
    }
}
