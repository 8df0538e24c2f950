//! Which version of Kubernetes a cluster can be taken to.

use ksail_kinds::{ClusterSpec, Spec as _};
use ksail_model::{DeclaredGraph, Diagnostic, Origin, Path, RecordKey, Selector, Value};
use ksail_records::Snapshot;

use crate::error::{Error, codes};

/// The field of a cluster.
const VERSION: &str = "version";

/// Refuses what no upgrade does: to go back, or to leave a minor version out. What is made anew is no upgrade.
pub(crate) fn refuse_versions(graph: &DeclaredGraph, snapshot: &Snapshot, replaced: &[Selector]) -> Result<(), Error> {
    let clusters = graph.declarations.values().filter(|declaration| declaration.address.kind() == ClusterSpec::KIND);
    let mut errors = Vec::new();
    for declaration in clusters {
        let mut parts = std::iter::once(&declaration.address).chain(&declaration.host);
        if parts.any(|address| replaced.iter().any(|selector| selector.matches(address))) {
            continue;
        }
        let record = snapshot.records.get(&RecordKey::current(declaration.address.clone()));
        let version = |spec: &Value| spec.field(VERSION).and_then(Value::as_str).map(str::to_owned);
        let (Some(from), Some(to)) = (record.and_then(|record| version(&record.fields)), version(&declaration.spec))
        else {
            continue;
        };
        let Some((why, hint)) = refusal(&from, &to) else { continue };
        let message = format!("{} cannot go from {from} to {to}: {why}", declaration.address);
        let mut error = Diagnostic::error(codes::VERSION, message).hint(hint);
        if let Some(Origin::File { file, span } | Origin::Overlay { file, span }) =
            declaration.origins.of(&Path::key(VERSION))
        {
            error = error.at(std::sync::Arc::clone(file), *span, "asked for here");
        }
        errors.push(error);
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::Diagnostics(errors)) }
}

/// Why a cluster cannot go from one version to another, and what to do; `None` if it can, or if that cannot be told.
fn refusal(from: &str, to: &str) -> Option<(String, String)> {
    let (old, new) = (numbers(from)?, numbers(to)?);
    if new < old {
        let why = "Kubernetes does not go back to an older version".to_owned();
        return Some((
            why,
            format!(
                "write {from} or a newer one; `--replace cluster` with the older one makes the cluster anew, and loses all in it"
            ),
        ));
    }
    if new[0] == old[0] && new[1] > old[1] + 1 {
        let next = format!("v{}.{}", old[0], old[1] + 1);
        let why = "an upgrade may not leave a minor version out".to_owned();
        return Some((why, format!("upgrade to a {next} first, then apply again for the next one")));
    }
    None
}

fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.strip_prefix('v').unwrap_or(version).split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn versions_go_up_one_minor_at_a_time() {
        let check = |from: &str, to: &str, wanted: Option<&str>| {
            let why = refusal(from, to).map(|(why, _)| why);
            assert_eq!(why.is_some(), wanted.is_some(), "{from} to {to}: {why:?}");
            assert!(wanted.is_none_or(|wanted| why.unwrap().contains(wanted)));
        };
        check("v1.36.3", "v1.36.3", None);
        check("v1.36.3", "v1.36.9", None);
        check("v1.36.3", "v1.37.0", None);
        check("v1.9.3", "v1.10.0", None);
        check("v1.36.3", "v1.36.2", Some("older"));
        check("v1.36.3", "v1.35.9", Some("older"));
        check("v1.36.3", "v1.38.0", Some("leave a minor version out"));
        check("unknown", "v1.38.0", None);
    }
}
