//! Deletion: grace, finalizers, what becomes of dependents.

use serde_json::{Value, json};

use super::{Options, Place, metadata};
use crate::api::Api;
use crate::status::Status;
use crate::store::{Expect, WriteError};
use crate::strategy;

/// How an object is deleted.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) propagation: Option<String>,
    pub(crate) grace: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) dry_run: bool,
}

/// What a deletion did.
#[derive(Debug)]
pub(crate) struct Deleted {
    /// The object as it was last.
    pub(crate) object: Value,
    /// Whether it is gone; else finalizers, or the pod's grace, hold it.
    pub(crate) gone: bool,
    pub(crate) version: u64,
}

/// How often a deletion is tried when others write the same object.
const MAX_TRIES: usize = 100;

impl DeleteOptions {
    /// Adds what a body says.
    pub(crate) fn read(&mut self, body: &Value) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.propagation = text(&body["propagationPolicy"]).or(self.propagation.take());
        self.grace = body["gracePeriodSeconds"].as_i64().or(self.grace);
        self.uid = text(&body["preconditions"]["uid"]).or(self.uid.take());
        self.version = text(&body["preconditions"]["resourceVersion"]).or(self.version.take());
        self.dry_run |= body["dryRun"].as_array().is_some_and(|stages| !stages.is_empty());
        if let Some(orphan) = body["orphanDependents"].as_bool() {
            self.propagation = Some(if orphan { "Orphan" } else { "Background" }.to_owned());
        }
    }
}

impl Api {
    /// Deletes an object, or begins to.
    pub(crate) fn delete(&self, place: &Place, options: &DeleteOptions) -> Result<Deleted, Status> {
        for _ in 0..MAX_TRIES {
            let kind = &place.kind;
            let entry = self.store.get(&kind.store, &place.namespace, &place.name).ok_or_else(|| place.not_found())?;
            let mut object = kind.convert_from_store(entry.object());
            let conflict = |detail: String| Status::conflict(kind.group(), kind.kind(), &place.name, &detail);
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
            if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
                return Err(conflict(format!(
                    "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
                )));
            }
            if let Some(wanted) = options.version.as_deref().filter(|wanted| *wanted != entry.version.to_string()) {
                let version = entry.version;
                return Err(conflict(format!(
                    "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
                )));
            }
            if kind.is("", "namespaces") && ["default", "kube-system", "kube-public"].contains(&place.name.as_str()) {
                return Err(Status::forbidden("", "namespaces", &place.name, "this namespace may not be deleted"));
            }
            let before = object.clone();
            let gone = self.mark(place, &mut object, options);
            if options.dry_run {
                return Ok(Deleted { object, gone, version: 0 });
            }
            if !gone && object == before {
                return Ok(Deleted { object, gone, version: 0 });
            }
            kind.convert_to_store(&mut object);
            match self.put(kind, &place.key(), Expect::Version(entry.version), &mut object, gone) {
                Ok((version, _)) => return Ok(Deleted { object: kind.convert_from_store(object), gone, version }),
                Err(WriteError::Changed) => {}
                Err(WriteError::Disk(error)) => return Err(Status::internal(error.to_string())),
            }
        }
        Err(Status::internal("the object is written by too many at once"))
    }

    /// Marks an object as deleted; whether it is gone at once.
    fn mark(&self, place: &Place, object: &mut Value, options: &DeleteOptions) -> bool {
        let kind = &place.kind;
        let marked = object["metadata"].get("deletionTimestamp").is_some();
        let finalizer = match options.propagation.as_deref() {
            Some("Orphan") => Some("orphan"),
            Some("Foreground") => Some("foregroundDeletion"),
            _ => None,
        };
        let map = metadata(object);
        let mut finalizers: Vec<Value> = map.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
        if options.propagation.is_some() {
            // The last who deletes says what becomes of the dependents.
            finalizers.retain(|have| !["orphan", "foregroundDeletion"].contains(&have.as_str().unwrap_or_default()));
        }
        if let Some(finalizer) = finalizer {
            finalizers.push(finalizer.into());
        }
        if &*kind.store == strategy::definition::STORE && !marked {
            // The objects go before the definition that they are of.
            finalizers.push(strategy::definition::CLEANUP.into());
        }
        let held = !finalizers.is_empty();
        if held {
            map.insert("finalizers".to_owned(), Value::Array(finalizers));
        } else {
            map.remove("finalizers");
        }
        // A pod that runs on a node is given its grace; its kubelet ends it.
        let grace = if kind.is("", "pods") { self.grace(object, options) } else { 0 };
        let namespace =
            kind.is("", "namespaces") && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
        if !held && grace == 0 && !namespace {
            return true;
        }
        let map = metadata(object);
        if !marked {
            map.insert("deletionTimestamp".to_owned(), deadline(grace).into());
            if !namespace {
                map.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
            }
            if let Some(generation) = map.get("generation").and_then(Value::as_i64) {
                map.insert("generation".to_owned(), (generation + 1).into());
            }
        } else if kind.is("", "pods")
            && map.get("deletionGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|had| grace < had)
        {
            map.insert("deletionTimestamp".to_owned(), deadline(grace).into());
            map.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
        }
        if namespace {
            object["status"] = json!({"phase": "Terminating"});
        }
        false
    }

    fn grace(&self, pod: &Value, options: &DeleteOptions) -> i64 {
        let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if ended || node.is_empty() {
            return 0;
        }
        let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
        options.grace.unwrap_or(own).max(0)
    }

    /// Ends an object that only its mark holds: what a kubelet does when a pod has ended.
    pub(crate) fn finish(&self, place: &Place) -> Result<(), Status> {
        let options = DeleteOptions { grace: Some(0), ..DeleteOptions::default() };
        self.delete(place, &options).map(|_| ())
    }

    /// Removes a finalizer; the object goes if it was the last that held it.
    pub(crate) fn remove_finalizer(&self, place: &Place, finalizer: &str) -> Result<(), Status> {
        let options = Options::controller("kube-controller-manager");
        self.change(place, &options, &mut |live| {
            let mut object = live.ok_or_else(|| place.not_found())?.clone();
            if let Some(list) = object["metadata"]["finalizers"].as_array_mut() {
                list.retain(|have| have != finalizer);
            }
            Ok(super::Made::Object(object))
        })
        .map(|_| ())
    }
}

/// The time at which a grace ends.
fn deadline(grace: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
