//! Parts of objects: status, scale, binding, eviction, tokens, finalize.

use std::sync::Arc;

use axum::http::Method;
use serde_json::{Value, json};

use super::read;
use super::reply::{self, Reply};
use super::router::{Asked, Named, patch};
use super::selectors::LabelSelector;
use crate::api::{self, Api};
use crate::merge::json as json_patch;
use crate::status::{Cause, Status};
use crate::write::delete::DeleteOptions;
use crate::write::{Made, Options, Place};

/// The life of a service account's token that is asked for without saying, in seconds, and between which one may be asked for.
const TOKEN_SECONDS: i64 = 3600;
const SHORTEST_TOKEN_SECONDS: i64 = 600;
const LONGEST_TOKEN_SECONDS: i64 = (1 << 32) + 1;

/// Answers a request for a part of an object.
pub(crate) async fn handle(api: &Arc<Api>, asked: &Asked, named: &Named, place: &Place) -> Result<Reply, Status> {
    let kind = &named.kind;
    let part = place.subresource.as_str();
    if kind.resource.subresource(part).is_none() {
        return Err(Status::no_such_path());
    }
    let get = asked.method == Method::GET;
    match (part, asked.method.as_str()) {
        ("status" | "finalize" | "approval" | "ephemeralcontainers" | "resize", "GET") => {
            let whole = Place { subresource: String::new(), ..place.clone() };
            read::get(api, asked, &whole)
        }
        ("status" | "finalize" | "approval" | "ephemeralcontainers" | "resize", "PUT") => {
            let object = asked.object()?;
            let written = api.change(place, &asked.options()?, &mut |live| {
                live.ok_or_else(|| place.not_found())?;
                Ok(Made::Object(object.clone()))
            })?;
            read::written(api, asked, kind, written).await
        }
        ("status" | "ephemeralcontainers" | "approval" | "resize", "PATCH") => patch(api, asked, place).await,
        ("scale", _) => scale(api, asked, place, get).await,
        ("binding", "POST") => bind(api, place, &asked.object()?).await,
        ("eviction", "POST") => evict(api, asked, place).await,
        ("token", "POST") => token(api, asked, place).await,
        ("log", "GET") => {
            api.store.get(&kind.store, &place.namespace, &place.name).ok_or_else(|| place.not_found())?;
            Ok(reply::text(200, ""))
        }
        ("exec" | "attach" | "portforward" | "proxy", _) => {
            Err(Status::bad_request("nothing runs in the pods of an embedded cluster; it is a simulation"))
        }
        _ => Err(Status::method_not_allowed()),
    }
}

/// Where a custom resource has its scale.
fn pointer(path: &Value) -> Option<String> {
    path.as_str().map(|path| path.replace('.', "/"))
}

struct ScalePaths {
    wanted: String,
    have: String,
    selector: Option<String>,
}

fn scale_paths(place: &Place) -> ScalePaths {
    let custom = place.kind.custom.as_ref().and_then(|custom| custom.scale.as_ref());
    match custom {
        Some(scale) => ScalePaths {
            wanted: pointer(&scale["specReplicasPath"]).unwrap_or_default(),
            have: pointer(&scale["statusReplicasPath"]).unwrap_or_default(),
            selector: pointer(&scale["labelSelectorPath"]),
        },
        None => ScalePaths { wanted: "/spec/replicas".to_owned(), have: "/status/replicas".to_owned(), selector: None },
    }
}

fn scale_of(place: &Place, object: &Value) -> Value {
    let paths = scale_paths(place);
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {}, "status": {"replicas": object.pointer(&paths.have).and_then(Value::as_i64).unwrap_or_default()},
    });
    if let Some(wanted) = object.pointer(&paths.wanted).and_then(Value::as_i64).filter(|wanted| *wanted != 0) {
        scale["spec"]["replicas"] = wanted.into();
    }
    let selector = match &paths.selector {
        Some(path) => object.pointer(path).and_then(Value::as_str).map(str::to_owned),
        None => object["spec"]["selector"].is_object().then(|| {
            let selector = &object["spec"]["selector"];
            let labels = if selector["matchLabels"].is_object() { &selector["matchLabels"] } else { selector };
            let parts = labels.as_object().into_iter().flatten();
            parts
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join(",")
        }),
    };
    if let Some(selector) = selector.filter(|_| place.kind.is_builtin() || paths.selector.is_some()) {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

fn set_pointer(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    for step in pointer.split('/').filter(|step| !step.is_empty()) {
        at = &mut at[step];
    }
    *at = value;
}

async fn scale(api: &Arc<Api>, asked: &Asked, place: &Place, get: bool) -> Result<Reply, Status> {
    if get {
        let entry = api.store.get(&place.kind.store, &place.namespace, &place.name).ok_or_else(|| place.not_found())?;
        let object = place.kind.convert_from_store(entry.object());
        let wanted = scale_paths(place).wanted;
        if !place.kind.is_builtin() && object.pointer(&wanted).is_none() {
            let path = wanted.replace('/', ".");
            return Err(Status::internal(format!("the spec replicas field {path:?} does not exist")));
        }
        return Ok(reply::json(200, &scale_of(place, &object)));
    }
    let body = match asked.content_type() {
        "application/apply-patch+yaml" => crate::write::Body { bytes: &asked.body, yaml: true }.read()?,
        "application/json" | "application/yaml" | "" => asked.object()?,
        _ => serde_json::from_slice(&asked.body).map_err(|error| Status::bad_request(error.to_string()))?,
    };
    let paths = scale_paths(place);
    let content_type = asked.content_type();
    let patches = asked.method == Method::PATCH;
    let written = api.change(place, &asked.options()?, &mut |live| {
        let live = live.ok_or_else(|| place.not_found())?;
        let mut scale = scale_of(place, live);
        if !patches {
            scale = body.clone();
        } else if content_type == "application/json-patch+json" {
            let patched = json_patch::patch(&mut scale, &body);
            patched.map_err(|error| Status::bad_request(format!("{error:?}")))?;
        } else {
            json_patch::merge(&mut scale, &body);
        }
        let wanted = scale["spec"]["replicas"].as_i64().unwrap_or_default();
        if wanted < 0 {
            let cause = Cause::invalid("spec.replicas", &wanted.into(), "must be greater than or equal to 0");
            return Err(Status::invalid("autoscaling", "Scale", &place.name, &[cause]));
        }
        let mut object = live.clone();
        match (
            !patches || body["metadata"]["resourceVersion"].is_string(),
            scale["metadata"]["resourceVersion"].as_str(),
        ) {
            (true, Some(version)) => object["metadata"]["resourceVersion"] = version.into(),
            _ => object["metadata"]["resourceVersion"] = Value::Null,
        }
        set_pointer(&mut object, &paths.wanted, wanted.into());
        Ok(Made::Object(object))
    })?;
    read::durable(api, written.version).await?;
    Ok(reply::json(200, &scale_of(place, &written.object)))
}

fn success(code: u16) -> Reply {
    reply::json(code, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}))
}

/// Puts a pod on a node.
pub(crate) async fn bind(api: &Arc<Api>, place: &Place, binding: &Value) -> Result<Reply, Status> {
    let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
    let kind = api.registry().find("", "v1", "pods").cloned().ok_or_else(Status::no_such_path)?;
    let place = Place { kind, subresource: "binding".to_owned(), ..place.clone() };
    let version = api.bind_pod(&place, &node)?;
    read::durable(api, version).await?;
    Ok(success(201))
}

impl Api {
    /// Puts a pod on a node; answers the version of the write.
    pub(crate) fn bind_pod(&self, place: &Place, node: &str) -> Result<u64, Status> {
        let options = Options::controller("kube-scheduler");
        let written = self.change(place, &options, &mut |live| {
            let mut pod = live.ok_or_else(|| place.not_found())?.clone();
            if pod["metadata"].get("deletionTimestamp").is_some() || pod["spec"]["nodeName"].is_string() {
                let name = &place.name;
                let detail = format!("pod {name} is already assigned to node {}", pod["spec"]["nodeName"]);
                return Err(Status::conflict("", "pods/binding", name, &detail));
            }
            pod["metadata"]["resourceVersion"] = Value::Null;
            pod["spec"]["nodeName"] = node.into();
            let time = api::now();
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let mut conditions: Vec<Value> =
                conditions.into_iter().filter(|condition| condition["type"] != "PodScheduled").collect();
            conditions.push(
                json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": time}),
            );
            pod["status"]["conditions"] = Value::Array(conditions);
            Ok(Made::Object(pod))
        })?;
        Ok(written.version)
    }
}

/// Deletes a pod if the budgets that select it allow that.
async fn evict(api: &Arc<Api>, asked: &Asked, place: &Place) -> Result<Reply, Status> {
    let body = asked.object()?;
    let whole = Place { subresource: String::new(), ..place.clone() };
    let pod = api.object("/pods", &place.namespace, &place.name).ok_or_else(|| whole.not_found())?;
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"));
    let mut options = DeleteOptions { dry_run: asked.options()?.dry_run, ..DeleteOptions::default() };
    options.read(&body["deleteOptions"]);
    if !ended && pod["metadata"].get("deletionTimestamp").is_none() {
        let (_, budgets) = api.store.list("policy/poddisruptionbudgets", Some(&place.namespace));
        for ((_, name), entry) in budgets {
            let budget = entry.object();
            let selects = LabelSelector::of(&budget["spec"]["selector"]);
            if !selects.is_some_and(|selector| selector.matches(&pod["metadata"]["labels"])) {
                continue;
            }
            let status = api.budget_status(&place.namespace, &budget);
            if status["disruptionsAllowed"].as_i64().unwrap_or_default() < 1 {
                let healthy = &status["currentHealthy"];
                let message = format!(
                    "The disruption budget {name} needs {} healthy pods and has {healthy} currently",
                    status["desiredHealthy"]
                );
                let details = json!({"causes": [{"reason": "DisruptionBudget", "message": message}]});
                return Err(Status::too_many_requests(
                    "Cannot evict pod as it would violate the pod's disruption budget.".to_owned(),
                    details,
                ));
            }
        }
    }
    let deleted = api.delete(&whole, &options)?;
    read::durable(api, deleted.version).await?;
    Ok(success(201))
}

/// A token of a service account.
async fn token(api: &Arc<Api>, asked: &Asked, place: &Place) -> Result<Reply, Status> {
    let request = asked.object()?;
    let account = api.object("/serviceaccounts", &place.namespace, &place.name).ok_or_else(|| place.not_found())?;
    let audiences = match &request["spec"]["audiences"] {
        Value::Array(list) if !list.is_empty() => Value::Array(list.clone()),
        _ => json!([crate::tokens::ISSUER]),
    };
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(TOKEN_SECONDS);
    let wrong = match seconds {
        ..SHORTEST_TOKEN_SECONDS => "may not specify a duration less than 10 minutes",
        LONGEST_TOKEN_SECONDS.. => "may not specify a duration larger than 2^32 seconds",
        _ => "",
    };
    if !wrong.is_empty() {
        let cause = Cause::invalid("spec.expirationSeconds", &seconds.into(), wrong);
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[cause]));
    }
    let uid = account["metadata"]["uid"].as_str().unwrap_or_default();
    let (token, expires) = api.tokens.issue(&place.namespace, &place.name, uid, &audiences, seconds);
    let expires = jiff::Timestamp::from_second(expires).map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let answer = json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": place.name, "namespace": place.namespace, "creationTimestamp": api::now()},
        "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": request["spec"]["boundObjectRef"]},
        "status": {"token": token, "expirationTimestamp": expires.unwrap_or_default()},
    });
    Ok(reply::json(201, &answer))
}
