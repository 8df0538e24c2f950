//! OCI layouts: `index.json`, and blobs by their digests.

use std::collections::BTreeMap;

use ksail_kinds::canonical_reference;

use crate::Error;
use crate::archive::{Document, Image};
use crate::documents::{DOCKER_LIST, Descriptor, INDEX, Index, MANIFEST, Manifest, NAME, REF_NAME};
use crate::parts::{Part, Place, path};
use crate::tarball::Tarball;

/// How deep indexes may lie in each other.
const DEEPEST: usize = 4;

/// Takes in what `index.json` names.
pub(crate) fn read(
    tarball: &Tarball,
    place: &Place,
    architecture: &str,
    images: &mut BTreeMap<String, Image>,
) -> Result<(), Error> {
    let index: Index = tarball.document("index.json", place)?;
    for descriptor in &index.manifests {
        let Some(name) = name_of(descriptor) else { continue };
        // Some write a descriptor for each platform, all of one name.
        if images.contains_key(&name) && !is_for(descriptor, architecture) {
            continue;
        }
        let image = of_platform(tarball, descriptor, architecture, &name, 0)?;
        let other = || {
            let why = format!("it calls {} `{name}`, which it is not", descriptor.digest);
            Error::Document { name: "index.json".to_owned(), why }
        };
        let image = image.named(&name).ok_or_else(other)?;
        images.insert(name, image);
    }
    Ok(())
}

fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations.as_ref()?;
    // A tag alone names no image.
    let standard = || annotations.get(REF_NAME).filter(|name| name.contains(['/', ':']));
    annotations.get(NAME).or_else(standard).map(|name| canonical_reference(name))
}

/// The image that a descriptor leads to; the first one of which all is there, those of the architecture before others.
fn of_platform(
    tarball: &Tarball,
    descriptor: &Descriptor,
    architecture: &str,
    name: &str,
    depth: usize,
) -> Result<Image, Error> {
    let place = find(tarball, &descriptor.digest, "the manifest", name)?;
    if !matches!(descriptor.media_type.as_str(), INDEX | DOCKER_LIST) || depth >= DEEPEST {
        return of_manifest(tarball, descriptor, place, name);
    }
    let index: Index = tarball.document(&path(&descriptor.digest), &place)?;
    let mut found: Vec<&Descriptor> = index.manifests.iter().filter(|one| !is_attestation(one)).collect();
    found.sort_by_key(|one| !is_for(one, architecture));
    let mut first = None;
    for one in found {
        match of_platform(tarball, one, architecture, name, depth + 1) {
            Ok(mut image) => {
                let part = Part { digest: descriptor.digest.clone(), place };
                image.indexes.insert(0, Document { part, media_type: descriptor.media_type.clone() });
                return Ok(image);
            }
            // Engines save the platforms that they have of an index that names more.
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    let nothing = || Error::Missing { what: "a platform", image: name.to_owned(), name: path(&descriptor.digest) };
    Err(first.unwrap_or_else(nothing))
}

pub(crate) fn is_for(descriptor: &Descriptor, architecture: &str) -> bool {
    let own = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    descriptor.platform.as_ref().is_some_and(|platform| platform.os == "linux" && platform.architecture == own)
}

/// What tells how an image was built is no image.
pub(crate) fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

fn of_manifest(tarball: &Tarball, descriptor: &Descriptor, place: Place, name: &str) -> Result<Image, Error> {
    let manifest: Manifest = tarball.document(&path(&descriptor.digest), &place)?;
    let config = find(tarball, &manifest.config.digest, "the configuration", name)?;
    let layers = manifest.layers.iter().map(|layer| {
        let place = find(tarball, &layer.digest, "a layer", name)?;
        Ok(Part { digest: layer.digest.clone(), place })
    });
    let media_type = [&descriptor.media_type, &manifest.media_type].into_iter().find(|text| !text.is_empty());
    Ok(Image {
        indexes: Vec::new(),
        manifest: Document {
            part: Part { digest: descriptor.digest.clone(), place },
            media_type: media_type.map_or(MANIFEST, String::as_str).to_owned(),
        },
        config: Part { digest: manifest.config.digest, place: config },
        layers: layers.collect::<Result<_, Error>>()?,
    })
}

fn find(tarball: &Tarball, digest: &str, what: &'static str, image: &str) -> Result<Place, Error> {
    let name = path(digest);
    if !digest.starts_with("sha256:") {
        let why = format!("{what} of `{image}` has a digest that is none of SHA-256");
        return Err(Error::Document { name: digest.to_owned(), why });
    }
    tarball.find(&name).ok_or_else(|| Error::Missing { what, image: image.to_owned(), name })
}
