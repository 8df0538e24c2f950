//! get and list.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{self, Reply};
use super::router::{Asked, Named};
use super::selectors::{FieldSelector, LabelSelector};
use super::table;
use crate::api::Api;
use crate::registry::Kind;
use crate::status::Status;
use crate::store::{Entry, Name};
use crate::write::{Place, Written};

/// How a client wants objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Table,
    MetadataOnly,
}

impl Form {
    /// The first of the forms that a client accepts.
    pub(crate) fn of(accept: &str) -> Self {
        for part in accept.split(',') {
            if part.contains("as=Table") && !part.contains("protobuf") {
                return Self::Table;
            }
            if part.contains("as=PartialObjectMetadata") && !part.contains("protobuf") {
                return Self::MetadataOnly;
            }
            let plain = part.split(';').next().unwrap_or_default().trim();
            if matches!(plain, "application/json" | "*/*" | "application/*") {
                return Self::Whole;
            }
        }
        Self::Whole
    }

    pub(crate) fn asked(asked: &Asked) -> Self {
        Self::of(asked.header(axum::http::header::ACCEPT))
    }
}

/// The metadata of an object alone.
pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// An object in the form that is asked for.
pub(crate) fn object(asked: &Asked, kind: &Kind, code: u16, object: &Value) -> Reply {
    match Form::asked(asked) {
        Form::Whole => {
            if asked.header(axum::http::header::ACCEPT).starts_with("application/yaml") {
                // JSON is YAML too.
                return reply::typed(code, "application/yaml", object.to_string());
            }
            reply::json(code, object)
        }
        Form::Table => {
            let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            reply::json(code, &table::table(kind, std::slice::from_ref(object), metadata, asked))
        }
        Form::MetadataOnly => reply::json(code, &metadata_only(object)),
    }
}

/// Waits until a write is durable.
pub(crate) async fn durable(api: &Api, version: u64) -> Result<(), Status> {
    if version == 0 {
        return Ok(());
    }
    api.store.durable(version).await.map_err(Status::internal)
}

/// The answer to a write.
pub(crate) async fn written(api: &Arc<Api>, asked: &Asked, kind: &Kind, written: Written) -> Result<Reply, Status> {
    durable(api, written.version).await?;
    let mut reply = object(asked, kind, if written.created { 201 } else { 200 }, &written.object);
    reply::warn(&mut reply, &written.warnings);
    Ok(reply)
}

pub(crate) fn get(api: &Arc<Api>, asked: &Asked, place: &Place) -> Result<Reply, Status> {
    let entry = api.store.get(&place.kind.store, &place.namespace, &place.name).ok_or_else(|| place.not_found())?;
    if Form::asked(asked) == Form::Whole && place.kind.is_as_stored() && is_stored_version(&place.kind, &entry) {
        return Ok(reply::bytes(200, entry.json));
    }
    Ok(object(asked, &place.kind, 200, &place.kind.convert_from_store(entry.object())))
}

/// Whether an object is kept in the version that is asked for, so that its JSON can be answered as it is.
pub(crate) fn is_stored_version(kind: &Kind, entry: &Entry) -> bool {
    // Built-in kinds are kept in one version; JSON maps are sorted, so that this is how an object begins.
    kind.is_builtin()
        || entry.json.strip_prefix(b"{\"apiVersion\":\"").is_some_and(|rest| {
            rest.strip_prefix(kind.api_version.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'"'))
        })
}

/// The selectors of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selectors {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

#[derive(Deserialize)]
struct OnlyLabels {
    metadata: OnlyLabelsOf,
}

#[derive(Deserialize)]
struct OnlyLabelsOf {
    #[serde(default)]
    labels: Value,
}

impl Selectors {
    pub(crate) fn asked(asked: &Asked, named: &Named) -> Result<Self, Status> {
        let labels = asked.query("labelSelector").unwrap_or_default();
        let labels = LabelSelector::parse(labels)
            .ok_or_else(|| Status::bad_request(format!("unable to parse requirement: {labels}")))?;
        let fields = asked.query("fieldSelector").unwrap_or_default();
        let fields = FieldSelector::parse(fields)
            .ok_or_else(|| Status::bad_request(format!("invalid selector: {fields:?}; can't understand it")))?;
        fields.check(&named.kind)?;
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object, as JSON, is selected.
    pub(crate) fn matches(&self, kind: &Kind, name: Option<&str>, json: &[u8]) -> bool {
        if self.is_empty() && name.is_none() {
            return true;
        }
        if self.fields.is_empty() && name.is_none() {
            let only: Result<OnlyLabels, _> = serde_json::from_slice(json);
            return only.is_ok_and(|only| self.labels.matches(&only.metadata.labels));
        }
        let Ok(object) = serde_json::from_slice::<Value>(json) else { return false };
        let object = kind.convert_from_store(object);
        name.is_none_or(|name| object["metadata"]["name"] == name)
            && self.labels.matches(&object["metadata"]["labels"])
            && self.fields.matches(&object)
    }
}

/// The objects that a request selects.
pub(crate) fn selected(api: &Arc<Api>, asked: &Asked, named: &Named) -> Result<Vec<(Name, Entry)>, Status> {
    let selectors = Selectors::asked(asked, named)?;
    let (_, mut found) = api.store.list(&named.kind.store, named.namespace.as_deref());
    found.retain(|(_, entry)| selectors.matches(&named.kind, None, &entry.json));
    Ok(found)
}

pub(crate) fn list(api: &Arc<Api>, asked: &Asked, named: &Named) -> Result<Reply, Status> {
    let kind = &named.kind;
    asked.check_list(false)?;
    let limit = asked.number("limit")?;
    let selectors = Selectors::asked(asked, named)?;
    let (version, mut found) = match asked.query("continue") {
        Some(token) => {
            let page = token.strip_prefix("ksail-").and_then(|page| page.parse().ok());
            let page = page.ok_or_else(|| Status::bad_request("invalid continue token: continue key is not valid"))?;
            api.store.page(page).ok_or_else(|| {
                Status::expired("The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.")
            })?
        }
        None => {
            check_version(api, asked)?;
            api.store.list(&kind.store, named.namespace.as_deref())
        }
    };
    found.retain(|(_, entry)| selectors.matches(kind, None, &entry.json));
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let Some(limit) = limit
        && found.len() > limit
    {
        let rest = found.split_off(limit);
        if selectors.is_empty() {
            metadata["remainingItemCount"] = rest.len().into();
        }
        metadata["continue"] = format!("ksail-{}", api.store.keep_page(version, rest)).into();
    }
    match Form::asked(asked) {
        Form::Whole => Ok(reply::bytes(200, whole(kind, &found, &metadata))),
        form => {
            let objects: Vec<Value> = found.iter().map(|(_, entry)| kind.convert_from_store(entry.object())).collect();
            if form == Form::Table {
                return Ok(reply::json(200, &table::table(kind, &objects, metadata, asked)));
            }
            let items: Vec<Value> = objects.iter().map(metadata_only).collect();
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items});
            Ok(reply::json(200, &list))
        }
    }
}

/// Whether a version that a list asks for can be served: not older than wanted, or exactly.
fn check_version(api: &Api, asked: &Asked) -> Result<(), Status> {
    let exact = asked.query("resourceVersionMatch") == Some("Exact");
    match asked.query("resourceVersion") {
        None | Some("0") if !exact => Ok(()),
        Some(text) => {
            let wanted: u64 =
                text.parse().map_err(|_| Status::bad_request(format!("invalid resource version {text:?}")))?;
            let now = api.store.version();
            if wanted > now {
                let mut status = Status::internal("");
                status.code = 504;
                status.reason = "Timeout";
                status.message = format!("Too large resource version: {wanted}, current: {now}");
                status.details = Some(
                    json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1}),
                );
                return Err(status);
            }
            // Only the newest state is kept.
            if exact && wanted < now {
                return Err(Status::expired("The resourceVersion for the provided list is too old."));
            }
            Ok(())
        }
        // Which has been refused already.
        None => Ok(()),
    }
}

/// A list of whole objects; their JSON goes out as it is kept.
fn whole(kind: &Kind, found: &[(Name, Entry)], metadata: &Value) -> BytesMut {
    let length: usize = found.iter().map(|(_, entry)| entry.json.len() + 1).sum();
    let mut out = BytesMut::with_capacity(length + 256);
    let head = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        kind.kind(),
        kind.api_version
    );
    out.put_slice(head.as_bytes());
    for (index, (_, entry)) in found.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        if kind.is_as_stored() && is_stored_version(kind, entry) {
            out.put_slice(&entry.json);
        } else {
            out.put_slice(kind.convert_from_store(entry.object()).to_string().as_bytes());
        }
    }
    out.put_slice(b"]}");
    out
}
