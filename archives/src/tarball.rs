//! The table of a tar: where each of its files lies.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path};

use serde::de::DeserializeOwned;

use crate::Error;
use crate::parts::Place;

/// The largest document that is read, in bytes.
const LARGEST_DOCUMENT: u64 = 16 * 1024 * 1024;
/// How many entries a tar may have, and how many links may lead to a file.
const MOST_ENTRIES: usize = 1_000_000;
const MOST_LINKS: usize = 8;

enum Entry {
    File {
        offset: u64,
        size: u64,
    },
    /// To another entry. Older engines write a layer that two images share once, and links to it.
    Link(String),
}

pub(crate) struct Tarball {
    pub(crate) file: File,
    entries: HashMap<String, Entry>,
}

impl Tarball {
    /// Reads the headers and jumps over what is between them.
    pub(crate) fn read(file: File) -> Result<Self, Error> {
        let mut entries = HashMap::new();
        let mut archive = tar::Archive::new(&file);
        for entry in archive.entries_with_seek().map_err(Error::Read)? {
            let entry = entry.map_err(Error::Read)?;
            let name = plain(&entry.path().map_err(Error::Read)?);
            let kind = entry.header().entry_type();
            let found = if kind.is_file() {
                Entry::File { offset: entry.raw_file_position(), size: entry.size() }
            } else if let (true, Some(to)) =
                (kind.is_symlink() || kind.is_hard_link(), entry.link_name().map_err(Error::Read)?)
            {
                // A hard link is named from the root of the tar, a symbolic one from where it stands.
                let from = Path::new(&name).parent().filter(|_| kind.is_symlink()).unwrap_or(Path::new(""));
                Entry::Link(plain(&from.join(to)))
            } else {
                continue;
            };
            entries.insert(name, found);
            if entries.len() > MOST_ENTRIES {
                let why = format!("it has more than {MOST_ENTRIES} entries");
                return Err(Error::Document { name: "the tar".to_owned(), why });
            }
        }
        Ok(Self { file, entries })
    }

    /// Where a file lies.
    pub(crate) fn find(&self, name: &str) -> Option<Place> {
        let mut name = plain(Path::new(name));
        for _ in 0..=MOST_LINKS {
            match self.entries.get(&name)? {
                Entry::File { offset, size } => return Some(Place::File { offset: *offset, size: *size }),
                Entry::Link(to) => name.clone_from(to),
            }
        }
        None
    }

    /// The first bytes of something.
    pub(crate) fn head<const N: usize>(&self, place: &Place) -> Result<[u8; N], Error> {
        let mut head = Vec::with_capacity(N);
        place.reader(&self.file).take(N as u64).read_to_end(&mut head).map_err(Error::Read)?;
        head.resize(N, 0);
        Ok(head.try_into().unwrap_or([0; N]))
    }

    pub(crate) fn bytes(&self, name: &str, place: &Place) -> Result<Vec<u8>, Error> {
        if place.size() > LARGEST_DOCUMENT {
            let why = format!("it has {} bytes; at most {LARGEST_DOCUMENT} are read", place.size());
            return Err(Error::Document { name: name.to_owned(), why });
        }
        let mut bytes = Vec::new();
        place.reader(&self.file).read_to_end(&mut bytes).map_err(Error::Read)?;
        Ok(bytes)
    }

    pub(crate) fn document<T: DeserializeOwned>(&self, name: &str, place: &Place) -> Result<T, Error> {
        let bytes = self.bytes(name, place)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Document { name: name.to_owned(), why: error.to_string() })
    }
}

/// A path from the root of the tar, without what means nothing.
fn plain(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}
