//! `manifest.json`, as `docker save` writes it: images by their names, with the files that hold their configuration and layers.

use std::collections::BTreeMap;

use ksail_kinds::{digest_of_reference, full_reference};

use crate::Error;
use crate::archive::{Document, Image};
use crate::documents::{CONFIG, Config, Descriptor, LAYER, MANIFEST, Manifest, Saved};
use crate::parts::{GZIP, Part, Place, digest_of};
use crate::tarball::Tarball;

/// How layers begin that are packed by zstd.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Where a layout has its blobs: what lies there bears its digest in its name.
const BLOBS: &str = "blobs/sha256/";

/// Takes in what `manifest.json` names and is not known yet.
pub(crate) fn read(tarball: &Tarball, place: &Place, images: &mut BTreeMap<String, Image>) -> Result<(), Error> {
    let saved: Vec<Saved> = tarball.document("manifest.json", place)?;
    for one in &saved {
        let tags = one.repo_tags.iter().flatten().filter(|name| digest_of_reference(name).is_none());
        let names = tags.map(|name| full_reference(name));
        let names: Vec<String> = names.filter(|name| !images.contains_key(name)).collect();
        let Some(first) = names.first() else { continue };
        let image = made(tarball, one, first)?;
        images.extend(names.into_iter().map(|name| (name, image.clone())));
    }
    Ok(())
}

/// The image of an entry, with a manifest made for it.
fn made(tarball: &Tarball, saved: &Saved, name: &str) -> Result<Image, Error> {
    let missing = |what, file: &str| Error::Missing { what, image: name.to_owned(), name: file.to_owned() };
    let place = tarball.find(&saved.config).ok_or_else(|| missing("the configuration", &saved.config))?;
    let bytes = tarball.bytes(&saved.config, &place)?;
    let config: Config = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Document { name: saved.config.clone(), why: error.to_string() })?;
    let config_digest = digest_of(bytes.as_slice()).map_err(Error::Read)?;
    let mut layers = Vec::new();
    let mut descriptors = Vec::new();
    for (position, file) in saved.layers.iter().flatten().enumerate() {
        let place = tarball.find(file).ok_or_else(|| missing("a layer", file))?;
        let head: [u8; 4] = tarball.head(&place)?;
        let packed = if head.starts_with(&GZIP) {
            "+gzip"
        } else if head == ZSTD {
            "+zstd"
        } else {
            ""
        };
        let plain = config.rootfs.diff_ids.get(position).filter(|_| packed.is_empty());
        let digest = match (file.strip_prefix(BLOBS), plain) {
            (Some(hex), _) => format!("sha256:{hex}"),
            (None, Some(digest)) => digest.clone(),
            (None, None) => digest_of(place.reader(&tarball.file)).map_err(Error::Read)?,
        };
        descriptors.push(descriptor(format!("{LAYER}{packed}"), &digest, place.size()));
        layers.push(Part { digest, place });
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.to_owned(),
        config: descriptor(CONFIG.to_owned(), &config_digest, place.size()),
        layers: descriptors,
    };
    let manifest = serde_json::to_vec(&manifest)
        .map_err(|error| Error::Document { name: saved.config.clone(), why: error.to_string() })?;
    Ok(Image {
        indexes: Vec::new(),
        manifest: Document {
            part: Part {
                digest: digest_of(manifest.as_slice()).map_err(Error::Read)?,
                place: Place::Bytes(manifest.into()),
            },
            media_type: MANIFEST.to_owned(),
        },
        config: Part { digest: config_digest, place },
        layers,
    })
}

fn descriptor(media_type: String, digest: &str, size: u64) -> Descriptor {
    Descriptor { media_type, digest: digest.to_owned(), size, annotations: None, platform: None }
}
