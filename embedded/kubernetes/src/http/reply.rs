//! Answers.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde_json::Value;

use crate::status::Status;

/// An answer.
pub(crate) type Reply = Response<Body>;

/// JSON that is written already.
pub(crate) fn bytes(code: u16, json: impl Into<Bytes>) -> Reply {
    typed(code, "application/json", json)
}

/// A body of a type.
pub(crate) fn typed(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Body::from(body.into()));
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    reply
}

/// JSON.
pub(crate) fn json(code: u16, value: &Value) -> Reply {
    bytes(code, serde_json::to_vec(value).expect("a JSON value can be written"))
}

/// Plain text.
pub(crate) fn text(code: u16, text: &'static str) -> Reply {
    typed(code, "text/plain; charset=utf-8", text)
}

/// Why not.
pub(crate) fn refused(status: &Status) -> Reply {
    if status.is_no_such_path() {
        // As a real server does, by which clients tell a kind that is not served from an object that is not there.
        return text(404, "404 page not found\n");
    }
    let mut reply = json(status.code, &status.json());
    if status.code == 429 {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}

/// Adds warnings as kubectl shows them.
pub(crate) fn warn(reply: &mut Reply, warnings: &[String]) {
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            reply.headers_mut().append(header::WARNING, value);
        }
    }
}
