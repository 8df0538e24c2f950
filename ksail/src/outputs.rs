//! Outputs: what a person wants to know after an apply.

use std::collections::BTreeMap;

use ksail_model::{RecordKey, Value};
use ksail_plan::{joined, resolve_references};
use ksail_records::Snapshot;

use crate::error::{Error, codes};
use crate::platform::Platform;

/// Named values.
pub type Outputs = BTreeMap<String, Value>;

/// The outputs of a state; what is not known (not applied yet) is left out.
pub fn outputs_of(snapshot: &Snapshot) -> Outputs {
    let lookup = |value: &Value| {
        resolve_references(value, &mut |reference| {
            let record = snapshot.records.get(&RecordKey::current(reference.address.clone()))?;
            joined(&record.fields, &record.attributes).get(&reference.path).cloned()
        })
    };
    snapshot.outputs.iter().filter_map(|(name, value)| Some((name.clone(), known(lookup(value))?))).collect()
}

/// A value without what is unknown in it; `None` if nothing is left.
fn known(value: Value) -> Option<Value> {
    match value {
        Value::Unknown => None,
        Value::Map(map) if !map.is_empty() => {
            let left: BTreeMap<String, Value> =
                map.iter().filter_map(|(name, value)| Some((name.clone(), known(value.clone())?))).collect();
            (!left.is_empty()).then(|| Value::map(left))
        }
        other => Some(other),
    }
}

impl Platform {
    /// The outputs of the last apply.
    pub async fn outputs(&self) -> Result<Outputs, Error> {
        let snapshot = self.snapshot().await?.ok_or_else(|| {
            Error::new(
                codes::NOT_FOUND,
                "nothing was applied yet: there is no state",
                "`ksail apply` makes what the file declares",
            )
        })?;
        Ok(outputs_of(&snapshot))
    }
}
