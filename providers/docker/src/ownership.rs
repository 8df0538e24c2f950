//! Who may make, change and delete what: decided from marks alone, before anything is sent.

use ksail_model::Mark;
use ksail_provider::{CallError, DeleteRequest};

/// What is there already, as far as ownership goes.
pub(crate) struct Found<'a> {
    /// The id that the engine gave it.
    pub(crate) id: &'a str,
    /// Its mark, if it has one.
    pub(crate) mark: Option<&'a Mark>,
}

/// Whether a creation may go on with what is there: it is the very thing, or another's, or an older one of ours.
pub(crate) fn may_complete(what: &str, found: &Found<'_>, wanted: &Mark) -> Result<(), CallError> {
    let Some(mark) = found.mark else { return Err(not_ours(what, found, Some(wanted))) };
    if mark.lineage != wanted.lineage || mark.address != wanted.address {
        return Err(not_ours(what, found, Some(wanted)));
    }
    if mark.generation != wanted.generation {
        return Err(CallError::refused(format!(
            "{what} is still there in generation {}, and generation {} was to be made",
            mark.generation, wanted.generation
        ))
        .hint("plan again: the older one must be deleted first"));
    }
    Ok(())
}

/// Whether a change may be made to what is there. A thing without a mark became ours by import, and is then known by
/// its id.
pub(crate) fn may_change(what: &str, found: &Found<'_>, mark: &Mark, known_id: Option<&str>) -> Result<(), CallError> {
    let ours = found.mark.map_or(known_id == Some(found.id), |found| found.lineage == mark.lineage);
    if ours { Ok(()) } else { Err(not_ours(what, found, None)) }
}

/// Whether what is there is what a deletion means. `false` says that it is another generation of ours: the one that was
/// to be deleted is gone.
pub(crate) fn may_delete(what: &str, found: &Found<'_>, request: &DeleteRequest) -> Result<bool, CallError> {
    let adopted = request.adopted && request.target.id.as_deref() == Some(found.id);
    match found.mark {
        Some(mark) if mark.lineage == request.mark.lineage => Ok(adopted || mark.generation == request.mark.generation),
        None if adopted => Ok(true),
        _ => Err(not_ours(what, found, None)),
    }
}

fn not_ours(what: &str, found: &Found<'_>, import_to: Option<&Mark>) -> CallError {
    let error = CallError::not_ours(match found.mark {
        Some(mark) => {
            format!("{what} is there and is not ours: it is {} of the lineage {}", mark.address, mark.lineage)
        }
        None => format!("{what} is there and is not ours: it carries no mark"),
    });
    match (found.mark, import_to) {
        (None, Some(mark)) => error.hint(format!(
            "adopt it with `ksail import {} {}`, or choose another name",
            mark.address,
            found.id.get(..12).unwrap_or(found.id)
        )),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ksail_model::{Address, Identity, Ownership, Value};
    use ksail_provider::{CallErrorKind, Target};

    use super::*;

    fn mark(lineage: &str, name: &str, generation: u32) -> Mark {
        Mark {
            lineage: lineage.to_owned(),
            address: Address::new("dev", "volume", &[name]),
            operation: "op".to_owned(),
            generation,
        }
    }

    fn complete(found: Option<&Mark>, wanted: &Mark) -> Result<(), CallErrorKind> {
        may_complete("volume `x`", &Found { id: "1", mark: found }, wanted).map_err(|error| error.kind)
    }

    #[test]
    fn only_the_very_thing_is_completed() {
        let wanted = mark("a", "x", 2);
        assert_eq!(complete(Some(&mark("a", "x", 2)), &wanted), Ok(()));
        assert_eq!(complete(Some(&mark("a", "x", 1)), &wanted), Err(CallErrorKind::Refused));
        assert_eq!(complete(Some(&mark("a", "y", 2)), &wanted), Err(CallErrorKind::NotOurs));
        assert_eq!(complete(Some(&mark("b", "x", 2)), &wanted), Err(CallErrorKind::NotOurs));
        assert_eq!(complete(None, &wanted), Err(CallErrorKind::NotOurs));
        let owner = may_complete("volume `x`", &Found { id: "1", mark: Some(&mark("b", "z", 1)) }, &wanted);
        assert!(owner.unwrap_err().message.contains("dev/volume/z of the lineage b"));
    }

    #[test]
    fn deletion_needs_our_lineage_or_the_adopted_id() {
        let request = |adopted, id: Option<&str>| DeleteRequest {
            target: Target {
                address: Address::new("dev", "volume", &["x"]),
                kind_version: 1,
                identity: Identity::named("x"),
                id: id.map(str::to_owned),
                spec: None,
                ownership: Ownership::Owned,
            },
            mark: mark("a", "x", 2),
            adopted,
            attributes: Value::map(BTreeMap::<String, Value>::new()),
        };
        let delete = |found: Option<&Mark>, request: &DeleteRequest| {
            may_delete("volume `x`", &Found { id: "1", mark: found }, request).map_err(|error| error.kind)
        };
        let (plain, adopted) = (request(false, Some("1")), request(true, Some("1")));
        assert_eq!(delete(Some(&mark("a", "x", 2)), &plain), Ok(true));
        assert_eq!(delete(Some(&mark("a", "moved", 2)), &plain), Ok(true));
        assert_eq!(delete(Some(&mark("a", "x", 3)), &plain), Ok(false));
        assert_eq!(delete(Some(&mark("b", "x", 2)), &plain), Err(CallErrorKind::NotOurs));
        assert_eq!(delete(None, &plain), Err(CallErrorKind::NotOurs));
        assert_eq!(delete(None, &adopted), Ok(true));
        assert_eq!(delete(None, &request(true, Some("2"))), Err(CallErrorKind::NotOurs));
        assert_eq!(delete(Some(&mark("b", "x", 2)), &adopted), Err(CallErrorKind::NotOurs));
    }
}
