//! Archives of container images: tars as `docker save` writes them, and OCI layouts in a tar.
//!
//! - [`Archive`] tells what one holds. It reads the headers of the tar and its small documents, and no layer.
//! - [`write()`] puts images of archives into another one, which is an OCI layout and can be read by `docker load` too. Blobs
//!   that images share stand in it once, and each is checked against its digest on the way.
//!
//! - [`Gathered`] says how an archive is put together of blobs that come from a registry.
//!
//! An image is known by the digest of its manifest, of one platform, or, where its name is a digest, by that: then the index that the
//! digest names stays, so that the name still leads to the image. `docker save` of older engines writes none: then it is made from the
//! image's configuration and layers, always the same.

mod archive;
mod documents;
mod gathered;
mod layout;
mod parts;
mod saved;
mod tarball;
mod write;

pub use archive::{Archive, Image};
pub use gathered::{Blob, Gathered, LeadsTo, leads_to};
pub use write::{Chosen, write};

use std::io;

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    /// It is none.
    #[error("it is not an image archive: it has neither manifest.json nor index.json")]
    NotOne,
    /// It is packed as a whole.
    #[error("it is packed by gzip: unpack it first, `gunzip FILE`")]
    Packed,
    /// A document within it is not what it should be.
    #[error("{name}: {why}")]
    Document {
        /// Its name in the tar.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something that it speaks of is not in it.
    #[error("{what} of `{image}` is not in it: {name}")]
    Missing {
        /// What.
        what: &'static str,
        /// Of which image.
        image: String,
        /// Its name in the tar.
        name: String,
    },
    /// Its images have no names.
    #[error("its images have no names: save them by name, not by id")]
    Nameless,
    /// It does not hold an image.
    #[error("it does not hold `{0}`")]
    NotHeld(String),
    /// The other one cannot be written, or a blob is not what its digest says.
    #[error("{0}")]
    Write(io::Error),
}
