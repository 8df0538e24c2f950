//! `--target` and `--exclude`: which resources a plan is about.

use std::collections::{BTreeMap, BTreeSet};

use ksail_model::{Address, RecordKey, Selector};

use crate::graph::Needs;
use crate::numbers::ByKey;
use crate::planner::Records;
use crate::{Options, PlanError};

/// The keys that the plan leaves out. With `destroys`, a target brings what needs it, not what it needs, and what is kept
/// keeps what it needs.
pub(crate) fn left_out(
    nodes: &ByKey<'_, Needs<'_>>,
    records: &Records,
    options: &Options,
    destroys: bool,
) -> Result<BTreeSet<RecordKey>, PlanError> {
    check("--target", &options.targets, nodes)?;
    check("--exclude", &options.excludes, nodes)?;
    check("--replace", &options.replace, nodes)?;
    let mut out = BTreeSet::new();
    if !options.targets.is_empty() {
        // To be made, a resource needs what it stands on; to be deleted, what stands on it.
        let targets = selected(nodes, &options.targets);
        let wanted = if destroys {
            downward(nodes, targets)
        } else {
            let is_deleted = |key: &RecordKey| nodes.get(key).is_some_and(|needs| needs.recorded_only);
            let (deleted, made) = targets.into_iter().partition(is_deleted);
            upward(nodes, made).into_iter().chain(downward(nodes, deleted)).collect()
        };
        out.extend(nodes.numbers().keys().iter().filter(|key| !wanted.contains(*key)).cloned());
    }
    out.extend(excluded(nodes, options, destroys));
    keep_needed(nodes, records, &mut out);
    Ok(out)
}

/// What `--exclude` leaves out.
pub(crate) fn excluded(nodes: &ByKey<'_, Needs<'_>>, options: &Options, destroys: bool) -> BTreeSet<RecordKey> {
    let excluded = selected(nodes, &options.excludes);
    if destroys { excluded } else { downward(nodes, excluded) }
}

/// What is left out stays as it is, so what its record needs is not deleted under it.
fn keep_needed(nodes: &ByKey<'_, Needs<'_>>, records: &Records, out: &mut BTreeSet<RecordKey>) {
    let mut todo: Vec<RecordKey> = out.iter().cloned().collect();
    while let Some(key) = todo.pop() {
        let Some(record) = records.get(&key) else { continue };
        let needed = record.declaration.edges.iter().filter(|edge| edge.is_need()).map(|edge| &edge.to);
        let needed = needed.chain(&record.declaration.host);
        for address in needed {
            let next = RecordKey::current(address.clone());
            if nodes.get(&next).is_some_and(|needs| needs.recorded_only) && out.insert(next.clone()) {
                todo.push(next);
            }
        }
    }
}

fn check(flag: &'static str, selectors: &[Selector], nodes: &ByKey<'_, Needs<'_>>) -> Result<(), PlanError> {
    match selectors.iter().find(|selector| !nodes.numbers().keys().iter().any(|key| selector.matches(&key.address))) {
        Some(selector) => Err(PlanError::SelectsNothing { flag, selector: selector.to_string() }),
        None => Ok(()),
    }
}

fn selected(nodes: &ByKey<'_, Needs<'_>>, selectors: &[Selector]) -> BTreeSet<RecordKey> {
    if selectors.is_empty() {
        return BTreeSet::new();
    }
    let keys = nodes.numbers().keys().iter();
    keys.filter(|key| selectors.iter().any(|selector| selector.matches(&key.address))).cloned().collect()
}

fn neighbours<'a>(needs: &'a Needs<'_>) -> impl Iterator<Item = &'a Address> {
    needs.edges.iter().filter(|edge| edge.is_need()).map(|edge| &edge.to).chain(needs.host)
}

/// The selected and all that they need.
fn upward(nodes: &ByKey<'_, Needs<'_>>, selected: BTreeSet<RecordKey>) -> BTreeSet<RecordKey> {
    let mut todo: Vec<RecordKey> = selected.iter().cloned().collect();
    let mut found = selected;
    while let Some(key) = todo.pop() {
        let Some(needs) = nodes.get(&key) else { continue };
        for address in neighbours(needs) {
            let next = RecordKey::current(address.clone());
            if nodes.contains_key(&next) && found.insert(next.clone()) {
                todo.push(next);
            }
        }
    }
    found
}

/// The selected and all that needs them.
fn downward(nodes: &ByKey<'_, Needs<'_>>, selected: BTreeSet<RecordKey>) -> BTreeSet<RecordKey> {
    // Mostly nothing is, and then nobody has to know what stands on what.
    if selected.is_empty() {
        return selected;
    }
    let mut dependents: BTreeMap<&Address, Vec<&RecordKey>> = BTreeMap::new();
    for (key, needs) in nodes.iter() {
        for address in neighbours(needs) {
            dependents.entry(address).or_default().push(key);
        }
    }
    let mut todo: Vec<RecordKey> = selected.iter().cloned().collect();
    let mut found = selected;
    while let Some(key) = todo.pop() {
        for dependent in dependents.get(&key.address).into_iter().flatten() {
            if found.insert((*dependent).clone()) {
                todo.push((*dependent).clone());
            }
        }
    }
    found
}
