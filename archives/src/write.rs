//! Writes images of archives into another one.

use std::collections::BTreeMap;
use std::io::Write;

use ksail_kinds::{canonical_reference, digest_of_reference};

use crate::Error;
use crate::archive::{Archive, Image};
use crate::documents::{Descriptor, INDEX, Index, NAME, REF_NAME, Saved};
use crate::parts::{Checked, Part};

/// The permissions of what lies in an archive.
const MODE: u32 = 0o644;
pub(crate) const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";

/// An image that is to be in an archive.
pub struct Chosen<'a> {
    /// Where it is.
    pub archive: &'a Archive,
    /// Its reference there.
    pub from: &'a str,
    /// Its reference in the archive that is written. One with a digest must be what it is.
    pub name: &'a str,
}

/// Writes an archive that holds these images: an OCI layout, with a `manifest.json` by which engines load it that read no
/// layouts. The same images give the same bytes. Answers the writer.
///
/// # Errors
/// An archive does not hold an image, or a blob that is not what its digest says; or the writer fails.
pub fn write<W: Write>(chosen: &[Chosen<'_>], out: W) -> Result<W, Error> {
    let mut index = Index { schema_version: 2, media_type: INDEX.to_owned(), manifests: Vec::new() };
    let mut saved: BTreeMap<&str, Saved> = BTreeMap::new();
    let mut parts: BTreeMap<&str, (&Archive, &Part)> = BTreeMap::new();
    for one in chosen {
        let image = one.archive.image(one.from)?;
        let name = canonical_reference(one.name);
        if digest_of_reference(&name).is_some_and(|digest| digest != image.digest()) {
            return Err(Error::NotHeld(name));
        }
        index.manifests.push(named(image, &name));
        let entry = saved.entry(&image.manifest.part.digest).or_insert_with(|| Saved {
            config: image.config.path(),
            repo_tags: Some(Vec::new()),
            layers: Some(image.layers.iter().map(Part::path).collect()),
        });
        // A name with a digest is none that an engine could give.
        if digest_of_reference(&name).is_none() {
            entry.repo_tags.get_or_insert_default().push(name);
        }
        parts.extend(image.parts().map(|part| (part.digest.as_str(), (one.archive, part))));
    }
    let saved: Vec<Saved> = saved.into_values().collect();
    let mut tar = tar::Builder::new(out);
    document(&mut tar, "oci-layout", LAYOUT.as_bytes())?;
    document(&mut tar, "index.json", &json(&index)?)?;
    document(&mut tar, "manifest.json", &json(&saved)?)?;
    for (digest, (archive, part)) in parts {
        let reader = Checked::new(part.place.reader(&archive.file), digest);
        let mut header = header(part.place.size());
        tar.append_data(&mut header, part.path(), reader).map_err(Error::Write)?;
    }
    tar.into_inner().map_err(Error::Write)
}

fn named(image: &Image, name: &str) -> Descriptor {
    let annotations = [NAME, REF_NAME].map(|key| (key.to_owned(), name.to_owned()));
    let root = image.root();
    Descriptor {
        media_type: root.media_type.clone(),
        digest: root.part.digest.clone(),
        size: root.part.place.size(),
        annotations: Some(annotations.into()),
        platform: None,
    }
}

fn json(document: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(document).map_err(|error| Error::Write(error.into()))
}

fn document<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let mut header = header(bytes.len() as u64);
    tar.append_data(&mut header, name, bytes).map_err(Error::Write)
}

pub(crate) fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(MODE);
    header.set_mtime(0);
    header.set_size(size);
    header
}
