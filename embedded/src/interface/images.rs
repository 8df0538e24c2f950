//! Images: listing, inspection, tags, removal.

use std::collections::{BTreeMap, HashSet};

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::query::Query;
use super::reply::{ApiError, Reply, empty, ok};
use crate::digests;
use crate::engine::Engine;
use crate::reference::{Reference, familiar};
use crate::world::{BUILTIN_IMAGE, Image, World, builtin_id};

/// Finds an image by reference, by digest reference, by id or by the beginning of its id.
pub(crate) fn find<'a>(world: &'a World, name: &str) -> Result<&'a Image, ApiError> {
    let by_id = || {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let is_hex = !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut found = world.images.values().filter(|image| is_hex && image.id["sha256:".len()..].starts_with(hex));
        found.next().filter(|_| found.next().is_none())
    };
    let by_reference = || {
        let full = Reference::parse(name)?.full();
        let by_tag = world.tags.get(&full).and_then(|id| world.images.get(id));
        by_tag.or_else(|| world.images.values().find(|image| image.digests.contains(&full)))
    };
    by_reference().or_else(by_id).ok_or_else(|| ApiError::not_found(format!("No such image: {name}")))
}

/// The tags of an image, as people see them.
fn tags_of(world: &World, id: &str) -> Vec<String> {
    world.tags.iter().filter(|(_, found)| *found == id).map(|(tag, _)| familiar(tag).to_owned()).collect()
}

fn labels_of(image: &Image) -> BTreeMap<String, String> {
    let labels = image.config.get("config").and_then(|config| config.get("Labels"));
    labels.and_then(|labels| serde_json::from_value(labels.clone()).ok()).unwrap_or_default()
}

fn created(image: &Image) -> &str {
    image.config.get("created").and_then(Value::as_str).unwrap_or("1970-01-01T00:00:00Z")
}

fn to_json(world: &World, image: &Image) -> Value {
    let digests: Vec<&str> = image.digests.iter().map(|digest| familiar(digest)).collect();
    json!({
        "Id": image.id, "RepoTags": tags_of(world, &image.id), "RepoDigests": digests, "Parent": "", "Comment": "",
        "Created": created(image), "DockerVersion": "", "Author": image.config.get("author").cloned().unwrap_or_default(),
        "Config": image.config.get("config").cloned().unwrap_or_else(|| json!({})),
        "Architecture": image.config.get("architecture").cloned().unwrap_or_default(),
        "Os": image.config.get("os").cloned().unwrap_or_default(),
        "Size": image.size, "VirtualSize": image.size, "GraphDriver": {"Name": "ksail-embedded", "Data": {}},
        "RootFS": {
            "Type": "layers",
            "Layers": image.config.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).cloned().unwrap_or_else(|| json!([])),
        },
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    })
}

impl Engine {
    pub(super) async fn list_images(&self, query: &Query) -> Reply {
        let filters = query.filters()?;
        filters.check(&["label", "reference", "dangling", "before", "since", "until"])?;
        let world = self.world.lock().await;
        let used = |id: &str| world.containers.values().filter(|container| container.image_id == id).count();
        let mut found = Vec::new();
        for image in world.images.values() {
            let tags = tags_of(&world, &image.id);
            let matches = |wanted: &str| tags.iter().any(|tag| reference_matches(tag, wanted));
            if !filters.labels(&labels_of(image))
                || !filters.any("reference", matches)
                || !filters.any("dangling", |wanted| matches!(wanted, "true" | "1") == tags.is_empty())
            {
                continue;
            }
            let seconds = created(image).parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
            let digests: Vec<&str> = image.digests.iter().map(|digest| familiar(digest)).collect();
            found.push(json!({
                "Id": image.id, "ParentId": "", "RepoTags": tags, "RepoDigests": digests, "Created": seconds,
                "Size": image.size, "VirtualSize": image.size, "SharedSize": -1, "Labels": labels_of(image),
                "Containers": used(&image.id),
            }));
        }
        ok(&Value::Array(found))
    }

    pub(super) async fn inspect_image(&self, name: &str) -> Reply {
        let world = self.world.lock().await;
        ok(&to_json(&world, find(&world, name)?))
    }

    pub(super) async fn tag_image(&self, name: &str, query: &Query) -> Reply {
        let repository = query.get("repo").ok_or_else(|| ApiError::bad("repository name must be given"))?;
        let text = query.get("tag").map_or_else(|| repository.to_owned(), |tag| format!("{repository}:{tag}"));
        let reference = Reference::parse(&text)
            .filter(|reference| !reference.is_digest())
            .ok_or_else(|| ApiError::bad(format!("invalid reference format: {text}")))?;
        let mut world = self.world.lock().await;
        let id = find(&world, name)?.id.clone();
        set_tag(&mut world, &reference.full(), &id)?;
        empty(StatusCode::CREATED)
    }

    pub(super) async fn delete_image(&self, name: &str, query: &Query) -> Reply {
        let mut world = self.world.lock().await;
        let image = find(&world, name)?.clone();
        let force = query.flag("force");
        let full = Reference::parse(name).map(|reference| reference.full());
        let tag = full.clone().filter(|full| world.tags.contains_key(full));
        let digest = full.filter(|full| image.digests.contains(full));
        let tags: Vec<String> =
            world.tags.iter().filter(|(_, id)| **id == image.id).map(|(tag, _)| tag.clone()).collect();
        if tag.as_deref() == Some(BUILTIN_IMAGE) || (image.id == builtin_id() && tag.is_none()) {
            return Err(ApiError::conflict(format!(
                "conflict: unable to delete {name} (cannot be forced): it is built into the embedded engine"
            )));
        }
        let by_id = tag.is_none() && digest.is_none();
        if by_id && tags.len() > 1 && !force {
            return Err(ApiError::conflict(format!(
                "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                short(&image.id)
            )));
        }
        let last = by_id || (tags.len() <= 1 && (tag.is_some() || tags.is_empty()));
        if last {
            refuse_if_used(&world, &image, name, force)?;
        }
        let mut report = Vec::new();
        let removed: Vec<String> = if by_id { tags } else { tag.into_iter().collect() };
        for tag in &removed {
            world.tags.remove(tag);
            report.push(json!({"Untagged": familiar(tag)}));
        }
        world.save_tags()?;
        if last {
            report.extend(image.digests.iter().map(|digest| json!({"Untagged": familiar(digest)})));
            remove_image(&mut world, &image)?;
            report.push(json!({"Deleted": image.id}));
        } else if let Some(digest) = digest {
            let mut image = image;
            image.digests.retain(|found| *found != digest);
            world.save(&image)?;
            world.images.insert(image.id.clone(), image);
            report.push(json!({"Untagged": familiar(&digest)}));
        }
        ok(&Value::Array(report))
    }
}

fn short(id: &str) -> &str {
    id.get("sha256:".len().."sha256:".len() + 12).unwrap_or(id)
}

fn refuse_if_used(world: &World, image: &Image, name: &str, force: bool) -> Result<(), ApiError> {
    for container in world.containers.values().filter(|container| container.image_id == image.id) {
        let running = world.running.contains_key(&container.id);
        if running || !force {
            let (state, how) = if running { ("running", "cannot be forced") } else { ("stopped", "must be forced") };
            return Err(ApiError::conflict(format!(
                "conflict: unable to delete {name} ({how}) - image is being used by {state} container {}",
                container.id.get(..12).unwrap_or_default()
            )));
        }
    }
    Ok(())
}

/// Points a tag at an image; whatever had it loses it.
pub(crate) fn set_tag(world: &mut World, full: &str, id: &str) -> Result<(), ApiError> {
    if full == BUILTIN_IMAGE && id != builtin_id() {
        return Err(ApiError::conflict(format!(
            "{BUILTIN_IMAGE} is built into the embedded engine and keeps its name"
        )));
    }
    let before = world.tags.insert(full.to_owned(), id.to_owned());
    if let Err(error) = world.save_tags() {
        match before {
            Some(before) => world.tags.insert(full.to_owned(), before),
            None => world.tags.remove(full),
        };
        return Err(error.into());
    }
    Ok(())
}

/// Keeps an image whose blobs are in place. One that is there already gets the new digests.
pub(crate) fn keep(world: &mut World, mut image: Image) -> Result<(), ApiError> {
    if let Some(known) = world.images.get(&image.id) {
        for digest in &known.digests {
            if !image.digests.contains(digest) {
                image.digests.push(digest.clone());
            }
        }
        for blob in &known.blobs {
            if !image.blobs.contains(blob) {
                image.blobs.push(blob.clone());
            }
        }
    }
    if image.id != builtin_id() {
        world.save(&image)?;
        world.images.insert(image.id.clone(), image);
    }
    Ok(())
}

fn remove_image(world: &mut World, image: &Image) -> Result<(), ApiError> {
    world.erase(image)?;
    world.images.remove(&image.id);
    let kept: HashSet<&String> = world.images.values().flat_map(|image| &image.blobs).collect();
    for hex in image.blobs.iter().filter(|blob| !kept.contains(blob)).filter_map(|digest| digests::hex_of(digest)) {
        // One that stays by a failure is swept at the next start.
        let _ = std::fs::remove_file(world.content(hex));
    }
    Ok(())
}

/// Whether a tag matches a pattern of the filter `reference`: a name, a name with a tag, or either with `*`.
fn reference_matches(tag: &str, wanted: &str) -> bool {
    let name = tag.rsplit_once(':').map_or(tag, |(name, _)| name);
    let full = Reference::parse(wanted).map(|reference| reference.full());
    if full.as_deref().map(familiar) == Some(tag) && wanted.contains(':') || tag == wanted || name == familiar(wanted) {
        return true;
    }
    let pattern = format!("^{}$", wanted.replace('.', "\\.").replace('*', "[^/]*").replace('?', "[^/]"));
    wanted.contains(['*', '?'])
        && regex_lite::Regex::new(&pattern).is_ok_and(|pattern| pattern.is_match(tag) || pattern.is_match(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_match_by_name_tag_and_pattern() {
        for wanted in ["a/b", "a/b:1", "a/*", "a/b:*", "docker.io/a/b:1", "docker.io/a/b"] {
            assert!(reference_matches("a/b:1", wanted), "{wanted}");
        }
        for wanted in ["a", "a/b:2", "b", "*"] {
            assert!(!reference_matches("a/b:1", wanted), "{wanted}");
        }
    }
}
