//! Blobs: what images are made of, each somewhere in a file or made by us.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// How files begin that are packed by gzip.
pub(crate) const GZIP: [u8; 2] = [0x1f, 0x8b];
/// How much of a blob is hashed at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In the file of the archive.
    File { offset: u64, size: u64 },
    /// Here: a manifest that was made from what an archive says.
    Bytes(Arc<[u8]>),
}

impl Place {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    pub(crate) fn reader<'a>(&'a self, file: &'a File) -> Box<dyn Read + 'a> {
        match self {
            Self::File { offset, size } => Box::new(Section { file, offset: *offset, left: *size }),
            Self::Bytes(bytes) => Box::new(bytes.as_ref()),
        }
    }
}

/// A blob of an image.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// `sha256:…`.
    pub(crate) digest: String,
    pub(crate) place: Place,
}

impl Part {
    /// Its name in an OCI layout.
    pub(crate) fn path(&self) -> String {
        path(&self.digest)
    }
}

/// The name of a blob in an OCI layout.
pub(crate) fn path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// A part of a file. Several can be read at the same time.
struct Section<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in the middle"));
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// A blob that is read and must be what its digest says; one that is not is an error at its end.
pub(crate) struct Checked<'a, R> {
    inner: R,
    wanted: &'a str,
    hash: Option<Sha256>,
}

impl<'a, R: Read> Checked<'a, R> {
    pub(crate) fn new(inner: R, wanted: &'a str) -> Self {
        Self { inner, wanted, hash: Some(Sha256::new()) }
    }
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            if let Some(hash) = &mut self.hash {
                hash.update(&buffer[..count]);
            }
            return Ok(count);
        }
        let found = self.hash.take().map(text_of);
        match found {
            Some(found) if found != self.wanted => {
                let why = format!("the blob {} is not what it should be: its digest is {found}", self.wanted);
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
            _ => Ok(0),
        }
    }
}

/// The digest of all that is read.
pub(crate) fn digest_of(mut reader: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(text_of(hash));
        }
        hash.update(&buffer[..count]);
    }
}

fn text_of(hash: Sha256) -> String {
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
