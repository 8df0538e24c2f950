//! Why a resource changes, what forces it, and what it disturbs.

use ksail_model::{Condition, Others, Path, RecordKey, Value};
use serde::{Deserialize, Serialize};

use crate::plan::{Action, Cause, Drift, Plan, Reason};

/// The cause of one field's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCause {
    /// Which field.
    pub path: Path,
    /// Its value before.
    pub before: Option<Value>,
    /// Its value after.
    pub after: Option<Value>,
    /// What causes it.
    pub cause: Cause,
    /// Where the wanted value comes from, if it is declared.
    pub origin: Option<String>,
    /// Whether it forces replacement.
    pub forces_replacement: bool,
    /// Whether its values are never shown.
    pub sensitive: bool,
}

/// All that can be said of one resource in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which.
    pub key: RecordKey,
    /// What is done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// Where the resource itself is declared.
    pub declared_at: Option<String>,
    /// The fields that change, each with its cause. For a creation: every field, with its origin.
    pub causes: Vec<ChangeCause>,
    /// How it drifted.
    pub drift: Option<Drift>,
    /// What it needs: which resource, how far, and where the edge comes from.
    pub needs: Vec<(RecordKey, Condition, String)>,
    /// What changes because of it, in the order of the plan, each with its action.
    pub forces: Vec<(RecordKey, Action)>,
    /// What stands on it and does not change: it is without it for a while if this is replaced or deleted.
    pub disturbs: Vec<RecordKey>,
    /// What is lost.
    pub loses: Option<String>,
    /// What else its deletion does, in fragments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forecast: Vec<String>,
    /// What others have of it.
    pub others: Vec<Others>,
}

/// Explains one resource; `None` if the plan does not have it.
pub fn explain(plan: &Plan, key: &RecordKey) -> Option<Explanation> {
    let node = plan.nodes.get(key)?;
    let origin = |path: &Path| {
        node.declaration.as_ref().and_then(|declaration| declaration.origins.of(path)).map(ToString::to_string)
    };
    let mut causes: Vec<ChangeCause> = node
        .changes
        .iter()
        .map(|change| ChangeCause {
            path: change.path.clone(),
            before: change.before.clone(),
            after: change.after.clone(),
            cause: change.cause,
            origin: origin(&change.path),
            forces_replacement: change.forces_replacement,
            sensitive: change.sensitive,
        })
        .collect();
    if node.action == Action::Create
        && let Some(declaration) = &node.declaration
    {
        declaration.spec.walk(&mut |path, value| {
            causes.push(ChangeCause {
                path: path.clone(),
                before: None,
                after: Some(value.clone()),
                cause: Cause::Declared,
                origin: origin(path),
                forces_replacement: false,
                sensitive: matches!(value, Value::Secret(_)),
            });
        });
    }
    let mut needs: Vec<(RecordKey, Condition, String)> = Vec::new();
    if let Some(declaration) = node.declaration.as_ref().or(node.record.as_ref().map(|record| &record.declaration)) {
        if let Some(host) = &declaration.host {
            needs.push((RecordKey::current(host.clone()), Condition::Serving, "it lives there".to_owned()));
        }
        needs.extend(
            declaration
                .edges
                .iter()
                .filter(|edge| edge.is_need())
                .map(|edge| (RecordKey::current(edge.to.clone()), edge.condition, edge.origin.to_string())),
        );
    }
    let interrupts = matches!(node.action, Action::Replace { .. } | Action::Delete);
    Some(Explanation {
        key: key.clone(),
        action: node.action.clone(),
        reason: node.reason.clone(),
        declared_at: origin(&Path::root()),
        causes,
        drift: plan.drift.iter().find(|drift| drift.key == *key).cloned(),
        needs,
        forces: forced(plan, key),
        disturbs: if interrupts { standing_on(plan, key) } else { Vec::new() },
        loses: node.loses.clone(),
        forecast: node.forecast.clone(),
        others: node.others.clone(),
    })
}

/// What changes because of `key`, directly or through others.
fn forced(plan: &Plan, key: &RecordKey) -> Vec<(RecordKey, Action)> {
    let mut found: Vec<RecordKey> = vec![key.clone()];
    let mut at = 0;
    while at < found.len() {
        for (other, node) in plan.nodes.iter() {
            let because = match &node.reason {
                Reason::HostReplaced { host } | Reason::HostDeleted { host } => Some(host),
                Reason::DependencyReplaced { dependency } | Reason::DependencyChanged { dependency } => {
                    Some(dependency)
                }
                _ => None,
            };
            let blocked_by = match &node.action {
                Action::Blocked { why: crate::plan::Blocked::Dependency { on } } => Some(on),
                _ => None,
            };
            if [because, blocked_by].into_iter().flatten().any(|cause| *cause == found[at]) && !found.contains(other) {
                found.push(other.clone());
            }
        }
        at += 1;
    }
    found.into_iter().skip(1).map(|other| (other.clone(), plan.nodes[&other].action.clone())).collect()
}

/// What needs `key`, directly or through others, and does not change itself.
fn standing_on(plan: &Plan, key: &RecordKey) -> Vec<RecordKey> {
    let mut found: Vec<RecordKey> = vec![key.clone()];
    let mut at = 0;
    while at < found.len() {
        for (other, node) in plan.nodes.iter() {
            let Some(declaration) =
                node.declaration.as_ref().or(node.record.as_ref().map(|record| &record.declaration))
            else {
                continue;
            };
            let stands = declaration.edges.iter().any(|edge| edge.is_need() && edge.to == found[at].address)
                || declaration.host.as_ref() == Some(&found[at].address);
            if stands && !found.contains(other) {
                found.push(other.clone());
            }
        }
        at += 1;
    }
    found.into_iter().skip(1).filter(|other| !plan.nodes[other].action.is_change()).collect()
}
