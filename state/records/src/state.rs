//! Replay: which transitions are legal, decided by one function.

use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use ksail_model::{Address, Declaration, Durations, Record, RecordKey, Status, Value};

use crate::{
    Call, Change, Edit, Entry, FORMAT, Intent, OpenIntent, OperationResult, Outcome, OutcomeKind, SealedOperation,
    Snapshot,
};

/// A journal entry that cannot follow what came before it: a bug, or a journal of something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {sequence} of the journal cannot follow: {why}")]
pub struct Illegal {
    /// The entry's sequence number.
    pub sequence: u64,
    /// Why, as a fragment.
    pub why: String,
}

/// The state: a snapshot with the journal's entries taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    snapshot: Snapshot,
}

impl State {
    /// The state of a checkpoint.
    pub const fn new(snapshot: Snapshot) -> Self {
        Self { snapshot }
    }

    /// What is known now.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Takes the snapshot out.
    pub fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }

    /// The sequence number of the next entry.
    pub const fn next_sequence(&self) -> u64 {
        self.snapshot.sequence + 1
    }

    /// Takes in one entry. An entry that a checkpoint has already taken in must be left out by the caller (by its sequence
    /// number). Answers the sealed operation if the entry seals one. On an error nothing has changed.
    pub fn apply(&mut self, entry: &Entry) -> Result<Option<SealedOperation>, Illegal> {
        let sealed = match entry {
            Entry::Begin(header) => {
                if let Some(open) = &self.snapshot.operation {
                    return self.illegal(format!("operation {} is not sealed", open.id));
                }
                if header.parent_serial != self.snapshot.serial {
                    return self.illegal(format!(
                        "operation {} builds on serial {}, the state has {}",
                        header.id, header.parent_serial, self.snapshot.serial
                    ));
                }
                self.snapshot.operation = Some(header.clone());
                self.snapshot.serial += 1;
                None
            }
            Entry::Intent(intent) => {
                self.intend(intent)?;
                None
            }
            Entry::Outcome(outcome) => {
                self.conclude(outcome)?;
                None
            }
            Entry::Edit(edit) => {
                self.edit(edit)?;
                None
            }
            Entry::Seal { operation, result, at_ms } => Some(self.seal(operation, *result, *at_ms)?),
        };
        self.snapshot.sequence += 1;
        Ok(sealed)
    }

    fn illegal<T>(&self, why: impl Into<String>) -> Result<T, Illegal> {
        Err(Illegal { sequence: self.next_sequence(), why: why.into() })
    }

    fn operation_id(&self) -> Result<String, Illegal> {
        match &self.snapshot.operation {
            Some(header) => Ok(header.id.clone()),
            None => self.illegal("no operation has begun"),
        }
    }

    fn host_generation(&self, declaration: &Declaration) -> Option<u32> {
        let host = declaration.host.clone()?;
        self.snapshot.records.get(&RecordKey::current(host)).map(|record| record.generation)
    }

    fn remember(&mut self, key: &RecordKey) {
        if let Slot::Vacant(slot) = self.snapshot.before.entry(key.clone()) {
            slot.insert(self.snapshot.records.get(key).cloned());
        }
    }

    fn intend(&mut self, intent: &Intent) -> Result<(), Illegal> {
        let operation = self.operation_id()?;
        let key = &intent.key;
        let again = match self.snapshot.open.get(key) {
            // What a killed operation asked for may come to be yet: its intent stays until the one that asks again is there.
            Some(open) if (open.intent.call, intent.call) == (Call::Create, Call::Create) => {
                Some(open.previous.clone())
            }
            Some(_) => return self.illegal(format!("{key} has an open intent")),
            None => None,
        };
        let previous = match &again {
            Some(previous) => previous.as_ref(),
            None => self.snapshot.records.get(key),
        };
        let next = match (intent.call, previous, &intent.declaration) {
            (Call::Create, previous, Some(declaration)) => Arc::new(Record {
                declaration: declaration.clone(),
                id: None,
                fields: Value::Null,
                attributes: Value::Null,
                scope: intent.scope.clone(),
                generation: intent.generation,
                host_generation: self.host_generation(declaration),
                adopted: false,
                status: Status::Creating,
                operation: operation.clone(),
                durations: previous.map(|record| record.durations).unwrap_or_default(),
            }),
            (Call::Update, Some(record), Some(_)) => Arc::clone(record),
            (Call::Delete, Some(record), _) => Arc::new(Record { status: Status::Deleting, ..record.as_ref().clone() }),
            (Call::Update | Call::Delete, None, _) => return self.illegal(format!("{key} has no record")),
            (_, _, None) => return self.illegal(format!("{key} is to be made without a declaration")),
        };
        let previous = previous.cloned();
        self.remember(key);
        self.snapshot.records.insert(key.clone(), next);
        self.snapshot.open.insert(key.clone(), OpenIntent { intent: intent.clone(), operation, previous });
        Ok(())
    }

    fn conclude(&mut self, outcome: &Outcome) -> Result<(), Illegal> {
        let operation = self.operation_id()?;
        let key = &outcome.key;
        let Some(open) = self.snapshot.open.get(key) else {
            return self.illegal(format!("{key} has no open intent"));
        };
        match (&outcome.kind, open.intent.call) {
            (OutcomeKind::Indeterminate { .. }, _) => return Ok(()),
            (OutcomeKind::Applied { .. }, Call::Delete) | (OutcomeKind::Deleted, Call::Create | Call::Update) => {
                return self.illegal(format!("{key}: the outcome is not that of its call"));
            }
            _ => {}
        }
        // An intent may outlive its operation; what resolves it is then a change of the present one.
        self.remember(key);
        let Some(open) = self.snapshot.open.remove(key) else { return Ok(()) };
        let host_generation =
            open.intent.declaration.as_ref().and_then(|declaration| self.host_generation(declaration));
        match concluded(&open, outcome, &operation, host_generation) {
            Some(record) => self.snapshot.records.insert(key.clone(), record),
            None => self.snapshot.records.remove(key),
        };
        Ok(())
    }

    fn edit(&mut self, edit: &Edit) -> Result<(), Illegal> {
        self.operation_id()?;
        match edit {
            Edit::Put { key, record } => {
                if self.snapshot.open.contains_key(key) {
                    return self.illegal(format!("{key} has an open intent"));
                }
                self.remember(key);
                self.snapshot.records.insert(key.clone(), Arc::clone(record));
            }
            Edit::Forget { key } => {
                if !self.snapshot.records.contains_key(key) {
                    return self.illegal(format!("{key} has no record"));
                }
                self.remember(key);
                self.snapshot.records.remove(key);
                self.snapshot.open.remove(key);
            }
            Edit::Depose { address } => {
                let current = RecordKey::current(address.clone());
                let Some(record) = self.snapshot.records.get(&current).cloned() else {
                    return self.illegal(format!("{address} has no record"));
                };
                let deposed = RecordKey { address: address.clone(), deposed: Some(record.generation) };
                if self.snapshot.open.contains_key(&current) || self.snapshot.records.contains_key(&deposed) {
                    return self.illegal(format!("{address} cannot be deposed now"));
                }
                self.remember(&current);
                self.remember(&deposed);
                self.snapshot.records.remove(&current);
                let record = Record { status: Status::Deposed, ..Arc::unwrap_or_clone(record) };
                self.snapshot.records.insert(deposed, Arc::new(record));
            }
            Edit::Move { from, to } => {
                let (old, new) = (RecordKey::current(from.clone()), RecordKey::current(to.clone()));
                if self.snapshot.open.contains_key(&old) {
                    return self.illegal(format!("{from} has an open intent"));
                }
                if self.snapshot.records.contains_key(&new) {
                    return self.illegal(format!("{to} has a record already"));
                }
                let Some(mut record) = self.snapshot.records.get(&old).cloned() else {
                    return self.illegal(format!("{from} has no record"));
                };
                self.remember(&old);
                self.remember(&new);
                self.snapshot.records.remove(&old);
                Arc::make_mut(&mut Arc::make_mut(&mut record).declaration).address = to.clone();
                self.snapshot.records.insert(new, record);
                self.redirect(from, to);
            }
            Edit::Context { providers, outputs } => {
                if self.snapshot.outputs != *outputs && self.snapshot.outputs_before.is_none() {
                    self.snapshot.outputs_before = Some(self.snapshot.outputs.clone());
                }
                self.snapshot.providers.clone_from(providers);
                self.snapshot.outputs.clone_from(outputs);
            }
        }
        Ok(())
    }

    /// Lets all that names a moved resource name its new address: deletions are ordered by what records say.
    fn redirect(&mut self, from: &Address, to: &Address) {
        let naming = self.snapshot.records.iter().filter(|(_, record)| names(&record.declaration, from));
        let keys: Vec<RecordKey> = naming.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.remember(&key);
            if let Some(record) = self.snapshot.records.get_mut(&key) {
                redirect(Arc::make_mut(&mut Arc::make_mut(record).declaration), from, to);
            }
        }
        for open in self.snapshot.open.values_mut() {
            let previous = open.previous.as_mut().map(|record| &mut Arc::make_mut(record).declaration);
            for declaration in open.intent.declaration.as_mut().into_iter().chain(previous) {
                redirect(Arc::make_mut(declaration), from, to);
            }
        }
    }

    fn seal(&mut self, operation: &str, result: OperationResult, at_ms: u64) -> Result<SealedOperation, Illegal> {
        let header = match self.snapshot.operation.take() {
            Some(header) if header.id == operation => header,
            other => {
                self.snapshot.operation = other;
                return self.illegal(format!("operation {operation} is not under way"));
            }
        };
        self.snapshot.last = Some(header.clone());
        let changes = std::mem::take(&mut self.snapshot.before)
            .into_iter()
            .filter_map(|(key, before)| {
                let after = self.snapshot.records.get(&key);
                (before.as_ref() != after).then(|| Change { key, before, after: after.cloned() })
            })
            .collect();
        Ok(SealedOperation {
            format: FORMAT,
            lineage: self.snapshot.lineage.clone(),
            serial: self.snapshot.serial,
            header,
            result,
            sealed_ms: at_ms,
            changes,
            outputs_before: self.snapshot.outputs_before.take(),
            plan: None,
        })
    }
}

/// The record that an intent leaves once its outcome is known; `None` if it leaves none.
///
/// `operation` is the one that concludes it, and `host_generation` the present generation of its host.
pub fn concluded(
    open: &OpenIntent,
    outcome: &Outcome,
    operation: &str,
    host_generation: Option<u32>,
) -> Option<Arc<Record>> {
    match &outcome.kind {
        OutcomeKind::Applied { id, fields, attributes, scope, readiness } => {
            let previous = open.previous.as_deref();
            let mut durations = previous.map(|record| record.durations).unwrap_or_default();
            note_duration(&mut durations, open.intent.call, outcome.took_ms);
            Some(Arc::new(Record {
                declaration: open.intent.declaration.clone()?,
                id: id.clone(),
                fields: fields.clone(),
                attributes: attributes.clone(),
                scope: Some(scope.clone()),
                generation: open.intent.generation,
                host_generation,
                adopted: open.intent.call == Call::Update && previous.is_some_and(|record| record.adopted),
                status: Status::from(readiness),
                operation: operation.to_owned(),
                durations,
            }))
        }
        OutcomeKind::Deleted => None,
        OutcomeKind::NotDone { .. } | OutcomeKind::Indeterminate { .. } => open.previous.clone(),
    }
}

fn names(declaration: &Declaration, address: &Address) -> bool {
    declaration.host.as_ref() == Some(address) || declaration.edges.iter().any(|edge| edge.to == *address)
}

fn redirect(declaration: &mut Declaration, from: &Address, to: &Address) {
    let host = declaration.host.iter_mut();
    for named in host.chain(declaration.edges.iter_mut().map(|edge| &mut edge.to)) {
        if named == from {
            named.clone_from(to);
        }
    }
}

fn note_duration(durations: &mut Durations, call: Call, took_ms: Option<u64>) {
    match call {
        Call::Create => durations.create_ms = took_ms.or(durations.create_ms),
        Call::Update => durations.update_ms = took_ms.or(durations.update_ms),
        Call::Delete => durations.delete_ms = took_ms.or(durations.delete_ms),
    }
}
