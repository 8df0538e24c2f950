//! Where a registry keeps its content: the folder layout of the reference implementation (`docker/registry/v2/…`), so
//! that a volume can be read by either, with two additions that it ignores: the media type beside each manifest's
//! link, and the referrers of a subject.
//!
//! All is blocking file work without state in memory, so that two registries can share a volume. Content appears under
//! its digest only when it is complete, verified and synced.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::manifests::{self, Manifest};
use crate::{digests, durable};

/// Uploads that nobody continued for so long are removed when the registry starts.
const UPLOAD_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How deep the names of repositories nest at most when they are listed.
const MAX_DEPTH: usize = 32;

/// A registry's content.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    root: PathBuf,
}

impl Storage {
    /// Opens or makes the content below a folder, and sweeps what was never finished.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let root = folder.join("docker/registry/v2");
        for part in ["blobs/sha256", "repositories", "uploads"] {
            durable::make_folder(&root.join(part))?;
        }
        let storage = Self { root };
        storage.sweep_uploads()?;
        Ok(storage)
    }

    fn sweep_uploads(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(self.root.join("uploads"))? {
            let entry = entry?;
            let age = entry.metadata()?.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
            if age.is_some_and(|age| age > UPLOAD_AGE) {
                // Another registry on the same volume may have swept it already.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// The file of an upload under way. The repository is part of the name, so that an upload continues only where
    /// it began.
    pub(crate) fn upload_path(&self, repository: &str, id: &str) -> PathBuf {
        self.root.join("uploads").join(format!("{}-{id}", &digests::sha256_hex(repository.as_bytes())[..16]))
    }

    /// The file of a blob, whether it is there or not.
    pub(crate) fn blob_path(&self, hex: &str) -> PathBuf {
        self.root.join("blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.root.join("repositories").join(name)
    }

    fn layer_link(&self, name: &str, hex: &str) -> PathBuf {
        self.repository(name).join("_layers/sha256").join(hex).join("link")
    }

    fn revision(&self, name: &str, hex: &str) -> PathBuf {
        self.repository(name).join("_manifests/revisions/sha256").join(hex)
    }

    fn tag_link(&self, name: &str, tag: &str) -> PathBuf {
        self.repository(name).join("_manifests/tags").join(tag).join("current/link")
    }

    fn referrers_folder(&self, name: &str, subject: &str) -> PathBuf {
        self.repository(name).join("_referrers/sha256").join(subject)
    }

    /// The length of a blob that a repository holds.
    pub(crate) fn blob(&self, name: &str, hex: &str) -> io::Result<Option<u64>> {
        if !self.layer_link(name, hex).exists() {
            return Ok(None);
        }
        match std::fs::metadata(self.blob_path(hex)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes a finished file, whose digest was verified, as a blob of a repository.
    pub(crate) fn commit_blob(&self, name: &str, hex: &str, file: &Path) -> io::Result<()> {
        let path = self.blob_path(hex);
        if path.exists() {
            std::fs::remove_file(file)?;
        } else {
            std::fs::File::open(file)?.sync_all()?;
            if let Some(folder) = path.parent() {
                durable::make_folder(folder)?;
                durable::publish(file, &path)?;
                folder.parent().map_or(Ok(()), durable::sync_folder)?;
            }
        }
        self.link_blob(name, hex)
    }

    /// Gives a repository a blob that is stored already.
    pub(crate) fn link_blob(&self, name: &str, hex: &str) -> io::Result<()> {
        write_link(&self.layer_link(name, hex), hex)
    }

    /// Takes a blob from a repository; answers whether it had it. The bytes stay for other repositories.
    pub(crate) fn unlink_blob(&self, name: &str, hex: &str) -> io::Result<bool> {
        durable::remove(&self.layer_link(name, hex))
    }

    /// Stores a manifest, and then its tag, if it has one.
    pub(crate) fn put_manifest(
        &self,
        name: &str,
        manifest: &Manifest,
        subject: Option<&str>,
        tag: Option<&str>,
    ) -> io::Result<()> {
        let path = self.blob_path(&manifest.hex);
        if let Some(folder) = path.parent()
            && !path.exists()
        {
            durable::make_folder(folder)?;
            durable::write(&path, &manifest.bytes)?;
        }
        let revision = self.revision(name, &manifest.hex);
        durable::make_folder(&revision)?;
        durable::write(&revision.join("media-type"), manifest.media_type.as_bytes())?;
        write_link(&revision.join("link"), &manifest.hex)?;
        if let Some(subject) = subject {
            write_link(&self.referrers_folder(name, subject).join(&manifest.hex).join("link"), &manifest.hex)?;
        }
        tag.map_or(Ok(()), |tag| self.tag(name, tag, &manifest.hex))
    }

    /// Points a tag at a manifest.
    pub(crate) fn tag(&self, name: &str, tag: &str, hex: &str) -> io::Result<()> {
        write_link(&self.tag_link(name, tag), hex)
    }

    /// The manifest that a tag points at.
    pub(crate) fn resolve(&self, name: &str, tag: &str) -> io::Result<Option<String>> {
        let Some(bytes) = durable::read(&self.tag_link(name, tag))? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        Ok(digests::hex_of(text.trim()).map(str::to_owned))
    }

    /// A manifest by digest.
    pub(crate) fn manifest(&self, name: &str, hex: &str) -> io::Result<Option<Manifest>> {
        let revision = self.revision(name, hex);
        if !revision.join("link").exists() {
            return Ok(None);
        }
        let Some(bytes) = durable::read(&self.blob_path(hex))? else { return Ok(None) };
        let media_type = match durable::read(&revision.join("media-type"))? {
            Some(text) => String::from_utf8_lossy(&text).into_owned(),
            None => manifests::media_type_of(&bytes).unwrap_or_default(),
        };
        Ok(Some(Manifest { hex: hex.to_owned(), media_type, bytes }))
    }

    /// Removes a tag; answers whether it was there.
    pub(crate) fn untag(&self, name: &str, tag: &str) -> io::Result<bool> {
        let link = self.tag_link(name, tag);
        let was = durable::remove(&link)?;
        if let Some(folder) = link.parent().and_then(Path::parent) {
            // What the reference implementation keeps of a tag's past goes with it.
            let _ = std::fs::remove_dir_all(folder);
        }
        Ok(was)
    }

    /// Removes a manifest from a repository with the tags that point at it; answers whether it was there.
    pub(crate) fn remove_manifest(&self, name: &str, hex: &str) -> io::Result<bool> {
        let Some(manifest) = self.manifest(name, hex)? else { return Ok(false) };
        for tag in self.tags(name)?.unwrap_or_default() {
            if self.resolve(name, &tag)?.as_deref() == Some(hex) {
                self.untag(name, &tag)?;
            }
        }
        if let Some(subject) = manifests::subject_of(&manifest.bytes) {
            let link = self.referrers_folder(name, &subject).join(hex);
            durable::remove(&link.join("link"))?;
        }
        durable::remove(&self.revision(name, hex).join("link"))
    }

    /// The tags of a repository in order of their texts; `None` if there is no such repository.
    pub(crate) fn tags(&self, name: &str) -> io::Result<Option<Vec<String>>> {
        if !self.repository(name).join("_manifests").exists() {
            return Ok(None);
        }
        let mut tags = list(&self.repository(name).join("_manifests/tags"))?;
        tags.retain(|tag| self.tag_link(name, tag).exists());
        Ok(Some(tags))
    }

    /// The manifests that name a subject.
    pub(crate) fn referrers(&self, name: &str, subject: &str) -> io::Result<Vec<Manifest>> {
        let mut found = Vec::new();
        for hex in list(&self.referrers_folder(name, subject))? {
            if let Some(manifest) = self.manifest(name, &hex)? {
                found.push(manifest);
            }
        }
        Ok(found)
    }

    /// The names of all repositories that were pushed to, in order.
    pub(crate) fn repositories(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        collect_repositories(&self.root.join("repositories"), "", 0, &mut found)?;
        found.sort();
        Ok(found)
    }
}

fn write_link(path: &Path, hex: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        durable::make_folder(folder)?;
    }
    durable::write(path, format!("sha256:{hex}").as_bytes())
}

fn list(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && !name.ends_with(durable::TEMPORARY)
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn collect_repositories(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    for part in list(folder)? {
        if part == "_manifests" && !prefix.is_empty() {
            found.push(prefix.to_owned());
        }
        if !part.starts_with('_') {
            let name = if prefix.is_empty() { part.clone() } else { format!("{prefix}/{part}") };
            collect_repositories(&folder.join(part), &name, depth + 1, found)?;
        }
    }
    Ok(())
}
