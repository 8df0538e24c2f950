//! Observations, lists, previews, secrets.

use std::time::Duration;

use ksail_model::{Observation, Value};
use ksail_provider::{Owned, PreviewRequest, Target};
use tokio_util::sync::CancellationToken;

use crate::suite::harness::{Checked, Harness, Stop, ensure, fail, told};
use crate::suite::{Breakage, Gap};

/// How many targets the large batch has.
const LARGE_BATCH: usize = 24;

/// Rule `Batch`.
pub(in crate::suite) async fn batch(h: &Harness) -> Checked {
    let (target, absent) = (h.target(), &h.setup.case.absent);
    ensure(h.observe(&[]).await?.observations.is_empty(), || "an empty batch was answered with observations".into())?;
    let made = h.create().await?;
    for targets in [vec![absent, target], vec![target, absent], vec![absent, target, absent, target]] {
        let targets: Vec<Target> = targets.into_iter().cloned().collect();
        let reply = h.observe(&targets).await?;
        ensure(reply.scope == made.scope, || {
            format!("create was in scope {}, observe in {}", made.scope, reply.scope)
        })?;
        let right = reply.observations.len() == targets.len()
            && targets.iter().zip(&reply.observations).all(|(of, observation)| match observation {
                Observation::Present(seen) => of == target && seen.id == made.seen.id,
                Observation::Absent => of == absent,
                Observation::Unknown(_) => false,
            });
        let order: Vec<&str> = targets.iter().map(|of| if of == target { "present" } else { "absent" }).collect();
        ensure(right, || format!("targets [{}] were observed as {:?}", order.join(", "), reply.observations))?;
    }
    requests_per_kind(h).await
}

/// A large batch of a kind takes no more requests than a batch of one.
async fn requests_per_kind(h: &Harness) -> Checked {
    let before = match h.setup.outside.requests().await {
        Ok(count) => count,
        Err(Gap::NotApplicable(_)) => return Ok(()),
        Err(gap) => return Err(gap.into()),
    };
    h.observe(std::slice::from_ref(h.target())).await?;
    let one = h.setup.outside.requests().await?;
    let many: Vec<Target> = [h.target(), &h.setup.case.absent].into_iter().cycle().take(LARGE_BATCH).cloned().collect();
    h.observe(&many).await?;
    let all = h.setup.outside.requests().await?;
    ensure(all - one <= one - before, || {
        format!("a batch of one took {} requests, one of {LARGE_BATCH} took {}", one - before, all - one)
    })
}

/// Rule `UnknownNeverAbsent`.
pub(in crate::suite) async fn unknown_never_absent(h: &Harness) -> Checked {
    h.create().await?;
    let targets = [h.target().clone(), h.setup.case.absent.clone()];
    let mut checked = None;
    for how in [Breakage::Refused, Breakage::Silent] {
        match h.broken(how).await {
            Ok(provider) => {
                let context = h.context_of(h.limits.window, CancellationToken::new());
                if let Ok(reply) = provider.observe(&context, &targets).await
                    && !reply.observations.iter().all(|seen| matches!(seen, Observation::Unknown(_)))
                {
                    return fail(format!("behind a connection that is {how:?}: {:?}", reply.observations));
                }
                checked = Some(());
            }
            Err(Stop::NotApplicable(_)) => {}
            Err(stop) => return Err(stop),
        }
    }
    let mut rng = fastrand::Rng::with_seed(2);
    for _ in 0..h.limits.rounds {
        let timeout = h.limits.window.mul_f64(rng.f64()).max(Duration::from_micros(1));
        let context = h.context_of(timeout, CancellationToken::new());
        if let Ok(reply) = h.provider.observe(&context, &targets).await
            && !matches!(reply.observations.as_slice(), [Observation::Present(_) | Observation::Unknown(_), _])
        {
            return fail(format!("with a deadline of {timeout:?} a thing that is there is {:?}", reply.observations));
        }
    }
    checked.map_or_else(|| Err(Stop::NotApplicable("the connection cannot be broken".into())), Ok)
}

/// Rule `Quiet`.
pub(in crate::suite) async fn quiet(h: &Harness) -> Checked {
    let made = h.create().await?;
    let first = h.see().await?;
    same_fields("create", &made.seen.fields, &first.fields)?;
    let second = h.see().await?;
    same_fields("the first observation", &first.fields, &second.fields)?;
    ensure(first.attributes == second.attributes, || {
        format!("attributes move by themselves: {} became {}", first.attributes, second.attributes)
    })?;
    if let Ok(change) = h.change() {
        let request = h.update_request(&made, change);
        let changed = h.update(&request).await?;
        let seen = h.see_as(&request.target).await?;
        same_fields("update", &changed.seen.fields, &seen.fields)?;
    }
    Ok(())
}

fn same_fields(what: &str, returned: &Value, seen: &Value) -> Checked {
    ensure(returned == seen, || format!("{what} returned the fields {returned}, and then they were seen as {seen}"))
}

/// Rule `Listing`.
pub(in crate::suite) async fn listing(h: &Harness) -> Checked {
    h.only_if_marked()?;
    // Other lineages may be at work in the same outside.
    let is_its_own = |owned: &Owned| owned.seen.mark.as_ref().is_some_and(|mark| mark.lineage == h.setup.lineage);
    let before: Vec<Owned> = h.list().await?.into_iter().filter(is_its_own).collect();
    let made = h.create().await?;
    let after: Vec<Owned> = h.list().await?.into_iter().filter(is_its_own).collect();
    let new: Vec<_> = after.iter().filter(|owned| !before.contains(owned)).collect();
    let [one] = new.as_slice() else {
        return fail(format!("one thing was made, and {} more are listed: {new:?}", new.len()));
    };
    ensure(after.len() == before.len() + 1, || "what was listed before is listed no more".into())?;
    let target = h.target();
    ensure(one.kind == target.address.kind() && one.identity.name == target.identity.name, || {
        format!("it is listed as {} {}", one.kind, one.identity.name)
    })?;
    ensure(one.seen.id == made.seen.id && h.is_mark(one.seen.mark.as_ref(), &h.mark(1)), || {
        format!("it is listed as {:?} with the mark {:?}", one.seen.id, one.seen.mark)
    })?;
    ensure(one.ownership == target.ownership, || format!("it is listed as {:?}", one.ownership))?;
    h.delete(&made.seen).await?;
    let last = h.list().await?;
    ensure(!last.iter().any(|owned| h.is_mark(owned.seen.mark.as_ref(), &h.mark(1))), || {
        "what was deleted is listed".into()
    })
}

/// Rule `Previews`.
pub(in crate::suite) async fn previews(h: &Harness) -> Checked {
    let mut requests = vec![PreviewRequest { target: h.target().clone(), current: None, comes_after: Vec::new() }];
    if let Some(change) = &h.setup.case.change {
        let target = Target { spec: Some(change.spec.clone()), ..h.target().clone() };
        requests.push(PreviewRequest { target, current: h.target().spec.clone(), comes_after: Vec::new() });
    }
    let context = h.context();
    let previews = h.persist(|| h.provider.preview(&context, &requests)).await;
    let previews = previews.or_else(|error| fail(format!("preview failed: {}", told(&error))))?;
    ensure(previews.len() == requests.len(), || {
        format!("{} previews for {} requests", previews.len(), requests.len())
    })?;
    h.expect(0, "after previews").await
}

/// Rule `Secrets`. What is said is listened to in every check; this one sets out to provoke it.
pub(in crate::suite) async fn secrets(h: &Harness) -> Checked {
    if h.secrets().is_empty() {
        return Err(Stop::NotApplicable("nothing of this kind is secret".into()));
    }
    let made = h.create().await?;
    let seen = h.see().await?;
    for fields in [&made.seen.fields, &seen.fields] {
        fingerprints(h, fields)?;
    }
    let mut request = h.create_request();
    request.mark = h.other_mark();
    let context = h.context();
    // Refused one way or another, and the refusals are listened to.
    let _ = h.provider.create(&context, &request).await;
    request = h.create_request();
    request.target.spec = Some(Value::map([("no-such-field", Value::from(true))]));
    let _ = h.provider.create(&context, &request).await;
    if let Ok(provider) = h.broken(Breakage::Refused).await {
        let _ = provider.create(&context, &h.create_request()).await;
    }
    h.list().await?;
    Ok(())
}

/// Each secret of the spec is seen by its fingerprint.
fn fingerprints(h: &Harness, fields: &Value) -> Checked {
    let Some(spec) = &h.target().spec else { return Ok(()) };
    for (path, declared) in spec.secrets() {
        let right = match fields.get(&path) {
            Some(Value::Secret(seen)) => seen.fingerprint == declared.fingerprint,
            _ => false,
        };
        ensure(right, || format!("the secret at {path} is not seen as its fingerprint"))?;
    }
    Ok(())
}
