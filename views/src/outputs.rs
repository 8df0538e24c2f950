//! Outputs before and after, by following their references through the plan.

use std::collections::{BTreeMap, BTreeSet};

use ksail_model::{Path, RecordKey, Schemas, Value};
use ksail_plan::{Action, Plan};

use crate::mask::Mask;

/// One output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputChange {
    /// Its value before; `None` where it had none.
    pub(crate) before: Option<Value>,
    /// Its value after; `None` where it will have none.
    pub(crate) after: Option<Value>,
}

impl OutputChange {
    /// Whether it stays as it is.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.before == self.after
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// How many references are followed one after another; a longer chain is shown as known after apply.
const MAX_REFERENCE_DEPTH: usize = 16;

/// The plan's outputs before and after, sensitive values hidden.
///
/// `before` is what the references of the state's outputs gave before.
pub(crate) fn output_changes(plan: &Plan, schemas: &dyn Schemas) -> BTreeMap<String, OutputChange> {
    let names: BTreeSet<&String> = plan.outputs.keys().chain(plan.outputs_before.keys()).collect();
    let side = |value: Option<&Value>, side| {
        value.and_then(|value| resolve(plan, schemas, value, side, 0)).filter(|value| !value.is_null())
    };
    names
        .into_iter()
        .map(|name| {
            let before = side(plan.outputs_before.get(name), Side::Before);
            let after = side(plan.outputs.get(name), Side::After);
            (name.clone(), OutputChange { before, after })
        })
        .collect()
}

fn resolve(plan: &Plan, schemas: &dyn Schemas, value: &Value, side: Side, depth: usize) -> Option<Value> {
    let mut missing = false;
    let resolved = value.map_leaves(&mut |leaf| {
        let Value::Ref(reference) = leaf else { return None };
        let node = plan.nodes.get(&RecordKey::current(reference.address.clone()));
        let whole = node.and_then(|node| match side {
            Side::Before => node.before.as_ref(),
            // A blocked node keeps what it has.
            Side::After if matches!(node.action, Action::Blocked { .. }) => {
                node.before.as_ref().or(node.after.as_ref())
            }
            Side::After => node.after.as_ref(),
        });
        let changes = node.map(|node| node.changes.as_slice()).unwrap_or_default();
        let mask = Mask::new(schemas.schema(reference.address.kind()), changes);
        match whole.and_then(|whole| mask.apply(whole, &Path::root()).get(&reference.path).cloned()) {
            Some(found) if depth < MAX_REFERENCE_DEPTH => resolve(plan, schemas, &found, side, depth + 1),
            Some(_) => Some(Value::Unknown),
            // What a change computes and the plan does not list is known after apply.
            None if side == Side::After && whole.is_some() && node.is_some_and(|node| node.action.is_change()) => {
                Some(Value::Unknown)
            }
            None => {
                missing = true;
                Some(Value::Null)
            }
        }
    });
    (!missing).then_some(resolved)
}
