//! Volumes. A volume's name is its id.

use bollard::models::{Volume, VolumeCreateRequest};
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use ksail_kinds::{Spec as _, VolumeSpec};
use ksail_model::{Mark, Readiness, Seen, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted};

use crate::call::{Call, Failed};
use crate::compare::same_where_fixed;
use crate::container::list_where;
use crate::labels;
use crate::network::cause_of;
use crate::ownership::{Found, may_complete, may_delete};

/// All volumes of the engine.
pub(crate) async fn list(call: &Call) -> Result<Vec<Volume>, CallError> {
    let reply = call.list("list volumes", || call.session.docker.list_volumes(None::<ListVolumesOptions>)).await?;
    Ok(reply.volumes.unwrap_or_default())
}

pub(crate) fn mark(volume: &Volume) -> Option<Mark> {
    labels::mark(Some(&volume.labels))
}

/// What is seen of a volume.
pub(crate) fn seen(volume: &Volume) -> Seen {
    Seen {
        id: Some(volume.name.clone()),
        fields: Value::map([("driver", Value::from(volume.driver.clone()))]),
        attributes: Value::map([("mountpoint", Value::from(volume.mountpoint.clone()))]),
        mark: mark(volume),
        readiness: Readiness::Ready,
        others: Vec::new(),
    }
}

async fn inspect(call: &Call, name: &str) -> Result<Option<Volume>, CallError> {
    call.look(&format!("inspect volume `{name}`"), || call.session.docker.inspect_volume(name)).await
}

pub(crate) async fn create(call: &Call, request: &CreateRequest, spec: &Value) -> Result<Seen, CallError> {
    let name = &request.target.identity.name;
    let what = format!("volume `{name}`");
    let typed = VolumeSpec::from_value(spec).map_err(|error| call.refused(&what, &cause_of(&error)))?;
    if let Some(volume) = inspect(call, name).await? {
        return adopt(call, &what, &volume, request, spec);
    }
    let body = VolumeCreateRequest {
        name: Some(name.clone()),
        driver: Some(typed.driver),
        labels: Some(labels::labels(&request.mark, spec)),
        ..Default::default()
    };
    let doing = format!("create {what}");
    // The engine answers an existing volume of that name as if it had been made: its labels tell whose it is.
    match call.change(&doing, call.session.docker.create_volume(body)).await {
        Ok(volume) => adopt(call, &what, &volume, request, spec),
        Err(Failed::Answered { status, message }) => match inspect(call, name).await? {
            Some(volume) => adopt(call, &what, &volume, request, spec),
            None => Err(call.answered(&doing, status, &message)),
        },
        Err(Failed::Error(error)) => Err(error),
    }
}

fn adopt(call: &Call, what: &str, volume: &Volume, request: &CreateRequest, spec: &Value) -> Result<Seen, CallError> {
    let what = format!("{what} on the engine at {}", call.place());
    let seen = seen(volume);
    may_complete(&what, &Found { id: &volume.name, mark: seen.mark.as_ref() }, &request.mark)?;
    same_where_fixed(&what, "volume", spec, &seen.fields)?;
    Ok(seen)
}

pub(crate) async fn delete(call: &Call, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let name = &request.target.identity.name;
    let what = format!("volume `{name}`");
    let Some(volume) = inspect(call, name).await? else { return Ok(Deleted::WasAbsent) };
    let place = format!("{what} on the engine at {}", call.place());
    let mark = mark(&volume);
    if !may_delete(&place, &Found { id: &volume.name, mark: mark.as_ref() }, request)? {
        return Ok(Deleted::WasAbsent);
    }
    let doing = format!("delete {what}");
    match call.change(&doing, call.session.docker.remove_volume(name, None::<RemoveVolumeOptions>)).await {
        Ok(()) => Ok(Deleted::Gone),
        Err(Failed::Answered { status: 404, .. }) => Ok(Deleted::WasAbsent),
        Err(Failed::Answered { status: 409, message }) => {
            let users = users(call, name).await?;
            Err(if users.is_empty() {
                call.answered(&doing, 409, &message)
            } else {
                call.refused(&doing, &format!("it is in use by {}", users.join(", ")))
                    .hint("delete the containers that use it first")
            })
        }
        Err(failed) => Err(failed.into_error(call, &doing)),
    }
}

async fn users(call: &Call, volume: &str) -> Result<Vec<String>, CallError> {
    let containers = list_where(call, Some(("volume", volume))).await?;
    let mut names: Vec<String> = containers
        .into_iter()
        .filter_map(|container| container.names)
        .filter_map(|names| names.first().map(|name| format!("container `{}`", name.trim_start_matches('/'))))
        .collect();
    names.sort();
    Ok(names)
}
