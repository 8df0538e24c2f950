//! Addons: manifests that a node image brings along, applied by a machine of the control plane, and kept in the cluster.

use ksail_kinds::{AddonSpec, Spec as _};
use ksail_model::{Readiness, Seen, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted, Target, UpdateRequest};
use serde_json::{Value as Json, json};

use crate::call::Call;
use crate::control_plane::{self, forget, keep, kept_of, needed};
use crate::exec::look;
use crate::network::cause_of;
use crate::written::Written;

/// By these words a manifest asks for the range of the pods' addresses in its place, and for where the API server is.
const ASKS_FOR_SUBNET: &str = "would you kindly template this file";
const ASKS_FOR_ENDPOINT: &str = "would you kindly patch this file";
const SUBNET: [&str; 2] = ["{{ .PodSubnet }}", "{{.PodSubnet}}"];
const ENDPOINT: &str = "CONTROL_PLANE_ENDPOINT";
/// What the node image brings along fits its server: it is not asked first what it takes.
const APPLY: [&str; 3] = ["apply", "--validate=ignore", "--filename=-"];

fn what_of(target: &Target) -> String {
    format!("the addon `{}`", target.identity.name)
}

/// What is seen of an addon that is kept.
pub(crate) fn seen(name: &str, written: Written) -> Seen {
    Seen {
        id: Some(name.to_owned()),
        attributes: Value::empty_map(),
        mark: Some(written.mark("")),
        fields: written.spec,
        readiness: Readiness::Ready,
        others: Vec::new(),
    }
}

pub(crate) async fn create(
    call: &Call,
    cluster: &str,
    request: &CreateRequest,
    spec: &Value,
) -> Result<Seen, CallError> {
    let (what, name) = (what_of(&request.target), &request.target.identity.name);
    if let Some(written) = read(call, cluster, &what, name).await? {
        written.may_complete(&what, &request.mark)?;
    }
    put(call, cluster, &request.target, Written::new(&request.mark, spec, None)).await
}

pub(crate) async fn update(
    call: &Call,
    cluster: &str,
    request: &UpdateRequest,
    spec: &Value,
) -> Result<Seen, CallError> {
    put(call, cluster, &request.target, Written::new(&request.mark, spec, None)).await
}

/// What is kept of it.
async fn read(call: &Call, cluster: &str, what: &str, name: &str) -> Result<Option<Written>, CallError> {
    let kept = control_plane::all_kept(call, cluster, what).await?;
    Ok(kept_of(&kept, (AddonSpec::KIND, name)))
}

/// Applies the manifest, and keeps what was applied.
async fn put(call: &Call, cluster: &str, target: &Target, written: Written) -> Result<Seen, CallError> {
    let (what, name) = (what_of(target), &target.identity.name);
    let machine = needed(call, cluster, &format!("apply {what}")).await?;
    apply(call, &machine, &what, &written.spec).await?;
    keep(call, &machine, &format!("keep {what}"), (AddonSpec::KIND, name), &written).await?;
    Ok(seen(name, written))
}

/// The objects of the manifest, as they are meant for this cluster.
pub(crate) async fn objects(call: &Call, machine: &str, doing: &str, spec: &AddonSpec) -> Result<String, CallError> {
    let raw = look(call, machine, doing, &["cat", &spec.manifest]).await?;
    let raw = raw.ok_or_else(|| call.refused(doing, "the machine has no container"))?;
    if !raw.is_success() {
        let hint = "take a node image that brings it along, as those of kind do";
        return Err(call.refused(doing, &raw.end(1)).hint(hint));
    }
    let asks_for_endpoint = raw.stdout.contains(ASKS_FOR_ENDPOINT);
    let mut text = raw.stdout;
    if let Some(subnet) = spec.pod_subnet.as_ref().filter(|_| text.contains(ASKS_FOR_SUBNET)) {
        for place in SUBNET {
            text = text.replace(place, subnet);
        }
    }
    let Some(endpoint) = spec.endpoint.as_ref().filter(|_| asks_for_endpoint) else { return Ok(text) };
    let objects: Vec<Json> =
        serde_saphyr::from_multiple(&text).map_err(|error| call.refused(doing, &error.to_string()))?;
    let told: Vec<String> = objects.into_iter().map(|object| with_endpoint(object, endpoint).to_string()).collect();
    Ok(told.join("\n---\n"))
}

/// Tells the containers of DaemonSets where the API server is, so that they need not wait for kube-proxy.
fn with_endpoint(mut object: Json, endpoint: &str) -> Json {
    if object["kind"] == "List"
        && let Some(items) = object.get_mut("items").and_then(Json::as_array_mut)
    {
        for item in items.iter_mut() {
            *item = with_endpoint(item.take(), endpoint);
        }
        return object;
    }
    if object["kind"] != "DaemonSet" {
        return object;
    }
    let containers = object.pointer_mut("/spec/template/spec/containers").and_then(Json::as_array_mut);
    if let Some(first) = containers.and_then(|containers| containers.first_mut()) {
        let variable = json!({"name": ENDPOINT, "value": endpoint});
        match first.get_mut("env").and_then(Json::as_array_mut) {
            Some(env) => env.push(variable),
            None => first["env"] = json!([variable]),
        }
    }
    object
}

async fn apply(call: &Call, machine: &str, what: &str, spec: &Value) -> Result<(), CallError> {
    let doing = format!("apply {what}");
    let spec = AddonSpec::from_value(spec).map_err(|error| call.refused(&doing, &cause_of(&error)))?;
    let objects = objects(call, machine, &doing, &spec).await?;
    control_plane::apply(call, machine, &doing, &APPLY, &objects).await
}

pub(crate) async fn delete(call: &Call, cluster: &str, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let (what, name) = (what_of(&request.target), &request.target.identity.name);
    let spec = match (read(call, cluster, &what, name).await?, &request.target.spec) {
        (Some(written), _) if written.may_delete(&what, request)? => written.spec,
        // What was imported is kept by nobody.
        (None, Some(spec)) if request.adopted => spec.clone(),
        _ => return Ok(Deleted::WasAbsent),
    };
    let doing = format!("delete {what}");
    let machine = needed(call, cluster, &doing).await?;
    let spec = AddonSpec::from_value(&spec).map_err(|error| call.refused(&doing, &cause_of(&error)))?;
    let objects = objects(call, &machine, &doing, &spec).await?;
    control_plane::apply(call, &machine, &doing, &["delete", "--ignore-not-found", "--filename=-"], &objects).await?;
    forget(call, &machine, &doing, (AddonSpec::KIND, name)).await?;
    Ok(Deleted::Gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_container_of_a_daemon_set_is_told_where_the_server_is() {
        let set = |env: Json| json!({"kind": "DaemonSet", "spec": {"template": {"spec": {"containers": [{"env": env}, {}]}}}});
        let told = with_endpoint(set(json!([{"name": "A"}])), "dev-control-plane:6443");
        let containers = &told["spec"]["template"]["spec"]["containers"];
        assert_eq!(containers[0]["env"][1], json!({"name": ENDPOINT, "value": "dev-control-plane:6443"}));
        assert!(containers[1].get("env").is_none());
        let other = json!({"kind": "ServiceAccount"});
        assert_eq!(with_endpoint(other.clone(), "x"), other);
        let list = with_endpoint(json!({"kind": "List", "items": [set(Json::Null)]}), "x");
        assert_eq!(list["items"][0]["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"], "x");
    }
}
