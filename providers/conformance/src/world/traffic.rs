//! What was called, when, and how much of it at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ksail_model::Address;
use ksail_provider::{CallError, CallErrorKind};

use crate::Method;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With an answer.
    Answered,
    /// With an error.
    Failed(CallErrorKind),
    /// Its caller dropped it.
    Dropped,
}

/// A call that the simulated provider got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// Which call.
    pub method: Method,
    /// The addresses it was about; empty for lists.
    pub addresses: Vec<Address>,
    /// The moment it began. Moments of a world are numbered from 0; every begin, effect and end is one.
    pub begun: u64,
    /// The moment it took effect outside, if it did (a late landing included).
    pub effected: Option<u64>,
    /// The moment it ended.
    pub ended: Option<u64>,
    /// How it ended.
    pub ending: Option<Ending>,
}

/// A moment of a call, as told to a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It arrived.
    Begun,
    /// It took effect outside; the caller does not know yet.
    Effected,
    /// It ended.
    Ended,
}

/// What a test runs at each moment of each call. It must not call back into the world's log.
pub type Hook = Arc<dyn Fn(Method, &[Address], Moment) + Send + Sync>;

#[derive(Default)]
struct Book {
    clock: u64,
    calls: Vec<CallRecord>,
    under_way: BTreeMap<Method, usize>,
    most: BTreeMap<Method, usize>,
    most_mutating: usize,
    hook: Option<Hook>,
}

impl Book {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock - 1
    }
}

/// The log of one world's calls in this process.
#[derive(Default)]
pub(crate) struct Traffic(Mutex<Book>);

impl Traffic {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_hook(&self, hook: Option<Hook>) {
        self.book().hook = hook;
    }

    pub(crate) fn calls(&self) -> Vec<CallRecord> {
        self.book().calls.clone()
    }

    pub(crate) fn most(&self, method: Method) -> usize {
        self.book().most.get(&method).copied().unwrap_or_default()
    }

    pub(crate) fn most_mutating(&self) -> usize {
        self.book().most_mutating
    }

    pub(crate) fn forget(&self) {
        let mut book = self.book();
        // Calls under way hold their positions, so that the log can be emptied only between calls.
        if book.under_way.values().all(|count| *count == 0) {
            book.calls.clear();
            book.most.clear();
            book.most_mutating = 0;
        }
    }

    pub(crate) fn begin(self: &Arc<Self>, method: Method, addresses: Vec<Address>) -> Entry {
        let mut book = self.book();
        let begun = book.tick();
        let position = book.calls.len();
        book.calls.push(CallRecord {
            method,
            addresses: addresses.clone(),
            begun,
            effected: None,
            ended: None,
            ending: None,
        });
        let count = book.under_way.entry(method).or_default();
        *count += 1;
        let count = *count;
        let most = book.most.entry(method).or_default();
        *most = count.max(*most);
        let mutating = [Method::Create, Method::Update, Method::Delete];
        let mutating = mutating.iter().filter_map(|method| book.under_way.get(method)).sum();
        book.most_mutating = book.most_mutating.max(mutating);
        let hook = book.hook.clone();
        drop(book);
        if let Some(hook) = hook {
            hook(method, &addresses, Moment::Begun);
        }
        Entry { traffic: Arc::clone(self), position, begun, method, ending: Ending::Dropped }
    }

    fn at(&self, position: usize, begun: u64, moment: Moment, write: impl FnOnce(&mut CallRecord, u64)) {
        let mut book = self.book();
        let now = book.tick();
        let Some(call) = book.calls.get_mut(position).filter(|call| call.begun == begun) else { return };
        write(call, now);
        let (method, addresses, hook) = (call.method, call.addresses.clone(), book.hook.clone());
        drop(book);
        if let Some(hook) = hook {
            hook(method, &addresses, moment);
        }
    }
}

/// The entry of a call under way; dropping it ends the call.
pub(crate) struct Entry {
    traffic: Arc<Traffic>,
    position: usize,
    begun: u64,
    method: Method,
    ending: Ending,
}

impl Entry {
    /// Notes the effect; what it returns may outlive the entry.
    pub(crate) fn effect(&self) -> impl FnOnce() + Send + 'static {
        let (traffic, position, begun) = (Arc::clone(&self.traffic), self.position, self.begun);
        move || traffic.at(position, begun, Moment::Effected, |call, now| call.effected = Some(now))
    }

    pub(crate) fn end<T>(mut self, result: Result<T, CallError>) -> Result<T, CallError> {
        self.ending = match &result {
            Ok(_) => Ending::Answered,
            Err(error) => Ending::Failed(error.kind),
        };
        result
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(count) = self.traffic.book().under_way.get_mut(&self.method) {
            *count = count.saturating_sub(1);
        }
        let ending = self.ending;
        self.traffic.at(self.position, self.begun, Moment::Ended, |call, now| {
            call.ended = Some(now);
            call.ending = Some(ending);
        });
    }
}
