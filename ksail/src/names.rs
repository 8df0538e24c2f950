//! What was imported has the name that somebody gave it: what stands on it must name it so.

use std::collections::BTreeMap;

use std::sync::Arc;

use ksail_model::{Address, DeclaredGraph, Observation, Origin, Path, RecordKey, Selector, Value};
use ksail_plan::Observed;
use ksail_records::Snapshot;

/// The attribute by which a provider tells the name of what was found by its id.
const NAME: &str = "name";

/// Lets declarations name what was or is imported as it is called outside. A field that names a network is called
/// `network`, and so for every kind.
pub(crate) fn follow_imports(
    graph: &mut DeclaredGraph,
    snapshot: &Snapshot,
    observations: &BTreeMap<RecordKey, Observed>,
    replace: &[Selector],
) {
    for (address, name) in imported(graph, snapshot, observations) {
        // What is made, be it anew, is made by the name that is declared.
        let observed = observations.get(&RecordKey::current(address.clone()));
        let is_gone = observed.is_some_and(|observed| observed.observation == Observation::Absent);
        if is_gone || replace.iter().any(|selector| selector.matches(&address)) {
            continue;
        }
        let Some(declared) = graph.declarations.get(&address).map(|declared| declared.identity.name.clone()) else {
            continue;
        };
        if declared == name {
            continue;
        }
        let field = Path::key(address.kind());
        let naming = graph.declarations.values_mut().filter(|declaration| {
            declaration.edges.iter().any(|edge| edge.to == address)
                && declaration.spec.get(&field).and_then(Value::as_str) == Some(&declared)
        });
        for declaration in naming.map(Arc::make_mut) {
            declaration.spec.set(&field, Value::from(name.as_str()));
            let what = format!("the name of what was imported as {address}");
            declaration.origins.set(field.clone(), Origin::State { what: what.into() });
        }
    }
}

/// What was imported before, and what shall be, with the name that it has.
fn imported(
    graph: &DeclaredGraph,
    snapshot: &Snapshot,
    observations: &BTreeMap<RecordKey, Observed>,
) -> BTreeMap<Address, String> {
    let told = |attributes: &Value| attributes.field(NAME).and_then(Value::as_str).map(str::to_owned);
    let mut names = BTreeMap::new();
    for (key, record) in snapshot.records.iter().filter(|(key, record)| key.deposed.is_none() && record.adopted) {
        let name = told(&record.attributes).unwrap_or_else(|| record.declaration.identity.name.clone());
        names.insert(key.address.clone(), name);
    }
    for step in &graph.moved {
        if !names.contains_key(&step.to)
            && let Some(name) = names.remove(&step.from)
        {
            names.insert(step.to.clone(), name);
        }
    }
    for import in &graph.imports {
        let key = RecordKey::current(import.to.clone());
        if snapshot.records.contains_key(&key) {
            continue;
        }
        let seen = observations.get(&key).and_then(|observed| observed.observation.seen());
        let name = seen.and_then(|seen| told(&seen.attributes)).unwrap_or_else(|| import.id.clone());
        names.insert(import.to.clone(), name);
    }
    names
}
