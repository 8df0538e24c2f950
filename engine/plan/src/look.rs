//! What has to be looked at for a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ksail_model::{Address, Declaration, DeclaredGraph, Identity, Record, RecordKey};
use ksail_records::Snapshot;

/// One resource to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookItem {
    /// Which.
    pub key: RecordKey,
    /// What was applied, or else what is declared: where it is, what finds it, and in which shape it is asked for.
    pub declaration: Arc<Declaration>,
    /// The id that the outside gave it, if it is known.
    pub id: Option<String>,
}

impl LookItem {
    /// The item of a record.
    pub fn of_record(key: RecordKey, record: &Record) -> Self {
        Self { key, declaration: Arc::clone(&record.declaration), id: record.id.clone() }
    }

    /// The item of a declaration.
    pub fn of_declaration(declaration: &Arc<Declaration>) -> Self {
        let key = RecordKey::current(declaration.address.clone());
        Self { key, declaration: Arc::clone(declaration), id: None }
    }

    /// The item of what shall be imported: it is looked for by the id that was given.
    fn of_import(declaration: &Declaration, id: &str) -> Self {
        let identity = Identity { name: id.to_owned(), id: Some(id.to_owned()) };
        let declaration = Declaration { identity, ..declaration.clone() };
        Self { id: Some(id.to_owned()), ..Self::of_declaration(&Arc::new(declaration)) }
    }
}

/// Puts items in the order of their keys, each once; of several the first one counts.
pub fn in_order(mut items: Vec<LookItem>) -> Vec<LookItem> {
    // Stable, and quick where most are in order already.
    items.sort_by(|a, b| a.key.cmp(&b.key));
    items.dedup_by(|next, kept| next.key == kept.key);
    items
}

/// Where each recorded resource that moves ends, step after step.
fn move_targets(declared: &DeclaredGraph, snapshot: &Snapshot) -> BTreeMap<Address, Address> {
    // By where each is now: where it is recorded.
    let mut origins: BTreeMap<Address, Address> = BTreeMap::new();
    let mut left: BTreeSet<&Address> = BTreeSet::new();
    let recorded = |address: &Address| snapshot.records.contains_key(&RecordKey::current(address.clone()));
    for step in &declared.moved {
        let is_at = |address: &Address| origins.contains_key(address) || (recorded(address) && !left.contains(address));
        if !is_at(&step.from) || was_made(declared, &step.from, is_at(&step.to)) {
            continue;
        }
        let origin = origins.remove(&step.from).unwrap_or_else(|| step.from.clone());
        left.insert(&step.from);
        origins.insert(step.to.clone(), origin);
    }
    origins.into_iter().map(|(to, from)| (from, to)).collect()
}

/// Whether a move was made before: its place is taken, and what is at its old address now is declared there.
pub(crate) fn was_made(declared: &DeclaredGraph, from: &Address, to_is_taken: bool) -> bool {
    to_is_taken && declared.declarations.contains_key(from)
}

/// Every resource that is recorded or declared, under the key that it has after the moves. What is recorded is looked for
/// as it was recorded.
pub fn look_list(declared: &DeclaredGraph, snapshot: &Snapshot) -> Vec<LookItem> {
    let moves = move_targets(declared, snapshot);
    let mut items = Vec::with_capacity(declared.declarations.len().max(snapshot.records.len()));
    for (key, record) in &snapshot.records {
        let to = moves.get(&key.address).filter(|_| key.deposed.is_none());
        let key = to.map_or_else(|| key.clone(), |to| RecordKey::current(to.clone()));
        items.push(LookItem::of_record(key, record));
    }
    let recorded = in_order(items);
    // Both are in order, so that one walk beside the other tells what is recorded.
    let mut items = Vec::with_capacity(declared.declarations.len().max(recorded.len()));
    let mut recorded = recorded.into_iter().peekable();
    for declaration in declared.declarations.values() {
        let is_before = |item: &LookItem| (&item.key.address, item.key.deposed) < (&declaration.address, None);
        while let Some(item) = recorded.next_if(is_before) {
            items.push(item);
        }
        if recorded.peek().is_some_and(|item| item.key.address == declaration.address && item.key.deposed.is_none()) {
            items.extend(recorded.next());
            continue;
        }
        let import = declared.imports.iter().find(|import| import.to == declaration.address);
        items.push(match import {
            Some(import) => LookItem::of_import(declaration, &import.id),
            None => LookItem::of_declaration(declaration),
        });
    }
    items.extend(recorded);
    items
}
