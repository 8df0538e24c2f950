//! What a plan says beside what it does.

use std::collections::BTreeMap;

use ksail_model::{Origin, Path, RecordKey};

use crate::Inputs;
use crate::nodes::Nodes;
use crate::plan::Action;

/// How many resources a note names.
const MOST_NAMED: usize = 3;

/// What two write in turn: others that bring resources of ours back to a declaration of their own.
fn reconciled(nodes: &Nodes) -> Vec<String> {
    let mut by_owner: BTreeMap<&str, Vec<&RecordKey>> = BTreeMap::new();
    for node in nodes.values().filter(|node| node.action != Action::Delete) {
        for others in node.others.iter().filter(|others| others.reconciles) {
            by_owner.entry(&others.owner).or_default().push(&node.key);
        }
    }
    let told = by_owner.into_iter().map(|(owner, keys)| {
        let mut named: Vec<String> = keys.iter().take(MOST_NAMED).map(ToString::to_string).collect();
        if keys.len() > MOST_NAMED {
            named.push(format!("{} more", keys.len() - MOST_NAMED));
        }
        let are = if keys.len() == 1 { "is" } else { "are" };
        format!(
            "{} {are} managed by {owner} too, which writes back what it declares: let one of the two manage them",
            named.join(", ")
        )
    });
    told.collect()
}

/// Fields that somebody declared and that others set: what follows from other declarations nobody could leave out. What is refused for it
/// says so itself.
fn contested(nodes: &Nodes) -> Vec<String> {
    let mut told = Vec::new();
    for node in nodes.values().filter(|node| !matches!(node.action, Action::Blocked { .. })) {
        let Some(declaration) = &node.declaration else { continue };
        for others in node.others.iter().filter(|others| !others.reconciles) {
            let declared = |path: &&Path| {
                declaration.spec.get(path).is_some()
                    && !matches!(declaration.origins.of(path), Some(Origin::Derived { .. }))
                    && !declaration.lifecycle.ignore.iter().any(|ignored| ignored.covers(path))
            };
            if let Some(path) = others.fields.iter().find(declared) {
                told.push(format!(
                    "{path} of {} is declared here and set by {}: leave it out of the declaration",
                    node.key, others.owner
                ));
            }
        }
    }
    told
}

pub(crate) fn notes(inputs: &Inputs<'_>, nodes: &Nodes, left_out: usize) -> Vec<String> {
    let mut notes = Vec::new();
    match (&inputs.header.at_work, &inputs.snapshot.operation) {
        (Some(at_work), _) => notes.push(format!("{at_work}: what this plan shows may be out of date soon")),
        (None, Some(operation)) => notes.push(format!(
            "operation {} of {} has not been sealed: it was interrupted or killed; the next apply goes on from what is there",
            operation.id, operation.who
        )),
        (None, None) => {}
    }
    if left_out > 0 {
        let are = if left_out == 1 { "resource is" } else { "resources are" };
        notes.push(format!("{left_out} {are} left out by --target or --exclude"));
    }
    notes.extend(reconciled(nodes));
    notes.extend(contested(nodes));
    notes
}
