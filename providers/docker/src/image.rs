//! Images: present, pulled or loaded. Shared between stacks: each holds one by a tag of its own ([`crate::owner_tag`]).
//!
//! An image that shall be pulled or loaded is claimed first ([`crate::claim`]), so that also after a kill it is known that we
//! brought it, and it goes with its last owner.

use std::path::Path as FilePath;
use std::time::Duration;

use backon::{BackoffBuilder as _, ConstantBuilder};
use bollard::models::ImageSummary;
use bollard::query_parameters::{
    CreateImageOptions, ImportImageOptions, ListImagesOptions, RemoveImageOptions, TagImageOptions,
};
use futures::StreamExt as _;
use ksail_kinds::{ImageSource, ImageSpec, Spec as _};
use ksail_model::{Identity, Mark, Readiness, Seen, Value};
use ksail_provider::{CallError, CallErrorKind, DeleteRequest, Deleted, Target};

use crate::archive;
use crate::call::{Call, Failed};
use crate::claim;
use crate::container::list as list_containers;
use crate::credentials;
use crate::network::cause_of;
use crate::owner_tag::{OwnerTag, Source};
use crate::pinned;
use crate::podman;
use crate::reference::Reference;

/// How often a name is removed in all where the engine fails with it, and the pause in between.
const UNTAG_TRIES: usize = 4;
const UNTAG_PAUSE: Duration = Duration::from_millis(200);
/// How often an image is brought in all that is taken away again at once, and the pause in between.
const RACE_TRIES: usize = 4;
const RACE_PAUSE: Duration = Duration::from_millis(200);
/// How the engine says which image it has loaded, by its name or by its id.
const LOADED: [&str; 2] = ["Loaded image: ", "Loaded image ID: "];
/// Where Docker looks for the authorities of registries.
pub(crate) const CERTIFICATES: &str = "/etc/docker/certs.d";

/// Where the files are that images need.
pub(crate) struct Files<'a> {
    /// What paths of archives are relative to.
    pub(crate) project: &'a FilePath,
    /// The folder of Docker's `config.json`.
    pub(crate) config: Option<&'a FilePath>,
}

/// All images of the engine that have a name.
pub(crate) async fn list(call: &Call) -> Result<Vec<ImageSummary>, CallError> {
    call.list("list images", || call.session.docker.list_images(None::<ListImagesOptions>)).await
}

fn find<'a>(images: &'a [ImageSummary], reference: &Reference) -> Option<&'a ImageSummary> {
    let named = images.iter().find(|image| reference.is_among(&image.repo_tags, &image.repo_digests));
    named.or_else(|| pinned::held(images, reference))
}

/// Every owner's tag on the engine, with its text and the id of its image.
fn owners(images: &[ImageSummary]) -> impl Iterator<Item = (OwnerTag, &str, &str)> {
    images.iter().flat_map(|image| {
        image.repo_tags.iter().filter_map(|text| Some((OwnerTag::read(text)?, text.as_str(), image.id.as_str())))
    })
}

/// What is seen of the image of a target; `None` if it is not there.
pub(crate) fn seen(images: &[ImageSummary], target: &Target, lineage: &str) -> Option<Seen> {
    let reference = Reference::parse(&target.identity.name);
    let image = find(images, &reference)?;
    let owner = owners(images)
        .map(|(owner, ..)| owner)
        .filter(|owner| {
            owner.reference == reference && owner.mark.lineage == lineage && owner.mark.address == target.address
        })
        .max_by_key(|owner| owner.mark.generation);
    let declared = target.spec.as_ref();
    Some(describe(image, &target.identity.name, owner.as_ref(), declared))
}

fn describe(image: &ImageSummary, reference: &str, owner: Option<&OwnerTag>, declared: Option<&Value>) -> Seen {
    let declared_source = declared.and_then(|spec| spec.field("source"));
    let source = match owner.map(|owner| &owner.source) {
        // Not ours yet: how it came here cannot be told, and does not matter.
        None => declared_source.cloned().unwrap_or_else(|| Value::map([("from", Value::from("present"))])),
        Some(Source::Present) => Value::map([("from", Value::from("present"))]),
        Some(Source::Pull) => Value::map([("from", Value::from("pull"))]),
        Some(Source::Archive(digest)) => {
            let path = declared_source.and_then(|source| source.field("path")).and_then(Value::as_str);
            Value::map([
                ("from", Value::from("archive")),
                ("path", Value::from(path.unwrap_or_default())),
                ("digest", Value::from(digest.clone())),
            ])
        }
    };
    let parsed = Reference::parse(reference);
    let digest = image.repo_digests.iter().map(|text| Reference::parse(text)).find(|one| one.name() == parsed.name());
    Seen {
        id: Some(image.id.clone()),
        fields: Value::map([("reference", Value::from(reference)), ("source", source)]),
        attributes: Value::map([
            ("id", Value::from(image.id.clone())),
            ("digest", Value::from(parsed.digest.clone().or_else(|| digest.and_then(|one| one.digest)))),
        ]),
        mark: owner.map(|owner| owner.mark.clone()),
        readiness: Readiness::Ready,
        others: Vec::new(),
    }
}

/// Every image that an owner holds: reference, mark and what is seen of it.
pub(crate) fn owned(images: &[ImageSummary]) -> Vec<(Identity, Seen)> {
    owners(images)
        .filter(|(owner, ..)| !owner.claim)
        .filter_map(|(owner, _, id)| {
            let image = images.iter().find(|image| image.id == id)?;
            let name = owner.reference.to_string();
            let seen = describe(image, &name, Some(&owner), None);
            Some((Identity::named(name), seen))
        })
        .collect()
}

/// Sees to it that the image is there and held by us; for creation and for a changed source.
pub(crate) async fn ensure(
    call: &mut Call,
    target: &Target,
    spec: &Value,
    mark: &Mark,
    reload: bool,
    files: &Files<'_>,
) -> Result<Seen, CallError> {
    let what = format!("image `{}`", target.identity.name);
    let typed = ImageSpec::from_value(spec).map_err(|error| call.refused(&what, &cause_of(&error)))?;
    let reference = Reference::parse(&typed.reference);
    let images = list(call).await?;
    let source = Source::from(&typed.source);
    let held: Vec<OwnerTag> = owners(&images)
        .map(|(owner, ..)| owner)
        .filter(|owner| owner.reference.is_same(&reference) && owner.mark.lineage == mark.lineage)
        .collect();
    let ours = held.iter().find(|owner| owner.mark.address == mark.address);
    let there = find(&images, &reference).is_some();
    let current = there && (!reload || ours.is_some_and(|owner| owner.source == source));
    let brought = held.iter().any(|owner| owner.brought) || (!current && !there);
    let owner = OwnerTag { mark: mark.clone(), reference, source, brought, claim: false };
    let is_claimed = held.iter().any(|other| other.brought && other.mark.address == mark.address);
    let claim = (!there && typed.source != ImageSource::Present {} && !is_claimed)
        .then(|| OwnerTag { claim: true, ..owner.clone() });
    if let Some(claim) = &claim {
        claim::put(call, &what, claim).await?;
    }
    let held = bring_and_hold(call, &what, target, &owner, (&typed.source, current), files).await;
    if let Err(error) = &held {
        // A refusal means that nothing was made.
        let certain = matches!(error.kind, CallErrorKind::Refused | CallErrorKind::Transient);
        if let Some((repo, tag)) = claim.filter(|_| certain).and_then(|claim| claim.write()) {
            untag(call, &what, &format!("{repo}:{tag}")).await?;
        }
    }
    held
}

/// Brings the image onto the engine, unless it is there as wanted (`current`), and puts our tag onto it.
///
/// A deletion that was given up here can still be at work on the engine, and take away what has just come: where the engine
/// said that it has come, it is brought again.
async fn bring_and_hold(
    call: &mut Call,
    what: &str,
    target: &Target,
    owner: &OwnerTag,
    (source, mut current): (&ImageSource, bool),
    files: &Files<'_>,
) -> Result<Seen, CallError> {
    let mut pauses = ConstantBuilder::default().with_delay(RACE_PAUSE).with_max_times(RACE_TRIES - 1).build();
    loop {
        let (has_come, ids) = match current {
            true => (true, Vec::new()),
            false => bring(call, what, &owner.reference, source, files).await?,
        };
        if hold(call, what, owner, &ids).await?
            && let Some(seen) = seen(&list(call).await?, target, &owner.mark.lineage)
        {
            return Ok(seen);
        }
        match pauses.next().filter(|_| has_come) {
            Some(pause) => call.pause(what, pause).await?,
            None => {
                return Err(call
                    .refused(what, "what was loaded does not hold it")
                    .hint("the archive must hold the image under this reference: `docker save REFERENCE`"));
            }
        }
        current = false;
    }
}

/// Brings the image onto the engine, as its source has it. Answers whether the engine said that it is there, and by which ids it may be
/// known where the engine gives it no name.
async fn bring(
    call: &mut Call,
    what: &str,
    reference: &Reference,
    source: &ImageSource,
    files: &Files<'_>,
) -> Result<(bool, Vec<String>), CallError> {
    match source {
        ImageSource::Present {} if find(&list(call).await?, reference).is_some() => Ok((true, Vec::new())),
        ImageSource::Present {} => {
            let error = call.refused(what, "it is not there, and shall neither be pulled nor loaded");
            Err(error.hint(match podman::built_here(reference).filter(|_| call.session.is_podman) {
                Some(name) => format!("`podman pull {reference}`; what was built there is called `{name}`"),
                None => format!("`docker pull {reference}`, or declare it to be pulled"),
            }))
        }
        ImageSource::Pull {} => pull(call, what, reference, files.config).await.map(|()| (true, Vec::new())),
        ImageSource::Archive { path, digest } => load(call, what, reference, &files.project.join(path), digest).await,
    }
}

/// Puts our tag onto the image and takes away those that it replaces. `false` says that the image is not there.
async fn hold(call: &Call, what: &str, owner: &OwnerTag, ids: &[String]) -> Result<bool, CallError> {
    let doing = format!("tag {what}");
    let images = list(call).await?;
    let loaded = images.iter().find(|image| ids.contains(&image.id));
    let Some(image) = loaded.or_else(|| find(&images, &owner.reference)) else { return Ok(false) };
    let Some((repo, tag)) = owner.write() else {
        return Err(call
            .refused(&doing, "address and reference are too long for a tag")
            .hint("give it a shorter address"));
    };
    let text = format!("{repo}:{tag}");
    if !image.repo_tags.contains(&text) {
        let options = TagImageOptions { repo: Some(repo), tag: Some(tag) };
        match call.change(&doing, call.session.docker.tag_image(&image.id, Some(options))).await {
            Ok(()) => {}
            Err(Failed::Answered { status: 404, .. }) => return Ok(false),
            Err(failed) => return Err(failed.into_error(call, &doing)),
        }
    }
    let stale = |other: &OwnerTag| {
        other.mark.lineage == owner.mark.lineage && other.mark.address == owner.mark.address && other != owner
    };
    for (_, old, _) in owners(&images).filter(|(other, ..)| stale(other)) {
        if old != text {
            untag(call, what, old).await?;
        }
    }
    Ok(true)
}

pub(crate) async fn pull(
    call: &mut Call,
    what: &str,
    reference: &Reference,
    config: Option<&FilePath>,
) -> Result<(), CallError> {
    let doing = format!("pull {what}");
    let credentials = credentials::of(call, &doing, &reference.host, config).await?;
    let has_credentials = credentials.is_some();
    let options = CreateImageOptions {
        from_image: Some(reference.name()),
        tag: reference.digest.clone().or_else(|| reference.tag.clone()),
        ..Default::default()
    };
    let mut progress = call.session.docker.create_image(Some(options), None, credentials);
    let done = async {
        while let Some(step) = progress.next().await {
            step?;
        }
        Ok(())
    };
    match call.change(&doing, done).await {
        Ok(()) => Ok(()),
        Err(Failed::Answered { status, message }) => {
            let error = call.answered(&doing, status, &message);
            Err(match pull_hint(&message, reference, has_credentials, call.session.is_podman) {
                Some(hint) => error.hint(hint),
                None => error,
            })
        }
        Err(Failed::Error(error)) => Err(error),
    }
}

/// What to do about a pull that failed. Certificates and insecure registries are the engine's matter.
fn pull_hint(message: &str, reference: &Reference, has_credentials: bool, is_podman: bool) -> Option<String> {
    let host = &reference.host;
    let login = if is_podman { "podman login" } else { "docker login" };
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if says(&["x509", "certificate signed by unknown authority", "failed to verify certificate"]) {
        let folder = if is_podman { podman::CERTIFICATES } else { CERTIFICATES };
        Some(format!("the engine does not trust {host}: put its CA at {folder}/{host}/ca.crt there"))
    } else if says(&["HTTP response to HTTPS client"]) {
        Some(match is_podman {
            true => podman::insecure_hint(host),
            false => format!(
                "{host} speaks plain HTTP: add it to `insecure-registries` in the engine's /etc/docker/daemon.json"
            ),
        })
    } else if says(&["unauthorized", "denied", "authentication required", "no basic auth"]) {
        Some(match has_credentials {
            true => {
                format!("{host} refuses the credentials of config.json, or there is no such image: `{login} {host}`")
            }
            false => format!("there is no such image, or {host} needs credentials: `{login} {host}`"),
        })
    } else if says(&["not found", "manifest unknown"]) {
        Some(format!("correct the reference `{reference}`"))
    } else if says(&["no such host", "connection refused", "i/o timeout", "dial tcp", "request canceled"]) {
        Some(format!("the engine cannot reach {host}; load the image from an archive, or name a mirror"))
    } else {
        None
    }
}

/// Loads the image of an archive, and no other, if it still is the one that was planned. Answers whether the engine said that it holds the image.
async fn load(
    call: &Call,
    what: &str,
    reference: &Reference,
    path: &FilePath,
    digest: &str,
) -> Result<(bool, Vec<String>), CallError> {
    let doing = format!("load {what}");
    let archive = archive::open(call, &doing, path).await?;
    let name = reference.to_string();
    archive::check(&format!("{doing}: {}", path.display()), &archive, &name, digest)?;
    // A name with a digest is none that every engine gives to what it loads.
    let ids: Vec<String> = match archive.image(&name) {
        Ok(image) if reference.digest.is_some() => vec![image.config_digest().to_owned(), image.digest().to_owned()],
        _ => Vec::new(),
    };
    let stream = archive::stream(archive, vec![name]);
    let options = ImportImageOptions { quiet: true, ..Default::default() };
    let mut progress = call.session.docker.import_image(options, bollard::body_try_stream(stream), None);
    let done = async {
        let mut has_come = false;
        while let Some(step) = progress.next().await {
            let step = step?;
            if let Some(error) = step.error_detail.and_then(|detail| detail.message) {
                return Err(bollard::errors::Error::DockerStreamError { error });
            }
            let said = step.stream.as_deref().map(str::trim).unwrap_or_default();
            let loaded = LOADED.iter().find_map(|prefix| said.strip_prefix(prefix));
            has_come |= loaded.is_some_and(|name| Reference::parse(name).is_same(reference) || is_one_of(name, &ids));
        }
        Ok(has_come)
    };
    let has_come = call.change(&doing, done).await.map_err(|failed| failed.into_error(call, &doing))?;
    Ok((has_come, ids))
}

/// Whether an id, with or without the name of its algorithm, is among these.
fn is_one_of(id: &str, ids: &[String]) -> bool {
    ids.iter().any(|one| one == id || one.strip_prefix("sha256:") == Some(id))
}

/// Removes one name of an image, and the image with its last. `false` says that it was gone.
///
/// An engine that is removing the same image for an earlier request fails in the middle ("unrecognized image ID"), so what
/// it says then is not what counts: whether the name is still there is.
async fn untag(call: &Call, what: &str, name: &str) -> Result<bool, CallError> {
    let doing = format!("untag {what}");
    let mut pauses = ConstantBuilder::default().with_delay(UNTAG_PAUSE).with_max_times(UNTAG_TRIES - 1).build();
    loop {
        match call.change(&doing, call.session.docker.remove_image(name, None::<RemoveImageOptions>, None)).await {
            Ok(_) => return Ok(true),
            Err(Failed::Answered { status: 404, .. }) => return Ok(false),
            Err(failed @ Failed::Answered { status: 500.., .. }) => {
                if call.look(&doing, || call.session.docker.inspect_image(name)).await?.is_none() {
                    return Ok(true);
                }
                match pauses.next() {
                    Some(pause) => call.pause(&doing, pause).await?,
                    None => return Err(failed.into_error(call, &doing)),
                }
            }
            Err(failed) => return Err(failed.into_error(call, &doing)),
        }
    }
}

/// Lets the image go. It stays where it was before us, where another owner holds it, and where a container uses it.
pub(crate) async fn release(call: &Call, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let what = format!("image `{}`", request.target.identity.name);
    let reference = Reference::parse(&request.target.identity.name);
    let images = list(call).await?;
    let (ours, others): (Vec<_>, Vec<_>) =
        owners(&images).filter(|(owner, ..)| owner.reference.is_same(&reference)).partition(|(owner, ..)| {
            owner.mark.lineage == request.mark.lineage && owner.mark.address == request.target.address
        });
    let there = find(&images, &reference);
    if ours.is_empty() {
        return Ok(if there.is_some() { Deleted::Released } else { Deleted::WasAbsent });
    }
    let brought = ours.iter().any(|(owner, ..)| owner.brought);
    let stays = match there {
        None => false,
        Some(image) => !brought || !others.is_empty() || is_used(call, &image.id).await?,
    };
    // The reference first: while our tag is there, the image is, and a repeated call knows that it is to go.
    if !stays && there.is_some() {
        untag(call, &what, &reference.to_string()).await?;
    } else if brought && let Some((heir, old, id)) = others.first() {
        bequeath(call, &what, heir, old, id).await?;
    }
    for (_, tag, _) in &ours {
        untag(call, &what, tag).await?;
    }
    Ok(if stays { Deleted::Released } else { Deleted::Gone })
}

/// Tells another owner that the image may go with it, since we brought it.
async fn bequeath(call: &Call, what: &str, heir: &OwnerTag, old: &str, id: &str) -> Result<(), CallError> {
    if heir.brought || heir.source == Source::Present {
        return Ok(());
    }
    let heir = OwnerTag { brought: true, ..heir.clone() };
    let Some((repo, tag)) = heir.write() else { return Ok(()) };
    let doing = format!("tag {what}");
    let options = TagImageOptions { repo: Some(repo), tag: Some(tag) };
    let reply = call.change(&doing, call.session.docker.tag_image(id, Some(options))).await;
    reply.map_err(|failed| failed.into_error(call, &doing))?;
    untag(call, what, old).await?;
    Ok(())
}

/// Whether a container is made from the image.
async fn is_used(call: &Call, id: &str) -> Result<bool, CallError> {
    // The engine's own filter is not asked: Podman finds nothing by an id as it tells it itself.
    Ok(list_containers(call).await?.iter().any(|container| container.image_id.as_deref() == Some(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failed_pull_has_its_hint() {
        let reference = Reference::parse("reg.example:5000/a/b:1");
        let check = |message: &str, wanted: &str| {
            let hint = pull_hint(message, &reference, false, false).unwrap();
            assert!(hint.contains(wanted), "{hint}");
        };
        let check_podman = |message: &str, wanted: &str| {
            let hint = pull_hint(message, &reference, false, true).unwrap();
            assert!(hint.contains(wanted), "{hint}");
        };
        check("tls: failed to verify certificate: x509: unknown", "/etc/docker/certs.d/reg.example:5000/ca.crt");
        check("http: server gave HTTP response to HTTPS client", "insecure-registries");
        check("pull access denied, repository does not exist", "docker login reg.example:5000");
        check("manifest for x not found: manifest unknown", "correct the reference");
        check("dial tcp: lookup reg.example: no such host", "cannot reach reg.example:5000");
        check_podman("http: server gave HTTP response to HTTPS client", "registries.conf");
        check_podman("x509: unknown", "/etc/containers/certs.d/reg.example:5000/ca.crt");
        check_podman("unauthorized", "podman login reg.example:5000");
        assert_eq!(pull_hint("something else", &reference, true, false), None);
    }
}
