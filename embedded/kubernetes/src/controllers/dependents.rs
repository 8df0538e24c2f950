//! Garbage: what becomes of dependents when their owners go.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{Again, Controllers, Key};
use crate::status::Status;
use crate::write::delete::DeleteOptions;

/// Who depends on whom, by the owners' uids.
#[derive(Debug, Default)]
pub(crate) struct Index {
    dependents: HashMap<String, BTreeSet<Key>>,
    owners: HashMap<Key, Vec<String>>,
}

#[derive(Deserialize)]
struct OnlyOwners {
    metadata: OnlyOwnersOf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OnlyOwnersOf {
    #[serde(default)]
    owner_references: Vec<OnlyUid>,
}

#[derive(Deserialize)]
struct OnlyUid {
    #[serde(default)]
    uid: String,
}

impl Index {
    /// Notes an object as it is; `None` if it is gone.
    pub(crate) fn note(&mut self, key: &Key, json: Option<&Bytes>) {
        let owners: Vec<String> = json
            .and_then(|json| serde_json::from_slice::<OnlyOwners>(json).ok())
            .map(|only| only.metadata.owner_references.into_iter().map(|owner| owner.uid).collect())
            .unwrap_or_default();
        let before =
            if owners.is_empty() { self.owners.remove(key) } else { self.owners.insert(key.clone(), owners.clone()) };
        for uid in before.into_iter().flatten() {
            if !owners.contains(&uid)
                && let Some(keys) = self.dependents.get_mut(&uid)
            {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(&uid);
                }
            }
        }
        for uid in owners {
            self.dependents.entry(uid).or_default().insert(key.clone());
        }
    }

    /// What depends on an object.
    pub(crate) fn of(&self, uid: &str) -> Vec<Key> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }
}

impl Controllers {
    /// Deletes an object whose owners are gone, and does what a deleted owner asks for its dependents.
    pub(crate) fn collect(
        &mut self,
        key: &Key,
        object: &Value,
        there: bool,
    ) -> Result<Option<std::time::Duration>, Status> {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        if !there {
            for dependent in self.dependents.of(&uid) {
                self.queue_key(dependent);
            }
            return Ok(None);
        }
        let finalizers: Vec<&str> =
            object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let deleted = super::is_deleted(object);
        if deleted && finalizers.contains(&"orphan") {
            for dependent in self.dependents.of(&uid) {
                self.forget_owner(&dependent, &uid)?;
            }
            let place = self.place(&key.0, &key.1.0, &key.1.1)?;
            self.api.remove_finalizer(&place, "orphan")?;
            return Ok(None);
        }
        if deleted && finalizers.contains(&"foregroundDeletion") {
            return self.foreground(key, &uid);
        }
        if !deleted {
            self.collect_orphan(key, object)?;
        }
        Ok(None)
    }

    fn queue_key(&mut self, key: Key) {
        self.enqueue(&key.0, &key.1.0, &key.1.1);
    }

    /// Deletes the dependents; the owner goes when none that blocks it is left.
    fn foreground(&mut self, key: &Key, uid: &str) -> Result<Again, Status> {
        let mut blocked = false;
        for dependent in self.dependents.of(uid) {
            let Some(object) = self.api.object(&dependent.0, &dependent.1.0, &dependent.1.1) else { continue };
            let mut references = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            blocked |= references.any(|owner| owner["uid"] == uid && owner["blockOwnerDeletion"] == true);
            if !super::is_deleted(&object) {
                let place = self.place(&dependent.0, &dependent.1.0, &dependent.1.1)?;
                let options = DeleteOptions { propagation: Some("Foreground".to_owned()), ..DeleteOptions::default() };
                // What has nothing below it itself goes at once.
                let own = object["metadata"]["uid"].as_str().unwrap_or_default();
                let options = if self.dependents.of(own).is_empty() { DeleteOptions::default() } else { options };
                match self.api.delete(&place, &options) {
                    Err(status) if status.code != 404 => return Err(status),
                    _ => {}
                }
            }
        }
        if !blocked {
            let place = self.place(&key.0, &key.1.0, &key.1.1)?;
            self.api.remove_finalizer(&place, "foregroundDeletion")?;
        }
        Ok(None)
    }

    fn forget_owner(&mut self, dependent: &Key, uid: &str) -> Result<(), Status> {
        let place = self.place(&dependent.0, &dependent.1.0, &dependent.1.1)?;
        let edited = self.api.edit(&place, "", super::MANAGER, &mut |object| {
            if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|owner| owner["uid"] != uid);
            }
        });
        match edited {
            Err(status) if status.code != 404 => Err(status),
            _ => Ok(()),
        }
    }

    /// Deletes an object all of whose owners are gone.
    fn collect_orphan(&mut self, key: &Key, object: &Value) -> Result<(), Status> {
        let Some(owners) = object["metadata"]["ownerReferences"].as_array().filter(|owners| !owners.is_empty()) else {
            return Ok(());
        };
        let registry = self.api.registry();
        let exists = |owner: &Value| {
            let text = |field: &str| owner[field].as_str().unwrap_or_default();
            // An owner of a kind that is not known may be there all the same.
            let Some(kind) = registry.by_kind(text("apiVersion"), text("kind")) else { return true };
            let namespace = if kind.resource.namespaced { &*key.1.0 } else { "" };
            let found = self.api.object(&kind.store, namespace, text("name"));
            found.is_some_and(|found| found["metadata"]["uid"] == owner["uid"])
        };
        let gone: Vec<Value> = owners.iter().filter(|owner| !exists(owner)).map(|owner| owner["uid"].clone()).collect();
        if gone.is_empty() {
            return Ok(());
        }
        if gone.len() < owners.len() {
            for uid in &gone {
                self.forget_owner(key, uid.as_str().unwrap_or_default())?;
            }
            return Ok(());
        }
        let place = self.place(&key.0, &key.1.0, &key.1.1)?;
        let uid = object["metadata"]["uid"].as_str().map(str::to_owned);
        match self.api.delete(&place, &DeleteOptions { uid, ..DeleteOptions::default() }) {
            Err(status) if status.code != 404 => Err(status),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dependents_are_found_until_they_forget_their_owner() {
        let mut index = Index::default();
        let key: Key = ("/pods".into(), ("default".into(), "a".into()));
        let owned = Bytes::from(json!({"metadata": {"ownerReferences": [{"uid": "u"}]}}).to_string());
        index.note(&key, Some(&owned));
        assert_eq!(index.of("u"), vec![key.clone()]);
        index.note(&key, Some(&Bytes::from_static(b"{\"metadata\":{}}")));
        assert!(index.of("u").is_empty());
    }
}
