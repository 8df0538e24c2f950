//! What has to be looked at for a plan.

use std::collections::{BTreeMap, BTreeSet};

use ksail_model::{Address, Declaration, DeclaredGraph, Identity, Ownership, Record, RecordKey, Value};
use ksail_records::Snapshot;

/// One resource to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookItem {
    /// Which.
    pub key: RecordKey,
    /// The provider's name.
    pub provider: String,
    /// What it lives in.
    pub host: Option<RecordKey>,
    /// What finds it.
    pub identity: Identity,
    /// The id that the outside gave it, if it is known.
    pub id: Option<String>,
    /// The version of the spec's shape.
    pub kind_version: u32,
    /// The spec that was applied, or else the one that is declared.
    pub spec: Value,
    /// Whose it is.
    pub ownership: Ownership,
}

impl LookItem {
    fn of(key: RecordKey, declaration: &Declaration, id: Option<String>) -> Self {
        Self {
            key,
            provider: declaration.provider.clone(),
            host: declaration.host.clone().map(RecordKey::current),
            identity: declaration.identity.clone(),
            id,
            kind_version: declaration.kind_version,
            spec: declaration.spec.clone(),
            ownership: declaration.ownership,
        }
    }

    /// The item of a record.
    pub fn of_record(key: RecordKey, record: &Record) -> Self {
        Self::of(key, &record.declaration, record.id.clone())
    }

    /// The item of a declaration.
    pub fn of_declaration(declaration: &Declaration) -> Self {
        Self::of(RecordKey::current(declaration.address.clone()), declaration, None)
    }
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
    let recorded = snapshot.records.iter().map(|(key, record)| {
        let to = moves.get(&key.address).filter(|_| key.deposed.is_none());
        let key = to.map_or_else(|| key.clone(), |to| RecordKey::current(to.clone()));
        (key.clone(), LookItem::of_record(key, record))
    });
    // Of pairs that are sorted already, as these mostly are, a map is made without a search for each.
    let mut items: BTreeMap<RecordKey, LookItem> = recorded.collect();
    for declaration in declared.declarations.values() {
        let key = RecordKey::current(declaration.address.clone());
        items.entry(key).or_insert_with(|| {
            let mut item = LookItem::of_declaration(declaration);
            if let Some(import) = declared.imports.iter().find(|import| import.to == declaration.address) {
                item.identity = Identity { name: import.id.clone(), id: Some(import.id.clone()) };
                item.id = Some(import.id.clone());
            }
            item
        });
    }
    items.into_values().collect()
}
