//! Patches of all four kinds.

use serde_json::{Value, json};

use super::{Body, Made, Options, Place, Written, body};
use crate::api::Api;
use crate::merge::{json as json_patch, strategic, typed};
use crate::status::{Cause, Status};

/// The media types of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    fn of(content_type: &str) -> Option<Self> {
        match content_type {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }
}

const ALLOWED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml, application/apply-patch+cbor";
const ALLOWED_CUSTOM: &str = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

impl Api {
    /// Patches an object, or creates it by an apply.
    pub(crate) fn patch(
        &self,
        place: &Place,
        content_type: &str,
        bytes: &[u8],
        manager_given: bool,
        options: &Options,
    ) -> Result<Written, Status> {
        let kind = &place.kind;
        let allowed = if kind.is_builtin() { ALLOWED } else { ALLOWED_CUSTOM };
        let how = PatchKind::of(content_type)
            .filter(|how| kind.is_builtin() || *how != PatchKind::Strategic)
            .ok_or_else(|| Status::unsupported_media(allowed))?;
        let patch = Body { bytes, yaml: how == PatchKind::Apply }.read()?;
        if how == PatchKind::Apply {
            return self.apply(place, patch, manager_given, options);
        }
        self.change(place, options, &mut |live| {
            let mut object = live.ok_or_else(|| place.not_found())?.clone();
            match how {
                PatchKind::Json => json_patch::patch(&mut object, &patch).map_err(|error| match error {
                    json_patch::PatchError::Malformed(message) => Status::bad_request(message),
                    json_patch::PatchError::Unfit(message) => {
                        let mut status = Status::invalid("", "", "", &[]);
                        tracing::debug!(message, "a JSON patch does not fit");
                        status.message = "the server rejected our request due to an error in our request".to_owned();
                        status.details = Some(json!({}));
                        status
                    }
                })?,
                PatchKind::Merge => json_patch::merge(&mut object, &patch),
                PatchKind::Strategic | PatchKind::Apply => {
                    strategic::merge(&kind.types, kind.of(), &mut object, &patch).map_err(Status::bad_request)?;
                }
            }
            // What is left may be anything.
            if !object["metadata"].is_object() {
                return Err(Status::bad_request("the patch leaves no object with metadata"));
            }
            // A version in the patch is a precondition; that of the object is none.
            if !names_version(&patch) {
                object["metadata"]["resourceVersion"] = Value::Null;
            }
            Ok(Made::Object(object))
        })
    }

    fn apply(
        &self,
        place: &Place,
        mut applied: Value,
        manager_given: bool,
        options: &Options,
    ) -> Result<Written, Status> {
        let kind = &place.kind;
        if !manager_given || options.manager.is_empty() {
            let mut status = Status::invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                &[Cause::required("fieldManager", "is required for apply patch")],
            );
            status.message =
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
                    .to_owned();
            return Err(status);
        }
        if applied["metadata"].get("managedFields").is_some_and(|entries| !entries.is_null()) {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        if !applied["apiVersion"].is_string() || !applied["kind"].is_string() {
            return Err(Status::bad_request("invalid object type: Object 'Kind' is missing"));
        }
        body::check_kind(kind, &mut applied)?;
        let errors = typed::check(&kind.types, kind.of(), &applied);
        if !errors.is_empty() {
            let said = match errors.as_slice() {
                [one] => one.clone(),
                many => format!("errors:\n  {}", many.join("\n  ")),
            };
            let namespace = applied["metadata"]["namespace"].as_str().unwrap_or_default();
            let mut status = Status::internal("");
            status.reason = "";
            status.message = format!(
                "failed to create typed patch object ({namespace}/{}; {}/{}, Kind={}): {said}",
                applied["metadata"]["name"].as_str().unwrap_or(&place.name),
                kind.group(),
                kind.resource.version,
                kind.kind()
            );
            return Err(status);
        }
        self.change(place, options, &mut |_| Ok(Made::Applied(applied.clone())))
    }
}

fn names_version(patch: &Value) -> bool {
    match patch {
        Value::Array(operations) => operations.iter().any(|operation| operation["path"] == "/metadata/resourceVersion"),
        patch => patch["metadata"].get("resourceVersion").is_some(),
    }
}
