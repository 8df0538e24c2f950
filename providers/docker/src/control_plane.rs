//! The control plane of a cluster on machines, through whichever of its machines serves; and what is kept in the cluster of things
//! that cannot be labelled.

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use ksail_kinds::MachineRole;
use ksail_provider::CallError;
use serde_json::{Value as Json, json};

use crate::call::Call;
use crate::container;
use crate::exec::{Output, look, run};
use crate::machine_plan::{CLUSTER, ROLE};
use crate::written::Written;

/// The administrator's client of a machine, which talks to the API server of that machine and no other.
const KUBECTL: [&str; 4] = [
    "kubectl",
    "--kubeconfig=/etc/kubernetes/admin.conf",
    "--server=https://127.0.0.1:6443",
    "--tls-server-name=localhost",
];
/// How long one server may take to answer before the next is asked.
pub(crate) const PATIENCE: &str = "--request-timeout=10s";
/// Where what is kept stands in the cluster, by what it is found, and under which key it stands.
const NAMESPACE: &str = "--namespace=kube-system";
const MANAGED: &str = "app.kubernetes.io/managed-by=ksail";
const KIND: &str = "ksail.dev/kind";
const NAME: &str = "ksail.dev/name";
const WRITTEN: &str = "written";
/// How many lines of what was said a failure tells.
const TOLD: usize = 6;

/// The same client, as a word of a shell.
pub(crate) fn kubectl() -> String {
    KUBECTL.join(" ")
}

/// A command of it.
pub(crate) fn command<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    KUBECTL.iter().chain(arguments).copied().collect()
}

/// A machine of a control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) is_running: bool,
}

/// The machines of a cluster's control plane that have a container, by name.
pub(crate) fn members(containers: &[ContainerSummary], cluster: &str) -> Vec<Member> {
    let is_member = |container: &&ContainerSummary| {
        let label = |name: &str| container.labels.as_ref()?.get(name).map(String::as_str);
        label(CLUSTER) == Some(cluster) && label(ROLE) == Some(MachineRole::ControlPlane.word())
    };
    let member = |container: &ContainerSummary| {
        let name = container.names.as_ref()?.first()?.trim_start_matches('/').to_owned();
        Some(Member { name, is_running: container.state == Some(ContainerSummaryStateEnum::RUNNING) })
    };
    let mut all: Vec<Member> = containers.iter().filter(is_member).filter_map(member).collect();
    // As they were numbered: `dev-control-plane2` before `dev-control-plane10`.
    all.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    all
}

/// The cluster that a machine is of.
pub(crate) fn cluster_of(containers: &[ContainerSummary], machine: &str) -> Option<String> {
    let named = |container: &&ContainerSummary| {
        container.names.iter().flatten().any(|name| name.trim_start_matches('/') == machine)
    };
    containers.iter().find(named)?.labels.as_ref()?.get(CLUSTER).cloned()
}

/// A machine whose API server answers, and what it answered; `Err` tells why none does.
async fn ask(
    call: &Call,
    members: &[Member],
    what: &str,
    arguments: &[&str],
) -> Result<Result<(String, Output), String>, CallError> {
    let mut why = "none of its machines runs".to_owned();
    for member in members.iter().filter(|member| member.is_running) {
        match look(call, &member.name, what, &command(arguments)).await? {
            Some(output) if output.is_success() => return Ok(Ok((member.name.clone(), output))),
            Some(output) => why = format!("{}: {}", member.name, output.end(1)),
            None => {}
        }
    }
    Ok(Err(why))
}

/// The first of some machines whose API server is ready; `Err` tells why there is none.
pub(crate) async fn ready(call: &Call, members: &[Member], what: &str) -> Result<Result<String, String>, CallError> {
    let asked = ask(call, members, what, &["get", "--raw=/readyz", PATIENCE]).await?;
    Ok(asked.map(|(machine, _)| machine))
}

/// The same, where nothing can be done without one.
pub(crate) async fn needed_of(call: &Call, members: &[Member], doing: &str) -> Result<String, CallError> {
    let ready = ready(call, members, doing).await?;
    ready.map_err(|why| CallError::transient(call.refused(doing, &why).message))
}

/// The same of a cluster by its name.
pub(crate) async fn needed(call: &Call, cluster: &str, doing: &str) -> Result<String, CallError> {
    needed_of(call, &members(&container::list(call).await?, cluster), doing).await
}

/// What is kept in a cluster: kind, name, and what was written.
pub(crate) type Kept = (String, String, Written);

/// All that is kept in a cluster; `Err` tells why nobody can say.
pub(crate) async fn kept(call: &Call, members: &[Member], what: &str) -> Result<Result<Vec<Kept>, String>, CallError> {
    let arguments = ["get", "configmaps", NAMESPACE, "--selector", MANAGED, "--output=json", PATIENCE];
    let output = match ask(call, members, what, &arguments).await? {
        Ok((_, output)) => output,
        Err(why) => return Ok(Err(why)),
    };
    let list: Json = serde_json::from_str(&output.stdout).map_err(|error| call.refused(what, &error.to_string()))?;
    let one = |item: &Json| {
        let label = |name: &str| item["metadata"]["labels"][name].as_str();
        let written = Written::read(item["data"][WRITTEN].as_str()?)?;
        Some((label(KIND)?.to_owned(), label(NAME)?.to_owned(), written))
    };
    Ok(Ok(list["items"].as_array().into_iter().flatten().filter_map(one).collect()))
}

/// What is kept of one thing.
pub(crate) fn kept_of(kept: &[Kept], (kind, name): (&str, &str)) -> Option<Written> {
    let own = kept.iter().find(|(of_kind, of_name, _)| of_kind == kind && of_name == name);
    own.map(|(_, _, written)| written.clone())
}

/// The same of a cluster by its name, where nothing can be done without it.
pub(crate) async fn all_kept(call: &Call, cluster: &str, what: &str) -> Result<Vec<Kept>, CallError> {
    let members = members(&container::list(call).await?, cluster);
    let kept = kept(call, &members, what).await?;
    kept.map_err(|why| CallError::unreachable(call.refused(what, &why).message))
}

fn object_name(kind: &str, name: &str) -> String {
    if kind == name { format!("ksail-{kind}") } else { format!("ksail-{kind}-{name}") }
}

/// Keeps what was written of a thing, in place of what was kept of it before.
pub(crate) async fn keep(
    call: &Call,
    machine: &str,
    doing: &str,
    (kind, name): (&str, &str),
    written: &Written,
) -> Result<(), CallError> {
    let (manager, owner) = MANAGED.split_once('=').unwrap_or_default();
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": object_name(kind, name), "namespace": "kube-system",
            "labels": {manager: owner, KIND: kind, NAME: name},
        },
        "data": {WRITTEN: written.line()},
    });
    let arguments = ["apply", "--server-side", "--force-conflicts", "--field-manager=ksail", "--filename=-"];
    apply(call, machine, doing, &arguments, &object.to_string()).await
}

/// Forgets it.
pub(crate) async fn forget(
    call: &Call,
    machine: &str,
    doing: &str,
    (kind, name): (&str, &str),
) -> Result<(), CallError> {
    let object = object_name(kind, name);
    let arguments = ["delete", "configmap", &object, NAMESPACE, "--ignore-not-found", PATIENCE];
    apply(call, machine, doing, &arguments, "").await
}

/// Runs the client with what it reads.
pub(crate) async fn apply(
    call: &Call,
    machine: &str,
    doing: &str,
    arguments: &[&str],
    input: &str,
) -> Result<(), CallError> {
    let output = run(call, machine, doing, &command(arguments), input).await?;
    if output.is_success() { Ok(()) } else { Err(call.refused(doing, &output.end(TOLD))) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn container(name: &str, cluster: &str, role: &str, state: ContainerSummaryStateEnum) -> ContainerSummary {
        ContainerSummary {
            names: Some(vec![format!("/{name}")]),
            labels: Some(HashMap::from([(CLUSTER.to_owned(), cluster.to_owned()), (ROLE.to_owned(), role.to_owned())])),
            state: Some(state),
            ..Default::default()
        }
    }

    #[test]
    fn members_are_those_of_the_cluster_in_the_order_of_their_numbers() {
        use ContainerSummaryStateEnum::{EXITED, RUNNING};
        let containers = [
            container("a-control-plane10", "a", "control-plane", RUNNING),
            container("a-control-plane2", "a", "control-plane", EXITED),
            container("a-worker", "a", "worker", RUNNING),
            container("b-control-plane", "b", "control-plane", RUNNING),
        ];
        let member = |name: &str, is_running| Member { name: name.to_owned(), is_running };
        assert_eq!(members(&containers, "a"), [member("a-control-plane2", false), member("a-control-plane10", true)]);
        assert_eq!(cluster_of(&containers, "b-control-plane").as_deref(), Some("b"));
    }

    #[test]
    fn what_is_the_only_one_of_its_kind_has_a_short_name() {
        assert_eq!(object_name("cluster", "cluster"), "ksail-cluster");
        assert_eq!(object_name("addon", "cni"), "ksail-addon-cni");
    }
}
