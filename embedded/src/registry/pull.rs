//! Reading: manifests, blobs with ranges, tags, the catalogue, referrers.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::pull_through::Fetched;
use super::reply::{RegistryError, Reply, json_reply, reply};
use super::{MAX_PAGE, Query, Registry, manifests, names};
use crate::digests;
use crate::durable::blocking;

/// How much of a blob is read at once, in bytes.
const READ_BUFFER: usize = 128 * 1024;

impl Registry {
    pub(super) async fn get_manifest(&self, name: &str, reference: &str, head: bool) -> Reply {
        if digests::hex_of(reference).is_none() && !names::is_tag(reference) {
            return Err(if reference.contains(':') {
                RegistryError::digest(format!("`{reference}` is not a sha256 digest"))
            } else {
                RegistryError::manifest_unknown(reference)
            });
        }
        let manifest = match &self.pull_through {
            Some(pull_through) => pull_through.manifest(name, reference).await?,
            None => {
                let (storage, name, reference) = (self.storage.clone(), name.to_owned(), reference.to_owned());
                blocking(move || {
                    let hex = match digests::hex_of(&reference) {
                        Some(hex) => Some(hex.to_owned()),
                        None => storage.resolve(&name, &reference)?,
                    };
                    hex.map_or(Ok(None), |hex| storage.manifest(&name, &hex))
                })
                .await?
            }
        };
        let manifest = manifest.ok_or_else(|| RegistryError::manifest_unknown(reference))?;
        let (length, digest) = (manifest.bytes.len().to_string(), format!("sha256:{}", manifest.hex));
        let headers = [
            ("Content-Type", manifest.media_type.as_str()),
            ("Content-Length", &length),
            ("Docker-Content-Digest", &digest),
            ("ETag", &format!("\"{digest}\"")),
        ];
        reply(StatusCode::OK, &headers, if head { Body::empty() } else { Body::from(manifest.bytes) })
    }

    pub(super) async fn get_blob(&self, name: &str, digest: &str, headers: &HeaderMap, head: bool) -> Reply {
        let hex = digests::hex_of(digest)
            .ok_or_else(|| RegistryError::digest(format!("`{digest}` is not a sha256 digest")))?;
        let length = match (&self.pull_through, head) {
            (Some(pull_through), true) => pull_through.blob_length(name, hex).await?,
            (Some(pull_through), false) => match pull_through.blob(name, hex).await? {
                Fetched::Stored(length) => length,
                Fetched::Following { length, body } => return followed(digest, length, body, &self.cancel),
            },
            (None, _) => {
                let (storage, owned, text) = (self.storage.clone(), name.to_owned(), hex.to_owned());
                let length = blocking(move || storage.blob(&owned, &text)).await?;
                length.ok_or_else(|| RegistryError::blob_unknown(digest))?
            }
        };
        let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        let (status, from, count) = match range.map(|text| parse_range(text, length)) {
            None | Some(Range::Ignored) => (StatusCode::OK, 0, length),
            Some(Range::Part { from, count }) => (StatusCode::PARTIAL_CONTENT, from, count),
            Some(Range::Unsatisfiable) => {
                let all = format!("bytes */{length}");
                return reply(StatusCode::RANGE_NOT_SATISFIABLE, &[("Content-Range", &all)], Body::empty());
            }
        };
        let (count_text, etag) = (count.to_string(), format!("\"{digest}\""));
        let content_range = format!("bytes {from}-{}/{length}", (from + count).saturating_sub(1));
        let mut all = vec![
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", count_text.as_str()),
            ("Docker-Content-Digest", digest),
            ("Accept-Ranges", "bytes"),
            ("Cache-Control", "max-age=31536000"),
            ("ETag", &etag),
        ];
        if status == StatusCode::PARTIAL_CONTENT {
            all.push(("Content-Range", &content_range));
        }
        if head {
            return reply(status, &all, Body::empty());
        }
        let mut file = tokio::fs::File::open(self.storage.blob_path(hex)).await?;
        file.seek(std::io::SeekFrom::Start(from)).await?;
        let bytes = ReaderStream::with_capacity(file.take(count), READ_BUFFER);
        reply(status, &all, Body::from_stream(until(bytes, &self.cancel)))
    }

    pub(super) async fn tags(&self, name: &str, query: &Query) -> Reply {
        if let Some(pull_through) = &self.pull_through {
            match pull_through.forward(name, &with_query(&format!("{name}/tags/list"), query)).await {
                Ok(bytes) => return reply(StatusCode::OK, &[("Content-Type", "application/json")], bytes),
                Err(error) if error.is_outage() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (storage, owned) = (self.storage.clone(), name.to_owned());
        let tags = blocking(move || storage.tags(&owned)).await?.ok_or_else(|| {
            RegistryError::new(
                StatusCode::NOT_FOUND,
                "NAME_UNKNOWN",
                format!("repository {name} is not in this registry"),
            )
        })?;
        let (tags, link) = page(tags, query, &format!("/v2/{name}/tags/list"))?;
        let body = json!({"name": name, "tags": tags});
        json_reply(&link.iter().map(|link| ("Link", link.as_str())).collect::<Vec<_>>(), &body)
    }

    pub(super) async fn catalog(&self, query: &Query) -> Reply {
        let storage = self.storage.clone();
        let repositories = blocking(move || storage.repositories()).await?;
        let (repositories, link) = page(repositories, query, "/v2/_catalog")?;
        let body = json!({"repositories": repositories});
        json_reply(&link.iter().map(|link| ("Link", link.as_str())).collect::<Vec<_>>(), &body)
    }

    pub(super) async fn referrers(&self, name: &str, digest: &str, query: &Query) -> Reply {
        let hex = digests::hex_of(digest)
            .ok_or_else(|| RegistryError::digest(format!("`{digest}` is not a sha256 digest")))?;
        if let Some(pull_through) = &self.pull_through {
            match pull_through.forward(name, &with_query(&format!("{name}/referrers/{digest}"), query)).await {
                Ok(bytes) => return reply(StatusCode::OK, &[("Content-Type", manifests::OCI_INDEX)], bytes),
                Err(error) if error.is_outage() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (storage, owned, text) = (self.storage.clone(), name.to_owned(), hex.to_owned());
        let found = blocking(move || storage.referrers(&owned, &text)).await?;
        let wanted = query.get("artifactType");
        let descriptors: Vec<_> = found
            .iter()
            .map(manifests::referrer)
            .filter(|descriptor| wanted.is_none_or(|wanted| descriptor["artifactType"] == wanted))
            .collect();
        let body = json!({"schemaVersion": 2, "mediaType": manifests::OCI_INDEX, "manifests": descriptors}).to_string();
        let mut headers = vec![("Content-Type", manifests::OCI_INDEX)];
        if wanted.is_some() {
            headers.push(("OCI-Filters-Applied", "artifactType"));
        }
        reply(StatusCode::OK, &headers, body)
    }
}

fn followed(digest: &str, length: Option<u64>, body: Body, cancel: &tokio_util::sync::CancellationToken) -> Reply {
    let length = length.map(|length| length.to_string());
    let mut headers = vec![("Content-Type", "application/octet-stream"), ("Docker-Content-Digest", digest)];
    if let Some(length) = &length {
        headers.push(("Content-Length", length));
    }
    // A range of a blob that is still on its way is answered by the whole, as HTTP permits.
    reply(StatusCode::OK, &headers, Body::from_stream(until(body.into_data_stream(), cancel)))
}

fn until<S: futures::Stream>(
    stream: S,
    cancel: &tokio_util::sync::CancellationToken,
) -> impl futures::Stream<Item = S::Item> + use<S> {
    use futures::StreamExt as _;
    stream.take_until(cancel.clone().cancelled_owned())
}

fn with_query(path: &str, query: &Query) -> String {
    if query.0.is_empty() {
        return path.to_owned();
    }
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(&query.0).finish();
    format!("{path}?{text}")
}

/// A page of a sorted list, and the header that leads to the next one.
fn page(all: Vec<String>, query: &Query, path: &str) -> Result<(Vec<String>, Option<String>), RegistryError> {
    let size = match query.get("n") {
        Some(text) => text.parse::<usize>().map_err(|_| {
            RegistryError::new(
                StatusCode::BAD_REQUEST,
                "PAGINATION_NUMBER_INVALID",
                format!("`{text}` is not a number"),
            )
        })?,
        None => MAX_PAGE,
    }
    .min(MAX_PAGE);
    let last = query.get("last");
    let mut rest = all.into_iter().filter(|name| last.is_none_or(|last| name.as_str() > last));
    let names: Vec<String> = rest.by_ref().take(size).collect();
    let link = match (names.last(), rest.next()) {
        (Some(last), Some(_)) => {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("last", last)
                .append_pair("n", &size.to_string())
                .finish();
            Some(format!("<{path}?{query}>; rel=\"next\""))
        }
        _ => None,
    };
    Ok((names, link))
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Ignored,
    Part { from: u64, count: u64 },
    Unsatisfiable,
}

/// Reads a single range of bytes. What is not one is ignored, as HTTP has it.
fn parse_range(text: &str, length: u64) -> Range {
    let Some(range) = text.strip_prefix("bytes=").filter(|range| !range.contains(',')) else { return Range::Ignored };
    let Some((from, to)) = range.split_once('-') else { return Range::Ignored };
    let (from, to) = (from.trim(), to.trim());
    let (from, end) = match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => (from, to.saturating_add(1).min(length)),
        (Ok(from), Err(_)) if to.is_empty() => (from, length),
        (Err(_), Ok(count)) if from.is_empty() => {
            if count == 0 {
                return Range::Unsatisfiable;
            }
            (length.saturating_sub(count), length)
        }
        _ => return Range::Ignored,
    };
    if from >= end { Range::Unsatisfiable } else { Range::Part { from, count: end - from } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("bytes=0-4", Range::Part { from: 0, count: 5 }),
            ("bytes=5-", Range::Part { from: 5, count: 5 }),
            ("bytes=-3", Range::Part { from: 7, count: 3 }),
            ("bytes=-30", Range::Part { from: 0, count: 10 }),
            ("bytes=8-100", Range::Part { from: 8, count: 2 }),
            ("bytes=10-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=4-2", Range::Ignored),
            ("bytes=0-1,3-4", Range::Ignored),
            ("lines=0-1", Range::Ignored),
        ] {
            assert_eq!(parse_range(text, 10), expected, "{text}");
        }
    }

    #[test]
    fn pages_lead_on_and_end() {
        let all = || ["a", "b", "c"].map(str::to_owned).to_vec();
        let query = |text: &str| Query::parse(text);
        let (first, link) = page(all(), &query("n=2"), "/v2/_catalog").unwrap();
        assert_eq!((first.len(), link.as_deref()), (2, Some("</v2/_catalog?last=b&n=2>; rel=\"next\"")));
        let (second, link) = page(all(), &query("n=2&last=b"), "/v2/_catalog").unwrap();
        assert_eq!((second, link), (vec!["c".to_owned()], None));
        assert!(page(all(), &query("n=x"), "/").is_err());
        assert_eq!(page(all(), &query("n=0"), "/").unwrap(), (vec![], None));
    }
}
