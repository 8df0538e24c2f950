//! Creation.

use ksail_model::Mark;
use ksail_provider::{Applied, CallErrorKind, CreateRequest};

use crate::suite::harness::{Checked, Harness, ensure, fail, told};

/// Rule `CreateOnce`.
pub(in crate::suite) async fn create_once(h: &Harness) -> Checked {
    h.expect(0, "before the creation").await?;
    let first = h.create().await?;
    h.expect(1, "after one creation").await?;
    for _ in 0..2 {
        let again = h.create().await?;
        h.expect(1, "after the creation was repeated").await?;
        ensure(again.seen.id == first.seen.id, || {
            format!("the creation returned {:?}, repeated it returned {:?}", first.seen.id, again.seen.id)
        })?;
        ensure(again.seen.fields == first.seen.fields, || {
            format!("the creation returned {}, repeated it returned {}", first.seen.fields, again.seen.fields)
        })?;
    }
    // As two engines would that both found it absent.
    h.delete(&first.seen).await?;
    let (one, other) = futures::join!(h.create(), h.create());
    // One of two at once may lose; it must not make a second thing.
    if one.is_err() && other.is_err() {
        return fail("of two creations at once none succeeded");
    }
    h.expect(1, "after two creations at once").await
}

/// Rule `Adoption`.
pub(in crate::suite) async fn adoption(h: &Harness) -> Checked {
    let first = h.create().await?;
    carries_mark(h, &first)?;
    let later = CreateRequest { mark: Mark { operation: "op-2".to_owned(), ..h.mark(1) }, ..h.create_request() };
    let adopted = h.create_as(&later).await?;
    ensure(adopted.seen.id == first.seen.id, || {
        format!("made as {:?}, adopted as {:?}", first.seen.id, adopted.seen.id)
    })?;
    h.expect(1, "after a later operation adopted it").await?;
    h.delete(&adopted.seen).await?;
    h.expect(0, "after the adopted thing was deleted").await
}

fn carries_mark(h: &Harness, made: &Applied) -> Checked {
    if !h.setup.case.carries_mark {
        return Ok(());
    }
    ensure(h.is_mark(made.seen.mark.as_ref(), &h.mark(1)), || {
        format!("the creation was to write the mark {:?} and returned {:?}", h.mark(1), made.seen.mark)
    })
}

/// Rule `UnmarkedKept`.
pub(in crate::suite) async fn unmarked_kept(h: &Harness) -> Checked {
    h.only_if_exclusive()?;
    h.setup.outside.make_unmarked(h.target()).await?;
    kept(h, "a thing without a mark").await
}

/// Rule `OtherLineageKept`.
pub(in crate::suite) async fn other_lineage_kept(h: &Harness) -> Checked {
    h.only_if_exclusive()?;
    h.only_if_marked()?;
    h.setup.outside.make_marked(h.target(), &h.other_mark()).await?;
    let seen = h.see().await?;
    ensure(h.is_mark(seen.mark.as_ref(), &h.other_mark()), || format!("another's mark is seen as {:?}", seen.mark))?;
    kept(h, "a thing of another lineage").await
}

async fn kept(h: &Harness, what: &str) -> Checked {
    let (before, state) = (h.see().await?, h.state().await?);
    match h.try_create(&h.create_request()).await {
        Err(error) if error.kind == CallErrorKind::NotOurs => {}
        Err(error) => return fail(format!("creation on {what} is not `NotOurs` but {}", told(&error))),
        Ok(_) => return fail(format!("creation on {what} succeeded")),
    }
    h.expect(1, "after the creation that was refused").await?;
    let after = h.see().await?;
    ensure(before == after && state == h.state().await?, || format!("{what} was changed: {before:?} became {after:?}"))
}
