//! What was read before, on this machine's disk. Objects of the log never change under one version, so that a cached one need
//! not be asked for again. The cache is only a help: it may be deleted at any time, and nothing fails because of it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::files;
use crate::store::Version;

/// Bytes of the digest that name a file.
const NAME_BYTES: usize = 20;

/// The cache of one stack.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: Option<PathBuf>,
    place: String,
}

impl Cache {
    /// Without a folder nothing is kept, and nothing believed.
    pub(crate) fn new(folder: Option<PathBuf>, place: String) -> Self {
        Self { folder, place }
    }

    /// The file of an object. Neither keys nor places become names.
    fn name(&self, key: &str, version: &Version) -> String {
        let mut digest = Sha256::new();
        for part in [&self.place, key, &version.0] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        digest.finalize()[..NAME_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A cached object; its own checksums tell whether it is whole.
    pub(crate) fn get(&self, key: &str, version: &Version) -> Option<Bytes> {
        std::fs::read(self.folder.as_ref()?.join(self.name(key, version))).ok().map(Bytes::from)
    }

    pub(crate) fn put(&self, key: &str, version: &Version, bytes: &Bytes) {
        let Some(folder) = &self.folder else { return };
        if files::make_folder(folder).is_ok() {
            let _ = files::replace(&folder.join(self.name(key, version)), bytes, false);
        }
    }

    /// Forgets all objects but these.
    pub(crate) fn keep<'a>(&self, objects: impl Iterator<Item = (&'a str, &'a Version)>) {
        let Some(folder) = &self.folder else { return };
        let names: BTreeSet<String> = objects.map(|(key, version)| self.name(key, version)).collect();
        for path in files::in_folder(folder).unwrap_or_default() {
            if path.file_name().is_none_or(|name| !names.contains(&*name.to_string_lossy())) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}
