//! Digests of what was seen, and references resolved against what is known.

use ksail_model::{Digest, Reference, Seen, Value};

/// The digest of what was seen: our fields and the id; never readiness, computed attributes or times, which move by
/// themselves.
pub fn seen_digest(seen: &Seen) -> Digest {
    Digest::of(&(&seen.id, &seen.fields))
}

/// A value with its references resolved: what `lookup` does not know becomes [`Value::Unknown`].
pub fn resolve_references(value: &Value, lookup: &mut dyn FnMut(&Reference) -> Option<Value>) -> Value {
    value.map_leaves(&mut |leaf| match leaf {
        Value::Ref(reference) => Some(lookup(reference).unwrap_or(Value::Unknown)),
        _ => None,
    })
}
