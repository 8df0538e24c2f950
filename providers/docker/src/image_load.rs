//! Images that a person puts into the nodes of a cluster, from the engine or from an archive.

use std::collections::BTreeMap;
use std::io::Seek as _;
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use ksail_archives::Archive;
use ksail_kinds::{canonical_reference, digest_of_reference};
use ksail_provider::CallError;
use tokio::io::AsyncWriteExt as _;

use crate::archive;
use crate::call::{Call, Failed};
use crate::image;
use crate::image_fetch::{fetch, unwritable};
use crate::node_images::{self, import};
use crate::nodes::{NodeContainer, nodes};
use crate::reference::Reference;

/// How many nodes take images in at once.
const NODES_AT_ONCE: usize = 4;

/// Where images come from.
#[derive(Debug, Clone, Copy)]
pub enum ImagesFrom<'a> {
    /// The engine has them, under these names; of those that are named by a digest the registry has the content.
    Engine {
        /// The names.
        names: &'a [String],
        /// A folder for what is on its way to the nodes. Nothing of it is left there.
        scratch: &'a Path,
    },
    /// All of an archive.
    Archive(&'a Path),
}

/// What became of images on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeImages {
    /// The node.
    pub node: String,
    /// The images that were put there.
    pub loaded: Vec<String>,
    /// Those that it had.
    pub present: Vec<String>,
}

/// What is known of an image before it is had: the digests by which a node may tell that it has it.
type Known = BTreeMap<String, Vec<String>>;

/// Puts images into nodes of a cluster, all or those that are named. A node that has one already does not get it again.
pub(crate) async fn load(
    call: &mut Call,
    cluster: &str,
    only: &[String],
    from: ImagesFrom<'_>,
    config: Option<&Path>,
) -> Result<Vec<NodeImages>, CallError> {
    let nodes = chosen(call, cluster, only).await?;
    let (known, archive) = match from {
        ImagesFrom::Archive(path) => {
            let archive = archive::open(call, "load images", path).await?;
            (known_of(&archive), Some(archive))
        }
        ImagesFrom::Engine { names, .. } => (of_engine(call, names).await?, None),
    };
    let mut lacking = Vec::with_capacity(nodes.len());
    for node in &nodes {
        lacking.push(lacks(call, node, &known).await?);
    }
    let archives: Vec<Arc<Archive>> = match (archive, from) {
        (Some(archive), _) => vec![archive],
        (None, ImagesFrom::Engine { scratch, .. }) => {
            let mut wanted: Vec<&str> = lacking.iter().flatten().map(String::as_str).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let (of_engine, of_registries) = gather(call, &wanted, scratch, config).await?;
            of_engine.into_iter().chain(of_registries).collect()
        }
        (None, ImagesFrom::Archive(_)) => Vec::new(),
    };
    // The futures are made first: a closure over what is borrowed is not general enough for an async trait.
    let mut works = Vec::with_capacity(nodes.len());
    let call = &*call;
    for (node, names) in nodes.into_iter().zip(lacking) {
        works.push(put(call, node, &archives, names, &known));
    }
    futures::stream::iter(works).buffered(NODES_AT_ONCE).try_collect().await
}

async fn put(
    call: &Call,
    node: String,
    archives: &[Arc<Archive>],
    names: Vec<String>,
    known: &Known,
) -> Result<NodeImages, CallError> {
    for archive in archives {
        let held: Vec<String> = names.iter().filter(|name| archive.image(name).is_ok()).cloned().collect();
        if !held.is_empty() {
            import(call, &node, &format!("load images into `{node}`"), Arc::clone(archive), held).await?;
        }
    }
    Ok(outcome(node, known, names))
}

fn outcome(node: String, known: &Known, loaded: Vec<String>) -> NodeImages {
    let present = known.keys().filter(|name| !loaded.contains(name)).cloned().collect();
    NodeImages { node, loaded, present }
}

/// The nodes of the cluster that are meant; all must run.
async fn chosen(call: &Call, cluster: &str, only: &[String]) -> Result<Vec<String>, CallError> {
    let what = format!("load images into the cluster `{cluster}`");
    let mut found: Vec<NodeContainer> =
        nodes(call).await?.into_iter().filter(|node| node.cluster == cluster && node.is_node()).collect();
    if found.is_empty() {
        let hint = "`ksail cluster list` tells which clusters it has, `--name` chooses one; `ksail apply` makes that of the file";
        return Err(call.refused(&what, "it has no nodes there").hint(hint));
    }
    for name in only {
        if !found.iter().any(|node| node.name == *name) {
            let all: Vec<&str> = found.iter().map(|node| node.name.as_str()).collect();
            let why = format!("it has no node `{name}`");
            return Err(call.refused(&what, &why).hint(format!("its nodes are {}", all.join(", "))));
        }
    }
    found.retain(|node| only.is_empty() || only.contains(&node.name));
    if let Some(down) = found.iter().find(|node| !node.is_running()) {
        let why = format!("its node `{}` does not run ({})", down.name, down.state);
        return Err(call.refused(&what, &why).hint("`ksail cluster start` starts the cluster"));
    }
    let mut names: Vec<String> = found.into_iter().map(|node| node.name).collect();
    names.sort();
    Ok(names)
}

fn known_of(archive: &Archive) -> Known {
    let digests = |image: &ksail_archives::Image| vec![image.digest().to_owned(), image.config_digest().to_owned()];
    archive.images().iter().map(|(name, image)| (name.clone(), digests(image))).collect()
}

/// What the engine knows of its images, and names of those that are named by a digest.
async fn of_engine(call: &Call, names: &[String]) -> Result<Known, CallError> {
    let mut known = Known::new();
    for name in names {
        let full = canonical_reference(name);
        if let Some(digest) = digest_of_reference(&full) {
            let digest = digest.to_owned();
            known.insert(full, vec![digest]);
            continue;
        }
        let what = format!("look for the image `{full}`");
        let found = call.look(&what, || call.session.docker.inspect_image(&full)).await?;
        let Some(found) = found else {
            let error = call.refused(&what, "there is no such image");
            return Err(error.hint(format!("`docker pull {name}`, or name an archive: `ksail image load FILE`")));
        };
        known.insert(full, found.id.into_iter().collect());
    }
    Ok(known)
}

/// Images that were saved by the engine, or fetched from registries.
pub struct SavedImages {
    /// Holds those that are named by tags. Its file has no name.
    pub of_engine: Option<Arc<Archive>>,
    /// Holds those that are named by digests, for what a digest names is not what an engine saves. Its file has no name either.
    pub of_registries: Option<Arc<Archive>>,
    /// Those that the engine lacked, and pulled.
    pub pulled: Vec<String>,
}

/// Has the engine save images, which it pulls where it lacks them, and fetches those that are named by digests.
pub(crate) async fn save_with_missing(
    call: &mut Call,
    names: &[String],
    scratch: &Path,
    config: Option<&Path>,
) -> Result<SavedImages, CallError> {
    let mut pulled = Vec::new();
    for name in names.iter().filter(|name| digest_of_reference(name).is_none()) {
        let what = format!("image `{name}`");
        if call.look(&what, || call.session.docker.inspect_image(name)).await?.is_none() {
            image::pull(call, &what, &Reference::parse(name), config).await?;
            pulled.push(name.clone());
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (of_engine, of_registries) = gather(call, &names, scratch, config).await?;
    Ok(SavedImages { of_engine, of_registries, pulled })
}

/// Two archives in a folder: of images that the engine saves, and of those that are fetched.
async fn gather(
    call: &mut Call,
    names: &[&str],
    scratch: &Path,
    config: Option<&Path>,
) -> Result<(Option<Arc<Archive>>, Option<Arc<Archive>>), CallError> {
    let (pinned, tagged): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| digest_of_reference(name).is_some());
    // What may fail for the registry's sake comes first: it takes nothing of the engine.
    let fetched = if pinned.is_empty() { None } else { Some(fetch(call, &pinned, scratch, config).await?) };
    let saved = if tagged.is_empty() { None } else { Some(save(call, &tagged, scratch).await?) };
    Ok((saved, fetched))
}

/// Which of the images a node has not.
async fn lacks(call: &Call, node: &str, known: &Known) -> Result<Vec<String>, CallError> {
    let what = format!("look at the images of `{node}`");
    let gone = || call.refused(&what, "it is gone").hint("`ksail cluster list` tells which nodes there are");
    let there = node_images::list(call, node, &what).await?.ok_or_else(gone)?;
    let maybe: Vec<&str> = known.keys().filter_map(|name| there.get(name)).map(String::as_str).collect();
    let ids = node_images::ids(call, node, &what, &maybe).await?;
    let is_there = |name: &str, digests: &[String]| {
        there
            .get(name)
            .is_some_and(|found| digests.contains(found) || ids.get(found).is_some_and(|id| digests.contains(id)))
    };
    Ok(known.iter().filter(|(name, digests)| !is_there(name, digests)).map(|(name, _)| name.clone()).collect())
}

/// Has the engine save images into a file that has no name, and so is gone with this process.
async fn save(call: &Call, names: &[&str], scratch: &Path) -> Result<Arc<Archive>, CallError> {
    let doing = format!("save {} of the engine", names.join(", "));
    let unwritable = |error: std::io::Error| unwritable(&doing, scratch, &error);
    let mut file = tempfile::tempfile_in(scratch).map_err(unwritable)?;
    let mut out = tokio::fs::File::from_std(file.try_clone().map_err(unwritable)?);
    let mut parts = call.session.docker.export_images(names);
    let mut failed = None;
    let saved = async {
        while let Some(part) = parts.next().await {
            if let Err(error) = out.write_all(&part?).await {
                failed = Some(error);
                break;
            }
        }
        Ok(())
    };
    let saved = call.change(&doing, saved).await;
    if let Some(error) = failed {
        return Err(unwritable(error));
    }
    match saved {
        Ok(()) => {}
        Err(Failed::Answered { status: 404, message }) => {
            return Err(call.refused(&doing, &message).hint("`docker images` tells what it has"));
        }
        Err(failed) => return Err(failed.into_error(call, &doing)),
    }
    out.flush().await.map_err(unwritable)?;
    file.rewind().map_err(unwritable)?;
    let archive = archive::read(call, &doing, file).await?;
    for name in names {
        if archive.image(name).is_err() {
            let error = call.refused(&doing, &format!("what it gave does not hold `{name}`"));
            return Err(error.hint(format!("`docker save {} | tar -t` shows what it gives", Reference::parse(name))));
        }
    }
    Ok(archive)
}
