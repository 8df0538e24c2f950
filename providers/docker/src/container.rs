//! Containers, and with them registries and mirrors: made, changed and deleted.

use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerUpdateBody, EndpointSettings, NetworkConnectRequest,
    NetworkDisconnectRequest,
};
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptions, RemoveContainerOptions, StopContainerOptions,
};
use ksail_kinds::{LoadBalancerSpec, Spec as _};
use ksail_model::{Identity, Readiness, Seen, Step, Value};
use ksail_provider::{CallError, CallErrorKind, CreateRequest, DeleteRequest, Deleted, UpdateRequest};

use crate::call::{Call, Failed};
use crate::compare::same_where_fixed;
use crate::load_balancer;
use crate::observed::Observed;
use crate::ownership::{Found, may_change, may_complete, may_delete};
use crate::pinned;
use crate::plan::{ContainerPlan, plan, restart_policy};
use crate::podman;
use crate::probe::readiness;

/// How long a container may take to end by itself when it is stopped, in seconds; then it is killed.
const STOP_SECONDS: i32 = 10;
/// How often, and with what pause, a removal that is under way already is looked at.
const REMOVAL_LOOKS: u32 = 150;
const REMOVAL_PAUSE: Duration = Duration::from_millis(200);
/// How often, and with what pause, it is looked whether the engine has noticed that it let a container go on.
const SETTLE_LOOKS: u32 = 20;
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// How often a name that is taken by nothing that can be looked at is tried again, after a pause each.
const NAME_LOOKS: u32 = 100;
/// Shorter beginnings of ids are too easily names.
const SHORT_ID: usize = 12;

/// All containers of the engine, stopped ones too.
pub(crate) async fn list(call: &Call) -> Result<Vec<ContainerSummary>, CallError> {
    list_where(call, None).await
}

/// Those of them for which a filter of the engine holds.
pub(crate) async fn list_where(call: &Call, filter: Option<(&str, &str)>) -> Result<Vec<ContainerSummary>, CallError> {
    let filters = filter.map(|(name, value)| [(name.to_owned(), vec![value.to_owned()])].into());
    let options = ListContainersOptions { all: true, filters, ..Default::default() };
    let request = || async { podman::understood(call.session.docker.list_containers(Some(options.clone())).await) };
    call.list("list containers", request).await
}

/// The id of the container of an identity: by id where one is given, else by name.
pub(crate) fn find(containers: &[ContainerSummary], identity: &Identity) -> Option<String> {
    let has_name = |container: &ContainerSummary, name: &str| {
        container.names.iter().flatten().any(|other| other.strip_prefix('/').unwrap_or(other) == name)
    };
    containers
        .iter()
        .find(|container| match &identity.id {
            Some(id) => {
                let full = container.id.as_deref().unwrap_or_default();
                full == id || (id.len() >= SHORT_ID && full.starts_with(id.as_str())) || has_name(container, id)
            }
            None => has_name(container, &identity.name),
        })
        .and_then(|container| container.id.clone())
}

/// Looks at one container, by its id.
pub(crate) async fn inspect(call: &Call, id: &str) -> Result<Option<Observed>, CallError> {
    Ok(inspect_whole(call, id).await?.map(Observed::new))
}

/// The same, with all that the engine tells.
pub(crate) async fn inspect_whole(call: &Call, id: &str) -> Result<Option<ContainerInspectResponse>, CallError> {
    let request = || async { podman::understood(call.session.docker.inspect_container(id, None).await) };
    call.look(&format!("inspect container `{id}`"), request).await
}

/// Looks at one container, by its name. The engine takes the beginning of an id for a name too.
async fn inspect_named(call: &Call, name: &str) -> Result<Option<Observed>, CallError> {
    Ok(inspect(call, name).await?.filter(|observed| observed.name() == name))
}

/// What is seen of a container of a kind.
pub(crate) async fn seen(
    call: &Call,
    kind: &str,
    observed: &Observed,
    declared: Option<&Value>,
) -> Result<Seen, CallError> {
    let shall_run = declared.and_then(|spec| spec.field("running")).and_then(Value::as_bool);
    let readiness = match shall_run {
        // What shall not run is ready when it does not.
        Some(false) if observed.is_stopped() => Readiness::Ready,
        _ if kind == LoadBalancerSpec::KIND && observed.not_running().is_none() => {
            load_balancer::readiness(call, observed).await?
        }
        _ => call.aside("look whether it is healthy", readiness(call, kind, observed)).await?,
    };
    Ok(Seen {
        id: Some(observed.id().to_owned()),
        fields: observed.fields(kind, declared),
        attributes: observed.attributes(kind),
        mark: observed.mark(),
        readiness,
        others: Vec::new(),
    })
}

pub(crate) async fn create(call: &Call, request: &CreateRequest, spec: &Value) -> Result<Seen, CallError> {
    let kind = request.target.address.kind();
    let name = &request.target.identity.name;
    let what = format!("{kind} `{name}`");
    let wanted = plan(kind, spec, Some(&request.secrets)).map_err(|why| call.refused(&what, &why))?;
    let id = match inspect_named(call, name).await? {
        Some(observed) if observed.is_being_removed() => {
            until_removed(call, &what, observed.id()).await?;
            make(call, &what, request, spec, &wanted).await?
        }
        Some(observed) => adopt(call, &what, &observed, request, spec)?,
        None => make(call, &what, request, spec, &wanted).await?,
    };
    complete(call, &what, &id, &wanted).await?;
    look_again(call, kind, &what, &id, spec).await
}

async fn look_again(call: &Call, kind: &str, what: &str, id: &str, spec: &Value) -> Result<Seen, CallError> {
    match inspect(call, id).await? {
        Some(observed) => seen(call, kind, &observed, Some(spec)).await,
        None => Err(CallError::indeterminate(format!("{what} was changed at {} and is gone", call.place()))),
    }
}

/// The id of what is there, if it is what shall be made.
fn adopt(
    call: &Call,
    what: &str,
    observed: &Observed,
    request: &CreateRequest,
    spec: &Value,
) -> Result<String, CallError> {
    let what = format!("{what} on the engine at {}", call.place());
    let mark = observed.mark();
    may_complete(&what, &Found { id: observed.id(), mark: mark.as_ref() }, &request.mark)?;
    let kind = request.target.address.kind();
    same_where_fixed(&what, kind, spec, &observed.fields(kind, Some(spec)))?;
    Ok(observed.id().to_owned())
}

/// Makes the container, with its mark, and answers its id.
async fn make(
    call: &Call,
    what: &str,
    request: &CreateRequest,
    spec: &Value,
    wanted: &ContainerPlan,
) -> Result<String, CallError> {
    let name = &request.target.identity.name;
    let doing = format!("create {what}");
    let body = pinned::on_engine(call, &doing, wanted.body(&request.mark, spec)).await?;
    for _ in 0..NAME_LOOKS {
        let options = Some(CreateContainerOptions { name: Some(name.clone()), ..Default::default() });
        let made = call.session.docker.create_container(options, body.clone());
        let (status, message) = match call.change(&doing, made).await {
            Ok(reply) => return Ok(reply.id),
            Err(Failed::Answered { status, message }) => (status, message),
            Err(Failed::Error(error)) => return Err(error),
        };
        // Whatever was answered: what is there under the name decides (another call of ours may have made it).
        match inspect_named(call, name).await? {
            Some(observed) if observed.is_being_removed() => until_removed(call, what, observed.id()).await?,
            Some(observed) => return adopt(call, what, &observed, request, spec),
            // The name is taken and nothing is there: a creation or a removal that nobody waits for any more is still under
            // way in the engine.
            None if status == 409 => call.pause(&doing, REMOVAL_PAUSE).await?,
            None => return Err(not_made(call, &doing, status, &message, wanted)),
        }
    }
    Err(CallError::transient(format!("{doing} on the engine at {}: another call has taken its name", call.place())))
}

fn not_made(call: &Call, doing: &str, status: u16, message: &str, wanted: &ContainerPlan) -> CallError {
    let error = call.answered(doing, status, message);
    if status == 404 && message.to_lowercase().contains("image") {
        error.hint(format!("the image is not on the engine: `docker pull {}`, or load it", wanted.image))
    } else if status == 404 {
        error.hint("its network is not on the engine")
    } else {
        error
    }
}

/// Brings what can be changed in place to what is wanted, each step as often as one likes. A container that cannot be
/// completed is taken away again, so that a refusal means that nothing was made; its data is in volumes that are not.
async fn complete(call: &Call, what: &str, id: &str, wanted: &ContainerPlan) -> Result<(), CallError> {
    let Some(observed) = inspect(call, id).await? else {
        return Err(CallError::indeterminate(format!("{what} was made at {} and is gone", call.place())));
    };
    let done = match converge_networks(call, what, &observed, wanted).await {
        Ok(()) => converge_running(call, what, &observed, wanted.running).await,
        failed => failed,
    };
    match done {
        Err(error) if matches!(error.kind, CallErrorKind::Refused | CallErrorKind::Transient) => {
            remove(call, what, id).await?;
            Err(error)
        }
        other => other,
    }
}

async fn converge_networks(
    call: &Call,
    what: &str,
    observed: &Observed,
    wanted: &ContainerPlan,
) -> Result<(), CallError> {
    let attached = observed.networks();
    for network in wanted.networks.iter().filter(|network| !attached.contains(network)) {
        let doing = format!("attach {what} to the network `{network}`");
        let body = NetworkConnectRequest {
            container: observed.id().to_owned(),
            endpoint_config: Some(EndpointSettings::default()),
        };
        match call.change(&doing, call.session.docker.connect_network(network, body)).await {
            Ok(()) => {}
            Err(Failed::Answered { message, .. }) if message.contains("already exists in network") => {}
            Err(failed) => return Err(failed.into_error(call, &doing)),
        }
    }
    for network in attached.iter().filter(|network| !wanted.networks.contains(network)) {
        let doing = format!("detach {what} from the network `{network}`");
        let body = NetworkDisconnectRequest { container: observed.id().to_owned(), force: Some(true) };
        match call.change(&doing, call.session.docker.disconnect_network(network, body)).await {
            Ok(()) => {}
            Err(Failed::Answered { message, .. }) if message.contains("is not connected") => {}
            Err(failed) => return Err(failed.into_error(call, &doing)),
        }
    }
    Ok(())
}

async fn converge_running(call: &Call, what: &str, observed: &Observed, wanted: bool) -> Result<(), CallError> {
    let id = observed.id();
    if wanted == observed.is_running() {
        return Ok(());
    }
    let doing = format!("{} {what}", if wanted { "start" } else { "stop" });
    if wanted && observed.is_paused() {
        let reply = call.change(&doing, call.session.docker.unpause_container(id)).await;
        return reply.map_err(|failed| failed.into_error(call, &doing));
    }
    if !wanted {
        // One that was never started, or has ended, is not running.
        if !observed.is_paused() && observed.not_running().is_some() {
            return Ok(());
        }
        let options = StopContainerOptions { t: Some(STOP_SECONDS), ..Default::default() };
        let reply = call.change(&doing, call.session.docker.stop_container(id, Some(options))).await;
        return reply.map_err(|failed| failed.into_error(call, &doing));
    }
    match call.change(&doing, call.session.docker.start_container(id, None)).await {
        Ok(()) => Ok(()),
        Err(Failed::Answered { status, message }) => {
            // It may run for all that: another call may have started it.
            if inspect(call, id).await?.is_some_and(|observed| observed.is_running()) {
                return Ok(());
            }
            let error = call.answered(&doing, status, &message);
            Err(if is_port_conflict(&message) {
                error.hint("free the port, or declare another one: `ss -ltnp` tells what holds it")
            } else {
                error
            })
        }
        Err(Failed::Error(error)) => Err(error),
    }
}

pub(crate) fn is_port_conflict(message: &str) -> bool {
    ["port is already allocated", "address already in use", "Ports are not available"]
        .iter()
        .any(|text| message.contains(text))
}

pub(crate) async fn update(call: &Call, request: &UpdateRequest, spec: &Value) -> Result<Seen, CallError> {
    let kind = request.target.address.kind();
    let name = &request.target.identity.name;
    let what = format!("{kind} `{name}`");
    if let Some(path) = request.changed.iter().find(|path| !changes_in_place(kind, path)) {
        return Err(call.refused(&format!("change {what}"), &format!("`{path}` cannot be changed in place")));
    }
    let wanted = plan(kind, spec, None).map_err(|why| call.refused(&what, &why))?;
    let Some(observed) = inspect_named(call, name).await? else {
        return Err(call.refused(&format!("change {what}"), "it is not there").hint("plan again"));
    };
    let mark = observed.mark();
    let place = format!("{what} on the engine at {}", call.place());
    let found = Found { id: observed.id(), mark: mark.as_ref() };
    may_change(&place, &found, &request.mark, request.target.id.as_deref())?;
    if kind == "container" {
        converge_networks(call, &what, &observed, &wanted).await?;
        if observed.fields(kind, Some(spec)).field("restart") != spec.field("restart") {
            let doing = format!("change when {what} is restarted");
            let body =
                ContainerUpdateBody { restart_policy: Some(restart_policy(wanted.restart)), ..Default::default() };
            match call.change(&doing, call.session.docker.update_container(observed.id(), body)).await {
                Ok(_) => {}
                // Podman has no such request before its version 5.
                Err(Failed::Answered { status: 404, .. }) if call.session.is_podman => {
                    let error = call.refused(&doing, "this version of Podman cannot change it in place");
                    return Err(error.hint(format!("`ksail apply --replace {}`", request.target.address)));
                }
                Err(failed) => return Err(failed.into_error(call, &doing)),
            }
        }
    }
    converge_running(call, &what, &observed, wanted.running).await?;
    let mut seen = look_again(call, kind, &what, observed.id(), spec).await?;
    // An engine that is behind with its own events takes a container that was paused a moment ago for paused once more.
    for _ in 0..SETTLE_LOOKS {
        if !observed.is_paused() || seen.fields.field("running") == Some(&Value::from(wanted.running)) {
            break;
        }
        call.pause(&what, SETTLE_PAUSE).await?;
        seen = look_again(call, kind, &what, observed.id(), spec).await?;
    }
    Ok(seen)
}

fn changes_in_place(kind: &str, path: &ksail_model::Path) -> bool {
    match path.steps().first() {
        Some(Step::Key(key)) => key == "running" || (kind == "container" && (key == "networks" || key == "restart")),
        _ => false,
    }
}

pub(crate) async fn delete(call: &Call, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let name = &request.target.identity.name;
    let what = format!("{} `{name}`", request.target.address.kind());
    let Some(observed) = inspect_named(call, name).await? else { return Ok(Deleted::WasAbsent) };
    let mark = observed.mark();
    let place = format!("{what} on the engine at {}", call.place());
    if !may_delete(&place, &Found { id: observed.id(), mark: mark.as_ref() }, request)? {
        return Ok(Deleted::WasAbsent);
    }
    Ok(if remove(call, &what, observed.id()).await? { Deleted::Gone } else { Deleted::WasAbsent })
}

/// Removes a container with its anonymous volumes, by id. `false` says that it was gone.
async fn remove(call: &Call, what: &str, id: &str) -> Result<bool, CallError> {
    let doing = format!("delete {what}");
    let options = Some(RemoveContainerOptions { v: true, force: true, link: false });
    match call.change(&doing, call.session.docker.remove_container(id, options)).await {
        Ok(()) => Ok(true),
        Err(Failed::Answered { status: 404, .. }) => Ok(false),
        Err(Failed::Answered { status: 409, .. }) => {
            until_removed(call, what, id).await?;
            Ok(true)
        }
        Err(failed) => {
            let error = failed.into_error(call, &doing);
            // An engine that answers an error may have removed it for all that.
            let answered = !matches!(error.kind, CallErrorKind::Indeterminate);
            if answered && inspect(call, id).await?.is_none() { Ok(true) } else { Err(error) }
        }
    }
}

/// Waits for a removal that is under way already.
pub(crate) async fn until_removed(call: &Call, what: &str, id: &str) -> Result<(), CallError> {
    let doing = format!("wait for the removal of {what}");
    for _ in 0..REMOVAL_LOOKS {
        if inspect(call, id).await?.is_none() {
            return Ok(());
        }
        call.pause(&doing, REMOVAL_PAUSE).await?;
    }
    Err(CallError::transient(format!("{what} on the engine at {} is still being removed", call.place())))
}
