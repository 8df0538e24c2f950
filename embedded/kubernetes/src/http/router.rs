//! Paths → what they are about.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use bytes::Bytes;
use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::reply::{self, Reply};
use super::{discovery, openapi, read, reviews, subresources, watch};
use crate::api::Api;
use crate::registry::Kind;
use crate::status::Status;
use crate::tokens::User;
use crate::types::protobuf;
use crate::write::{Body, Place};

/// What a request says.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) query: HashMap<String, String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) user: User,
}

impl Asked {
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|value| matches!(value.as_str(), "true" | "1" | ""))
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The media type of the body, without its parameters.
    pub(crate) fn content_type(&self) -> &str {
        let whole = self.header(header::CONTENT_TYPE);
        whole.split(';').next().unwrap_or_default().trim()
    }

    /// The body as an object.
    pub(crate) fn object(&self) -> Result<serde_json::Value, Status> {
        let of = self.content_type();
        if of == "application/vnd.kubernetes.protobuf" {
            return protobuf::decode(&self.body)
                .ok_or_else(|| Status::bad_request("the body cannot be read as an object in protobuf"));
        }
        let yaml = of == "application/yaml";
        if !matches!(of, "" | "application/json" | "application/yaml" | "*/*" | "application/x-www-form-urlencoded") {
            return Err(Status::unsupported_media("application/json, application/yaml"));
        }
        let object = Body { bytes: &self.body, yaml }.read()?;
        if object.is_object() { Ok(object) } else { Err(Status::bad_request("the body of the request is no object")) }
    }
}

/// What a path names.
pub(crate) struct Named {
    pub(crate) kind: Arc<Kind>,
    /// `None` for all namespaces, or outside of namespaces.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Vec<String>,
}

impl Named {
    fn place(&self) -> Place {
        Place {
            kind: Arc::clone(&self.kind),
            namespace: if self.kind.resource.namespaced {
                self.namespace.clone().unwrap_or_default()
            } else {
                String::new()
            },
            name: self.name.clone().unwrap_or_default(),
            subresource: self.subresource.first().cloned().unwrap_or_default(),
        }
    }
}

/// Answers a request.
pub(crate) async fn handle(api: Arc<Api>, request: Request, cancel: CancellationToken) -> Reply {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if matches!(path.as_str(), "/healthz" | "/livez" | "/readyz") {
        return reply::text(200, "ok");
    }
    // A connection may outlive the cluster, which may be open elsewhere by then.
    if cancel.is_cancelled() {
        return reply::refused(&Status::ending());
    }
    let token = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let user = match api.user(token) {
        Some(user) => user,
        None if path == "/version" => User {
            name: "system:anonymous".to_owned(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".to_owned()],
        },
        None => return reply::refused(&Status::unauthorized()),
    };
    let body = match axum::body::to_bytes(body, crate::write::MAX_BODY).await {
        Ok(body) => body,
        Err(error) => return reply::refused(&Status::bad_request(format!("the body cannot be read: {error}"))),
    };
    let decode = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    let asked = Asked {
        method: parts.method,
        path: path.split('/').filter(|part| !part.is_empty()).map(decode).collect(),
        query: form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect(),
        headers: parts.headers,
        body,
        user,
    };
    // A mistake of ours is told as one, and does not only end the connection.
    match AssertUnwindSafe(route(&api, &asked, &cancel)).catch_unwind().await {
        Ok(Ok(reply)) => reply,
        Ok(Err(status)) => reply::refused(&status),
        Err(_) => reply::refused(&Status::internal("the embedded cluster has a mistake; its log tells more")),
    }
}

async fn route(api: &Arc<Api>, asked: &Asked, cancel: &CancellationToken) -> Result<Reply, Status> {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    let registry = api.registry();
    match path.as_slice() {
        [] => Ok(discovery::paths(&registry)),
        ["version"] => Ok(reply::json(200, &api.version_info())),
        ["healthz" | "livez" | "readyz", ..] => Ok(reply::text(200, "ok")),
        [".well-known", "openid-configuration"] => Ok(discovery::issuer()),
        ["openid", "v1", "jwks"] => Ok(reply::json(200, &serde_json::json!({"keys": []}))),
        ["openapi", "v3", rest @ ..] => openapi::document(api, rest),
        // The second version of OpenAPI is not served: clients of these years ask for the third.
        ["api"] => Ok(discovery::core(&registry, asked)),
        ["apis"] => Ok(discovery::groups(&registry, asked)),
        ["apis", group] => discovery::group(&registry, group),
        ["api", version] => discovery::resources(&registry, "", version),
        ["apis", group, version] => discovery::resources(&registry, group, version),
        ["api", version, rest @ ..] => {
            let named = name(&registry, "", version, rest)?;
            resource(api, asked, &named, cancel).await
        }
        ["apis", group, version, rest @ ..] => {
            let named = name(&registry, group, version, rest)?;
            resource(api, asked, &named, cancel).await
        }
        _ => Err(Status::no_such_path()),
    }
}

fn name(registry: &crate::registry::Registry, group: &str, version: &str, rest: &[&str]) -> Result<Named, Status> {
    let find = |plural: &str| registry.find(group, version, plural).cloned().ok_or_else(Status::no_such_path);
    // Watches had a path of their own once; clients still know it.
    let rest = match rest {
        ["watch", rest @ ..] => rest,
        rest => rest,
    };
    let own = |text: &&str| (*text).to_owned();
    match rest {
        ["namespaces", namespace, plural, more @ ..]
            if !(group.is_empty() && matches!(*plural, "status" | "finalize")) =>
        {
            let kind = find(plural)?;
            if !kind.resource.namespaced {
                return Err(Status::no_such_path());
            }
            Ok(Named {
                kind,
                namespace: Some((*namespace).to_owned()),
                name: more.first().map(own),
                subresource: more.iter().skip(1).map(own).collect(),
            })
        }
        [plural, more @ ..] => {
            let kind = find(plural)?;
            if kind.resource.namespaced && !more.is_empty() {
                return Err(Status::no_such_path());
            }
            Ok(Named {
                kind,
                namespace: None,
                name: more.first().map(own),
                subresource: more.iter().skip(1).map(own).collect(),
            })
        }
        [] => Err(Status::no_such_path()),
    }
}

async fn resource(api: &Arc<Api>, asked: &Asked, named: &Named, cancel: &CancellationToken) -> Result<Reply, Status> {
    let kind = &named.kind;
    let has = |verb: &str| kind.resource.verbs.iter().any(|known| known == verb);
    let allow = |verb: &str| if has(verb) { Ok(()) } else { Err(Status::method_not_allowed()) };
    if !named.subresource.is_empty() {
        return subresources::handle(api, asked, named, &named.place()).await;
    }
    let get = asked.method == Method::GET || asked.method == Method::HEAD;
    match (&named.name, get) {
        (None, true) if asked.flag("watch") && asked.query.contains_key("watch") => {
            allow("watch")?;
            watch::watch(api, asked, named, cancel)
        }
        (None, true) => {
            allow("list")?;
            read::list(api, asked, named)
        }
        (Some(_), true) if asked.query.contains_key("watch") && asked.flag("watch") => {
            watch::watch(api, asked, named, cancel)
        }
        (Some(_), true) => {
            allow("get")?;
            read::get(api, asked, &named.place())
        }
        (name, false) => match (name, asked.method.as_str()) {
            (None, "POST") => {
                allow("create")?;
                create(api, asked, named).await
            }
            (None, "DELETE") => {
                allow("deletecollection")?;
                delete_collection(api, asked, named).await
            }
            (Some(_), "PUT") => {
                allow("update")?;
                update(api, asked, &named.place()).await
            }
            (Some(_), "PATCH") => {
                allow("patch")?;
                patch(api, asked, &named.place()).await
            }
            (Some(_), "DELETE") => {
                allow("delete")?;
                delete(api, asked, &named.place()).await
            }
            _ => Err(Status::method_not_allowed()),
        },
    }
}

async fn create(api: &Arc<Api>, asked: &Asked, named: &Named) -> Result<Reply, Status> {
    let kind = &named.kind;
    let object = asked.object()?;
    if let Some(review) = reviews::review(api, kind, &object, &asked.user) {
        return review.map(|review| reply::json(201, &review));
    }
    let sent = |field: &str| object["metadata"][field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if kind.resource.namespaced && named.namespace.is_none() {
        return Err(Status::bad_request("an empty namespace may not be set during creation"));
    }
    if let (Some(sent), Some(namespace)) = (sent("namespace"), &named.namespace)
        && sent != *namespace
    {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let mut place = named.place();
    if kind.is("", "bindings") {
        place.name = sent("name").unwrap_or_default();
        return subresources::bind(api, &place, &object).await;
    }
    place.name = sent("name").unwrap_or_default();
    let written = api.create(&place, object, &asked.options()?)?;
    read::written(api, asked, &place.kind, written).await
}

async fn update(api: &Arc<Api>, asked: &Asked, place: &Place) -> Result<Reply, Status> {
    let object = asked.object()?;
    // Most kinds are not created by an update; leases, events and the like are.
    let may_create = place.kind.is("coordination.k8s.io", "leases") || place.kind.is("", "events");
    let written = api.change(place, &asked.options()?, &mut |live| {
        if live.is_none() && !may_create {
            return Err(place.not_found());
        }
        Ok(crate::write::Made::Object(object.clone()))
    })?;
    read::written(api, asked, &place.kind, written).await
}

/// Patches an object or a part of it.
pub(crate) async fn patch(api: &Arc<Api>, asked: &Asked, place: &Place) -> Result<Reply, Status> {
    let options = asked.options()?;
    let given = asked.query("fieldManager").is_some();
    let written = api.patch(place, asked.content_type(), &asked.body, given, &options)?;
    read::written(api, asked, &place.kind, written).await
}

async fn delete(api: &Arc<Api>, asked: &Asked, place: &Place) -> Result<Reply, Status> {
    let deleted = api.delete(place, &asked.delete_options()?)?;
    read::durable(api, deleted.version).await?;
    let pods = place.kind.is("", "pods");
    if deleted.gone && !pods {
        let object = &deleted.object["metadata"];
        let mut details = serde_json::json!({"name": place.name, "kind": place.kind.plural(), "uid": object["uid"]});
        if !place.kind.group().is_empty() {
            details["group"] = place.kind.group().into();
        }
        let body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        return Ok(reply::json(200, &body));
    }
    Ok(read::object(asked, &place.kind, 200, &deleted.object))
}

async fn delete_collection(api: &Arc<Api>, asked: &Asked, named: &Named) -> Result<Reply, Status> {
    let options = asked.delete_options()?;
    let found = read::selected(api, asked, named)?;
    let mut version = 0;
    let mut items = Vec::new();
    for ((namespace, name), _) in found {
        let place = Place {
            kind: Arc::clone(&named.kind),
            namespace: namespace.to_string(),
            name: name.to_string(),
            subresource: String::new(),
        };
        match api.delete(&place, &options) {
            Ok(deleted) => {
                version = version.max(deleted.version);
                items.push(deleted.object);
            }
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    read::durable(api, version).await?;
    let list = serde_json::json!({
        "kind": format!("{}List", named.kind.kind()), "apiVersion": named.kind.api_version,
        "metadata": {"resourceVersion": api.store.version().to_string()}, "items": items,
    });
    Ok(reply::json(200, &list))
}
