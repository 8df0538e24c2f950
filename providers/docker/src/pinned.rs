//! Images that are named by a digest, on an engine that got them from an archive. An engine that keeps images unpacked knows a digest only of
//! what it pulled, and gives no such name to what it loads. So whoever holds the image by a tag of its own ([`crate::owner_tag`])
//! says which one it is, and containers are made of it by its id.

use bollard::models::{ContainerCreateBody, ImageSummary};
use ksail_provider::CallError;

use crate::call::Call;
use crate::image::list;
use crate::owner_tag::OwnerTag;
use crate::reference::Reference;

/// The reference by which the image of a container was asked for, where the engine tells another one.
pub(crate) const IMAGE: &str = "dev.ksail.image";

/// The image that is held as what the digest of a reference names.
pub(crate) fn held<'a>(images: &'a [ImageSummary], reference: &Reference) -> Option<&'a ImageSummary> {
    reference.digest.as_ref()?;
    let is_it =
        |text: &String| OwnerTag::read(text).is_some_and(|owner| !owner.claim && owner.reference.is_same(reference));
    images.iter().find(|image| image.repo_tags.iter().any(is_it))
}

/// The request that makes a container, of the image's id where the engine does not know it by its digest.
pub(crate) async fn on_engine(
    call: &Call,
    doing: &str,
    mut body: ContainerCreateBody,
) -> Result<ContainerCreateBody, CallError> {
    let Some(name) = body.image.clone().filter(|name| name.contains('@')) else { return Ok(body) };
    let is_known = call.look(doing, || call.session.docker.inspect_image(&name)).await?.is_some();
    let images = if is_known { Vec::new() } else { list(call).await? };
    let image = held(&images, &Reference::parse(&name));
    // Podman tells of a container's image no tag beside a digest.
    if image.is_some() || call.session.is_podman {
        body.labels.get_or_insert_default().insert(IMAGE.to_owned(), name);
    }
    body.image = image.map(|image| image.id.clone()).or(body.image);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use ksail_model::{Address, Mark};

    use super::*;
    use crate::owner_tag::Source;

    #[test]
    fn what_is_held_by_a_digest_is_found_whatever_its_tag_is() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let owner = |reference: &str, claim| OwnerTag {
            mark: Mark {
                lineage: "l".to_owned(),
                address: Address::new("dev", "image", &["node"]),
                operation: "o".to_owned(),
                generation: 1,
            },
            reference: Reference::parse(reference),
            source: Source::Archive(digest.clone()),
            brought: true,
            claim,
        };
        let image = |owner: &OwnerTag, id: &str| {
            let (repo, tag) = owner.write().unwrap();
            ImageSummary { id: id.to_owned(), repo_tags: vec![format!("{repo}:{tag}")], ..Default::default() }
        };
        let named = format!("kindest/node:v1@{digest}");
        let images = [image(&owner(&named, true), "claim"), image(&owner(&named, false), "it")];
        let id = |text: &str| held(&images, &Reference::parse(text)).map(|image| image.id.as_str());
        assert_eq!(id(&format!("docker.io/kindest/node@{digest}")), Some("it"));
        assert_eq!(id(&format!("docker.io/other/node@{digest}")), None);
        assert_eq!(id(&format!("kindest/node@sha256:{}", "0b".repeat(32))), None);
        assert_eq!(id("kindest/node:v1"), None);
    }
}
