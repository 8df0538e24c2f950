//! The objects: in memory as compact JSON, on disk in a log, with a history for watches.

mod disk;
mod record;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use disk::Disk;
pub(crate) use disk::DiskError;
use record::Record;

/// How many changes of a resource are kept for watches; a watch from before them is told that its version is too old.
const MAX_HISTORY: usize = 4096;
/// How many bytes of JSON the history of a resource keeps alive at most.
const MAX_HISTORY_BYTES: usize = 8 * 1024 * 1024;

/// A namespace (empty for objects outside of namespaces) and a name.
pub(crate) type Name = (Arc<str>, Arc<str>);

/// An object as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The resource version of its last change.
    pub(crate) version: u64,
    /// Its JSON.
    pub(crate) json: Bytes,
}

impl Entry {
    /// The object.
    pub(crate) fn object(&self) -> Value {
        serde_json::from_slice(&self.json).expect("what is kept was written as JSON")
    }
}

/// A change of an object.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) name: Name,
    /// What it was; `None` if it was not there.
    pub(crate) before: Option<Bytes>,
    /// What it is, or was last (with the version of its deletion).
    pub(crate) json: Bytes,
    pub(crate) deleted: bool,
}

/// The objects of one resource.
#[derive(Debug)]
struct Collection {
    objects: BTreeMap<Name, Entry>,
    history: VecDeque<Change>,
    history_bytes: usize,
    /// The version of the last change that is not in the history any more.
    compacted: u64,
    changed: watch::Sender<u64>,
}

impl Collection {
    fn new(compacted: u64) -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            history_bytes: 0,
            compacted,
            changed: watch::Sender::new(0),
        }
    }

    fn record(&mut self, change: Change) {
        let version = change.version;
        self.history_bytes += change.json.len();
        self.history.push_back(change);
        while self.history.len() > MAX_HISTORY || (self.history_bytes > MAX_HISTORY_BYTES && self.history.len() > 1) {
            if let Some(old) = self.history.pop_front() {
                self.history_bytes -= old.json.len();
                self.compacted = old.version;
            }
        }
        self.changed.send_replace(version);
    }
}

/// The rest of a list that is read in pages.
struct Page {
    number: u64,
    rest: Vec<(Name, Entry)>,
    /// The version of the whole list.
    version: u64,
}

struct Inner {
    version: u64,
    /// Changes before this version are in no history.
    opened: u64,
    collections: HashMap<Arc<str>, Collection>,
    disk: Disk,
    /// Changes that the controllers have not taken yet, with what a deleted object was; bounded by the number of objects.
    dirty: BTreeMap<(Arc<str>, Name), Option<Bytes>>,
    /// Lists that are being read in pages, oldest first.
    pages: VecDeque<Page>,
    next_page: u64,
}

/// The store.
pub(crate) struct Store {
    inner: Mutex<Inner>,
    woken: tokio::sync::Notify,
    durable: watch::Receiver<disk::Progress>,
}

/// Why a write was not done.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The object is not what the writer took it for.
    Changed,
    /// The log cannot be written.
    Disk(std::io::Error),
}

/// What a write expects of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Absent,
    Version(u64),
}

/// How many lists may be read in pages at the same time; the oldest is forgotten, and told as expired.
const MAX_PAGED: usize = 64;

impl Store {
    /// Opens the store of a folder, which must be there and locked by the caller.
    pub(crate) fn open(folder: &Path) -> Result<Self, disk::DiskError> {
        let mut collections: HashMap<Arc<str>, Collection> = HashMap::new();
        let (disk, version, durable) = Disk::open(folder, &mut |record| {
            let collection = collections.entry(record.resource.into()).or_insert_with(|| Collection::new(0));
            let name: Name = (record.namespace.into(), record.name.into());
            match record.object {
                Some(json) => {
                    let json = Bytes::copy_from_slice(json.get().as_bytes());
                    collection.objects.insert(name, Entry { version: record.version, json });
                }
                None => {
                    collection.objects.remove(&name);
                }
            }
        })?;
        for collection in collections.values_mut() {
            collection.compacted = version;
        }
        let inner = Inner {
            version: version.max(1),
            opened: version.max(1),
            collections,
            disk,
            dirty: BTreeMap::new(),
            pages: VecDeque::new(),
            next_page: 0,
        };
        Ok(Self { inner: Mutex::new(inner), woken: tokio::sync::Notify::new(), durable })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock leaves the maps whole: each change is one insertion.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of the last change of anything.
    pub(crate) fn version(&self) -> u64 {
        self.inner().version
    }

    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Entry> {
        let inner = self.inner();
        inner.collections.get(resource)?.objects.get(&(namespace.into(), name.into())).cloned()
    }

    /// The objects of a resource, of one namespace or of all, in order, and the version at which they are so.
    pub(crate) fn list(&self, resource: &str, namespace: Option<&str>) -> (u64, Vec<(Name, Entry)>) {
        let inner = self.inner();
        let Some(collection) = inner.collections.get(resource) else { return (inner.version, Vec::new()) };
        let copy = |(name, entry): (&Name, &Entry)| (name.clone(), entry.clone());
        let found = match namespace {
            None => collection.objects.iter().map(copy).collect(),
            Some(namespace) => {
                let from: Name = (namespace.into(), "".into());
                let range = (Bound::Included(from), Bound::Unbounded);
                let within = collection.objects.range(range).take_while(|((of, _), _)| &**of == namespace);
                within.map(copy).collect()
            }
        };
        (inner.version, found)
    }

    /// The resources of which there are objects.
    pub(crate) fn resources(&self) -> Vec<Arc<str>> {
        let inner = self.inner();
        inner.collections.iter().filter(|(_, of)| !of.objects.is_empty()).map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Keeps the rest of a list for its next page; answers the page's number.
    pub(crate) fn keep_page(&self, version: u64, rest: Vec<(Name, Entry)>) -> u64 {
        let mut inner = self.inner();
        inner.next_page += 1;
        let page = inner.next_page;
        inner.pages.push_back(Page { number: page, rest, version });
        if inner.pages.len() > MAX_PAGED {
            inner.pages.pop_front();
        }
        page
    }

    /// The rest of a list, and the version of the whole; `None` if it was forgotten.
    pub(crate) fn page(&self, page: u64) -> Option<(u64, Vec<(Name, Entry)>)> {
        let inner = self.inner();
        let found = inner.pages.iter().find(|found| found.number == page)?;
        Some((found.version, found.rest.clone()))
    }

    /// Writes an object (its resource version is set here) or deletes it, if it is what is expected. It is in the log when
    /// this returns, so that a kill of the process does not lose it; [`Store::durable`] waits until a power cut does not.
    pub(crate) fn write(
        &self,
        resource: &Arc<str>,
        name: &Name,
        expect: Expect,
        object: &mut Value,
        delete: bool,
    ) -> Result<(u64, Bytes), WriteError> {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let opened = inner.opened;
        let found = inner.collections.get(resource).and_then(|of| of.objects.get(name));
        let as_expected = match expect {
            Expect::Absent => found.is_none(),
            Expect::Version(version) => found.is_some_and(|entry| entry.version == version),
        };
        if !as_expected {
            return Err(WriteError::Changed);
        }
        let version = inner.version + 1;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), version.to_string().into());
        }
        let json = Bytes::from(serde_json::to_vec(object).expect("a JSON value can be written"));
        let record = Record::line(version, resource, &name.0, &name.1, (!delete).then_some(&json));
        inner.disk.append(version, &record).map_err(WriteError::Disk)?;
        inner.version = version;
        let collection = inner.collections.entry(Arc::clone(resource)).or_insert_with(|| Collection::new(opened));
        let before = if delete {
            collection.objects.remove(name)
        } else {
            collection.objects.insert(name.clone(), Entry { version, json: json.clone() })
        };
        let before = before.map(|entry| entry.json);
        let change = Change { version, name: name.clone(), before, json: json.clone(), deleted: delete };
        collection.record(change);
        inner.dirty.insert((Arc::clone(resource), name.clone()), delete.then(|| json.clone()));
        if inner.disk.is_long() {
            inner.roll();
        }
        drop(guard);
        self.woken.notify_one();
        Ok((version, json))
    }

    /// Waits until all up to a version is synced.
    pub(crate) async fn durable(&self, version: u64) -> Result<(), String> {
        let mut durable = self.durable.clone();
        match durable.wait_for(|progress| progress.synced >= version || progress.failed.is_some()).await {
            Ok(progress) => match &progress.failed {
                Some(failed) => Err(failed.clone()),
                None => Ok(()),
            },
            Err(_) => Err("the log was closed".to_owned()),
        }
    }

    /// What changed since it was asked last; waits until something did.
    pub(crate) async fn changes(&self) -> BTreeMap<(Arc<str>, Name), Option<Bytes>> {
        loop {
            let taken = std::mem::take(&mut self.inner().dirty);
            if !taken.is_empty() {
                return taken;
            }
            self.woken.notified().await;
        }
    }

    /// The changes of a resource after a version; `None` if some of them are forgotten. The receiver tells of later ones.
    pub(crate) fn history(&self, resource: &Arc<str>, after: u64) -> Option<Vec<Change>> {
        let inner = self.inner();
        let Some(collection) = inner.collections.get(resource) else {
            return (after >= inner.opened).then(Vec::new);
        };
        if after < collection.compacted {
            return None;
        }
        let from = collection.history.partition_point(|change| change.version <= after);
        Some(collection.history.range(from..).cloned().collect())
    }

    /// Tells of changes of a resource.
    pub(crate) fn subscribe(&self, resource: &Arc<str>) -> watch::Receiver<u64> {
        let mut inner = self.inner();
        let opened = inner.opened;
        let collection = inner.collections.entry(Arc::clone(resource)).or_insert_with(|| Collection::new(opened));
        collection.changed.subscribe()
    }
}

impl Inner {
    /// Begins a new log, and has all objects written to a snapshot beside.
    fn roll(&mut self) {
        let mut all = Vec::new();
        for (resource, collection) in &self.collections {
            for (name, entry) in &collection.objects {
                all.push((Arc::clone(resource), name.clone(), entry.clone()));
            }
        }
        self.disk.roll(self.version, all);
    }
}
