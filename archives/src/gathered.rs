//! An archive that is put together of blobs as they come, one after the other. What is written where is said here; whoever gathers
//! them writes it.

use std::collections::BTreeSet;

use ksail_kinds::canonical_reference;

use crate::Error;
use crate::documents::{Descriptor, INDEX, Index, MANIFEST, Manifest, NAME, REF_NAME};
use crate::layout::{is_attestation, is_for};
use crate::parts::path;
use crate::write::{LAYOUT, header};

/// The size of what a tar is made of, in bytes.
const BLOCK: usize = 512;

/// A blob that something leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// `sha256:…`.
    pub digest: String,
    /// In bytes.
    pub size: u64,
}

/// What a document leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadsTo {
    /// The manifest or index of one platform.
    Platform(Blob),
    /// The configuration and layers of an image.
    Blobs(Vec<Blob>),
}

/// What a manifest or an index leads to: of several platforms the one for this architecture, as Rust calls it (`x86_64`).
///
/// # Errors
/// It is neither, or has no such platform.
pub fn leads_to(document: &[u8], architecture: &str) -> Result<LeadsTo, Error> {
    let unread = |error: serde_json::Error| Error::Document { name: "manifest".to_owned(), why: error.to_string() };
    let fields: serde_json::Value = serde_json::from_slice(document).map_err(unread)?;
    let blob = |descriptor: &Descriptor| Blob { digest: descriptor.digest.clone(), size: descriptor.size };
    if fields.get("manifests").is_none() {
        let manifest: Manifest = serde_json::from_slice(document).map_err(unread)?;
        return Ok(LeadsTo::Blobs(std::iter::once(&manifest.config).chain(&manifest.layers).map(blob).collect()));
    }
    let index: Index = serde_json::from_slice(document).map_err(unread)?;
    let mut images = index.manifests.iter().filter(|one| !is_attestation(one));
    // An index of one image may leave out what it is for.
    let only = images.clone().next().filter(|one| one.platform.is_none() && images.clone().count() == 1);
    let found = images.find(|one| is_for(one, architecture)).or(only);
    let none =
        || Error::Document { name: "index".to_owned(), why: format!("it has no image for linux on {architecture}") };
    found.map(blob).map(LeadsTo::Platform).ok_or_else(none)
}

/// The archive as far as it is gathered: an OCI layout.
#[derive(Debug, Default)]
pub struct Gathered {
    held: BTreeSet<String>,
    named: Vec<Descriptor>,
}

impl Gathered {
    /// What comes before the bytes of a blob; `None` where the archive holds it already.
    pub fn begin(&mut self, blob: &Blob) -> Option<Vec<u8>> {
        self.held.insert(blob.digest.clone()).then(|| entry(&path(&blob.digest), blob.size)).flatten()
    }

    /// What comes after the bytes of a blob.
    pub fn end(blob: &Blob) -> Vec<u8> {
        padding(blob.size)
    }

    /// Gives a name to what a manifest or an index of the archive leads to.
    pub fn name(&mut self, reference: &str, root: &Blob, document: &[u8]) {
        let name = canonical_reference(reference);
        let stated = serde_json::from_slice::<serde_json::Value>(document).unwrap_or_default();
        let usual = if stated.get("manifests").is_some() { INDEX } else { MANIFEST };
        let media_type = stated.get("mediaType").and_then(serde_json::Value::as_str).unwrap_or(usual).to_owned();
        let annotations = [NAME, REF_NAME].map(|key| (key.to_owned(), name.clone()));
        self.named.push(Descriptor {
            media_type,
            digest: root.digest.clone(),
            size: root.size,
            annotations: Some(annotations.into()),
            platform: None,
        });
    }

    /// What comes at its end.
    ///
    /// # Errors
    /// Its index cannot be written.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let index = Index { schema_version: 2, media_type: INDEX.to_owned(), manifests: self.named };
        let index = serde_json::to_vec(&index).map_err(|error| Error::Write(error.into()))?;
        let mut out = Vec::new();
        for (name, bytes) in [("oci-layout", LAYOUT.as_bytes()), ("index.json", index.as_slice())] {
            out.extend(entry(name, bytes.len() as u64).unwrap_or_default());
            out.extend_from_slice(bytes);
            out.extend(padding(bytes.len() as u64));
        }
        out.extend_from_slice(&[0; 2 * BLOCK]);
        Ok(out)
    }
}

/// The header of a file; `None` where its name has no place there, which no digest's is long enough for.
fn entry(name: &str, size: u64) -> Option<Vec<u8>> {
    let mut header = header(size);
    header.set_path(name).ok()?;
    header.set_cksum();
    Some(header.as_bytes().to_vec())
}

fn padding(size: u64) -> Vec<u8> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    vec![0; (BLOCK - over) % BLOCK]
}
