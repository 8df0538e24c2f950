//! Whether a plan fits the state that it shall be applied to.

use ksail_plan::Plan;
use ksail_records::Snapshot;

use crate::apply::ApplyError;

/// Whether the plan was made from this state, or from none, or is that of the operation under way. Nothing is looked at
/// outside.
///
/// # Errors
/// [`ApplyError::Stale`] and [`ApplyError::Used`].
pub fn check_fit(plan: &Plan, snapshot: Option<&Snapshot>) -> Result<(), ApplyError> {
    let header = &plan.header;
    let Some(snapshot) = snapshot else {
        let gone = || ApplyError::Stale(vec!["the state that it was made from is gone".to_owned()]);
        return if header.new_state { Ok(()) } else { Err(gone()) };
    };
    if header.lineage != snapshot.lineage {
        return Err(ApplyError::Stale(vec![format!(
            "it is of lineage {}, the state of {}",
            header.lineage, snapshot.lineage
        )]));
    }
    if header.stack != snapshot.stack || header.environment != snapshot.environment {
        return Err(ApplyError::Stale(vec![format!(
            "it is of stack {}, the state of {}",
            header.stack, snapshot.stack
        )]));
    }
    if is_resumed(plan, snapshot) {
        return Ok(());
    }
    if let Some(last) = snapshot.last.as_ref().filter(|last| last.plan_digest == plan.digest) {
        return Err(ApplyError::Used { operation: last.id.clone() });
    }
    if header.serial != snapshot.serial {
        return Err(ApplyError::Stale(vec![format!(
            "it was made from serial {}, the state has {}",
            header.serial, snapshot.serial
        )]));
    }
    Ok(())
}

/// Whether the operation under way is of this very plan: then it goes on.
pub(crate) fn is_resumed(plan: &Plan, snapshot: &Snapshot) -> bool {
    snapshot
        .operation
        .as_ref()
        .is_some_and(|header| header.plan_digest == plan.digest && header.parent_serial == plan.header.serial)
}
