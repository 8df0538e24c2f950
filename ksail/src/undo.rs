//! Undo: a plan of the declarations as they were before an operation.

use std::sync::Arc;

use ksail_kinds::BuiltinKinds;
use ksail_model::{DeclaredGraph, Record, Schemas as _, Secret, Value};
use ksail_plan::Mode;
use ksail_records::SealedOperation;

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
        let history = place.backend.history(HISTORY_LIMIT).await?;
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
        let snapshot = state.into_snapshot();
        let mut records = snapshot.records.clone();
        for change in undone.iter().flat_map(|operation| &operation.changes) {
            match &change.before {
                Some(record) => records.insert(change.key.clone(), Arc::clone(record)),
                None => records.remove(&change.key),
            };
        }
        let outputs = undone.iter().rev().find_map(|operation| operation.outputs_before.clone());
        let graph = DeclaredGraph {
            declarations: records
                .into_iter()
                .filter(|(key, _)| key.deposed.is_none())
                .map(|(key, record)| (key.address.clone(), declaration_again(&record)))
                .collect(),
            providers: snapshot.providers.clone(),
            outputs: outputs.unwrap_or_else(|| snapshot.outputs.clone()),
            ..DeclaredGraph::default()
        };
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
        planned.plan.notes.extend(losses(&undone));
        planned.plan.notes.push(format!(
            "{} still says what is undone: revert it too, or the next apply brings it back",
            self.files.base.display()
        ));
        Ok(Undo { planned, undone })
    }
}

/// The declaration of a record, as something to declare again: a secret is the one that its reference gives now.
fn declaration_again(record: &Record) -> ksail_model::Declaration {
    let mut declaration = record.declaration.clone();
    declaration.spec = declaration.spec.map_leaves(&mut |leaf| match leaf {
        Value::Secret(secret) => Some(Value::Secret(Secret::reference(secret))),
        _ => None,
    });
    declaration
}

/// What no plan brings back: data of what was deleted or made anew, and the old values of rotated secrets.
fn losses(undone: &[SealedOperation]) -> Vec<String> {
    let mut notes = Vec::new();
    for change in undone.iter().flat_map(|operation| &operation.changes) {
        let Some(before) = &change.before else { continue };
        let gone = change.after.as_ref().is_none_or(|after| after.generation != before.generation);
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
