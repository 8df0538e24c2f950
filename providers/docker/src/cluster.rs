//! Clusters on machines: known by what is kept in them, through whichever machine of the control plane answers.

use std::sync::Arc;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, Volume};
use ksail_kinds::{ClusterSpec, KubeconfigSpec, MachineRole, Spec as _};
use ksail_model::{Mark, Observation, Readiness, Seen, UnknownReason, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted, Target, UpdateRequest};

use crate::call::Call;
use crate::control_plane::{self, kept_of, members, needed, ready};
use crate::exec::{Output, look, run};
use crate::load_balancer;
use crate::machine_plan::{CLUSTER, ROLE};
use crate::made_by_kind;
use crate::network::cause_of;
use crate::volume;
use crate::written::Written;

/// The kind, and under which name a cluster is kept in itself.
pub(crate) const KIND: &str = ClusterSpec::KIND;
const KEPT: (&str, &str) = (KIND, KIND);
/// Where kubeadm leaves the administrator's access, and the server that it names.
const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// Tells by what the cluster is known.
const UID: [&str; 4] = ["get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}"];

fn what_of(name: &str) -> String {
    format!("the cluster `{name}`")
}

fn seen(name: &str, written: Written) -> Seen {
    let mark = Some(written.mark(""));
    Seen {
        id: written.found.clone(),
        attributes: attributes(name, written.found.as_deref(), &written.spec),
        mark,
        fields: written.spec,
        readiness: Readiness::Ready,
        others: Vec::new(),
    }
}

fn port_of(spec: &Value) -> Option<u16> {
    spec.field("port").and_then(Value::as_i64).and_then(|port| u16::try_from(port).ok())
}

/// Whether a container that runs publishes a port.
fn is_published(containers: &[ContainerSummary], port: u16) -> bool {
    let publishes = |container: &ContainerSummary| {
        let ports = container.ports.iter().flatten();
        container.state == Some(ContainerSummaryStateEnum::RUNNING)
            && ports.filter_map(|one| one.public_port).any(|public| public == port)
    };
    containers.iter().any(publishes)
}

fn attributes(name: &str, id: Option<&str>, spec: &Value) -> Value {
    Value::map([
        ("id", Value::from(id.map(str::to_owned))),
        ("endpoint", Value::from(ClusterSpec::endpoint_of(spec))),
        ("kubeconfig", Value::from(KubeconfigSpec::source_in(name))),
        ("machines", Value::from(name)),
    ])
}

/// What is seen of a cluster. One whose machines do not answer is there as long as one of them is, or what it keeps.
pub(crate) async fn observe(
    call: &Call,
    containers: &[ContainerSummary],
    volumes: &[Volume],
    target: &Target,
) -> Result<Observation, CallError> {
    let name = &target.identity.name;
    let members = members(containers, name);
    let what = format!("look at {}", what_of(name));
    let why = match control_plane::kept(call, &members, &what).await? {
        Ok(kept) => {
            let Some(written) = kept_of(&kept, KEPT) else {
                return match made_by_kind::is_imported(&target.identity) {
                    true => unmarked(call, containers, target, &what).await,
                    false => Ok(Observation::Absent),
                };
            };
            let mut seen = seen(name, written);
            if let Some(port) = port_of(&seen.fields).filter(|port| !is_published(containers, *port)) {
                seen.readiness = Readiness::NotReady(format!("nothing leads from port {port} to it"));
            }
            return Ok(Observation::Present(Box::new(seen)));
        }
        Err(why) => why,
    };
    let is_kept = volumes.iter().filter_map(volume::mark).any(|mark| {
        mark.lineage == call.context.lineage
            && mark.address.cluster() == target.address.cluster()
            && mark.address.kind() == "volume"
            && mark.address.name().starts_with(MachineRole::ControlPlane.word())
    });
    // What is yet to be imported has the id that it is asked for by, and is seen whole or not at all.
    if made_by_kind::is_imported(&target.identity) && target.id.as_ref() == Some(name) {
        return Ok(Observation::Unknown(UnknownReason::Unreachable { message: format!("{what}: {why}") }));
    }
    // Only what was made before has an id.
    let (Some(id), Some(spec)) = (&target.id, &target.spec) else { return Ok(Observation::Absent) };
    if members.is_empty() && !is_kept {
        return Ok(Observation::Absent);
    }
    Ok(Observation::Present(Box::new(Seen {
        id: Some(id.clone()),
        fields: spec.clone(),
        attributes: attributes(name, Some(id), spec),
        // What it keeps is ours, and so is it.
        mark: is_kept.then(|| Mark {
            lineage: call.context.lineage.clone(),
            address: target.address.clone(),
            operation: String::new(),
            generation: 1,
        }),
        readiness: Readiness::NotReady(format!("no machine of its control plane serves it: {why}")),
        others: Vec::new(),
    })))
}

/// What is seen of a cluster that nobody of ours keeps yet.
async fn unmarked(
    call: &Call,
    containers: &[ContainerSummary],
    target: &Target,
    what: &str,
) -> Result<Observation, CallError> {
    let name = &target.identity.name;
    let Ok(machine) = ready(call, &members(containers, name), what).await? else { return Ok(Observation::Absent) };
    let door = load_balancer::of_cluster(containers, name).unwrap_or_else(|| machine.clone());
    let door = crate::container::inspect(call, &door).await?;
    let published = door.and_then(|observed| observed.published_api());
    let Some(fields) = made_by_kind::cluster_fields(call, &machine, what, published).await? else {
        return Ok(Observation::Absent);
    };
    let id = uid(call, &machine, what).await?;
    Ok(Observation::Present(Box::new(Seen {
        attributes: attributes(name, Some(&id), &fields),
        id: Some(id),
        fields,
        mark: None,
        readiness: Readiness::Ready,
        others: Vec::new(),
    })))
}

/// By what a cluster is known.
async fn uid(call: &Call, machine: &str, what: &str) -> Result<String, CallError> {
    let output = look(call, machine, what, &control_plane::command(&UID)).await?;
    match output.filter(Output::is_success) {
        Some(output) => Ok(output.stdout.trim().to_owned()),
        None => Err(CallError::unreachable(call.refused(what, "its API server does not answer").message)),
    }
}

/// The clusters of an engine that tell of themselves, by name.
pub(crate) async fn list(call: &Call, containers: &[ContainerSummary]) -> Result<Vec<(String, Seen)>, CallError> {
    let is_control_plane = |container: &&ContainerSummary| {
        let role = container.labels.as_ref().and_then(|labels| labels.get(ROLE));
        role.is_some_and(|role| role == MachineRole::ControlPlane.word())
    };
    let names = containers.iter().filter(is_control_plane);
    let names = names.filter_map(|container| container.labels.as_ref()?.get(CLUSTER).cloned());
    let names: std::collections::BTreeSet<String> = names.collect();
    let mut all = Vec::new();
    for name in names {
        let what = format!("look at {}", what_of(&name));
        let kept = control_plane::kept(call, &members(containers, &name), &what).await?.unwrap_or_default();
        all.extend(kept_of(&kept, KEPT).map(|written| (name.clone(), seen(&name, written))));
    }
    Ok(all)
}

fn typed(call: &Call, what: &str, spec: &Value) -> Result<ClusterSpec, CallError> {
    ClusterSpec::from_value(spec).map_err(|error| call.refused(what, &cause_of(&error)))
}

/// What is kept of the cluster that a machine serves.
async fn read(call: &Call, name: &str, what: &str) -> Result<Option<Written>, CallError> {
    let members = members(&crate::container::list(call).await?, name);
    let kept = control_plane::kept(call, &members, what).await?;
    let kept = kept.map_err(|why| CallError::transient(call.refused(what, &why).message))?;
    Ok(kept_of(&kept, KEPT))
}

pub(crate) async fn create(call: &Call, request: &CreateRequest, spec: &Value) -> Result<Seen, CallError> {
    let name = &request.target.identity.name;
    let what = what_of(name);
    typed(call, &what, spec)?;
    let doing = format!("reach {what}");
    if let Some(written) = read(call, name, &doing).await? {
        written.may_complete(&what, &request.mark)?;
    }
    let machine = needed(call, name, &doing).await?;
    let output = run(call, &machine, &doing, &control_plane::command(&UID), "").await?;
    if !output.is_success() {
        return Err(CallError::transient(call.refused(&doing, &output.end(3)).message));
    }
    let written = Written::new(&request.mark, spec, Some(output.stdout.trim().to_owned()));
    control_plane::keep(call, &machine, &doing, KEPT, &written).await?;
    Ok(seen(name, written))
}

pub(crate) async fn update(call: &Call, request: &UpdateRequest, spec: &Value) -> Result<Seen, CallError> {
    let name = &request.target.identity.name;
    let doing = format!("change {}", what_of(name));
    typed(call, &doing, spec)?;
    let machine = needed(call, name, &doing).await?;
    let found = match read(call, name, &doing).await? {
        Some(before) => before.found,
        // One that was imported is not kept yet.
        None if request.target.id.is_some() && request.target.id == Some(uid(call, &machine, &doing).await?) => {
            request.target.id.clone()
        }
        None => return Err(call.refused(&doing, "it is not there").hint("plan again")),
    };
    let written = Written::new(&request.mark, spec, found);
    control_plane::keep(call, &machine, &doing, KEPT, &written).await?;
    Ok(seen(name, written))
}

/// Forgets a cluster. It is nothing apart from its machines, which go after it: one that none of them serves is gone already.
pub(crate) async fn delete(call: &Call, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let name = &request.target.identity.name;
    let what = what_of(name);
    let doing = format!("forget {what}");
    let members = members(&crate::container::list(call).await?, name);
    let Ok(machine) = ready(call, &members, &doing).await? else { return Ok(Deleted::WasAbsent) };
    let Some(written) = read(call, name, &doing).await? else { return Ok(Deleted::WasAbsent) };
    if !written.may_delete(&what, request)? {
        return Ok(Deleted::WasAbsent);
    }
    control_plane::forget(call, &machine, &doing, KEPT).await?;
    Ok(Deleted::Gone)
}

/// The administrator's access to a cluster, with the server that it names or another.
pub(crate) async fn kubeconfig(call: &Call, name: &str, endpoint: Option<&str>) -> Result<Arc<str>, CallError> {
    let what = format!("read the access to {}", what_of(name));
    let mut why = "none of its machines runs".to_owned();
    for member in members(&crate::container::list(call).await?, name).iter().filter(|member| member.is_running) {
        match look(call, &member.name, &what, &["cat", ADMIN]).await? {
            Some(output) if output.is_success() => {
                let text = output.stdout;
                return Ok(endpoint.map_or(text.clone(), |endpoint| with_server(&text, endpoint)).into());
            }
            Some(output) => why = output.end(1),
            None => {}
        }
    }
    Err(CallError::unreachable(call.refused(&what, &why).message))
}

/// A kubeconfig with another server.
fn with_server(kubeconfig: &str, endpoint: &str) -> String {
    let mut text = String::with_capacity(kubeconfig.len());
    for line in kubeconfig.lines() {
        match line.split_once("server:") {
            Some((before, _)) if before.trim().is_empty() => {
                text.push_str(before);
                text.push_str("server: ");
                text.push_str(endpoint);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_leads_to_the_published_port() {
        let text = "clusters:\n- cluster:\n    server: https://dev-control-plane:6443\n  name: dev\n";
        assert_eq!(
            with_server(text, "https://127.0.0.1:6443"),
            "clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n  name: dev\n"
        );
    }
}
