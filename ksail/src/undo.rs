//! Undo: a plan of the declarations as they were before an operation.

use std::collections::BTreeSet;
use std::sync::Arc;

use ksail_kinds::{BuiltinKinds, ClusterSpec, KubeconfigSpec, Spec as _};
use ksail_model::{Address, Declaration, DeclaredGraph, Move, Origin, Record, Removal, Schemas as _, Secret, Value};
use ksail_plan::{Action, Mode, Plan};
use ksail_records::{Change, OperationKind, SealedOperation, Snapshot};

use crate::choices::choose_again;
use crate::error::{Error, codes};
use crate::plan::{PlanOptions, Planned};
use crate::platform::{Platform, Stack};

/// How far back operations are looked for.
const HISTORY_LIMIT: usize = 1000;

/// A plan that goes back, and what it cannot bring back.
pub struct Undo {
    /// The plan.
    pub planned: Planned,
    /// The operations that it undoes, newest first.
    pub undone: Vec<SealedOperation>,
}

impl Platform {
    /// Plans to undo an operation and all that came after it; without an id, the last one.
    pub async fn plan_undo(&self, operation: Option<&str>, options: &PlanOptions) -> Result<Undo, Error> {
        let name = self.stack_name();
        let place = self.place(&name)?;
        let stored = place.read(&name, self.settings.environment.as_deref()).await?;
        let Some(state) = stored.state else {
            return Err(Error::new(
                codes::NOT_FOUND,
                "there is nothing to undo: there is no state",
                "`ksail plan` starts anew",
            ));
        };
        let snapshot = state.into_snapshot();
        let history = since_the_beginning(place.backend.history(HISTORY_LIMIT).await?, &snapshot.lineage);
        let upto = match operation {
            None if history.is_empty() => None,
            None => Some(0),
            Some(id) => history.iter().position(|sealed| sealed.header.id.starts_with(id)),
        };
        let Some(upto) = upto else {
            let what = operation.map_or_else(|| "an operation".to_owned(), |id| format!("operation {id}"));
            return Err(Error::new(
                codes::NOT_FOUND,
                format!("{what} is not in the history"),
                "`ksail state history` lists the operations",
            ));
        };
        let undone: Vec<SealedOperation> = history.into_iter().take(upto + 1).collect();
        if let Some(recovery) = undone.iter().find(|operation| began_a_state(operation)) {
            return Err(Error::new(
                codes::NOT_FOUND,
                format!("operation {} rebuilt a lost state: what was before it is not known", recovery.header.id),
                "`ksail state history` lists what came after it and can be undone; `ksail destroy` plans to destroy everything",
            ));
        }
        let graph = graph_before(&undone, &snapshot);
        let oldest = undone.last().map(|operation| operation.header.id.clone()).unwrap_or_default();
        let stack = Stack {
            graph,
            name,
            cluster: self.loaded.config.name().to_owned(),
            environment: self.settings.environment.clone(),
            warnings: Vec::new(),
            place,
        };
        let mut planned = self.plan_stack(stack, options, Some((Mode::Undo { operation: oldest }, None))).await?;
        let losses = losses(&undone, &planned.plan);
        let revert = format!(
            "{} still says what is undone: revert it too, or the next apply brings it back",
            self.files.base.display()
        );
        planned.plan.add_notes(losses.into_iter().chain([revert]));
        Ok(Undo { planned, undone })
    }
}

/// Whether an operation rebuilt a state where there was none.
fn began_a_state(operation: &SealedOperation) -> bool {
    operation.header.kind == OperationKind::Recover && (operation.header.begins || operation.header.parent_serial == 0)
}

/// The operations of this state, newest first: what is older than its beginning was done to one that was lost.
fn since_the_beginning(history: Vec<SealedOperation>, lineage: &str) -> Vec<SealedOperation> {
    let mut own = Vec::with_capacity(history.len());
    for operation in history.into_iter().filter(|operation| operation.lineage == lineage) {
        let begins = operation.header.begins;
        own.push(operation);
        if begins {
            break;
        }
    }
    own
}

/// The declarations as they were before all of the operations, which are the last ones, the newest first.
fn graph_before(undone: &[SealedOperation], snapshot: &Snapshot) -> DeclaredGraph {
    let mut records = snapshot.records.clone();
    let mut graph = DeclaredGraph {
        providers: snapshot.providers.clone(),
        outputs: undone
            .iter()
            .rev()
            .find_map(|operation| operation.outputs_before.clone())
            .unwrap_or_else(|| snapshot.outputs.clone()),
        ..DeclaredGraph::default()
    };
    for operation in undone {
        for change in &operation.changes {
            match &change.before {
                Some(record) => records.insert(change.key.clone(), Arc::clone(record)),
                None => records.remove(&change.key),
            };
        }
        let moves: Vec<Move> = operation.changes.iter().filter_map(|change| moved_back(change, operation)).collect();
        let came = operation.changes.iter().filter(|change| change.before.is_none() && change.key.deposed.is_none());
        for change in came.filter(|change| moves.iter().all(|step| step.from != change.key.address)) {
            // What it is now counts: an adopted thing that was made anew since is ours.
            let now = snapshot.records.get(&change.key);
            if was_there_before(operation, change, now.map(Arc::as_ref)) {
                let from = change.key.address.clone();
                graph.removed.push(Removal { from, destroy: false, origin: origin(operation) });
            }
        }
        graph.moved.extend(moves);
    }
    graph.declarations = records
        .into_iter()
        .filter(|(key, _)| key.deposed.is_none())
        .map(|(key, record)| (key.address.clone(), declaration_again(&record)))
        .collect();
    // A record may name what the state had forgotten before it: that is outside, and nobody's business.
    let declared: BTreeSet<Address> = graph.declarations.keys().cloned().collect();
    for declaration in graph.declarations.values_mut() {
        Arc::make_mut(declaration).edges.retain(|edge| declared.contains(&edge.to));
    }
    // What an earlier operation had, and a later one lost and took in again, is declared.
    graph.removed.retain(|removal| !graph.declarations.contains_key(&removal.from));
    graph
}

/// Whether a resource that the operation brought into the state existed outside before it, so that the way back is to forget it:
/// what was imported, what was recovered by its mark, and what an edit or an undo took up again.
fn was_there_before(operation: &SealedOperation, change: &Change, now: Option<&Record>) -> bool {
    let taken_in = match operation.header.kind {
        OperationKind::Recover | OperationKind::Edit => true,
        // What an undo made has taken its time. A call that a kill cut off took none that is known: then it stays outside.
        OperationKind::Undo => change.after.as_ref().is_some_and(|after| after.durations.create_ms.is_none()),
        OperationKind::Apply | OperationKind::Destroy | OperationKind::Refresh => false,
    };
    taken_in || now.or(change.after.as_deref()).is_some_and(|record| record.adopted)
}

/// The way back of a move, told by the address that it led to: the same thing was at another one before.
fn moved_back(change: &Change, operation: &SealedOperation) -> Option<Move> {
    let (None, Some(there)) = (&change.before, &change.after) else { return None };
    let is_same = |here: &Record| {
        here.id == there.id
            && here.generation == there.generation
            && here.declaration.identity == there.declaration.identity
            && here.declaration.provider == there.declaration.provider
            && here.declaration.address.kind() == there.declaration.address.kind()
    };
    let left = operation.changes.iter().find(|other| {
        other.key.deposed.is_none()
            && other.after.is_none()
            && other.before.as_deref().is_some_and(is_same)
            && change.key.deposed.is_none()
    })?;
    Some(Move { from: change.key.address.clone(), to: left.key.address.clone(), origin: origin(operation) })
}

fn origin(operation: &SealedOperation) -> Origin {
    Origin::State { what: format!("before operation {}", operation.header.id).into() }
}

/// The declaration of a record, as something to declare again: a secret is the one that its reference gives now.
fn declaration_again(record: &Record) -> Arc<Declaration> {
    let mut declaration = record.declaration.as_ref().clone();
    // To have said nothing then is no reason to keep what was said since.
    declaration.lifecycle.protect = Some(declaration.lifecycle.is_protected());
    declaration.spec = declaration.spec.map_leaves(&mut |leaf| match leaf {
        Value::Secret(secret) => Some(Value::Secret(Secret::reference(secret))),
        _ => None,
    });
    choose_again(&mut declaration);
    // The cluster of before may be another one by now.
    let cluster = declaration.edges.iter().map(|edge| &edge.to).find(|to| to.kind() == ClusterSpec::KIND);
    if let Some(cluster) = cluster.filter(|_| declaration.address.kind() == KubeconfigSpec::KIND) {
        KubeconfigSpec::lead_to(&mut declaration.spec, cluster);
    }
    Arc::new(declaration)
}

/// What no plan brings back: data of what was deleted or made anew, and the old values of rotated secrets.
fn losses(undone: &[SealedOperation], plan: &Plan) -> Vec<String> {
    let mut notes = Vec::new();
    for change in undone.iter().flat_map(|operation| &operation.changes) {
        let Some(before) = &change.before else { continue };
        let gone = match &change.after {
            Some(after) => after.generation != before.generation,
            // What was only forgotten, or has another address, is still there.
            None => plan.nodes.get(&change.key).is_some_and(|node| node.action == Action::Create),
        };
        let holds = BuiltinKinds.schema(change.key.address.kind()).and_then(|schema| schema.holds_data);
        if let Some(what) = holds.filter(|_| gone) {
            notes.push(format!("{} comes back empty: {what} is lost", change.key));
        }
        let rotated = change.after.as_ref().is_some_and(|after| {
            before.declaration.spec.secrets().iter().any(|(path, old)| {
                after.declaration.spec.get(path).is_some_and(|new| *new != Value::Secret((*old).clone()))
            })
        });
        if rotated {
            notes.push(format!(
                "{}: the secret is the one that its reference gives now, not the earlier one",
                change.key
            ));
        }
    }
    notes
}
