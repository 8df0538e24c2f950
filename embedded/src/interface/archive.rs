//! Loading images from a tar: the layout of `docker save`, and OCI layouts. The tar may be compressed by gzip.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::StatusCode;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::images;
use super::reply::{ApiError, Reply, typed};
use crate::digests::{self, Hasher};
use crate::durable;
use crate::engine::Engine;
use crate::reference::{Reference, familiar};
use crate::world::Image;

/// The longest archive, in bytes.
const MAX_ARCHIVE: u64 = 64 * 1024 * 1024 * 1024;
/// How many entries an archive may have.
const MAX_ENTRIES: usize = 100_000;
/// The longest document (manifest, index, configuration) in an archive, in bytes.
const MAX_DOCUMENT: usize = 8 * 1024 * 1024;

/// An archive whose files were taken out, each under its digest.
struct Unpacked {
    folder: PathBuf,
    /// Paths in the archive, to digest and length.
    files: HashMap<String, (String, u64)>,
}

/// An image of an archive.
struct Found {
    image: Image,
    tags: Vec<String>,
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad(format!("invalid archive: {}", message.into()))
}

impl Engine {
    pub(super) async fn load_images(&self, body: Body) -> Reply {
        let spool = self.folder.path.join("content").join(format!("{}{}", uuid::Uuid::new_v4(), durable::TEMPORARY));
        let _guard = Spool(spool.clone());
        durable::make_folder(&spool)?;
        let archive = spool.join("archive.tar");
        let mut file = tokio::fs::File::from_std(durable::create_file(&archive)?);
        let (mut chunks, mut length) = (body.into_data_stream(), 0_u64);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| invalid(format!("it broke off: {error}")))?;
            length += chunk.len() as u64;
            if length > MAX_ARCHIVE {
                return Err(invalid(format!("it is longer than {MAX_ARCHIVE} bytes")));
            }
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        drop(file);
        let content = self.folder.path.join("content");
        let found = tokio::task::spawn_blocking(move || {
            let unpacked = unpack(&archive, &spool)?;
            let found = read_images(&unpacked)?;
            // The world learns of the blobs only after they are in place.
            unpacked.publish(&found, &content)?;
            Ok::<_, ApiError>(found)
        })
        .await
        .map_err(|error| ApiError::server(error.to_string()))??;
        let mut world = self.world.lock().await;
        let mut lines = String::new();
        for Found { image, tags } in found {
            let id = image.id.clone();
            images::keep(&mut world, image)?;
            if tags.is_empty() {
                lines.push_str(&format!("{}\n", json!({"stream": format!("Loaded image ID: {id}\n")})));
            }
            for tag in tags {
                images::set_tag(&mut world, &tag, &id)?;
                lines.push_str(&format!("{}\n", json!({"stream": format!("Loaded image: {}\n", familiar(&tag))})));
            }
        }
        typed(StatusCode::OK, "application/json", lines)
    }
}

/// Removes what was spooled.
struct Spool(PathBuf);

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn unpack(archive: &Path, folder: &Path) -> Result<Unpacked, ApiError> {
    let mut file = File::open(archive)?;
    let mut magic = [0; 2];
    let is_gzip = file.read(&mut magic)? == 2 && magic == [0x1f, 0x8b];
    file.rewind()?;
    let reader: Box<dyn Read> = if is_gzip {
        Box::new(flate2::read::GzDecoder::new(BufReader::new(file)).take(MAX_ARCHIVE))
    } else {
        Box::new(BufReader::new(file))
    };
    let mut tar = tar::Archive::new(reader);
    let mut files = HashMap::new();
    let mut links = Vec::new();
    for (index, entry) in tar.entries().map_err(|error| invalid(error.to_string()))?.enumerate() {
        if index >= MAX_ENTRIES {
            return Err(invalid(format!("it has more than {MAX_ENTRIES} entries")));
        }
        let mut entry = entry.map_err(|error| invalid(error.to_string()))?;
        let name = normal(&entry.path().map_err(|error| invalid(error.to_string()))?.to_string_lossy());
        let kind = entry.header().entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            if let Ok(Some(target)) = entry.link_name() {
                links.push((name, target.to_string_lossy().into_owned(), kind.is_symlink()));
            }
        } else if kind.is_file() {
            files.insert(name, take_out(&mut entry, folder)?);
        }
    }
    // `docker save` links layers that occur twice.
    for (name, target, relative) in links {
        let target = match name.rsplit_once('/') {
            Some((folder, _)) if relative => normal(&format!("{folder}/{target}")),
            _ => normal(&target),
        };
        if let Some(file) = files.get(&target).cloned() {
            files.insert(name, file);
        }
    }
    Ok(Unpacked { folder: folder.to_owned(), files })
}

/// A path without `.`, `..` and doubled separators. It is looked up in a map and never on disk.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn take_out(entry: &mut impl Read, folder: &Path) -> Result<(String, u64), ApiError> {
    let temporary = folder.join("entry");
    let mut file = durable::create_file(&temporary)?;
    let (mut hasher, mut length, mut buffer) = (Hasher::default(), 0, vec![0; 128 * 1024]);
    loop {
        let read = entry.read(&mut buffer).map_err(|error| invalid(error.to_string()))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read])?;
        length += read as u64;
    }
    file.sync_all()?;
    let hex = hasher.finish();
    std::fs::rename(&temporary, folder.join(&hex))?;
    Ok((hex, length))
}

impl Unpacked {
    fn document(&self, path: &str) -> Result<Option<Value>, ApiError> {
        let Some((hex, length)) = self.files.get(&normal(path)) else { return Ok(None) };
        if *length > MAX_DOCUMENT as u64 {
            return Err(invalid(format!("{path} is longer than {MAX_DOCUMENT} bytes")));
        }
        let bytes = std::fs::read(self.folder.join(hex))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|_| invalid(format!("{path} is not JSON")))
    }

    fn file(&self, path: &str) -> Result<&(String, u64), ApiError> {
        self.files.get(&normal(path)).ok_or_else(|| invalid(format!("{path} is not in it")))
    }

    fn publish(&self, found: &[Found], content: &Path) -> io::Result<()> {
        for hex in found.iter().flat_map(|found| &found.image.blobs).filter_map(|digest| digests::hex_of(digest)) {
            let (from, to) = (self.folder.join(hex), content.join(hex));
            if !to.exists() {
                std::fs::rename(from, to)?;
            }
        }
        durable::sync_folder(content)
    }
}

fn read_images(archive: &Unpacked) -> Result<Vec<Found>, ApiError> {
    if let Some(manifest) = archive.document("manifest.json")? {
        return manifest
            .as_array()
            .ok_or_else(|| invalid("manifest.json is not a list"))?
            .iter()
            .map(|entry| saved(archive, entry))
            .collect();
    }
    if let Some(index) = archive.document("index.json")? {
        let mut found = Vec::new();
        for descriptor in index.get("manifests").and_then(Value::as_array).into_iter().flatten() {
            found.push(from_layout(archive, descriptor)?);
        }
        return Ok(found);
    }
    Err(invalid("it has neither manifest.json nor index.json"))
}

fn tag(text: &str) -> Result<String, ApiError> {
    let reference = Reference::parse(text).filter(|reference| !reference.is_digest());
    reference.map(|reference| reference.full()).ok_or_else(|| invalid(format!("`{text}` is not a reference")))
}

fn saved(archive: &Unpacked, entry: &Value) -> Result<Found, ApiError> {
    let config_path = entry.get("Config").and_then(Value::as_str).ok_or_else(|| invalid("an image has no Config"))?;
    let config = archive.document(config_path)?.ok_or_else(|| invalid(format!("{config_path} is not in it")))?;
    let (hex, mut size) = archive.file(config_path)?.clone();
    let mut blobs = vec![format!("sha256:{hex}")];
    for path in entry.get("Layers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let (layer, length) = archive.file(path)?;
        size += length;
        blobs.push(format!("sha256:{layer}"));
    }
    let tags = entry.get("RepoTags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let tags = tags.map(tag).collect::<Result<_, _>>()?;
    let image = Image { id: format!("sha256:{hex}"), digests: Vec::new(), size, config, blobs };
    Ok(Found { image, tags })
}

fn from_layout(archive: &Unpacked, descriptor: &Value) -> Result<Found, ApiError> {
    let blob = |descriptor: &Value| {
        let digest = descriptor.get("digest").and_then(Value::as_str).unwrap_or_default();
        let hex =
            digests::hex_of(digest).ok_or_else(|| invalid(format!("`{digest}` is not a sha256 digest")))?.to_owned();
        let path = format!("blobs/sha256/{hex}");
        match archive.file(&path)? {
            (found, length) if *found == hex => Ok::<_, ApiError>((path, hex, *length)),
            _ => Err(invalid(format!("{path} is not of its digest"))),
        }
    };
    let (path, _, _) = blob(descriptor)?;
    let mut manifest = archive.document(&path)?.unwrap_or_default();
    if let Some(children) = manifest.get("manifests").and_then(Value::as_array) {
        let here = |child: &&Value| {
            let architecture = child.get("platform").and_then(|platform| platform.get("architecture")?.as_str());
            architecture == Some(crate::world::architecture())
        };
        let child = children.iter().find(here).or_else(|| children.first().filter(|_| children.len() == 1));
        let child = child.ok_or_else(|| invalid("its index has no image of this machine's architecture"))?;
        manifest = archive.document(&blob(child)?.0)?.unwrap_or_default();
    }
    let (config_path, hex, mut size) = blob(manifest.get("config").unwrap_or(&Value::Null))?;
    let config = archive.document(&config_path)?.unwrap_or_default();
    let mut blobs = vec![format!("sha256:{hex}")];
    for layer in manifest.get("layers").and_then(Value::as_array).into_iter().flatten() {
        let (_, layer, length) = blob(layer)?;
        size += length;
        blobs.push(format!("sha256:{layer}"));
    }
    let annotation = |key: &str| descriptor.get("annotations").and_then(|annotations| annotations.get(key)?.as_str());
    // A bare tag without a name (`latest`) names no image here.
    let name = annotation("io.containerd.image.name")
        .or_else(|| annotation("org.opencontainers.image.ref.name").filter(|name| name.contains(['/', ':'])));
    let tags = name.map(tag).transpose()?.into_iter().collect();
    let image = Image { id: format!("sha256:{hex}"), digests: Vec::new(), size, config, blobs };
    Ok(Found { image, tags })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_brought_to_one_form() {
        for (path, expected) in [("./a//b", "a/b"), ("a/../b", "b"), ("../../x", "x"), ("/a/./b/", "a/b")] {
            assert_eq!(normal(path), expected);
        }
    }
}
