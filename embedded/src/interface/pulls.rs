//! Pulls of images from registries.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use bytes::Bytes;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::images;
use super::query::Query;
use super::reply::{ApiError, Reply, typed};
use crate::digests::{self, Hasher};
use crate::durable::{self, blocking};
use crate::engine::Engine;
use crate::reference::{Reference, familiar};
use crate::registry::{MAX_BLOB, MAX_MANIFEST, manifests};
use crate::world::{Image, architecture};
use ksail_registry_client::{Credentials, Upstream, UpstreamError, bounded_body, is_loopback};

/// How many lines of progress may wait for the client.
const PROGRESS_QUEUE: usize = 64;
/// The longest configuration of an image, in bytes.
const MAX_CONFIG: usize = 8 * 1024 * 1024;

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase", default)]
struct RegistryAuth {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Reads the header by which the client gives its login.
fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let text = headers.get("X-Registry-Auth")?.to_str().ok()?.trim_end_matches('=');
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| base64::engine::general_purpose::STANDARD_NO_PAD.decode(text))
        .ok()?;
    let auth: RegistryAuth = serde_json::from_slice(&bytes).ok()?;
    // Clients write what they do not have as null, or as an empty text.
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    if let Some(token) = given(auth.registrytoken) {
        return Some(Credentials::Bearer(token));
    }
    if let Some(token) = given(auth.identitytoken) {
        return Some(Credentials::Identity(token));
    }
    if let Some(username) = given(auth.username) {
        return Some(Credentials::Password { username, password: auth.password.unwrap_or_default() });
    }
    let pair = base64::engine::general_purpose::STANDARD.decode(given(auth.auth)?).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (username, password) = pair.split_once(':')?;
    Some(Credentials::Password { username: username.to_owned(), password: password.to_owned() })
}

/// A client for a registry by host. A registry on this machine may be without encryption, as with the Docker Engine.
pub(super) async fn reach(host: &str, credentials: Option<Credentials>) -> Result<Upstream, ApiError> {
    let wrong = |error: UpstreamError| ApiError::server(error.to_string());
    let secure = Upstream::new(&format!("https://{host}"), credentials.clone()).map_err(wrong)?;
    let loopback = Url::parse(&format!("http://{host}")).is_ok_and(|url| is_loopback(&url));
    if loopback && secure.ping().await.is_err() {
        return Upstream::new(&format!("http://{host}"), credentials).map_err(wrong);
    }
    Ok(secure)
}

/// What a pull will fetch.
struct Plan {
    upstream: Upstream,
    reference: Reference,
    /// The digest of what the reference named, an index or a manifest.
    digest: String,
    config: String,
    layers: Vec<(String, u64)>,
}

fn upstream_error(error: &UpstreamError) -> ApiError {
    // In the words by which clients of a Docker Engine know what went wrong.
    let (status, words) = match error {
        UpstreamError::NotFound { .. } => (StatusCode::NOT_FOUND, "manifest unknown: "),
        UpstreamError::Denied { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "unauthorized: "),
        UpstreamError::Unreachable { why, .. } if why.contains("certificate") => {
            (StatusCode::INTERNAL_SERVER_ERROR, "tls: failed to verify certificate: x509: ")
        }
        UpstreamError::Unreachable { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "dial tcp: "),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, ""),
    };
    ApiError::new(status, format!("{words}{error}"))
}

impl Engine {
    pub(super) async fn pull_image(self: &Arc<Self>, query: &Query, headers: &HeaderMap) -> Reply {
        let Some(from) = query.get("fromImage") else {
            return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "the embedded engine does not import file systems"));
        };
        let text = match query.get("tag") {
            Some(tag) if tag.contains(':') => format!("{from}@{tag}"),
            Some(tag) => format!("{from}:{tag}"),
            None => from.to_owned(),
        };
        let reference = Reference::parse(&text).ok_or_else(|| ApiError::bad("invalid reference format"))?;
        if reference.full() == crate::BUILTIN_IMAGE {
            let line = json!({"status": format!("Status: Image is built in: {}", crate::BUILTIN_IMAGE)});
            return typed(StatusCode::OK, "application/json", format!("{line}\r\n"));
        }
        let platform = query.get("platform").map_or_else(|| format!("linux/{}", architecture()), str::to_owned);
        let upstream = reach(reference.registry_host(), credentials(headers)).await?;
        let plan = resolve(upstream, reference, &platform).await?;
        let (lines, receiver) = mpsc::channel::<Value>(PROGRESS_QUEUE);
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            // A client that goes away drops the receiver; the pull is then given up at its next line.
            let end = tokio::select! {
                end = engine.fetch(&plan, &lines) => end,
                () = lines.closed() => return,
                () = engine.shutdown.cancelled() => Err("the engine is stopping".to_owned()),
            };
            if let Err(why) = end {
                let _ = lines.send(json!({"errorDetail": {"message": why}, "error": why})).await;
            }
        });
        let lines = futures::stream::unfold(receiver, |mut receiver| async move {
            let line = receiver.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(Bytes::from(format!("{line}\r\n"))), receiver))
        });
        typed(StatusCode::OK, "application/json", Body::from_stream(lines))
    }

    async fn fetch(&self, plan: &Plan, lines: &mpsc::Sender<Value>) -> Result<(), String> {
        let say = async |line: Value| lines.send(line).await.map_err(|_| "the client went away".to_owned());
        let reference = &plan.reference;
        say(json!({"status": format!("Pulling from {}", familiar_repository(reference)), "id": reference.version}))
            .await?;
        let mut blobs = Vec::new();
        for (digest, size) in &plan.layers {
            let id = digest.get("sha256:".len().."sha256:".len() + 12).unwrap_or(digest);
            let there = self.fetch_blob(plan, digest, *size, |done| {
                // Progress is worth no waiting: a full queue skips a line.
                let progress =
                    json!({"status": "Downloading", "id": id, "progressDetail": {"current": done, "total": size}});
                let _ = lines.try_send(progress);
            });
            let status = if there.await? { "Already exists" } else { "Pull complete" };
            say(json!({"status": status, "progressDetail": {}, "id": id})).await?;
            blobs.push(digest.clone());
        }
        self.fetch_blob(plan, &plan.config, MAX_CONFIG as u64, |_| {}).await?;
        blobs.push(plan.config.clone());
        let known = self.finish(plan, blobs).await?;
        say(json!({"status": format!("Digest: {}", plan.digest)})).await?;
        let status = if known { "Image is up to date for" } else { "Downloaded newer image for" };
        say(json!({"status": format!("Status: {status} {}", familiar(&reference.full()))})).await
    }

    /// Fetches a blob where it is not there; answers whether it was.
    async fn fetch_blob(&self, plan: &Plan, digest: &str, size: u64, progress: impl Fn(u64)) -> Result<bool, String> {
        let hex = digests::hex_of(digest).ok_or_else(|| format!("`{digest}` is not a sha256 digest"))?;
        let path = self.world.lock().await.content(hex);
        if path.exists() {
            return Ok(true);
        }
        let name = &plan.reference.repository;
        let mut response = plan.upstream.blob(Method::GET, name, digest).await.map_err(|error| error.to_string())?;
        let temporary = path.with_extension(format!("{}{}", uuid::Uuid::new_v4().simple(), durable::TEMPORARY));
        let made = temporary.clone();
        let file = blocking(move || durable::create_file(&made)).await.map_err(|error| error.to_string())?;
        let guard = Unfinished(temporary.clone());
        let mut file = tokio::fs::File::from_std(file);
        let (mut hasher, mut done) = (Hasher::default(), 0_u64);
        while let Some(chunk) = response.chunk().await.map_err(|_| format!("{} broke off", plan.upstream.host()))? {
            done += chunk.len() as u64;
            if done > size.min(MAX_BLOB) {
                return Err(format!("blob {digest} is longer than its manifest says"));
            }
            hasher.update(&chunk);
            file.write_all(&chunk).await.map_err(|error| error.to_string())?;
            progress(done);
        }
        file.sync_all().await.map_err(|error| error.to_string())?;
        if hasher.finish() != hex {
            return Err(format!("{} sent something else for blob {digest}", plan.upstream.host()));
        }
        blocking(move || durable::publish(&temporary, &path)).await.map_err(|error| error.to_string())?;
        drop(guard);
        Ok(false)
    }

    /// Keeps the image and its tag; answers whether the tag was there with the same image.
    async fn finish(&self, plan: &Plan, blobs: Vec<String>) -> Result<bool, String> {
        let mut world = self.world.lock().await;
        let hex = digests::hex_of(&plan.config).unwrap_or_default();
        let bytes = std::fs::read(world.content(hex)).map_err(|error| error.to_string())?;
        let config: Value =
            serde_json::from_slice(&bytes).map_err(|_| "the image's configuration is not JSON".to_owned())?;
        // A removal in between may have taken a blob that was there when this pull looked.
        if let Some(gone) =
            blobs.iter().find(|digest| digests::hex_of(digest).is_none_or(|hex| !world.content(hex).exists()))
        {
            return Err(format!("blob {gone} was removed during the pull; pull again"));
        }
        let size = plan.layers.iter().map(|(_, size)| size).sum::<u64>() + bytes.len() as u64;
        let digest = format!("{}@{}", plan.reference.name(), plan.digest);
        let image = Image { id: plan.config.clone(), digests: vec![digest], size, config, blobs };
        let tag = (!plan.reference.is_digest()).then(|| plan.reference.full());
        let known = tag.as_ref().map_or_else(
            || world.images.contains_key(&image.id),
            |tag| world.tags.get(tag).is_some_and(|id| *id == image.id),
        );
        let id = image.id.clone();
        images::keep(&mut world, image).map_err(|error| error.message)?;
        if let Some(tag) = tag {
            images::set_tag(&mut world, &tag, &id).map_err(|error| error.message)?;
        }
        Ok(known)
    }
}

/// Removes a file that was not finished.
struct Unfinished(std::path::PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn familiar_repository(reference: &Reference) -> &str {
    &reference.repository
}

async fn resolve(upstream: Upstream, reference: Reference, platform: &str) -> Result<Plan, ApiError> {
    let (digest, mut manifest) = fetch_manifest(&upstream, &reference.repository, &reference.version).await?;
    if let Some(children) = manifest.get("manifests").and_then(Value::as_array) {
        let child =
            children.iter().find(|child| is_platform(child, platform)).and_then(|child| child.get("digest")?.as_str());
        let child = child.ok_or_else(|| {
            ApiError::not_found(format!("no matching manifest for {platform} in the manifest list entries"))
        })?;
        manifest = fetch_manifest(&upstream, &reference.repository, child).await?.1;
    }
    let text = |descriptor: &Value| descriptor.get("digest").and_then(Value::as_str).map(str::to_owned);
    let config = manifest.get("config").and_then(text).filter(|digest| digests::hex_of(digest).is_some());
    let config = config.ok_or_else(|| ApiError::server(format!("{} is not an image", reference.full())))?;
    let mut layers: Vec<(String, u64)> = Vec::new();
    for layer in manifest.get("layers").and_then(Value::as_array).into_iter().flatten() {
        let size = layer.get("size").and_then(Value::as_u64).unwrap_or_default();
        if let Some(digest) = text(layer)
            && !layers.iter().any(|(known, _)| *known == digest)
        {
            layers.push((digest, size));
        }
    }
    Ok(Plan { upstream, reference, digest, config, layers })
}

async fn fetch_manifest(upstream: &Upstream, name: &str, version: &str) -> Result<(String, Value), ApiError> {
    let response = upstream.manifest(Method::GET, name, version).await.map_err(|error| upstream_error(&error))?;
    let bytes = bounded_body(response, MAX_MANIFEST).await.map_err(ApiError::server)?;
    let digest = format!("sha256:{}", digests::sha256_hex(&bytes));
    if version.contains(':') && version != digest {
        return Err(ApiError::server(format!("{} sent something else for manifest {version}", upstream.host())));
    }
    manifests::media_type_of(&bytes)
        .and_then(|_| serde_json::from_slice(&bytes).ok())
        .map(|json| (digest, json))
        .ok_or_else(|| ApiError::server(format!("{} sent a manifest that cannot be read", upstream.host())))
}

fn is_platform(descriptor: &Value, wanted: &str) -> bool {
    let Some(platform) = descriptor.get("platform") else { return false };
    let get = |key: &str| platform.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut parts = wanted.split('/');
    let (os, architecture, variant) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
    get("os") == os && get("architecture") == architecture && variant.is_none_or(|variant| get("variant") == variant)
}
