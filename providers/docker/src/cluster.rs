//! Clusters on machines: known by what the first machine says of itself.

use std::sync::Arc;

use ksail_kinds::{ClusterSpec, KubeconfigSpec, Spec as _};
use ksail_model::{Observation, Preview, Readiness, Seen, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted, PreviewRequest, UpdateRequest};

use crate::call::Call;
use crate::exec::{look, run};
use crate::network::cause_of;
use crate::steps::FOLDER;
use crate::written::Written;

/// Where kubeadm leaves the administrator's access, and the server that it names.
const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// Tells by what the cluster is known.
const UID: &str =
    "kubectl --kubeconfig=/etc/kubernetes/admin.conf get namespace kube-system --output jsonpath={.metadata.uid}";
/// Why an upgrade is refused.
const NO_UPGRADE: &str = "an upgrade of a cluster on Docker is not built yet";

fn place() -> String {
    format!("{FOLDER}/cluster")
}

/// Writes a line into a file of a machine, whole or not at all.
pub(crate) async fn write(
    call: &Call,
    machine: &str,
    doing: &str,
    path: &str,
    written: &Written,
) -> Result<(), CallError> {
    let program = r#"set -eu; mkdir -p "$(dirname "$1")"; cat >"$1.new"; sync "$1.new"; mv "$1.new" "$1""#;
    let output = run(call, machine, doing, &["sh", "-c", program, "sh", path], &written.line()).await?;
    if output.is_success() { Ok(()) } else { Err(call.refused(doing, &output.end(3))) }
}

/// Reads what [`write`] wrote.
pub(crate) async fn read(call: &Call, machine: &str, what: &str, path: &str) -> Result<Option<Written>, CallError> {
    let program = r#"if [ -e "$1" ]; then cat "$1"; else exit 100; fi"#;
    match look(call, machine, what, &["sh", "-c", program, "sh", path]).await? {
        Some(output) if output.is_success() => Ok(Written::read(output.stdout.trim())),
        None | Some(crate::exec::Output { code: 100, .. }) => Ok(None),
        Some(output) => Err(call.refused(what, &output.end(1))),
    }
}

/// Takes such a file away.
pub(crate) async fn remove(call: &Call, machine: &str, doing: &str, path: &str) -> Result<(), CallError> {
    let output = run(call, machine, doing, &["rm", "-f", path], "").await?;
    if output.is_success() { Ok(()) } else { Err(call.refused(doing, &output.end(1))) }
}

fn seen(machine: &str, written: Written) -> Seen {
    let port = written.spec.field("port").and_then(Value::as_i64).and_then(|port| u16::try_from(port).ok());
    Seen {
        id: written.found.clone(),
        attributes: Value::map([
            ("id", Value::from(written.found.clone())),
            ("endpoint", Value::from(port.map(ClusterSpec::endpoint))),
            ("kubeconfig", Value::from(KubeconfigSpec::source_in(machine))),
            ("machine", Value::from(machine)),
        ]),
        mark: Some(written.mark("")),
        fields: written.spec,
        readiness: Readiness::Ready,
        others: Vec::new(),
    }
}

pub(crate) async fn observe(call: &Call, machine: &str) -> Result<Observation, CallError> {
    let found = read(call, machine, &format!("look at the cluster of `{machine}`"), &place()).await?;
    Ok(found.map_or(Observation::Absent, |written| Observation::Present(Box::new(seen(machine, written)))))
}

fn typed(call: &Call, what: &str, spec: &Value) -> Result<ClusterSpec, CallError> {
    ClusterSpec::from_value(spec).map_err(|error| call.refused(what, &cause_of(&error)))
}

pub(crate) async fn create(
    call: &Call,
    machine: &str,
    request: &CreateRequest,
    spec: &Value,
) -> Result<Seen, CallError> {
    let what = format!("the cluster `{}`", request.target.identity.name);
    typed(call, &what, spec)?;
    if let Some(written) = read(call, machine, &what, &place()).await? {
        written.may_complete(&what, &request.mark)?;
    }
    let doing = format!("reach {what}");
    let output = run(call, machine, &doing, &["sh", "-c", UID], "").await?;
    if !output.is_success() {
        return Err(CallError::transient(call.refused(&doing, &output.end(3)).message));
    }
    let written = Written::new(&request.mark, spec, Some(output.stdout.trim().to_owned()));
    write(call, machine, &doing, &place(), &written).await?;
    Ok(seen(machine, written))
}

pub(crate) async fn update(
    call: &Call,
    machine: &str,
    request: &UpdateRequest,
    spec: &Value,
) -> Result<Seen, CallError> {
    let doing = format!("change the cluster `{}`", request.target.identity.name);
    let wanted = typed(call, &doing, spec)?;
    let Some(before) = read(call, machine, &doing, &place()).await? else {
        return Err(call.refused(&doing, "it is not there").hint("plan again"));
    };
    if typed(call, &doing, &before.spec)?.version != wanted.version {
        return Err(call.refused(&doing, NO_UPGRADE));
    }
    let written = Written::new(&request.mark, spec, before.found);
    write(call, machine, &doing, &place(), &written).await?;
    Ok(seen(machine, written))
}

pub(crate) fn preview(request: &PreviewRequest) -> Preview {
    let version = |spec: Option<&Value>| spec.and_then(|spec| spec.field("version")).cloned();
    match (version(request.current.as_ref()), version(request.target.spec.as_ref())) {
        (Some(current), Some(wanted)) if current != wanted => {
            Preview::Refused { message: NO_UPGRADE.to_owned(), hint: Some("keep the version that it has".to_owned()) }
        }
        _ => Preview::Unavailable,
    }
}

pub(crate) async fn delete(call: &Call, machine: &str, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let what = format!("the cluster `{}`", request.target.identity.name);
    let Some(written) = read(call, machine, &what, &place()).await? else { return Ok(Deleted::WasAbsent) };
    if !written.may_delete(&what, request)? {
        return Ok(Deleted::WasAbsent);
    }
    remove(call, machine, &format!("forget {what}"), &place()).await?;
    Ok(Deleted::Gone)
}

/// The administrator's access to the cluster of a machine, with the server that it names or another.
pub(crate) async fn kubeconfig(call: &Call, machine: &str, endpoint: Option<&str>) -> Result<Arc<str>, CallError> {
    let what = format!("read the access to the cluster of `{machine}`");
    let output = match look(call, machine, &what, &["cat", ADMIN]).await? {
        Some(output) if output.is_success() => output,
        Some(output) => return Err(CallError::unreachable(call.refused(&what, &output.end(1)).message)),
        None => return Err(CallError::unreachable(call.refused(&what, "there is no such container").message)),
    };
    Ok(endpoint.map_or(output.stdout.clone(), |endpoint| with_server(&output.stdout, endpoint)).into())
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
