//! Outputs: what a person wants to know after an apply.

use std::collections::BTreeMap;

use ksail_model::{RecordKey, Value};
use ksail_plan::{joined, resolve_references};
use ksail_records::Snapshot;

use crate::error::{Error, codes};
use crate::platform::Platform;
use crate::settings::Settings;

/// Named values.
pub type Outputs = BTreeMap<String, Value>;

/// What the file of a kubeconfig is called among the outputs.
const KUBECONFIG: &str = "kubeconfig";

/// The outputs of a state; what is not known (not applied yet) is left out. The kubeconfig is told as the path that it has for
/// who asks.
pub fn outputs_of(snapshot: &Snapshot, settings: &Settings) -> Outputs {
    let lookup = |value: &Value| {
        resolve_references(value, &mut |reference| {
            let record = snapshot.records.get(&RecordKey::current(reference.address.clone()))?;
            joined(&record.fields, &record.attributes).get(&reference.path).cloned()
        })
    };
    let outputs = snapshot.outputs.iter().filter_map(|(name, value)| {
        let value = known(lookup(value))?;
        let path = value.as_str().filter(|_| name == KUBECONFIG).map(|path| settings.path(path));
        Some((name.clone(), path.map_or(value, |path| Value::from(path.display().to_string()))))
    });
    outputs.collect()
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
        Ok(outputs_of(&snapshot, &self.settings))
    }
}
