//! Clusters that kind itself made and that were imported: what is seen of them without a mark, and what may not be done to their
//! machines.
//!
//! What such a machine keeps is on a volume without a name, but for `/etc/kubernetes` and `/kind`, which are in its container: another
//! container in its place would be no node any more. So none is made.

use std::collections::BTreeMap;

use ksail_kinds::{
    AddonSpec, BootstrapAction, BootstrapSpec, ClusterSpec, ContainerdPatches, MachineRole, MachineSpec, Port,
    Spec as _, VolumeSpec, full_reference,
};
use ksail_model::{Identity, Path, Preview, Readiness, Seen, Value};
use ksail_provider::{CallError, PreviewRequest, Target};
use serde_json::Value as Json;

use crate::addon;
use crate::bootstrap::TAINT;
use crate::call::Call;
use crate::compare::is_empty;
use crate::container;
use crate::control_plane::{PATIENCE, command, needed};
use crate::exec::{Output, download, look, look_with};
use crate::kubeadm_documents::{steady, steady_of};
use crate::load_balancer;
use crate::machine::CONFIG;
use crate::machine_plan::ROLE;

/// What kind mounts into its machines by itself where the disk of the engine's machine asks for it.
const DEVICES: &str = "/dev/mapper";
/// Tells what kubeadm was told on a machine, if it is a node (0), or that it is none (100).
const WAS_TOLD: &str = "[ -s /etc/kubernetes/kubelet.conf ] || exit 100; cat /kind/kubeadm.conf";
/// Tells whether a machine is a node that was never worked on by us.
const IS_NODE: &str = "[ -s /etc/kubernetes/kubelet.conf ] && [ ! -e /var/lib/ksail/bootstrap ]";

/// Whether something is looked for as what was there before us.
pub(crate) fn is_imported(identity: &Identity) -> bool {
    identity.id.is_some()
}

/// The fields of a machine without a mark, as far as they mean what is declared. The declaration is that of the import, or of the
/// record.
pub(crate) async fn machine_fields(
    call: &Call,
    container: &str,
    what: &str,
    mut fields: Value,
    declared: &Value,
) -> Result<Value, CallError> {
    let image = |spec: &Value| spec.field("image").and_then(Value::as_str).map(str::to_owned);
    if let (Some(has), Some(wanted)) = (image(&fields), image(declared))
        && is_same_image(&has, &wanted)
    {
        fields.set(&Path::key("image"), Value::from(wanted));
    }
    let patches = declared.field("containerd").map(Value::to_plain_json);
    let patches = patches.and_then(|patches| serde_json::from_value::<ContainerdPatches>(patches).ok());
    if let Some(patches) = patches.filter(|patches| !patches.is_empty())
        && is_patched(call, container, what, &patches).await?
        && let Some(wanted) = declared.field("containerd")
    {
        fields.set(&Path::key("containerd"), wanted.clone());
    }
    // Behind a load balancer each control plane is published too, where nobody looks for it. The only one is looked for where it is.
    let is_published = fields.field("port").is_some() && declared.field("port").is_none();
    let is_hidden = is_published && has_balancer(call, &fields).await?;
    if let Value::Map(map) = &mut fields {
        // They are those of who made it, are never changed, and may hold a password.
        map.remove("proxy");
        if is_hidden {
            map.remove("port");
            map.remove("api_address");
        }
    }
    in_declared_order(&mut fields, declared);
    let is_declared = |target: &str| {
        let mounts = declared.field("mounts").and_then(Value::as_list).map(Vec::as_slice).unwrap_or_default();
        mounts.iter().any(|mount| mount.field("target").and_then(Value::as_str) == Some(target))
    };
    if let Some(Value::List(mounts)) = fields.field("mounts").cloned()
        && !is_declared(DEVICES)
    {
        let is_kept = |mount: &Value| mount.field("target").and_then(Value::as_str) != Some(DEVICES);
        let mounts: Vec<Value> = mounts.into_iter().filter(is_kept).collect();
        match (&mut fields, mounts.is_empty()) {
            (Value::Map(map), true) => drop(map.remove("mounts")),
            _ => drop(fields.set(&Path::key("mounts"), Value::List(mounts))),
        }
    }
    Ok(fields)
}

/// Whether there is a load balancer before the control planes of a machine's cluster.
async fn has_balancer(call: &Call, fields: &Value) -> Result<bool, CallError> {
    let cluster = fields.field("cluster").and_then(Value::as_str).unwrap_or_default();
    Ok(load_balancer::of_cluster(&container::list(call).await?, cluster).is_some())
}

/// Puts ports into the order in which they are declared, by which choices among them are known.
fn in_declared_order(fields: &mut Value, declared: &Value) {
    let ports = |spec: &Value| spec.field("ports").and_then(Value::as_list).cloned().unwrap_or_default();
    let same =
        |one: &Value, other: &Value| ["container", "protocol"].iter().all(|key| one.field(key) == other.field(key));
    let (mut has, wanted) = (ports(fields), ports(declared));
    if has.is_empty() {
        return;
    }
    has.sort_by_key(|port| wanted.iter().position(|other| same(port, other)).unwrap_or(usize::MAX));
    fields.set(&Path::key("ports"), Value::List(has));
}

/// Whether two references mean the same image: kind names its own with their digests, and not in full.
fn is_same_image(has: &str, wanted: &str) -> bool {
    let parts = |reference: &str| {
        let full = full_reference(reference);
        match full.split_once('@') {
            Some((name, digest)) => (name.to_owned(), Some(digest.to_owned())),
            None => (full, None),
        }
    };
    let ((has, its), (wanted, asked)) = (parts(has), parts(wanted));
    has == wanted && (its.is_none() || asked.is_none() || its == asked)
}

/// Whether containerd's configuration has what patches make of it already: they change nothing any more.
async fn is_patched(call: &Call, container: &str, what: &str, patches: &ContainerdPatches) -> Result<bool, CallError> {
    let files = download(call, container, what, CONFIG).await?;
    let text = files.and_then(|files| files.into_iter().next()).map(|(_, text)| text);
    let as_it_is = |text: &str| ContainerdPatches::default().apply(text);
    Ok(text.is_some_and(|text| match (as_it_is(&text), patches.apply(&text)) {
        (Ok(before), Ok(after)) => before == after,
        _ => false,
    }))
}

/// Whether a spec is that of a machine that kind made, whose container cannot be changed for another.
fn was_made_by_kind(spec: &Value) -> bool {
    spec.field("volume").and_then(Value::as_str).is_some_and(VolumeSpec::is_anonymous)
}

/// Why a change of a machine that kind made is not made, if it needs another container.
fn refusal(current: &Value, wanted: &Value, fields: &[&str]) -> Option<String> {
    if !was_made_by_kind(current) {
        return None;
    }
    let differs = |field: &&&str| {
        let of = |spec: &Value| {
            spec.field(field).filter(|value| !is_empty(value)).map(|value| match value {
                Value::List(list) => list.iter().map(Value::to_string).collect::<std::collections::BTreeSet<_>>(),
                other => [other.to_string()].into(),
            })
        };
        of(current) != of(wanted)
    };
    let changed: Vec<&str> = fields.iter().filter(differs).copied().collect();
    if changed.is_empty() {
        return None;
    }
    let told = |spec: &Value, field: &str| match spec.field(field).filter(|value| !is_empty(value)) {
        Some(value) => value.as_str().map_or_else(|| value.to_string(), |text| format!("`{text}`")),
        None => "nothing".to_owned(),
    };
    let told: Vec<String> = changed
        .iter()
        .map(|field| format!("its `{field}` is {}, and {} is declared", told(current, field), told(wanted, field)))
        .collect();
    Some(format!(
        "{}; that takes another container, and kind made this one with what the node is (/etc/kubernetes) in it",
        told.join("; ")
    ))
}

/// What is said of a change of a machine before it is made.
pub(crate) fn preview_of_machine(request: &PreviewRequest, fields: &[&str]) -> Preview {
    let (current, wanted) = match (&request.current, &request.target.spec) {
        (Some(current), Some(wanted)) => (current, wanted),
        (None, Some(wanted)) if was_made_by_kind(wanted) => {
            let message =
                "its container, which kind made with what the node is (/etc/kubernetes) in it, is gone".to_owned();
            return Preview::Refused { message, hint: Some(format!("make {}", anew(&request.target))) };
        }
        _ => return Preview::Unavailable,
    };
    match refusal(current, wanted, fields) {
        Some(message) => Preview::Refused { message, hint: Some(hint(&request.target)) },
        None => Preview::Unavailable,
    }
}

/// What can be done instead.
pub(crate) fn hint(target: &Target) -> String {
    format!("declare what it has (`kubernetesVersion`, or `kind.yaml`); or make {}", anew(target))
}

/// How a node is made anew, and with the only control plane all of the cluster.
fn anew(target: &Target) -> String {
    let is_first = target.address.name().starts_with(MachineRole::ControlPlane.word());
    format!(
        "{} anew with nothing of what it keeps: `--replace {}`",
        if is_first { "the cluster" } else { "the node" },
        target.address.without_cluster().replacen(MachineSpec::KIND, "volume", 1)
    )
}

/// What is seen of a bootstrap without a mark: kind had kubeadm run, if the machine is a node.
pub(crate) async fn bootstrap(call: &Call, machine: &str, target: &Target) -> Result<Option<Seen>, CallError> {
    let what = format!("look at what kubeadm was told on `{machine}`");
    let Some(output) = look(call, machine, &what, &["sh", "-c", WAS_TOLD]).await? else { return Ok(None) };
    if output.code == 100 {
        return Ok(None);
    }
    if !output.is_success() {
        return Err(call.refused(&what, &output.end(1)));
    }
    let told: Vec<Json> =
        serde_saphyr::from_multiple(&output.stdout).map_err(|error| call.refused(&what, &error.to_string()))?;
    let declared = target.spec.as_ref();
    let documents =
        declared.and_then(|spec| spec.field("config")).and_then(Value::as_list).map(Vec::as_slice).unwrap_or_default();
    let config = as_declared(&told, documents);
    let containers = container::list(call).await?;
    let role = containers
        .iter()
        .find(|container| container.names.iter().flatten().any(|name| name.trim_start_matches('/') == machine));
    let role = role.and_then(|container| container.labels.as_ref()?.get(ROLE).cloned());
    let is_control_plane = role.as_deref() == Some(MachineRole::ControlPlane.word());
    // kind begins a cluster on its first control plane, which is the one without a number.
    let begins = is_control_plane && machine.ends_with(MachineRole::ControlPlane.word());
    let text = |field: &str| declared.and_then(|spec| spec.field(field)).and_then(Value::as_str).map(str::to_owned);
    let spec = BootstrapSpec {
        action: if begins { BootstrapAction::Init } else { BootstrapAction::Join },
        config,
        through: text("through").filter(|_| !begins),
        files: BTreeMap::new(),
        taints: Vec::new(),
        takes_workloads: is_control_plane && takes_workloads(call, machine, &what, declared).await?,
    };
    Ok(Some(Seen {
        id: Some(machine.to_owned()),
        fields: spec.to_value(),
        attributes: Value::empty_map(),
        mark: None,
        readiness: Readiness::Ready,
        others: Vec::new(),
    }))
}

/// What kubeadm was told on a machine by kind, as it stands there.
pub(crate) async fn told(call: &Call, machine: &str, what: &str) -> Result<Option<String>, CallError> {
    if !is_node(call, machine, what).await? {
        return Ok(None);
    }
    let output = look(call, machine, what, &["sh", "-c", WAS_TOLD]).await?;
    Ok(output.filter(Output::is_success).map(|output| output.stdout))
}

/// Whether a machine is a node although no work of ours made it one.
pub(crate) async fn is_node(call: &Call, machine: &str, what: &str) -> Result<bool, CallError> {
    Ok(look(call, machine, what, &["sh", "-c", IS_NODE]).await?.is_some_and(|output| output.is_success()))
}

/// Whether a control plane takes workloads: as its node says, or, where that cannot be asked, as it was known to.
async fn takes_workloads(call: &Call, machine: &str, what: &str, known: Option<&Value>) -> Result<bool, CallError> {
    let taints = ["get", "node", machine, PATIENCE, "--output=jsonpath={.spec.taints[*].key}"];
    Ok(match look(call, machine, what, &command(&taints)).await? {
        Some(output) if output.is_success() => !output.stdout.split_whitespace().any(|key| key == TAINT),
        _ => known.and_then(|spec| spec.field("takes_workloads")).and_then(Value::as_bool).unwrap_or_default(),
    })
}

/// Documents as they were told, each in the words of the declaration where it means the same.
fn as_declared(told: &[Json], declared: &[Value]) -> Vec<Value> {
    let same = |document: &Json| {
        let steady = steady(document.clone());
        declared.iter().find(|declared| steady_of(declared) == steady).cloned()
    };
    let order = |document: &Json| {
        declared.iter().position(|declared| declared.field("kind").and_then(Value::as_str) == document["kind"].as_str())
    };
    let mut told: Vec<&Json> = told.iter().filter(|document| !document.is_null()).collect();
    told.sort_by_key(|document| order(document).unwrap_or(usize::MAX));
    told.into_iter().map(|document| same(document).unwrap_or_else(|| Value::from(document.clone()))).collect()
}

/// What is seen of an addon that nobody keeps: its objects are there, whoever made them.
pub(crate) async fn addon(call: &Call, cluster: &str, target: &Target) -> Result<Option<Seen>, CallError> {
    let (what, name) = (format!("look at the addon `{}`", target.identity.name), &target.identity.name);
    let Some(spec) = target.spec.as_ref() else { return Ok(None) };
    let typed = AddonSpec::from_value(spec).map_err(|error| call.refused(&what, &error.to_string()))?;
    let machine = needed(call, cluster, &what).await?;
    let objects = addon::objects(call, &machine, &what, &typed).await?;
    let get = command(&["get", "--output=name", "--filename=-", PATIENCE]);
    let Some(there) = look_with(call, &machine, &what, &get, &objects).await? else { return Ok(None) };
    if !there.is_success() {
        return match there.stderr.contains("NotFound") {
            true => Ok(None),
            false => Err(CallError::unreachable(call.refused(&what, &there.end(1)).message)),
        };
    }
    Ok(Some(Seen {
        id: Some(name.clone()),
        fields: spec.clone(),
        attributes: Value::empty_map(),
        mark: None,
        readiness: Readiness::Ready,
        others: Vec::new(),
    }))
}

/// What a cluster that is not kept is seen as: its version, and the port that leads to it. That ksail runs it is not said yet, so that
/// an import says it, and with it whose it is.
pub(crate) async fn cluster_fields(
    call: &Call,
    machine: &str,
    what: &str,
    published: Option<Port>,
) -> Result<Option<Value>, CallError> {
    let Some(output) = look(call, machine, what, &command(&["version", "--output=json", PATIENCE])).await? else {
        return Ok(None);
    };
    if !output.is_success() {
        return Err(CallError::unreachable(call.refused(what, &output.end(1)).message));
    }
    let told: Json = serde_json::from_str(&output.stdout).map_err(|error| call.refused(what, &error.to_string()))?;
    let mut fields = vec![("version", Value::from(told["serverVersion"]["gitVersion"].as_str().unwrap_or_default()))];
    if let Some(port) = published {
        fields.push(("port", Value::from(port.host)));
        fields.extend((port.address != ClusterSpec::LOOPBACK).then(|| ("address", Value::from(port.address))));
    }
    Ok(Some(Value::map(fields)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_the_same_with_a_digest_and_without_its_registry() {
        let full = "docker.io/kindest/node:v1.36.3";
        assert!(is_same_image("kindest/node:v1.36.3", full));
        assert!(is_same_image("kindest/node:v1.36.3@sha256:ab", full));
        assert!(!is_same_image("kindest/node:v1.36.2", full));
        assert!(!is_same_image("kindest/node:v1.36.3@sha256:ab", "docker.io/kindest/node:v1.36.3@sha256:cd"));
    }

    fn told() -> Json {
        json!({
            "kind": "InitConfiguration", "metadata": {"name": "config"}, "skipPhases": ["preflight", "a"], "empty": [],
            "localAPIEndpoint": {"advertiseAddress": "172.18.0.2", "bindPort": 6443},
            "nodeRegistration": {"kubeletExtraArgs": [
                {"name": "node-ip", "value": "172.18.0.2"}, {"name": "node-labels", "value": "b=2,a=1"},
            ]},
        })
    }

    fn declared(port: u16) -> Value {
        Value::from(json!({
            "kind": "InitConfiguration", "skipPhases": ["a", "preflight"], "localAPIEndpoint": {"bindPort": port},
            "nodeRegistration": {"kubeletExtraArgs": {"node-labels": "a=1,b=2"}},
        }))
    }

    #[test]
    fn documents_that_mean_the_same_are_told_as_they_are_declared() {
        assert_eq!(as_declared(&[told()], &[declared(6443)]), [declared(6443)]);
        let other = as_declared(&[told()], &[declared(7443)]);
        assert_eq!(other, [Value::from(told())]);
    }

    #[test]
    fn ports_are_seen_in_the_order_in_which_they_are_declared() {
        let port = |container: u16, host: Option<u16>| json!({"container": container, "host": host, "protocol": "tcp"});
        let ports = |ports: [Json; 3]| Value::from(json!({ "ports": ports }));
        let mut seen = ports([port(80, Some(3)), port(443, Some(1)), port(9, Some(2))]);
        in_declared_order(&mut seen, &Value::from(json!({"ports": [port(443, None), port(80, None)]})));
        assert_eq!(seen, ports([port(443, Some(1)), port(80, Some(3)), port(9, Some(2))]));
    }

    #[test]
    fn a_node_whose_container_is_gone_is_not_made_of_its_volume_alone() {
        let request = |volume: &str| PreviewRequest {
            target: Target {
                address: ksail_model::Address::new("dev", "machine", &["worker-0"]),
                kind_version: 1,
                identity: Identity::named("dev-worker"),
                id: None,
                spec: Some(Value::map([("volume", volume)])),
                ownership: ksail_model::Ownership::Owned,
            },
            current: None,
            comes_after: Vec::new(),
        };
        let Preview::Refused { hint, .. } = preview_of_machine(&request(&"a".repeat(64)), &["image"]) else {
            panic!("it is made")
        };
        assert_eq!(hint.unwrap(), "make the node anew with nothing of what it keeps: `--replace volume/worker-0`");
        assert_eq!(preview_of_machine(&request("dev-worker-var"), &["image"]), Preview::Unavailable);
    }

    #[test]
    fn a_container_of_kind_is_not_changed_for_another() {
        let spec = |volume: &str, image: &str, port: u16| {
            Value::map([("volume", Value::from(volume)), ("image", Value::from(image)), ("port", Value::from(port))])
        };
        let fields = ["image", "port", "mounts"];
        let (kinds, ours) = ("a".repeat(64), "dev-worker-var");
        let why = refusal(&spec(&kinds, "a:1", 1), &spec(&kinds, "a:2", 1), &fields).unwrap();
        assert!(why.starts_with("its `image` is `a:1`, and `a:2` is declared; that takes another container"), "{why}");
        assert_eq!(refusal(&spec(&kinds, "a:1", 1), &spec(&kinds, "a:1", 1), &fields), None);
        assert_eq!(refusal(&spec(ours, "a:1", 1), &spec(ours, "a:2", 1), &fields), None);
    }
}
