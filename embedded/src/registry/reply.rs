//! Replies of the distribution interface, its errors among them.

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use serde_json::json;

/// A reply of the distribution interface.
pub(crate) type Reply = Result<Response<Body>, RegistryError>;

/// An error as the distribution interface states it.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct RegistryError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) retry_after: Option<String>,
}

impl RegistryError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(crate) fn digest(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(crate) fn blob_unknown(digest: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("blob {digest} is not in this repository"))
    }

    pub(crate) fn manifest_unknown(reference: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", format!("manifest {reference} is not in this repository"))
    }

    pub(crate) fn upload_unknown(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", format!("there is no upload {id} in this repository"))
    }

    pub(crate) fn storage(error: &std::io::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", format!("storage failed: {error}"))
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let body = json!({"errors": [{"code": self.code, "message": self.message}]}).to_string();
        let mut reply = Response::new(Body::from(body));
        *reply.status_mut() = self.status;
        reply.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        if let Some(value) = self.retry_after.and_then(|text| header::HeaderValue::from_str(&text).ok()) {
            reply.headers_mut().insert(header::RETRY_AFTER, value);
        }
        reply
    }
}

impl From<std::io::Error> for RegistryError {
    fn from(error: std::io::Error) -> Self {
        Self::storage(&error)
    }
}

/// A reply with headers and a body.
pub(crate) fn reply(status: StatusCode, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).map_err(|error| {
        RegistryError::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", format!("reply failed: {error}"))
    })
}

/// A JSON reply.
pub(crate) fn json_reply(headers: &[(&str, &str)], json: &serde_json::Value) -> Reply {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(headers);
    reply(StatusCode::OK, &all, json.to_string())
}
