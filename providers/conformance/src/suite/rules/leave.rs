//! Calls that are given up: deadlines and cancellation.

use std::time::Duration;

use ksail_provider::{CallContext, CallError, CallErrorKind, Deleted, Provider, Target, UpdateRequest, WaitRequest};
use tokio_util::sync::CancellationToken;

use crate::Method;
use crate::suite::Breakage;
use crate::suite::harness::{Checked, Harness, LEAVES_WITHIN, Stop, ensure, fail, told};

/// How long a call may take of itself; it is given up long before.
const LONG: Duration = Duration::from_secs(30);

const METHODS: [Method; 6] =
    [Method::Observe, Method::Create, Method::Update, Method::Delete, Method::Wait, Method::ListOwned];

/// Calls a method with what the case gives for it, as if the thing were there.
async fn call(h: &Harness, provider: &dyn Provider, method: Method, context: &CallContext) -> Result<(), CallError> {
    let target = h.target().clone();
    match method {
        Method::Observe => provider.observe(context, &[target]).await.map(drop),
        Method::Create => provider.create(context, &h.create_request()).await.map(drop),
        Method::Update => {
            let current = target.spec.clone().unwrap_or_default();
            let (spec, changed, secrets) = match &h.setup.case.change {
                Some(change) => (change.spec.clone(), change.changed.clone(), change.secrets.clone()),
                None => (current.clone(), Vec::new(), h.setup.case.secrets.clone()),
            };
            let target = Target { spec: Some(spec), ..target };
            let request = UpdateRequest { target, mark: h.mark(1), current, changed, secrets };
            provider.update(context, &request).await.map(drop)
        }
        Method::Delete => provider.delete(context, &h.delete_request(None)).await.map(drop),
        Method::Wait => provider.wait(context, &WaitRequest { target }).await.map(drop),
        Method::ListOwned => provider.list_owned(context).await.map(drop),
        Method::Preview | Method::Forecast | Method::PortsInUse => Ok(()),
    }
}

const fn changes(method: Method) -> bool {
    matches!(method, Method::Create | Method::Update | Method::Delete)
}

/// Rule `Deadline`.
pub(in crate::suite) async fn deadline(h: &Harness) -> Checked {
    let silent = h.broken(Breakage::Silent).await?;
    let timeout = h.limits.window;
    for method in METHODS {
        let context = h.context_of(timeout, CancellationToken::new());
        // What it answers is the rule of indeterminate calls' to judge.
        let _ = given_up(method, timeout, call(h, silent.as_ref(), method, &context)).await?;
    }
    Ok(())
}

/// Rule `Indeterminate`.
pub(in crate::suite) async fn indeterminate(h: &Harness) -> Checked {
    let mut silent_checked = false;
    match h.broken(Breakage::Silent).await {
        Ok(silent) => {
            silent_checked = true;
            for method in METHODS.into_iter().filter(|method| changes(*method)) {
                let context = h.context_of(h.limits.window, CancellationToken::new());
                may_have_happened(method, call(h, silent.as_ref(), method, &context).await, false)?;
            }
        }
        Err(Stop::NotApplicable(_)) => {}
        Err(stop) => return Err(stop),
    }
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..h.limits.rounds {
        let mut context = || h.context_of(h.limits.window.mul_f64(rng.f64()), CancellationToken::new());
        let (create, delete) = (context(), context());
        given_up_create(h, &create, h.limits.window).await?;
        given_up_delete(h, &delete, h.limits.window).await?;
    }
    if silent_checked { Ok(()) } else { Err(Stop::NotApplicable("the connection cannot be silenced".to_owned())) }
}

/// Fails on an error that says that the call certainly failed for a reason of its own.
fn may_have_happened(method: Method, result: Result<(), CallError>, may_succeed: bool) -> Checked {
    use CallErrorKind::{Cancelled, Indeterminate, Unreachable};
    match result {
        Ok(()) if may_succeed => Ok(()),
        Ok(()) => fail(format!("{method} without an answer succeeded")),
        Err(error) if matches!(error.kind, Indeterminate | Unreachable | Cancelled) => Ok(()),
        Err(error) => fail(format!("{method} that was given up is {}", told(&error))),
    }
}

/// What a call answers that is given up within a time; it must then return within a second.
async fn given_up<T>(
    method: Method,
    within: Duration,
    call: impl Future<Output = Result<T, CallError>>,
) -> Checked<Result<T, CallError>> {
    match tokio::time::timeout(within + LEAVES_WITHIN, call).await {
        Ok(result) => Ok(result),
        Err(_) => fail(format!("{method}, given up within {within:?}, was under way {LEAVES_WITHIN:?} later")),
    }
}

/// Whether an error says that the call certainly had no effect.
fn is_certain<T>(result: &Result<T, CallError>) -> bool {
    matches!(result, Err(error) if error.kind != CallErrorKind::Indeterminate)
}

/// A creation that is given up tells the truth, and the next one ends it.
async fn given_up_create(h: &Harness, context: &CallContext, within: Duration) -> Checked {
    let request = h.create_request();
    let result = given_up(Method::Create, within, h.provider.create(context, &request)).await?;
    let (succeeded, certain) = (result.is_ok(), is_certain(&result));
    may_have_happened(Method::Create, result.map(drop), true)?;
    if certain {
        h.settle().await;
        h.expect(0, "after a creation that was given up and said that it had not been sent").await?;
    }
    if succeeded {
        h.expect(1, "after a creation that succeeded").await?;
    }
    h.create().await?;
    h.settle().await;
    h.expect(1, "after a creation that had been given up was repeated").await
}

/// As [`given_up_create`], for a deletion.
async fn given_up_delete(h: &Harness, context: &CallContext, within: Duration) -> Checked {
    let request = h.delete_request(Some(&h.see().await?));
    let result = given_up(Method::Delete, within, h.provider.delete(context, &request)).await?;
    let certain = is_certain(&result);
    may_have_happened(Method::Delete, result.map(drop), true)?;
    if certain {
        h.settle().await;
        h.expect(1, "after a deletion that was given up and said that it had not been sent").await?;
    }
    let answer = h.try_delete(&request).await;
    ensure(matches!(answer, Ok(Deleted::Gone | Deleted::WasAbsent)), || {
        format!("a deletion that had been given up, repeated, answered {answer:?}")
    })?;
    h.settle().await;
    h.expect(0, "after a deletion that had been given up was repeated").await
}

/// Rule `Cancellation`.
pub(in crate::suite) async fn cancellation(h: &Harness) -> Checked {
    cancelled_before(h).await?;
    let silent_checked = match h.broken(Breakage::Silent).await {
        Ok(silent) => {
            for method in METHODS {
                let context = cancelled_after(h, h.limits.window);
                let result = given_up(method, h.limits.window, call(h, silent.as_ref(), method, &context)).await?;
                may_have_happened(method, result, true)?;
            }
            true
        }
        Err(Stop::NotApplicable(_)) => false,
        Err(stop) => return Err(stop),
    };
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..h.limits.rounds {
        let mut moment = || h.limits.window.mul_f64(rng.f64());
        let (create_after, delete_after) = (moment(), moment());
        given_up_create(h, &cancelled_after(h, create_after), create_after).await?;
        given_up_delete(h, &cancelled_after(h, delete_after), delete_after).await?;
    }
    if silent_checked { Ok(()) } else { Err(Stop::NotApplicable("the connection cannot be silenced".to_owned())) }
}

/// A context whose token is cancelled after a time.
fn cancelled_after(h: &Harness, after: Duration) -> CallContext {
    let cancel = CancellationToken::new();
    let context = h.context_of(h.limits.call.max(LONG), cancel.clone());
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        cancel.cancel();
    });
    context
}

/// What was cancelled before it began is not sent.
async fn cancelled_before(h: &Harness) -> Checked {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let context = h.context_of(h.limits.call, cancel);
    for method in METHODS.into_iter().filter(|method| changes(*method)) {
        match call(h, h.provider.as_ref(), method, &context).await {
            Err(error) if error.kind == CallErrorKind::Cancelled => {}
            other => return fail(format!("{method}, cancelled before it began, answered {other:?}")),
        }
    }
    h.settle().await;
    h.expect(0, "after a creation that was cancelled before it began").await
}
