//! Writing: uploads in one piece or many, mounts, manifests, deletions.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use super::manifests::Manifest;
use super::reply::{RegistryError, Reply, reply};
use super::{MAX_BLOB, MAX_MANIFEST, Query, Registry, manifests, names};
use crate::digests;
use crate::durable::{self, blocking};

/// Uploads that a request is writing to now, so that two requests never mix their bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Uploads(Arc<Mutex<HashSet<String>>>);

struct Writing {
    uploads: Uploads,
    id: String,
}

impl Uploads {
    fn enter(&self, id: &str) -> Result<Writing, RegistryError> {
        let entered = self.0.lock().is_ok_and(|mut ids| ids.insert(id.to_owned()));
        if entered {
            Ok(Writing { uploads: self.clone(), id: id.to_owned() })
        } else {
            Err(RegistryError::new(
                StatusCode::CONFLICT,
                "BLOB_UPLOAD_INVALID",
                format!("another request is writing to upload {id}"),
            ))
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Ok(mut ids) = self.uploads.0.lock() {
            ids.remove(&self.id);
        }
    }
}

fn location(name: &str, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// The header `Range` of an upload: what it holds already. The form is the specification's, with `0-0` for nothing.
fn held(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}

impl Registry {
    pub(super) async fn begin_upload(&self, name: &str, query: &Query, body: Body) -> Reply {
        if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from"))
            && let Some(hex) = digests::hex_of(digest)
            && names::is_repository(from)
        {
            let (storage, from, owned, hex) = (self.storage.clone(), from.to_owned(), name.to_owned(), hex.to_owned());
            let mounted = blocking(move || match storage.blob(&from, &hex)? {
                Some(_) => storage.link_blob(&owned, &hex).map(|()| true),
                None => Ok(false),
            })
            .await?;
            if mounted {
                return created_blob(name, digest);
            }
        }
        let id = uuid::Uuid::new_v4().to_string();
        let file = self.storage.upload_path(name, &id);
        blocking(move || durable::create_file(&file)).await?;
        if query.get("digest").is_some() {
            return self.finish_upload(name, &id, query, &HeaderMap::new(), body).await;
        }
        let headers = [("Location", location(name, &id)), ("Range", held(0)), ("Docker-Upload-UUID", id)];
        reply(StatusCode::ACCEPTED, &headers.each_ref().map(|(key, value)| (*key, value.as_str())), Body::empty())
    }

    /// The length of an upload under way.
    async fn upload_length(&self, name: &str, id: &str) -> Result<u64, RegistryError> {
        if uuid::Uuid::parse_str(id).is_err() {
            return Err(RegistryError::upload_unknown(id));
        }
        match tokio::fs::metadata(self.storage.upload_path(name, id)).await {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(RegistryError::upload_unknown(id)),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn upload_status(&self, name: &str, id: &str) -> Reply {
        let length = self.upload_length(name, id).await?;
        let headers =
            [("Location", location(name, id)), ("Range", held(length)), ("Docker-Upload-UUID", id.to_owned())];
        reply(StatusCode::NO_CONTENT, &headers.each_ref().map(|(key, value)| (*key, value.as_str())), Body::empty())
    }

    pub(super) async fn append_upload(&self, name: &str, id: &str, headers: &HeaderMap, body: Body) -> Reply {
        let length = self.upload_length(name, id).await?;
        let writing = self.uploads.enter(id)?;
        let length = self.append(name, id, length, headers, body).await?;
        drop(writing);
        let headers =
            [("Location", location(name, id)), ("Range", held(length)), ("Docker-Upload-UUID", id.to_owned())];
        reply(StatusCode::ACCEPTED, &headers.each_ref().map(|(key, value)| (*key, value.as_str())), Body::empty())
    }

    /// Adds a body to an upload; answers its new length. What arrived before a connection broke stays, and the
    /// client can go on from there.
    async fn append(
        &self,
        name: &str,
        id: &str,
        mut length: u64,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<u64, RegistryError> {
        if let Some(range) = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()) {
            let start = range.trim_start_matches("bytes ").split('-').next().and_then(|text| text.trim().parse().ok());
            if start != Some(length) {
                return Err(RegistryError::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "BLOB_UPLOAD_INVALID",
                    format!("the chunk `{range}` does not begin where the upload ends, at {length}"),
                ));
            }
        }
        let file = self.storage.upload_path(name, id);
        let mut file = tokio::fs::OpenOptions::new().append(true).open(file).await?;
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                RegistryError::new(
                    StatusCode::BAD_REQUEST,
                    "BLOB_UPLOAD_INVALID",
                    format!("the upload broke off: {error}"),
                )
            })?;
            length += chunk.len() as u64;
            if length > MAX_BLOB {
                return Err(RegistryError::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "SIZE_INVALID",
                    format!("a blob is at most {MAX_BLOB} bytes long"),
                ));
            }
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        Ok(length)
    }

    pub(super) async fn finish_upload(
        &self,
        name: &str,
        id: &str,
        query: &Query,
        headers: &HeaderMap,
        body: Body,
    ) -> Reply {
        let length = self.upload_length(name, id).await?;
        let digest = query.get("digest").unwrap_or_default();
        let wanted = digests::hex_of(digest)
            .ok_or_else(|| RegistryError::digest(format!("`{digest}` is not a sha256 digest")))?;
        let _writing = self.uploads.enter(id)?;
        self.append(name, id, length, headers, body).await?;
        let (storage, owned, hex) = (self.storage.clone(), name.to_owned(), wanted.to_owned());
        let file = self.storage.upload_path(name, id);
        // Hashed from the file: what was verified is what is stored, however many requests it came in.
        let found = blocking(move || {
            let (found, _) = digests::hash_file(&file)?;
            if found == hex {
                storage.commit_blob(&owned, &hex, &file)?;
            } else {
                std::fs::remove_file(&file)?;
            }
            Ok(found)
        })
        .await?;
        if found != wanted {
            return Err(RegistryError::digest(format!("the content is sha256:{found}, not {digest}")));
        }
        created_blob(name, digest)
    }

    pub(super) async fn cancel_upload(&self, name: &str, id: &str) -> Reply {
        self.upload_length(name, id).await?;
        let _writing = self.uploads.enter(id)?;
        let file = self.storage.upload_path(name, id);
        blocking(move || durable::remove(&file)).await?;
        reply(StatusCode::NO_CONTENT, &[], Body::empty())
    }

    pub(super) async fn put_manifest(&self, name: &str, reference: &str, headers: &HeaderMap, body: Body) -> Reply {
        let invalid = |message: String| RegistryError::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message);
        let bytes = axum::body::to_bytes(body, MAX_MANIFEST).await.map_err(|_| {
            let message = format!("a manifest is at most {MAX_MANIFEST} bytes long, or it broke off");
            RegistryError::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message)
        })?;
        let hex = digests::sha256_hex(&bytes);
        let tag = match digests::hex_of(reference) {
            Some(wanted) if wanted != hex => {
                return Err(RegistryError::digest(format!("the manifest is sha256:{hex}, not {reference}")));
            }
            Some(_) => None,
            None if names::is_tag(reference) => Some(reference.to_owned()),
            None => return Err(invalid(format!("`{reference}` is neither a tag nor a sha256 digest"))),
        };
        let stated = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let stated = stated.map(|text| text.split(';').next().unwrap_or(text).trim().to_owned());
        let media_type = stated.or_else(|| manifests::media_type_of(&bytes)).unwrap_or_default();
        let needs = manifests::needs(&bytes, &media_type).map_err(|error| invalid(error.to_string()))?;
        let subject = manifests::subject_of(&bytes);
        let manifest = Manifest { hex: hex.clone(), media_type, bytes: bytes.to_vec() };
        let (storage, owned, kept_subject) = (self.storage.clone(), name.to_owned(), subject.clone());
        let missing = blocking(move || {
            for blob in &needs.blobs {
                if storage.blob(&owned, blob)?.is_none() {
                    return Ok(Some(blob.clone()));
                }
            }
            for needed in &needs.manifests {
                if storage.manifest(&owned, needed)?.is_none() {
                    return Ok(Some(needed.clone()));
                }
            }
            storage.put_manifest(&owned, &manifest, kept_subject.as_deref(), tag.as_deref())?;
            Ok(None)
        })
        .await?;
        if let Some(missing) = missing {
            return Err(RegistryError::new(
                StatusCode::BAD_REQUEST,
                "MANIFEST_BLOB_UNKNOWN",
                format!("sha256:{missing}, which the manifest names, is not in this repository"),
            ));
        }
        let digest = format!("sha256:{hex}");
        let location = format!("/v2/{name}/manifests/{digest}");
        let mut headers = vec![("Location", location), ("Docker-Content-Digest", digest)];
        if let Some(subject) = subject {
            headers.push(("OCI-Subject", format!("sha256:{subject}")));
        }
        let headers: Vec<_> = headers.iter().map(|(key, value)| (*key, value.as_str())).collect();
        reply(StatusCode::CREATED, &headers, Body::empty())
    }

    pub(super) async fn delete_manifest(&self, name: &str, reference: &str) -> Reply {
        self.check_deletion()?;
        let (storage, owned, text) = (self.storage.clone(), name.to_owned(), reference.to_owned());
        let was = if digests::hex_of(reference).is_some() {
            blocking(move || storage.remove_manifest(&owned, digests::hex_of(&text).unwrap_or_default())).await?
        } else if names::is_tag(reference) {
            blocking(move || storage.untag(&owned, &text)).await?
        } else {
            false
        };
        if !was {
            return Err(RegistryError::manifest_unknown(reference));
        }
        reply(StatusCode::ACCEPTED, &[], Body::empty())
    }

    pub(super) async fn delete_blob(&self, name: &str, digest: &str) -> Reply {
        self.check_deletion()?;
        let hex = digests::hex_of(digest)
            .ok_or_else(|| RegistryError::digest(format!("`{digest}` is not a sha256 digest")))?;
        let (storage, owned, hex) = (self.storage.clone(), name.to_owned(), hex.to_owned());
        if !blocking(move || storage.unlink_blob(&owned, &hex)).await? {
            return Err(RegistryError::blob_unknown(digest));
        }
        reply(StatusCode::ACCEPTED, &[("Docker-Content-Digest", digest)], Body::empty())
    }

    fn check_deletion(&self) -> Result<(), RegistryError> {
        if self.delete {
            return Ok(());
        }
        Err(RegistryError::unsupported("deletion is switched off, by REGISTRY_STORAGE_DELETE_ENABLED"))
    }
}

fn created_blob(name: &str, digest: &str) -> Reply {
    let location = format!("/v2/{name}/blobs/{digest}");
    reply(StatusCode::CREATED, &[("Location", &location), ("Docker-Content-Digest", digest)], Body::empty())
}
