//! The rules of legality once more, written apart from the product, on keys alone.

use std::collections::BTreeMap;

use ksail_model::RecordKey;
use ksail_records::{Call, Edit, Entry, OutcomeKind};

/// What must be known to judge an entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Oracle {
    serial: u64,
    operation: Option<String>,
    /// The records, with their generations.
    pub(crate) records: BTreeMap<RecordKey, u32>,
    /// The open intents: the call, and the generations that the record has if it is done and if it is not.
    pub(crate) open: BTreeMap<RecordKey, (Call, u32, Option<u32>)>,
}

impl Oracle {
    /// Takes an entry in; `false` if it cannot follow, and then nothing has changed.
    pub(crate) fn take(&mut self, entry: &Entry) -> bool {
        match entry {
            Entry::Begin(header) => {
                let legal = self.operation.is_none() && header.parent_serial == self.serial;
                if legal {
                    self.operation = Some(header.id.clone());
                    self.serial += 1;
                }
                legal
            }
            _ if self.operation.is_none() => false,
            Entry::Seal { operation, .. } => {
                let legal = self.operation.as_ref() == Some(operation);
                if legal {
                    self.operation = None;
                }
                legal
            }
            Entry::Intent(intent) => {
                // A create may be asked for once more; then it is as if the first one had not been.
                let again = match self.open.get(&intent.key) {
                    Some((Call::Create, _, before)) if intent.call == Call::Create => Some(*before),
                    Some(_) => return false,
                    None => None,
                };
                let known = again.unwrap_or_else(|| self.records.get(&intent.key).copied());
                let legal = match intent.call {
                    Call::Create => intent.declaration.is_some(),
                    Call::Update => known.is_some() && intent.declaration.is_some(),
                    Call::Delete => known.is_some(),
                };
                if legal {
                    self.open.insert(intent.key.clone(), (intent.call, intent.generation, known));
                    let now = if intent.call == Call::Create { intent.generation } else { known.unwrap_or_default() };
                    self.records.insert(intent.key.clone(), now);
                }
                legal
            }
            Entry::Outcome(outcome) => self.conclude(&outcome.key, &outcome.kind),
            Entry::Edit(edit) => self.edit(edit),
        }
    }

    fn conclude(&mut self, key: &RecordKey, kind: &OutcomeKind) -> bool {
        let Some((call, done, before)) = self.open.get(key).copied() else { return false };
        let left = match (kind, call) {
            (OutcomeKind::Indeterminate { .. }, _) => return true,
            (OutcomeKind::Applied { .. }, Call::Create | Call::Update) => Some(done),
            (OutcomeKind::Deleted, Call::Delete) => None,
            (OutcomeKind::NotDone { .. }, _) => before,
            _ => return false,
        };
        self.open.remove(key);
        match left {
            Some(generation) => self.records.insert(key.clone(), generation),
            None => self.records.remove(key),
        };
        true
    }

    fn edit(&mut self, edit: &Edit) -> bool {
        match edit {
            Edit::Context { .. } => true,
            Edit::Put { key, record } => {
                let legal = !self.open.contains_key(key);
                if legal {
                    self.records.insert(key.clone(), record.generation);
                }
                legal
            }
            Edit::Forget { key } => {
                self.open.remove(key);
                self.records.remove(key).is_some()
            }
            Edit::Depose { address } => {
                let current = RecordKey::current(address.clone());
                let Some(generation) = self.records.get(&current).copied() else { return false };
                let old = RecordKey { address: address.clone(), deposed: Some(generation) };
                let legal = !self.open.contains_key(&current) && !self.records.contains_key(&old);
                if legal {
                    self.records.remove(&current);
                    self.records.insert(old, generation);
                }
                legal
            }
            Edit::Move { from, to } => {
                let (old, new) = (RecordKey::current(from.clone()), RecordKey::current(to.clone()));
                let legal = self.records.contains_key(&old)
                    && !self.open.contains_key(&old)
                    && !self.records.contains_key(&new);
                if let (true, Some(generation)) = (legal, self.records.get(&old).copied()) {
                    self.records.remove(&old);
                    self.records.insert(new, generation);
                }
                legal
            }
        }
    }
}
