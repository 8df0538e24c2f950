//! Readiness.

use ksail_model::Readiness;
use ksail_provider::{Target, WaitRequest};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::suite::harness::{Checked, Harness, LEAVES_WITHIN, ensure, fail, told};

fn wait_request(h: &Harness, id: Option<String>) -> WaitRequest {
    WaitRequest { target: Target { id, ..h.target().clone() } }
}

/// Rule `Readiness`.
pub(in crate::suite) async fn readiness(h: &Harness) -> Checked {
    let made = h.create().await?;
    let request = wait_request(h, made.seen.id.clone());
    let context = h.context_of(h.limits.ready, CancellationToken::new());
    let waited = h.persist(|| h.provider.wait(&context, &request)).await;
    let waited = waited.or_else(|error| fail(format!("wait failed: {}", told(&error))))?;
    ensure(waited.seen.readiness.is_ready(), || {
        format!("not ready after {:?}: {:?}", h.limits.ready, waited.seen.readiness)
    })?;
    ensure(waited.scope == made.scope && waited.seen.id == made.seen.id, || {
        format!("{:?} was made, {:?} was waited for", made.seen.id, waited.seen.id)
    })?;
    let seen = h.see().await?;
    ensure(seen.readiness.is_ready(), || format!("ready to a wait, and then observed as {:?}", seen.readiness))
}

/// Rule `WaitDeadline`.
pub(in crate::suite) async fn wait_deadline(h: &Harness) -> Checked {
    h.setup.outside.hold_back(h.target()).await?;
    let made = h.create().await?;
    ensure(!made.seen.readiness.is_ready(), || "what is held back was made ready".into())?;
    let timeout = h.limits.window;
    let context = h.context_of(timeout, CancellationToken::new());
    let started = Instant::now();
    let waited = h.provider.wait(&context, &wait_request(h, made.seen.id.clone())).await;
    let took = started.elapsed();
    ensure(took <= timeout + LEAVES_WITHIN, || format!("a wait of {timeout:?} took {took:?}"))?;
    match waited {
        Ok(waited) => match waited.seen.readiness {
            Readiness::NotReady(why) if !why.is_empty() => Ok(()),
            other => fail(format!("what is held back is {other:?}")),
        },
        Err(error) => fail(format!("a wait that ends at its deadline is an error: {}", told(&error))),
    }
}
