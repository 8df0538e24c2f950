//! An archive, and the images in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};

use ksail_kinds::{canonical_reference, digest_of_reference};

use crate::Error;
use crate::layout;
use crate::parts::{GZIP, Part};
use crate::saved;
use crate::tarball::Tarball;

/// One image of an archive: of one platform.
#[derive(Debug, Clone)]
pub struct Image {
    /// The indexes that lead to its manifest, the upper ones first. Only an image that is named by the digest of one has any.
    pub(crate) indexes: Vec<Document>,
    pub(crate) manifest: Document,
    pub(crate) config: Part,
    pub(crate) layers: Vec<Part>,
}

/// A manifest or an index.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) part: Part,
    pub(crate) media_type: String,
}

impl Image {
    /// The digest that stands for all of it (`sha256:…`): of its manifest, or of what its name says.
    pub fn digest(&self) -> &str {
        &self.root().part.digest
    }

    /// Whether it is named by the digest of an index, of which its platform alone is there.
    pub fn has_index(&self) -> bool {
        !self.indexes.is_empty()
    }

    /// The digest of its configuration: what engines without a store of containerd call its id.
    pub fn config_digest(&self) -> &str {
        &self.config.digest
    }

    /// What its name leads to.
    pub(crate) fn root(&self) -> &Document {
        self.indexes.first().unwrap_or(&self.manifest)
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        let documents = self.indexes.iter().chain(std::iter::once(&self.manifest)).map(|document| &document.part);
        documents.chain(std::iter::once(&self.config)).chain(&self.layers)
    }

    /// The same, named: by the digest of an index or its own, or else known by its manifest alone. `None` says that it is not of
    /// that digest.
    pub(crate) fn named(mut self, name: &str) -> Option<Self> {
        let Some(digest) = digest_of_reference(name) else {
            self.indexes.clear();
            return Some(self);
        };
        let documents = self.indexes.iter().chain(std::iter::once(&self.manifest));
        let above = documents.take_while(|document| document.part.digest != digest).count();
        if above > self.indexes.len() {
            return None;
        }
        self.indexes.drain(..above);
        Some(self)
    }
}

/// An archive of images.
pub struct Archive {
    pub(crate) file: File,
    images: BTreeMap<String, Image>,
}

impl Archive {
    /// Reads what an archive holds. Of an image of several platforms that is the one for this architecture, as Rust calls it
    /// (`x86_64`), or else the first that is there whole.
    ///
    /// # Errors
    /// It is no archive of images, says of an image what is not in it, or has images without names only.
    pub fn read(file: File, architecture: &str) -> Result<Self, Error> {
        if is_packed(&file)? {
            return Err(Error::Packed);
        }
        let tarball = Tarball::read(file)?;
        let mut images = BTreeMap::new();
        let (index, manifests) = (tarball.find("index.json"), tarball.find("manifest.json"));
        if index.is_none() && manifests.is_none() {
            return Err(Error::NotOne);
        }
        // What an archive says of itself by the standard is its own word, so it comes first.
        if let Some(index) = &index {
            layout::read(&tarball, index, architecture, &mut images)?;
        }
        if let Some(manifests) = &manifests {
            saved::read(&tarball, manifests, &mut images)?;
        }
        if images.is_empty() {
            return Err(Error::Nameless);
        }
        Ok(Self { file: tarball.file, images })
    }

    /// Its images, by their [canonical references](ksail_kinds::canonical_reference).
    pub const fn images(&self) -> &BTreeMap<String, Image> {
        &self.images
    }

    /// The image of a reference.
    ///
    /// # Errors
    /// It does not hold it.
    pub fn image(&self, reference: &str) -> Result<&Image, Error> {
        self.images.get(&canonical_reference(reference)).ok_or_else(|| Error::NotHeld(reference.to_owned()))
    }
}

/// Whether the file is a tar that was packed by gzip: then nothing of it can be found without unpacking all before it.
fn is_packed(mut file: &File) -> Result<bool, Error> {
    let mut head = Vec::new();
    file.take(GZIP.len() as u64).read_to_end(&mut head).map_err(Error::Read)?;
    file.rewind().map_err(Error::Read)?;
    Ok(head == GZIP)
}
