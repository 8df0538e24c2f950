//! Deletion.

use ksail_model::{Mark, Ownership};
use ksail_provider::{CallErrorKind, CreateRequest, DeleteRequest, Deleted, Target};

use crate::suite::Way;
use crate::suite::harness::{Checked, Harness, Stop, ensure, fail, told};

/// Rule `DeleteGone`.
pub(in crate::suite) async fn delete_gone(h: &Harness) -> Checked {
    let never = h.try_delete(&h.delete_request(None)).await;
    ensure(never == Ok(Deleted::WasAbsent), || format!("deletion of what never was answered {never:?}"))?;
    let made = h.create().await?;
    let first = h.delete(&made.seen).await?;
    // A repetition after an injected fault finds it gone already.
    let repeated = matches!(h.way, Way::Faulty(_)) && first == Deleted::WasAbsent;
    ensure(first == Deleted::Gone || repeated, || format!("deletion of what was there answered {first:?}"))?;
    h.expect(0, "after the deletion").await?;
    let again = h.delete(&made.seen).await?;
    ensure(again == Deleted::WasAbsent, || format!("deletion of what was gone answered {again:?}"))
}

/// Rule `ForeignDelete`.
pub(in crate::suite) async fn foreign_delete(h: &Harness) -> Checked {
    h.only_if_exclusive()?;
    h.setup.outside.make_unmarked(h.target()).await?;
    not_deleted(h, "a thing without a mark", &h.delete_request(Some(&h.see().await?))).await?;
    if !h.setup.case.carries_mark {
        return Ok(());
    }
    h.setup.outside.clean_up().await?;
    h.setup.outside.make_marked(h.target(), &h.other_mark()).await?;
    let request = h.delete_request(Some(&h.see().await?));
    not_deleted(h, "a thing of another lineage", &request).await?;
    // Another's mark outweighs that we once imported it.
    not_deleted(h, "an imported thing that another lineage marked", &DeleteRequest { adopted: true, ..request }).await
}

async fn not_deleted(h: &Harness, what: &str, request: &DeleteRequest) -> Checked {
    let (before, state) = (h.see().await?, h.state().await?);
    let answer = h.try_delete(request).await;
    h.expect(1, &format!("after the deletion of {what}")).await?;
    match answer {
        Err(error) if error.kind == CallErrorKind::NotOurs => {}
        Err(error) => return fail(format!("deletion of {what} is not `NotOurs` but {}", told(&error))),
        Ok(answer) => return fail(format!("deletion of {what} answered {answer:?}")),
    }
    let after = h.see().await?;
    ensure(before == after && state == h.state().await?, || format!("{what} was changed: {before:?} became {after:?}"))
}

/// Rule `AdoptedDelete`.
pub(in crate::suite) async fn adopted_delete(h: &Harness) -> Checked {
    h.only_if_exclusive()?;
    if h.setup.outside.make_unmarked(h.target()).await?.is_none() {
        return Err(Stop::NotApplicable("things of this kind have no id".to_owned()));
    }
    let seen = h.see().await?;
    let request = DeleteRequest { adopted: true, ..h.delete_request(Some(&seen)) };
    let target = Target { id: Some("no-such-id".to_owned()), ..request.target.clone() };
    not_deleted(h, "a thing of another id", &DeleteRequest { target, ..request.clone() }).await?;
    let answer = h.try_delete(&request).await;
    ensure(answer.is_ok(), || format!("deletion of an imported thing answered {answer:?}"))?;
    h.expect(0, "after an imported thing was deleted").await
}

/// Rule `Generation`.
pub(in crate::suite) async fn generation(h: &Harness) -> Checked {
    h.only_if_exclusive()?;
    h.only_if_marked()?;
    let Some(replacement) = &h.setup.case.replacement else {
        return Err(Stop::NotApplicable("nothing of this kind is replaced".to_owned()));
    };
    let former = h.create().await?;
    h.delete(&former.seen).await?;
    let mark = Mark { operation: "op-2".to_owned(), ..h.mark(2) };
    let next = CreateRequest {
        target: Target { spec: Some(replacement.spec.clone()), ..h.target().clone() },
        mark: mark.clone(),
        secrets: replacement.secrets.clone(),
    };
    let made = h.create_as(&next).await?;
    ensure(h.is_mark(made.seen.mark.as_ref(), &mark), || {
        format!("the replacement carries the mark {:?}", made.seen.mark)
    })?;
    // The former deletion, repeated because its reply had been lost.
    let answer = h.try_delete(&h.delete_request(Some(&former.seen))).await;
    h.expect(1, "after the deletion of the former generation was repeated").await?;
    let spared = match &answer {
        Ok(answer) => *answer == Deleted::WasAbsent,
        Err(error) => error.kind == CallErrorKind::NotOurs,
    };
    ensure(spared, || format!("deletion of the former generation answered {answer:?}"))
}

/// Rule `Sharing`.
pub(in crate::suite) async fn sharing(h: &Harness) -> Checked {
    h.only_if(Ownership::Shared)?;
    h.setup.outside.make_unmarked(h.target()).await?;
    released(h, "was there before us").await?;
    if !h.setup.case.carries_mark {
        return Ok(());
    }
    h.setup.outside.clean_up().await?;
    h.setup.outside.make_marked(h.target(), &h.other_mark()).await?;
    released(h, "another lineage needs").await
}

async fn released(h: &Harness, what: &str) -> Checked {
    let made = h.create().await?;
    h.expect(1, &format!("after a creation on what {what}")).await?;
    let answer = h.delete(&made.seen).await?;
    h.expect(1, &format!("after the deletion of what {what}")).await?;
    let repeated = matches!(h.way, Way::Faulty(_)) && answer == Deleted::WasAbsent;
    ensure(answer == Deleted::Released || repeated, || format!("deletion of what {what} answered {answer:?}"))
}
