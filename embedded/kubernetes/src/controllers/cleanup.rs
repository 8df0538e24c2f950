//! Namespaces and custom resource definitions: furnished when they come, emptied before they go.

use serde_json::{Value, json};

use super::{Again, Controllers, begin, is_deleted};
use crate::status::Status;

impl Controllers {
    pub(crate) fn namespace(&mut self, name: &str, namespace: &Value) -> Result<Again, Status> {
        if !is_deleted(namespace) {
            begin::furnish(&self.api, name)?;
            return Ok(None);
        }
        let mut left = Vec::new();
        for store in self.api.store.resources() {
            let Some(kind) = self.api.registry().by_store(&store).cloned() else { continue };
            if !kind.resource.namespaced {
                continue;
            }
            for ((_, object), entry) in self.api.store.list(&store, Some(name)).1 {
                left.push(format!("{}/{object}", kind.plural()));
                let found = entry.object();
                if !is_deleted(&found) {
                    self.remove(&store, name, &object)?;
                }
            }
        }
        // What was deleted at once is gone; what is left is held by finalizers or its grace.
        let held = self.api.store.resources().into_iter().any(|store| {
            let namespaced = self.api.registry().by_store(&store).is_some_and(|kind| kind.resource.namespaced);
            namespaced && !self.api.store.list(&store, Some(name)).1.is_empty()
        });
        if held {
            return Ok(None);
        }
        let place = self.place("/namespaces", "", name)?;
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
