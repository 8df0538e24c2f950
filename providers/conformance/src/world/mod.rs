//! A simulated outside: things of any kind, in memory or in a folder that outlives the process, with a provider
//! that keeps the contract on it, a script of how it behaves, a human's hand, and a log of what was called.
//!
//! A [`World`] is a handle: clones share the things, the script and the log. Worlds in one folder share the things
//! only.

mod behaviour;
mod connector;
mod effects;
mod provider;
mod thing;
mod things;
mod traffic;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ksail_model::{Address, Identity, Mark, Value};

use crate::Method;

pub use behaviour::Behaviour;
pub use connector::{SessionRecord, SimulatedConnector};
pub use provider::{Connection, SimulatedProvider};
pub use thing::Thing;
pub use traffic::{CallRecord, Ending, Hook, Moment};

use behaviour::Script;
use things::{InFolder, InMemory, Things};
use traffic::Traffic;

/// A simulated outside.
#[derive(Clone)]
pub struct World {
    things: Arc<dyn Things>,
    script: Arc<Mutex<Script>>,
    traffic: Arc<Traffic>,
    ports: Arc<Mutex<BTreeMap<u16, String>>>,
}

impl World {
    /// An empty world in memory. Its clock is tokio's, so that a test can pause it.
    pub fn new(scope: impl Into<String>) -> Self {
        Self::over(Arc::new(InMemory::new(scope.into())))
    }

    /// The world in a folder: each thing is one file, which appears with its content or not at all, so the world
    /// survives the kill of any process and is shared between processes. A scope that the folder has
    /// already is kept. Readiness goes by the machine's clock.
    pub fn in_folder(folder: impl AsRef<Path>, scope: &str) -> io::Result<Self> {
        Ok(Self::over(Arc::new(InFolder::open(folder.as_ref(), scope)?)))
    }

    fn over(things: Arc<dyn Things>) -> Self {
        Self { things, script: Arc::default(), traffic: Arc::default(), ports: Arc::default() }
    }

    /// A provider on this world.
    pub fn provider(&self) -> SimulatedProvider {
        SimulatedProvider::new(self.clone())
    }

    // The script.

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how all calls behave, where nothing is set for their address.
    pub fn all(&self, set: impl FnOnce(&mut Behaviour)) -> &Self {
        set(&mut self.script().all);
        self
    }

    /// Sets how calls at an address behave.
    pub fn at(&self, address: &Address, set: impl FnOnce(&mut Behaviour)) -> &Self {
        set(self.script().at.entry(address.clone()).or_default());
        self
    }

    /// Forgets all that was set.
    pub fn behave(&self) {
        *self.script() = Script::default();
    }

    /// Makes another outside answer: the things of the former one are out of sight until its scope comes back.
    pub fn set_scope(&self, scope: &str) -> io::Result<()> {
        self.things.set_scope(scope)
    }

    /// Which outside answers.
    pub fn scope(&self) -> io::Result<String> {
        self.things.scope()
    }

    /// Something that is no thing of this world holds a port.
    pub fn occupy_port(&self, port: u16, by: impl Into<String>) {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).insert(port, by.into());
    }

    // The hand of a human, and the outside's own listing.

    /// Puts a thing there, also beside another of the same identity. An empty scope becomes the world's, an empty
    /// id a new one. Returns it as it was put.
    pub fn put(&self, mut thing: Thing) -> io::Result<Thing> {
        if thing.scope.is_empty() {
            thing.scope = self.things.scope()?;
        }
        if thing.id.is_empty() {
            thing.id = self.things.new_id();
        }
        if let Value::Map(attributes) = &mut thing.attributes {
            attributes.entry("id".to_owned()).or_insert_with(|| Value::from(thing.id.clone()));
        }
        self.things.change(&thing.kind.clone(), &thing.name.clone(), &mut |of_name| of_name.push(thing.clone()))?;
        Ok(thing)
    }

    /// Changes every thing of a kind and name by hand. Answers how many there were.
    pub fn modify(&self, kind: &str, name: &str, mut change: impl FnMut(&mut Thing)) -> io::Result<usize> {
        let mut count = 0;
        self.things.change(kind, name, &mut |of_name| {
            count = of_name.len();
            of_name.iter_mut().for_each(&mut change);
        })?;
        Ok(count)
    }

    /// Removes every thing of a kind and name by hand, with all that they host. Answers how many there were.
    pub fn remove(&self, kind: &str, name: &str) -> io::Result<usize> {
        let mut ids = Vec::new();
        self.things.change(kind, name, &mut |of_name| ids = of_name.drain(..).map(|thing| thing.id).collect())?;
        for id in &ids {
            self.remove_contents(id)?;
        }
        Ok(ids.len())
    }

    /// Removes all that lives in a host, and what lives in that.
    fn remove_contents(&self, host_id: &str) -> io::Result<()> {
        let mut hosts = vec![host_id.to_owned()];
        while let Some(host) = hosts.pop() {
            if !self.things.may_hold(&host) {
                continue;
            }
            for thing in self.things.list()?.into_iter().filter(|thing| thing.scope == host) {
                self.things.change(&thing.kind, &thing.name, &mut |of_name| of_name.retain(|t| t.id != thing.id))?;
                hosts.push(thing.id);
            }
        }
        Ok(())
    }

    /// Everything that is there, in every scope, by kind and name: the outside's own listing.
    pub fn things(&self) -> io::Result<Vec<Thing>> {
        self.things.list()
    }

    /// The things of a kind and name, in every scope.
    pub fn find(&self, kind: &str, name: &str) -> io::Result<Vec<Thing>> {
        self.things.find(kind, name)
    }

    /// Address, mark and fields of everything that carries a mark, one entry a mark.
    pub fn marked(&self) -> io::Result<Vec<(Address, Mark, Value)>> {
        let things = self.things.list()?;
        Ok(things
            .into_iter()
            .flat_map(|thing| {
                let fields = thing.fields;
                thing.marks.into_iter().map(move |mark| (mark.address.clone(), mark, fields.clone()))
            })
            .collect())
    }

    /// Identities that more than one thing has: `(scope, kind, name)`. Names must be unique in a scope, so each is
    /// the work of a bad provider or engine.
    pub fn duplicates(&self) -> io::Result<Vec<(String, String, Identity)>> {
        let mut counts: BTreeMap<(String, String, String), usize> = BTreeMap::new();
        for thing in self.things.list()? {
            *counts.entry((thing.scope, thing.kind, thing.name)).or_default() += 1;
        }
        let several = counts.into_iter().filter(|(_, count)| *count > 1);
        Ok(several.map(|((scope, kind, name), _)| (scope, kind, Identity::named(name))).collect())
    }

    // The log.

    /// Every call so far, in the order in which they began.
    pub fn calls(&self) -> Vec<CallRecord> {
        self.traffic.calls()
    }

    /// The calls of one method so far, in the order in which they began.
    pub fn calls_of(&self, method: Method) -> Vec<CallRecord> {
        self.traffic.calls().into_iter().filter(|call| call.method == method).collect()
    }

    /// How many calls of a method began so far.
    pub fn count(&self, method: Method) -> usize {
        self.calls_of(method).len()
    }

    /// How many calls of a method were under way at once, at most.
    pub fn most_at_once(&self, method: Method) -> usize {
        self.traffic.most(method)
    }

    /// How many creations, changes and deletions were under way at once, at most.
    pub fn most_mutating_at_once(&self) -> usize {
        self.traffic.most_mutating()
    }

    /// Empties the log. Does nothing while calls are under way.
    pub fn forget_calls(&self) {
        self.traffic.forget();
    }

    /// Runs a hook at each moment of each call (to kill the process there, or to interfere).
    pub fn set_hook(&self, hook: Option<Hook>) {
        self.traffic.set_hook(hook);
    }
}
