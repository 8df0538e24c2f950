//! Namespaces and custom resource definitions: furnished when they come, emptied before they go.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Again, Controllers, begin, condition, is_deleted};
use crate::api;
use crate::status::Status;

impl Controllers {
    pub(crate) fn namespace(&mut self, name: &str, namespace: &Value) -> Result<Again, Status> {
        if !is_deleted(namespace) {
            begin::furnish(&self.api, name)?;
            return Ok(None);
        }
        for store in self.api.store.resources() {
            let Some(kind) = self.api.registry().by_store(&store).cloned() else { continue };
            if !kind.resource.namespaced {
                continue;
            }
            for ((_, object), entry) in self.api.store.list(&store, Some(name)).1 {
                if !is_deleted(&entry.object()) {
                    self.remove(&store, name, &object)?;
                }
            }
        }
        let place = self.place("/namespaces", "", name)?;
        // What was deleted at once is gone; what is left is held by finalizers or its grace.
        let left = self.left(name);
        if !left.is_empty() {
            let status = waits(&namespace["status"], &left);
            if status != namespace["status"] {
                self.api.set_status(&place, super::MANAGER, &status)?;
            }
            return Ok(None);
        }
        self.api.edit(&place, "finalize", super::MANAGER, &mut |object| {
            if let Some(list) = object["spec"]["finalizers"].as_array_mut() {
                list.retain(|finalizer| finalizer != "kubernetes");
            }
            if object["spec"]["finalizers"] == json!([])
                && let Some(spec) = object["spec"].as_object_mut()
            {
                spec.remove("finalizers");
            }
        })?;
        Ok(None)
    }

    /// What is in a namespace: by resource, the finalizers of each object.
    fn left(&self, namespace: &str) -> BTreeMap<String, Vec<Vec<String>>> {
        let mut left = BTreeMap::new();
        for store in self.api.store.resources() {
            let Some(kind) = self.api.registry().by_store(&store).cloned() else { continue };
            let found =
                if kind.resource.namespaced { self.api.store.list(&store, Some(namespace)).1 } else { Vec::new() };
            if !found.is_empty() {
                let finalizers = |object: &Value| {
                    let list = object["metadata"]["finalizers"].as_array().into_iter().flatten();
                    list.filter_map(Value::as_str).map(str::to_owned).collect()
                };
                let objects = found.iter().map(|(_, entry)| finalizers(&entry.object())).collect();
                left.insert(format!("{}.{}", kind.plural(), kind.group()), objects);
            }
        }
        left
    }

    pub(crate) fn definition(&mut self, name: &str, definition: &Value) -> Result<Again, Status> {
        if !is_deleted(definition) {
            return Ok(None);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let store = format!("{}/{}", text(&definition["spec"]["group"]), text(&definition["spec"]["names"]["plural"]));
        for ((namespace, object), entry) in self.api.store.list(&store, None).1 {
            if !is_deleted(&entry.object()) {
                self.remove(&store, &namespace, &object)?;
            }
        }
        if self.api.store.list(&store, None).1.is_empty() {
            let place = self.place(crate::strategy::definition::STORE, "", name)?;
            self.api.remove_finalizer(&place, crate::strategy::definition::CLEANUP)?;
        }
        Ok(None)
    }
}

/// The status of a namespace that waits for what is left in it.
fn waits(before: &Value, left: &BTreeMap<String, Vec<Vec<String>>>) -> Value {
    let counted = |what: &str, count: usize| format!("{what}{count} resource instances");
    let resources: Vec<String> =
        left.iter().map(|(resource, objects)| counted(&format!("{resource} has "), objects.len())).collect();
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    for finalizer in left.values().flatten().flatten() {
        *held.entry(finalizer).or_default() += 1;
    }
    let finalizers: Vec<String> = held.iter().map(|(name, count)| counted(&format!("{name} in "), *count)).collect();
    let time = api::now();
    let content = format!("Some resources are remaining: {}", resources.join(", "));
    let of = |name: &str, status: &str, reason: &str, message: &str| {
        condition(before, &format!("Namespace{name}"), status, reason, message, &time)
    };
    let finalized = match finalizers.as_slice() {
        [] => {
            of("FinalizersRemaining", "False", "ContentHasNoFinalizers", "All content-preserving finalizers finished")
        }
        some => {
            let held = format!("Some content in the namespace has finalizers remaining: {}", some.join(", "));
            of("FinalizersRemaining", "True", "SomeFinalizersRemain", &held)
        }
    };
    let deleted = "All content successfully deleted, may be waiting on finalization";
    json!({"phase": "Terminating", "conditions": [
        of("DeletionDiscoveryFailure", "False", "ResourcesDiscovered", "All resources successfully discovered"),
        of("DeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
        of("DeletionContentFailure", "False", "ContentDeleted", deleted),
        of("ContentRemaining", "True", "SomeResourcesRemain", &content),
        finalized,
    ]})
}
