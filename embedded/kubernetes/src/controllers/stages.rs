//! Stages that a project set: which objects, after which delay, what becomes of their status.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{Again, Controllers, KUBELET, Key};
use crate::merge::json as json_patch;
use crate::settings::Stage;
use crate::status::Status;

/// Objects whose stage waits for its delay, by the stage's name and the version that they were seen in.
#[derive(Debug, Default)]
pub(crate) struct Waiting(HashMap<Key, (String, String, Instant)>);

fn matches(stage: &Stage, resource: &str, key: &Key, object: &Value) -> bool {
    stage.resource == resource
        && stage.namespace.as_deref().is_none_or(|namespace| namespace == &*key.1.0)
        && stage.labels.iter().all(|(name, value)| object["metadata"]["labels"][name] == value.as_str())
        && stage.matches.iter().all(|(pointer, value)| object.pointer(pointer).unwrap_or(&Value::Null) == value)
}

impl Controllers {
    /// Does what the first stage that matches asks. `None` if none matches, so that the object lives as it does by default.
    pub(crate) fn stage(&mut self, resource: &str, key: &Key, object: &Value) -> Result<Option<Again>, Status> {
        let stage = self.api.settings.stages.iter().find(|stage| matches(stage, resource, key, object)).cloned();
        let Some(stage) = stage else {
            self.stages.0.remove(key);
            return Ok(None);
        };
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let now = Instant::now();
        let due = match self.stages.0.get(key) {
            Some((name, seen, due)) if *name == stage.name && *seen == version => *due,
            _ => {
                let due = now + stage.delay;
                self.stages.0.insert(key.clone(), (stage.name.clone(), version, due));
                due
            }
        };
        let left = due.saturating_duration_since(now);
        if left > Duration::ZERO {
            return Ok(Some(Some(left)));
        }
        self.stages.0.remove(key);
        let place = self.place(&key.0, &key.1.0, &key.1.1)?;
        self.api
            .edit(&place, "status", KUBELET, &mut |object| json_patch::merge(&mut object["status"], &stage.status))?;
        Ok(Some(None))
    }
}
