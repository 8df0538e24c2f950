//! The bodies of requests.

use serde_json::Value;

use crate::registry::Kind;
use crate::status::Status;
use crate::types::decode::{self, Decoded};

/// The longest body that is read, in bytes.
pub(crate) const MAX_BODY: usize = 16 * 1024 * 1024;

/// What becomes of fields that are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Validation {
    /// They are dropped.
    Ignore,
    /// They are dropped with a warning.
    #[default]
    Warn,
    /// They are refused.
    Strict,
}

/// The format of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Body<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) yaml: bool,
}

impl Body<'_> {
    /// Reads a body.
    pub(crate) fn read(self) -> Result<Value, Status> {
        if self.yaml {
            // Most send JSON, which is quicker to read; what is none may be YAML that begins alike.
            if self.bytes.first() == Some(&b'{')
                && let Ok(object) = serde_json::from_slice(self.bytes)
            {
                return Ok(object);
            }
            let text = std::str::from_utf8(self.bytes).map_err(|error| Status::bad_request(error.to_string()))?;
            return serde_saphyr::from_str(text)
                .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")));
        }
        serde_json::from_slice(self.bytes).map_err(|error| Status::bad_request(format!("error decoding JSON: {error}")))
    }
}

/// Whether an object says that it is of a kind.
pub(crate) fn check_kind(kind: &Kind, object: &mut Value) -> Result<(), Status> {
    if !object.is_object() {
        return Err(Status::bad_request("the body is no object"));
    }
    let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    let (sent_version, sent_kind) = (text("apiVersion"), text("kind"));
    let fits = (sent_version.is_empty() || sent_version == kind.api_version)
        && (sent_kind.is_empty() || sent_kind == kind.kind());
    if !fits && sent_version != kind.api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({sent_version}) does not match the expected API version ({})",
            kind.api_version
        )));
    }
    if !fits {
        return Err(Status::bad_request(format!(
            "{sent_kind} in version {:?} cannot be handled as a {}: converting ({}.{sent_kind}) to ({}.{}): unknown conversion",
            kind.resource.version,
            kind.kind(),
            kind.resource.version,
            kind.group(),
            kind.kind()
        )));
    }
    object["apiVersion"] = kind.api_version.as_str().into();
    object["kind"] = kind.kind().into();
    Ok(())
}

/// Decodes an object by its type, one that a client sent or that an apply made. Answers warnings.
pub(crate) fn prepare(
    kind: &Kind,
    object: &mut Value,
    validation: Validation,
    applied: bool,
) -> Result<Vec<String>, Status> {
    check_kind(kind, object)?;
    let decoded = match (kind.is_builtin(), applied) {
        (true, _) => Decoded::Builtin,
        (false, false) => Decoded::Custom,
        (false, true) => Decoded::CustomApplied,
    };
    let found = decode::decode(&kind.types, kind.of(), object, decoded);
    if let Some(wrong) = found.wrong {
        return Err(Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {wrong}",
            kind.kind(),
            kind.resource.version,
            kind.kind()
        )));
    }
    let unknown: Vec<String> = found.unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    match validation {
        Validation::Strict if !unknown.is_empty() => {
            let said = unknown.join(", ");
            Err(Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: strict decoding error: {said}",
                kind.kind(),
                kind.resource.version,
                kind.kind()
            )))
        }
        Validation::Warn => Ok(unknown),
        _ => Ok(Vec::new()),
    }
}
