//! Addons: manifests that a node image brings along, applied by a machine of the control plane.

use ksail_kinds::{AddonSpec, Spec as _};
use ksail_model::{Observation, Readiness, Seen, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted, Target, UpdateRequest};
use serde_json::{Value as Json, json};

use crate::call::Call;
use crate::cluster::{read, remove, write};
use crate::exec::{look, run};
use crate::network::cause_of;
use crate::steps::FOLDER;
use crate::written::Written;

/// By these words a manifest asks for the range of the pods' addresses in its place, and for where the API server is.
const ASKS_FOR_SUBNET: &str = "would you kindly template this file";
const ASKS_FOR_ENDPOINT: &str = "would you kindly patch this file";
const SUBNET: [&str; 2] = ["{{ .PodSubnet }}", "{{.PodSubnet}}"];
const ENDPOINT: &str = "CONTROL_PLANE_ENDPOINT";
const KUBECONFIG: &str = "--kubeconfig=/etc/kubernetes/admin.conf";
/// How many lines of what was said a failure tells.
const TOLD: usize = 6;

fn place(name: &str) -> String {
    format!("{FOLDER}/addons/{name}")
}

fn what_of(target: &Target) -> String {
    format!("the addon `{}`", target.identity.name)
}

fn seen(name: &str, written: Written) -> Seen {
    Seen {
        id: Some(name.to_owned()),
        attributes: Value::empty_map(),
        mark: Some(written.mark("")),
        fields: written.spec,
        readiness: Readiness::Ready,
        others: Vec::new(),
    }
}

pub(crate) async fn observe(call: &Call, machine: &str, target: &Target) -> Result<Observation, CallError> {
    let name = &target.identity.name;
    let found = read(call, machine, &format!("look at {}", what_of(target)), &place(name)).await?;
    Ok(found.map_or(Observation::Absent, |written| Observation::Present(Box::new(seen(name, written)))))
}

/// All addons that carry a mark, by their names.
pub(crate) async fn list(call: &Call, machine: &str) -> Result<Vec<(String, Seen)>, CallError> {
    let what = format!("list the addons of `{machine}`");
    let program = format!("cd {FOLDER}/addons 2>/dev/null || exit 0; ls");
    let Some(output) = look(call, machine, &what, &["sh", "-c", &program]).await? else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for name in output.stdout.lines().filter(|name| !name.ends_with(".new")) {
        if let Some(written) = read(call, machine, &what, &place(name)).await? {
            all.push((name.to_owned(), seen(name, written)));
        }
    }
    Ok(all)
}

pub(crate) async fn create(
    call: &Call,
    machine: &str,
    request: &CreateRequest,
    spec: &Value,
) -> Result<Seen, CallError> {
    let (what, name) = (what_of(&request.target), &request.target.identity.name);
    if let Some(written) = read(call, machine, &what, &place(name)).await? {
        written.may_complete(&what, &request.mark)?;
    }
    put(call, machine, &request.target, Written::new(&request.mark, spec, None)).await
}

pub(crate) async fn update(
    call: &Call,
    machine: &str,
    request: &UpdateRequest,
    spec: &Value,
) -> Result<Seen, CallError> {
    put(call, machine, &request.target, Written::new(&request.mark, spec, None)).await
}

/// Applies the manifest, and writes down what was applied.
async fn put(call: &Call, machine: &str, target: &Target, written: Written) -> Result<Seen, CallError> {
    let (what, name) = (what_of(target), &target.identity.name);
    apply(call, machine, &what, &written.spec).await?;
    write(call, machine, &what, &place(name), &written).await?;
    Ok(seen(name, written))
}

/// The objects of the manifest, as they are meant for this cluster.
async fn objects(call: &Call, machine: &str, doing: &str, spec: &AddonSpec) -> Result<String, CallError> {
    let raw = run(call, machine, doing, &["cat", &spec.manifest], "").await?;
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
    // The machine's own client reads the YAML.
    let command = ["kubectl", KUBECONFIG, "create", "--dry-run=client", "--output=json", "--filename=-"];
    let read = run(call, machine, doing, &command, &text).await?;
    if !read.is_success() {
        return Err(call.refused(doing, &read.end(TOLD)));
    }
    let objects: Result<Vec<Json>, _> = serde_json::Deserializer::from_str(&read.stdout).into_iter().collect();
    let objects = objects.map_err(|error| call.refused(doing, &error.to_string()))?;
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
    let output = run(call, machine, &doing, &["kubectl", KUBECONFIG, "apply", "--filename=-"], &objects).await?;
    if output.is_success() { Ok(()) } else { Err(call.refused(&doing, &output.end(TOLD))) }
}

pub(crate) async fn delete(call: &Call, machine: &str, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let (what, name) = (what_of(&request.target), &request.target.identity.name);
    let Some(written) = read(call, machine, &what, &place(name)).await? else { return Ok(Deleted::WasAbsent) };
    if !written.may_delete(&what, request)? {
        return Ok(Deleted::WasAbsent);
    }
    let doing = format!("delete {what}");
    let spec = AddonSpec::from_value(&written.spec).map_err(|error| call.refused(&doing, &cause_of(&error)))?;
    let objects = objects(call, machine, &doing, &spec).await?;
    let command = ["kubectl", KUBECONFIG, "delete", "--ignore-not-found", "--filename=-"];
    let output = run(call, machine, &doing, &command, &objects).await?;
    if !output.is_success() {
        return Err(call.refused(&doing, &output.end(TOLD)));
    }
    remove(call, machine, &doing, &place(name)).await?;
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
