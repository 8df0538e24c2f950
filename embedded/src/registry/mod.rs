//! An OCI registry (distribution specification 1.1): push, pull, listing, deletion, referrers, and pull-through.

pub(crate) mod manifests;
mod names;
mod pull;
mod pull_through;
mod push;
mod reply;
mod storage;

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::neighbours::Neighbourhood;
use ksail_registry_client::{Credentials, Upstream, UpstreamError};
use names::Resource;
pub(crate) use names::{is_repository, is_tag};
use pull_through::PullThrough;
use reply::{RegistryError, Reply, reply};
use storage::Storage;

/// The longest manifest, in bytes, as the specification suggests.
pub(crate) const MAX_MANIFEST: usize = 4 * 1024 * 1024;
/// The longest blob, in bytes.
pub(crate) const MAX_BLOB: u64 = 64 * 1024 * 1024 * 1024;
/// How many names a page of a list holds at most, and where the client does not say.
const MAX_PAGE: usize = 10_000;

/// How a registry behaves.
pub(crate) struct RegistryOptions {
    /// Where it pulls through from, if it does.
    pub(crate) upstream: Option<(String, Option<Credentials>)>,
    /// What it reaches by name.
    pub(crate) neighbourhood: Neighbourhood,
    /// Whether manifests, tags and blobs can be deleted.
    pub(crate) delete: bool,
}

/// Why a registry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Its folder cannot be used.
    #[error("the registry's folder {folder} cannot be used")]
    Folder {
        /// The folder.
        folder: String,
        /// Why.
        source: std::io::Error,
    },
    /// Its upstream cannot be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// A registry that serves requests.
pub(crate) struct Registry {
    storage: Storage,
    pull_through: Option<Arc<PullThrough>>,
    delete: bool,
    cancel: CancellationToken,
    uploads: push::Uploads,
}

impl Registry {
    /// Opens the registry in a folder.
    pub(crate) fn open(folder: &Path, options: RegistryOptions, cancel: CancellationToken) -> Result<Self, OpenError> {
        let storage = Storage::open(folder)
            .map_err(|source| OpenError::Folder { folder: folder.display().to_string(), source })?;
        let pull_through = match options.upstream {
            Some((address, credentials)) => {
                let upstream = Upstream::new(&address, credentials)?.within(options.neighbourhood)?;
                Some(Arc::new(PullThrough::new(upstream, storage.clone(), cancel.clone())))
            }
            None => None,
        };
        Ok(Self { storage, pull_through, delete: options.delete, cancel, uploads: push::Uploads::default() })
    }

    /// Answers a request.
    pub(crate) async fn serve(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let stopping = || {
            RegistryError::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "the registry is stopping")
                .into_response()
        };
        let cancel = self.cancel.clone();
        let has_body = !matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE);
        let mut response = tokio::select! {
            reply = self.route(request) => reply.unwrap_or_else(RegistryError::into_response),
            () = cancel.cancelled() => stopping(),
        };
        let version = HeaderValue::from_static("registry/2.0");
        response.headers_mut().insert("Docker-Distribution-Api-Version", version);
        if has_body && !response.status().is_success() {
            // The rest of a refused body is not read; the client must not send another request behind it.
            response.headers_mut().insert(axum::http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn route(&self, request: Request<Body>) -> Reply {
        let (parts, body) = request.into_parts();
        let path = percent_encoding::percent_decode_str(parts.uri.path()).decode_utf8_lossy().into_owned();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let not_found = || RegistryError::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this path");
        let resource = Resource::parse(&path).ok_or_else(not_found)?;
        if let Some(name) = resource.name()
            && !names::is_repository(name)
        {
            return Err(RegistryError::new(
                StatusCode::BAD_REQUEST,
                "NAME_INVALID",
                format!("`{name}` is not a repository's name"),
            ));
        }
        let changes = !matches!(parts.method, Method::GET | Method::HEAD);
        if changes && self.pull_through.is_some() {
            return Err(RegistryError::unsupported("this registry mirrors an upstream and takes nothing itself"));
        }
        let head = parts.method == Method::HEAD;
        match (&parts.method, resource) {
            (&Method::GET | &Method::HEAD, Resource::Base) => {
                reply(StatusCode::OK, &[("Content-Type", "application/json")], "{}")
            }
            (&Method::GET, Resource::Catalog) => self.catalog(&query).await,
            (&Method::GET, Resource::Tags { name }) => self.tags(name, &query).await,
            (&Method::GET, Resource::Referrers { name, digest }) => self.referrers(name, digest, &query).await,
            (&Method::GET | &Method::HEAD, Resource::Manifest { name, reference }) => {
                self.get_manifest(name, reference, head).await
            }
            (&Method::PUT, Resource::Manifest { name, reference }) => {
                self.put_manifest(name, reference, &parts.headers, body).await
            }
            (&Method::DELETE, Resource::Manifest { name, reference }) => self.delete_manifest(name, reference).await,
            (&Method::GET | &Method::HEAD, Resource::Blob { name, digest }) => {
                self.get_blob(name, digest, &parts.headers, head).await
            }
            (&Method::DELETE, Resource::Blob { name, digest }) => self.delete_blob(name, digest).await,
            (&Method::POST, Resource::Uploads { name }) => self.begin_upload(name, &query, body).await,
            (&Method::GET, Resource::Upload { name, id }) => self.upload_status(name, id).await,
            (&Method::PATCH, Resource::Upload { name, id }) => self.append_upload(name, id, &parts.headers, body).await,
            (&Method::PUT, Resource::Upload { name, id }) => {
                self.finish_upload(name, id, &query, &parts.headers, body).await
            }
            (&Method::DELETE, Resource::Upload { name, id }) => self.cancel_upload(name, id).await,
            _ => Err(RegistryError::unsupported("this method is not one of this path's")),
        }
    }
}

/// The pairs of a query.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}
