//! Replies of the Docker Engine interface, its errors among them.

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use serde_json::{Value, json};

/// A reply of the engine interface.
pub(crate) type Reply = Result<Response<Body>, ApiError>;

/// An error as the engine interface states it: a status and a message.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn server(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut reply = Response::new(Body::from(json!({"message": self.message}).to_string()));
        *reply.status_mut() = self.status;
        reply.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        reply
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        Self::server(format!("the engine's state could not be kept: {error}"))
    }
}

/// A reply of JSON.
pub(crate) fn json_reply(status: StatusCode, json: &Value) -> Reply {
    typed(status, "application/json", json.to_string())
}

/// A reply of JSON with status 200.
pub(crate) fn ok(json: &Value) -> Reply {
    json_reply(StatusCode::OK, json)
}

/// A reply without content.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    Ok(reply)
}

/// A reply with a content type.
pub(crate) fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Reply {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    Ok(reply)
}
