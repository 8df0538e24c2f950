//! Objects of several versions are kept in one.

use serde_json::{Value, json};

use crate::registry::Kind;

/// Fields of events by their names in `v1` and in `events.k8s.io/v1`.
const EVENT: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

impl Kind {
    /// Whether objects are kept as this version has them, but for their `apiVersion`.
    pub(crate) fn is_as_stored(&self) -> bool {
        let old_scaler = self.is("autoscaling", "horizontalpodautoscalers") && self.resource.version == "v1";
        !(old_scaler || self.is("events.k8s.io", "events"))
    }

    /// An object as this version has it.
    pub(crate) fn convert_from_store(&self, mut object: Value) -> Value {
        if self.is("events.k8s.io", "events") {
            rename(&mut object, EVENT.iter().map(|(core, own)| (*core, *own)));
        } else if !self.is_as_stored() {
            let metrics = object["spec"]["metrics"].take();
            let cpu = metrics.as_array().into_iter().flatten().find(|metric| metric["resource"]["name"] == "cpu");
            if let Some(target) = cpu.map(|metric| metric["resource"]["target"]["averageUtilization"].clone()) {
                object["spec"]["targetCPUUtilizationPercentage"] = target;
            }
            remove(&mut object["spec"], &["metrics", "behavior"]);
        }
        object["apiVersion"] = self.api_version.as_str().into();
        object
    }

    /// An object of this version as it is kept.
    pub(crate) fn convert_to_store(&self, object: &mut Value) {
        if self.is("events.k8s.io", "events") {
            rename(object, EVENT.iter().map(|(core, own)| (*own, *core)));
            object["apiVersion"] = "v1".into();
        } else if !self.is_as_stored() {
            let target = object["spec"]["targetCPUUtilizationPercentage"].take();
            let target = if target.is_null() { json!(80) } else { target };
            remove(&mut object["spec"], &["targetCPUUtilizationPercentage"]);
            object["spec"]["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}}]);
            object["apiVersion"] = "autoscaling/v2".into();
        }
    }
}

fn rename<'a>(object: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(map) = object.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

fn remove(object: &mut Value, names: &[&str]) {
    if let Some(map) = object.as_object_mut() {
        for name in names {
            map.remove(*name);
        }
    }
}
