//! The life of one object: imported, made, looked at, changed, drifted, replaced and deleted.

use std::time::Duration;

use ksail_model::{Observation, Path, Preview, Seen, Value};
use ksail_provider::{CallContext, CallErrorKind, DeleteRequest, Deleted, Provider as _, Target};
use serde_json::{Value as Json, json};

use super::changes::{Outcomes, differing, each_change, filled, same};
use super::objects::Case;
use crate::cluster::Cluster;

/// How many of an object's replacements are made in earnest; of the others it is asked whether they could be.
const REPLACED: usize = 2;
/// How often a call is tried again that lost a race.
const TRIES: usize = 5;
/// Who else changes objects.
const OTHER: &str = "somebody-else";

/// The whole life of one object; what went wrong, if anything.
pub(crate) async fn life(cluster: &Cluster, case: &Case) -> Result<Outcomes, String> {
    let mut outcomes = Outcomes::default();
    let told = |what: &'static str| move |error: String| format!("{} {what}: {error}", case.target.address);
    imported(cluster, case).await.map_err(told("imported"))?;
    let made = made(cluster, case).await.map_err(told("made"))?;
    let replacing = each_change(cluster, case, &made, &mut outcomes).await?;
    let after = seen(cluster, case).await?;
    same(&filled(&after.fields), &filled(&made.fields)).map_err(told("after all changes"))?;
    drifted(cluster, case, &after).await.map_err(told("drifted"))?;
    delete(cluster, case).await.map_err(told("deleted"))?;
    replaced(cluster, &replacing).await.map_err(told("replaced"))?;
    Ok(outcomes)
}

async fn seen(cluster: &Cluster, case: &Case) -> Result<Seen, String> {
    match cluster.observe(&case.target).await {
        Observation::Present(seen) => Ok(*seen),
        other => Err(format!("is {other:?}")),
    }
}

fn accepted(preview: Preview) -> Result<Value, String> {
    match preview {
        Preview::Accepted { fields } => Ok(fields),
        other => Err(format!("{other:?}")),
    }
}

/// Made, and quiet: what was planned is what it is, what is seen, and what the same declaration would make of it.
async fn made(cluster: &Cluster, case: &Case) -> Result<Seen, String> {
    accepted(case.preview(cluster, None).await)?;
    let made = case.create(cluster).await.map_err(|error| error.to_string())?.seen;
    same(&seen(cluster, case).await?.fields, &made.fields)?;
    same(&accepted(case.preview(cluster, Some(&made)).await)?, &made.fields)?;
    Ok(made)
}

/// Made by kubectl, and taken over.
async fn imported(cluster: &Cluster, case: &Case) -> Result<(), String> {
    let (collection, path) = case.paths(cluster).await;
    let body = &case.manifest;
    let made =
        cluster.ask("POST", &format!("{collection}?fieldManager=kubectl-create"), "application/json", body).await;
    made.map_err(|error| format!("kubectl cannot make it: {error}"))?;
    let foreign = seen(cluster, case).await?;
    if foreign.mark.is_some() {
        return Err("it carries a mark".to_owned());
    }
    match case.create(cluster).await {
        Err(error) if error.kind == CallErrorKind::NotOurs => {}
        other => return Err(format!("what is not ours was made: {other:?}")),
    }
    let adopted = Case { target: Target { id: foreign.id.clone(), ..case.target.clone() }, ..case.clone() };
    let predicted = accepted(adopted.preview(cluster, Some(&foreign)).await)?;
    let changed: Vec<Path> = differing(&foreign.fields, &predicted).into_iter().map(Path::from).collect();
    // Where a controller changes the object at the same moment it is tried again, as the executor does.
    let mut ours = adopted.update(cluster, &foreign, &changed).await;
    for _ in 0..TRIES {
        if ours.as_ref().is_err_and(|error| error.kind == CallErrorKind::Transient) {
            ours = adopted.update(cluster, &foreign, &changed).await;
        }
    }
    let ours = ours.map_err(|error| error.to_string())?;
    same(&predicted, &ours.seen.fields)?;
    same(&seen(cluster, case).await?.fields, &ours.seen.fields)?;
    let live = cluster.get(&path).await.ok_or("it is gone")?;
    let managers = live["metadata"]["managedFields"].as_array().into_iter().flatten();
    if managers.filter(|entry| entry["subresource"].is_null()).any(|entry| entry["manager"] == "kubectl-create") {
        return Err("kubectl still owns fields of it".to_owned());
    }
    delete(cluster, case).await
}

/// A label that another manager changes: seen, told with its owner, and taken back only when told to.
async fn drifted(cluster: &Cluster, case: &Case, made: &Seen) -> Result<(), String> {
    let label = Path::parse("metadata.labels.plain").expect("a path");
    let (_, path) = case.paths(cluster).await;
    cluster.merge(&path, OTHER, &json!({"metadata": {"labels": {"plain": "drifted", "theirs": "x"}}})).await;
    let drifted = seen(cluster, case).await?;
    let mut expected = made.fields.clone();
    expected.set(&label, Value::from("drifted"));
    same(&expected, &drifted.fields)?;
    match case.preview(cluster, Some(&drifted)).await {
        Preview::Refused { message, .. } if message.contains(OTHER) => {}
        other => return Err(format!("the owner is not told: {other:?}")),
    }
    match case.update(cluster, &drifted, std::slice::from_ref(&label)).await {
        Err(error) if error.kind == CallErrorKind::Refused && error.message.contains(OTHER) => {}
        other => return Err(format!("the owner is not told: {other:?}")),
    }
    let mut taking = case.manifest.clone();
    match &mut taking["metadata"]["annotations"] {
        Json::Object(annotations) => drop(annotations.insert("ksail.io/conflicts".to_owned(), "take".into())),
        other => *other = json!({"ksail.io/conflicts": "take"}),
    }
    let taking = case.with(cluster, taking);
    let predicted = accepted(taking.preview(cluster, Some(&drifted)).await)?;
    let taken =
        taking.update(cluster, &drifted, std::slice::from_ref(&label)).await.map_err(|error| error.to_string())?.seen;
    same(&predicted, &taken.fields)?;
    let back = case.update(cluster, &taken, &[label]).await.map_err(|error| error.to_string())?.seen;
    same(&filled(&made.fields), &filled(&back.fields))?;
    let live = cluster.get(&path).await.ok_or("it is gone")?;
    if live["metadata"]["labels"]["theirs"] != "x" {
        return Err("a label of another was taken away".to_owned());
    }
    Ok(())
}

/// Changes that cannot be made in place can be made by a new object.
async fn replaced(cluster: &Cluster, replacing: &[Case]) -> Result<(), String> {
    for (number, changed) in replacing.iter().enumerate() {
        match changed.preview(cluster, None).await {
            Preview::Accepted { .. } if number < REPLACED => {
                let made = changed.create(cluster).await.map_err(|error| error.to_string())?.seen;
                same(&seen(cluster, changed).await?.fields, &made.fields)?;
                delete(cluster, changed).await?;
            }
            // Some texts are not valid in any object.
            Preview::Accepted { .. } | Preview::Refused { .. } => {}
            // What is forbidden may be so for want of something else.
            other => match changed.create(cluster).await {
                Err(error) if error.kind == CallErrorKind::Refused => {}
                created => return Err(format!("was planned as {other:?} and made as {created:?}")),
            },
        }
    }
    Ok(())
}

/// Deletes it. What its own finalizers hold is told of, and let go.
pub(crate) async fn delete(cluster: &Cluster, case: &Case) -> Result<(), String> {
    let finalizers = case.manifest["metadata"]["finalizers"].as_array().map_or(&[][..], Vec::as_slice);
    if let Some(holder) = finalizers.first().and_then(Json::as_str) {
        let request = DeleteRequest {
            target: case.target.clone(),
            mark: cluster.mark(&case.target),
            adopted: false,
            attributes: Value::empty_map(),
        };
        let context = CallContext { timeout: Duration::from_secs(1), ..cluster.context() };
        match cluster.provider.delete(&context, &request).await {
            Err(error) if error.kind == CallErrorKind::Indeterminate && error.message.contains(holder) => {}
            other => return Err(format!("who holds it is not told: {other:?}")),
        }
        let (_, path) = case.paths(cluster).await;
        cluster.merge(&path, OTHER, &json!({"metadata": {"finalizers": null}})).await;
    }
    let deleted = cluster.delete(&case.target, false).await.map_err(|error| error.to_string())?;
    let expected = if finalizers.is_empty() { Deleted::Gone } else { Deleted::WasAbsent };
    match cluster.observe(&case.target).await {
        Observation::Absent if deleted == expected => Ok(()),
        other => Err(format!("{deleted:?}, and then {other:?}")),
    }
}
