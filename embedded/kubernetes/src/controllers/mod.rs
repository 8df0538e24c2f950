//! What becomes of objects: a queue of objects that changed, and what each kind does about it, in the spirit of KWOK.

pub(crate) mod begin;
mod budgets;
mod cleanup;
mod daemonsets;
mod dependents;
mod deployments;
mod jobs;
mod nodes;
mod pods;
mod replicasets;
mod scheduling;
mod services;
mod stages;
mod statefulsets;
mod taints;
mod volumes;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::status::Status;
use crate::store::Name;
use crate::write::{Made, Options, Place};

/// The manager of what controllers write.
pub(crate) const MANAGER: &str = "kube-controller-manager";
/// The manager of what nodes write.
pub(crate) const KUBELET: &str = "kubelet";
/// The wait before an object is looked at again when that failed.
const RETRY: Duration = Duration::from_millis(200);
/// How many objects are looked at before others have their turn.
const BATCH: usize = 32;

/// An object, by where it is kept.
pub(crate) type Key = (Arc<str>, Name);

/// When an object is to be looked at again.
pub(crate) type Again = Option<Duration>;

/// What the controllers know beside the objects.
pub(crate) struct Controllers {
    pub(crate) api: Arc<Api>,
    queue: BTreeMap<Key, Option<Bytes>>,
    later: BinaryHeap<Reverse<(Instant, Key)>>,
    pub(crate) dependents: dependents::Index,
    pub(crate) load: scheduling::Load,
    pub(crate) stages: stages::Waiting,
    /// Conditions of nodes change with every heartbeat; only whether pods may be there matters to them, and which taints let them go.
    pub(crate) nodes: HashMap<String, (bool, Vec<Value>)>,
    /// Since when pods bear taints for a time.
    pub(crate) tainted: HashMap<Key, Instant>,
}

/// Runs the controllers until cancelled.
pub(crate) async fn run(api: Arc<Api>, cancel: CancellationToken) {
    let mut controllers = Controllers {
        api: Arc::clone(&api),
        queue: BTreeMap::new(),
        later: BinaryHeap::new(),
        dependents: dependents::Index::default(),
        load: scheduling::Load::default(),
        stages: stages::Waiting::default(),
        nodes: HashMap::new(),
        tainted: HashMap::new(),
    };
    for store in api.store.resources() {
        for (name, entry) in api.store.list(&store, None).1 {
            controllers.dependents.note(&(Arc::clone(&store), name.clone()), Some(&entry.json));
            if &*store == "/pods" {
                controllers.load.note(&name, Some(&entry.object()));
            }
            controllers.queue.insert((Arc::clone(&store), name), None);
        }
    }
    loop {
        controllers.work().await;
        let next = controllers.later.peek().map(|Reverse((at, _))| *at);
        let wake = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            changed = api.store.changes() => controllers.changed(changed),
            () = tokio::time::sleep_until(wake) => controllers.take_due(),
            () = cancel.cancelled() => return,
        }
    }
}

impl Controllers {
    fn take_due(&mut self) {
        let now = Instant::now();
        while self.later.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            if let Some(Reverse((_, key))) = self.later.pop() {
                self.queue.entry(key).or_insert(None);
            }
        }
    }

    fn changed(&mut self, changed: BTreeMap<Key, Option<Bytes>>) {
        for (key, deleted) in changed {
            let entry = if deleted.is_some() { None } else { self.api.store.get(&key.0, &key.1.0, &key.1.1) };
            self.dependents.note(&key, entry.as_ref().map(|entry| &entry.json));
            if &*key.0 == "/pods" {
                self.load.note(&key.1, entry.as_ref().map(crate::store::Entry::object).as_ref());
            }
            self.queue.insert(key, deleted);
        }
    }

    /// Looks at what is in the queue.
    async fn work(&mut self) {
        let mut looked = 0;
        while let Some((key, deleted)) = self.queue.pop_first() {
            // One object with which they cannot cope does not end them.
            let reconciled = catch_unwind(AssertUnwindSafe(|| self.reconcile(&key, deleted)));
            let reconciled = reconciled.unwrap_or_else(|_| {
                tracing::error!(object = ?key, "a controller has a mistake, and leaves the object as it is");
                Ok(None)
            });
            let again = match reconciled {
                Ok(again) => again,
                // What is gone meanwhile needs nothing any more.
                Err(status) if status.code == 404 => None,
                Err(status) => {
                    tracing::debug!(object = ?key, message = status.message, "a controller will try again");
                    Some(RETRY)
                }
            };
            if let Some(again) = again {
                self.later.push(Reverse((Instant::now() + again, key)));
            }
            looked += 1;
            if looked % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Has an object looked at.
    pub(crate) fn enqueue(&mut self, store: &str, namespace: &str, name: &str) {
        self.queue.entry((store.into(), (namespace.into(), name.into()))).or_insert(None);
    }

    /// Has all objects of a resource looked at, of one namespace or of all.
    pub(crate) fn enqueue_all(&mut self, store: &str, namespace: Option<&str>) {
        for (name, _) in self.api.store.list(store, namespace).1 {
            self.queue.entry((store.into(), name)).or_insert(None);
        }
    }

    fn reconcile(&mut self, key: &Key, deleted: Option<Bytes>) -> Result<Again, Status> {
        let (store, (namespace, name)) = key;
        let deleted: Option<Value> = deleted.and_then(|json| serde_json::from_slice(&json).ok());
        let object = if deleted.is_some() { None } else { self.api.object(store, namespace, name) };
        if object.is_none() && deleted.is_none() {
            return Ok(None);
        }
        let shown = object.as_ref().or(deleted.as_ref()).unwrap_or(&Value::Null);
        self.tell_related(key, shown, object.is_some());
        if let Some(again) = self.collect(key, shown, object.is_some())? {
            return Ok(Some(again));
        }
        let Some(object) = object else { return Ok(None) };
        match &**store {
            "/namespaces" => self.namespace(name, &object),
            "/nodes" => self.node(name, &object),
            "/pods" => self.pod(key, &object),
            "/services" => self.service(namespace, name, &object),
            "/persistentvolumeclaims" => self.claim(namespace, name, &object),
            "/persistentvolumes" => self.volume(name, &object),
            "apps/deployments" => self.deployment(namespace, name, &object),
            "apps/replicasets" | "/replicationcontrollers" => self.replica_set(key, &object),
            "apps/statefulsets" => self.stateful_set(namespace, name, &object),
            "apps/daemonsets" => self.daemon_set(namespace, name, &object),
            "batch/jobs" => self.job(namespace, name, &object),
            "policy/poddisruptionbudgets" => self.budget(namespace, name, &object),
            crate::strategy::definition::STORE => self.definition(name, &object),
            "/serviceaccounts" | "/configmaps" if object["metadata"].get("deletionTimestamp").is_none() => Ok(None),
            _ => Ok(None),
        }
    }

    /// Has looked at what depends on an object that changed.
    fn tell_related(&mut self, key: &Key, object: &Value, there: bool) {
        let (store, (namespace, name)) = key;
        for owner in object["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
            let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
            let registry = self.api.registry();
            if let Some(kind) = registry.by_kind(&text("apiVersion"), &text("kind")) {
                let namespace = if kind.resource.namespaced { &**namespace } else { "" };
                let store = Arc::clone(&kind.store);
                self.enqueue(&store, namespace, &text("name"));
            }
        }
        if self
            .api
            .object("/namespaces", "", namespace)
            .is_some_and(|found| found["metadata"].get("deletionTimestamp").is_some())
        {
            self.enqueue("/namespaces", "", namespace);
        }
        match &**store {
            "/pods" => {
                self.enqueue_all("/services", Some(namespace));
                self.enqueue_all("policy/poddisruptionbudgets", Some(namespace));
                if !there {
                    self.tainted.remove(key);
                    self.enqueue_pending();
                }
            }
            "/nodes" => {
                let is_now = (there && nodes::is_ready(object), taints::of(object));
                if self.nodes.get(&**name) != Some(&is_now) || !there {
                    self.nodes.insert(name.to_string(), is_now);
                    self.enqueue_all("/pods", None);
                    self.enqueue_all("apps/daemonsets", None);
                } else {
                    self.enqueue_pending();
                }
                if !there {
                    self.nodes.remove(&**name);
                }
            }
            "/serviceaccounts" | "/configmaps" if !there => self.enqueue("/namespaces", "", namespace),
            "/persistentvolumeclaims" => self.enqueue_pending(),
            "storage.k8s.io/storageclasses" => self.enqueue_all("/persistentvolumeclaims", None),
            _ if !there => {
                if let Some(definition) = self
                    .api
                    .registry()
                    .by_store(store)
                    .and_then(|kind| kind.custom.as_ref().map(|custom| custom.definition.clone()))
                {
                    self.enqueue(crate::strategy::definition::STORE, "", &definition);
                }
            }
            _ => {}
        }
    }

    /// Has pods without a node looked at.
    fn enqueue_pending(&mut self) {
        for name in self.load.pending() {
            self.queue.entry(("/pods".into(), name)).or_insert(None);
        }
    }

    /// The place of an object.
    pub(crate) fn place(&self, store: &str, namespace: &str, name: &str) -> Result<Place, Status> {
        self.api.place(store, namespace, name)
    }

    /// The objects of a resource in a namespace that an object controls.
    pub(crate) fn controlled(&self, store: &str, namespace: &str, owner: &Value) -> Vec<Value> {
        let uid = &owner["metadata"]["uid"];
        let mut found = Vec::new();
        for key in self.dependents.of(uid.as_str().unwrap_or_default()) {
            if &*key.0 != store || &*key.1.0 != namespace {
                continue;
            }
            let Some(object) = self.api.object(store, namespace, &key.1.1) else { continue };
            let controls = |reference: &Value| reference["uid"] == *uid && reference["controller"] == true;
            if object["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(controls) {
                found.push(object);
            }
        }
        found
    }

    /// Creates an object for a controller, unless it is there.
    pub(crate) fn make(&mut self, store: &str, namespace: &str, object: Value) -> Result<Option<Value>, Status> {
        let made = self.api.make(store, namespace, object)?;
        if let Some(made) = &made {
            // The index must know of it before the next look, which would make it once more.
            let name = made["metadata"]["name"].as_str().unwrap_or_default();
            let key: Key = (store.into(), (namespace.into(), name.into()));
            let json = Bytes::from(made.to_string());
            self.dependents.note(&key, Some(&json));
            if store == "/pods" {
                self.load.note(&key.1, Some(made));
            }
        }
        Ok(made)
    }

    /// Deletes an object.
    pub(crate) fn remove(&self, store: &str, namespace: &str, name: &str) -> Result<(), Status> {
        let place = self.place(store, namespace, name)?;
        match self.api.delete(&place, &crate::write::delete::DeleteOptions::default()) {
            Err(status) if status.code != 404 => Err(status),
            _ => Ok(()),
        }
    }
}

impl Api {
    /// The place of an object.
    pub(crate) fn place(&self, store: &str, namespace: &str, name: &str) -> Result<Place, Status> {
        let kind = self.registry().by_store(store).cloned().ok_or_else(Status::no_such_path)?;
        Ok(Place { kind, namespace: namespace.to_owned(), name: name.to_owned(), subresource: String::new() })
    }

    /// Creates an object for a controller, unless it is there.
    pub(crate) fn make(&self, store: &str, namespace: &str, object: Value) -> Result<Option<Value>, Status> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let place = self.place(store, namespace, &name)?;
        match self.create(&place, object, &Options::controller(MANAGER)) {
            Ok(written) => Ok(Some(written.object)),
            Err(status) if status.reason == "AlreadyExists" => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Changes an object, or a part of it, for a controller.
    pub(crate) fn edit(
        &self,
        place: &Place,
        subresource: &str,
        manager: &str,
        edit: &mut dyn FnMut(&mut Value),
    ) -> Result<Value, Status> {
        let place = Place { subresource: subresource.to_owned(), ..place.clone() };
        let written = self.change(&place, &Options::controller(manager), &mut |live| {
            let mut object = live.ok_or_else(|| place.not_found())?.clone();
            object["metadata"]["resourceVersion"] = Value::Null;
            edit(&mut object);
            Ok(Made::Object(object))
        })?;
        Ok(written.object)
    }

    /// Sets the status of an object for a controller.
    pub(crate) fn set_status(&self, place: &Place, manager: &str, status: &Value) -> Result<(), Status> {
        self.edit(place, "status", manager, &mut |object| object["status"] = status.clone()).map(|_| ())
    }
}

/// The reference of an object that controls another.
pub(crate) fn controller_reference(owner: &Value) -> Value {
    json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    }])
}

/// Whether an object is being deleted.
pub(crate) fn is_deleted(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some()
}

/// The name of an object.
pub(crate) fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// A condition that keeps its time while its status stays.
pub(crate) fn condition(before: &Value, of: &str, status: &str, reason: &str, message: &str, time: &str) -> Value {
    let had = before["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == of);
    let since = had.filter(|had| had["status"] == status).and_then(|had| had["lastTransitionTime"].as_str());
    let mut condition = json!({"type": of, "status": status, "lastTransitionTime": since.unwrap_or(time)});
    if !reason.is_empty() {
        condition["reason"] = reason.into();
        condition["message"] = message.into();
    }
    condition
}

/// Whether a pod is ready.
pub(crate) fn is_pod_ready(pod: &Value) -> bool {
    !is_deleted(pod)
        && pod["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A short text that stands for a value.
pub(crate) fn hash(value: &Value) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut number = u64::from(crc32c::crc32c(value.to_string().as_bytes()));
    let mut text = String::new();
    while number > 0 {
        let letter = usize::try_from(number % LETTERS.len() as u64).unwrap_or_default();
        text.push(char::from(LETTERS[letter]));
        number /= LETTERS.len() as u64;
    }
    text
}
