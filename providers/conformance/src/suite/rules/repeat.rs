//! Changes, and calls whose reply was lost.

use std::sync::Arc;

use ksail_model::Seen;
use ksail_provider::{CallError, CallErrorKind, Deleted, Provider};

use crate::Method;
use crate::faults::{Fault, FaultPlan, Faulty};
use crate::suite::Change;
use crate::suite::harness::{Checked, Harness, ensure, fail, told};

/// The provider, which loses the reply of the first call of a method.
fn losing(h: &Harness, method: Method) -> impl Provider + use<> {
    Faulty::new(Arc::clone(&h.provider), FaultPlan::script([(method, Fault::LostReply)]))
}

fn lost<T>(result: Result<T, CallError>) -> Checked {
    match result {
        Err(error) if error.kind == CallErrorKind::Indeterminate => Ok(()),
        Err(error) => fail(format!("the call failed: {}", told(&error))),
        Ok(_) => fail("the reply was not lost"),
    }
}

/// Rule `LostCreateReply`.
pub(in crate::suite) async fn lost_create_reply(h: &Harness) -> Checked {
    let (provider, request, context) = (losing(h, Method::Create), h.create_request(), h.context());
    lost(provider.create(&context, &request).await)?;
    h.expect(1, "after a creation whose reply was lost").await?;
    let there = h.see().await?;
    if h.setup.case.carries_mark {
        ensure(h.is_mark(there.mark.as_ref(), &h.mark(1)), || format!("it carries the mark {:?}", there.mark))?;
    }
    let again = h.create().await?;
    h.expect(1, "after it was repeated").await?;
    ensure(again.seen.id == there.id, || format!("it was {:?}, repeated {:?}", there.id, again.seen.id))
}

fn is_changed(seen: &Seen, change: &Change) -> Checked {
    for path in &change.changed {
        let (wanted, found) = (change.spec.get(path), seen.fields.get(path));
        let right = match (wanted, found) {
            (Some(ksail_model::Value::Secret(wanted)), Some(ksail_model::Value::Secret(found))) => {
                wanted.fingerprint == found.fingerprint
            }
            (wanted, found) => wanted == found,
        };
        ensure(right, || format!("{path} was to become {wanted:?} and is {found:?}"))?;
    }
    Ok(())
}

/// Rule `Update`.
pub(in crate::suite) async fn update(h: &Harness) -> Checked {
    let change = h.change()?;
    let made = h.create().await?;
    let request = h.update_request(&made, change);
    for _ in 0..2 {
        let changed = h.update(&request).await?;
        is_changed(&changed.seen, change)?;
        in_place(h, &made.seen, &changed.seen).await?;
    }
    let seen = h.see_as(&request.target).await?;
    is_changed(&seen, change)?;
    in_place(h, &made.seen, &seen).await
}

/// The thing is the same one and still ours.
async fn in_place(h: &Harness, before: &Seen, after: &Seen) -> Checked {
    h.expect(1, "after the change").await?;
    ensure(before.id == after.id, || format!("it was {:?}, changed in place it is {:?}", before.id, after.id))?;
    if !h.setup.case.carries_mark {
        return Ok(());
    }
    let (lineage, address) = (&h.setup.lineage, &h.target().address);
    let ours = after.mark.as_ref().is_some_and(|mark| mark.lineage == *lineage && mark.address == *address);
    ensure(ours, || format!("after the change it carries the mark {:?}", after.mark))
}

/// Rule `LostUpdateReply`.
pub(in crate::suite) async fn lost_update_reply(h: &Harness) -> Checked {
    let change = h.change()?;
    let made = h.create().await?;
    let request = h.update_request(&made, change);
    lost(losing(h, Method::Update).update(&h.context(), &request).await)?;
    let again = h.update(&request).await?;
    is_changed(&again.seen, change)?;
    in_place(h, &made.seen, &again.seen).await
}

/// Rule `LostDeleteReply`.
pub(in crate::suite) async fn lost_delete_reply(h: &Harness) -> Checked {
    let made = h.create().await?;
    let request = h.delete_request(Some(&made.seen));
    lost(losing(h, Method::Delete).delete(&h.context(), &request).await)?;
    h.expect(0, "after a deletion whose reply was lost").await?;
    match h.delete(&made.seen).await? {
        Deleted::WasAbsent => h.expect(0, "after it was repeated").await,
        other => fail(format!("it was gone, and its deletion, repeated, answered {other:?}")),
    }
}
