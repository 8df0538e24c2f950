//! The Docker Engine interface, the part of it that the product's provider and the plain `docker` client need.

mod archive;
mod clusters;
mod container_json;
mod containers;
mod images;
mod lifecycle;
pub(crate) mod networks;
mod pulls;
mod query;
mod reply;
mod system;
mod volumes;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::engine::Engine;
use query::Query;
use reply::{ApiError, Reply, empty};

/// The newest version of the interface that is answered.
pub(crate) const API_VERSION: (u32, u32) = (1, 47);
/// The oldest version of the interface that is answered.
pub(crate) const MIN_API_VERSION: (u32, u32) = (1, 41);

/// Answers a request on the socket.
pub(crate) async fn handle(engine: Arc<Engine>, request: Request<Body>) -> Response<Body> {
    // The path alone: a query may hold filters, and headers credentials.
    let (method, path, began) = (request.method().clone(), request.uri().path().to_owned(), std::time::Instant::now());
    let mut reply = route(&engine, request).await.unwrap_or_else(ApiError::into_response);
    tracing::debug!(%method, path, status = reply.status().as_u16(), took = ?began.elapsed(), "answered");
    let headers = reply.headers_mut();
    headers.insert("Api-Version", HeaderValue::from_static("1.47"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    if let Ok(server) = HeaderValue::from_str(&format!("Docker/{} (linux)", engine.version())) {
        headers.insert("Server", server);
    }
    reply
}

/// Takes the version from a path; one that is not answered is an error that says which are.
fn strip_version(path: &str) -> Result<&str, ApiError> {
    let Some((version, rest)) = path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) else { return Ok(path) };
    let Some((major, minor)) = version.split_once('.') else { return Ok(path) };
    let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else { return Ok(path) };
    let text = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    if (major, minor) < MIN_API_VERSION {
        return Err(ApiError::bad(format!(
            "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            text(MIN_API_VERSION)
        )));
    }
    if (major, minor) > API_VERSION {
        return Err(ApiError::bad(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            text(API_VERSION)
        )));
    }
    Ok(path.get(path.len() - rest.len() - 1..).unwrap_or(path))
}

async fn route(engine: &Arc<Engine>, request: Request<Body>) -> Reply {
    let (parts, body) = request.into_parts();
    let path = percent_encoding::percent_decode_str(parts.uri.path()).decode_utf8_lossy().into_owned();
    let path = strip_version(&path)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let method = if parts.method == Method::HEAD { Method::GET } else { parts.method };
    match segments.as_slice() {
        ["_ping"] if method == get => system::ping(),
        ["version"] if method == get => engine.api_version(),
        ["info"] if method == get => engine.info().await,
        ["auth"] if method == post => engine.check_login(body).await,
        ["ksail", "shutdown"] if method == post => {
            engine.shutdown.cancel();
            empty(StatusCode::NO_CONTENT)
        }
        ["ksail", "clusters"] if method == get => engine.list_clusters().await,
        ["ksail", "clusters", "create"] if method == post => engine.create_cluster(body).await,
        ["ksail", "clusters", name] if method == get => engine.inspect_cluster(name).await,
        ["ksail", "clusters", name, "update"] if method == post => engine.update_cluster(name, body).await,
        ["ksail", "clusters", name] if method == delete => engine.delete_cluster(name).await,
        ["networks"] if method == get => engine.list_networks(&query).await,
        ["networks", "create"] if method == post => engine.create_network(body).await,
        ["networks", name, "connect"] if method == post => engine.connect_network(name, body).await,
        ["networks", name, "disconnect"] if method == post => engine.disconnect_network(name, body).await,
        ["networks", name] if method == get => engine.inspect_network(name).await,
        ["networks", name] if method == delete => engine.delete_network(name).await,
        ["volumes"] if method == get => engine.list_volumes(&query).await,
        ["volumes", "create"] if method == post => engine.create_volume(body).await,
        ["volumes", name] if method == get => engine.inspect_volume(name).await,
        ["volumes", name] if method == delete => engine.delete_volume(name, &query).await,
        ["images", "json"] if method == get => engine.list_images(&query).await,
        ["images", "create"] if method == post => engine.pull_image(&query, &parts.headers).await,
        ["images", "load"] if method == post => engine.load_images(body).await,
        ["images", name @ .., "json"] if method == get => engine.inspect_image(&name.join("/")).await,
        ["images", name @ .., "tag"] if method == post => engine.tag_image(&name.join("/"), &query).await,
        ["images", name @ ..] if method == delete => engine.delete_image(&name.join("/"), &query).await,
        ["containers", rest @ ..] => containers::route(engine, &method, rest, &query, body).await,
        _ => Err(ApiError::not_found(
            "page not found: the embedded engine answers a part of the Docker Engine interface only",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_off_and_checked() {
        assert_eq!(strip_version("/v1.41/networks").unwrap(), "/networks");
        assert_eq!(strip_version("/networks").unwrap(), "/networks");
        assert_eq!(strip_version("/volumes/v1.x").unwrap(), "/volumes/v1.x");
        assert!(strip_version("/v1.24/info").unwrap_err().message.contains("too old"));
        assert!(strip_version("/v1.99/info").unwrap_err().message.contains("too new"));
    }
}
