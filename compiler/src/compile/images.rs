//! Where images come from: pulled, from the archive of `importImages`, or from a bundle; and what of them goes into nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ksail_kinds::{
    BootstrapSpec, ImageImportSpec, ImageSource, ImageSpec, LoadBalancerSpec, MachineSpec, MirrorSpec, RegistrySpec,
    Spec, canonical_reference,
};
use ksail_model::{
    Address, Condition, Declaration, DeclaredGraph, Diagnostic, Edge, ForceOn, Origin, Origins, Ownership, Path,
    Strength, Value,
};

use super::machines::edge;
use super::resources::{Builder, derived};
use crate::codes;
use crate::image_reference;
use crate::loaded::Loaded;
use crate::manifests;

/// The fields of pods, at whatever depth, whose entries are containers.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// An archive that images are taken from.
pub(super) struct Supply {
    path: String,
    /// The digests of its images, by their canonical references.
    images: BTreeMap<String, String>,
    origin: Origin,
    /// Whether it holds all that is needed, so that nothing is pulled.
    is_bundle: bool,
}

impl Builder<'_> {
    /// The bundle that is given, or the archive of `importImages`.
    pub(super) fn supply(&mut self) -> Option<Supply> {
        if let Some(path) = self.project.bundle() {
            return match self.project.image_archive(&path) {
                Ok(facts) => {
                    let origin = Origin::Flag { flag: format!("--bundle {path}").into() };
                    Some(Supply { path, images: facts.images, origin, is_bundle: true })
                }
                Err(why) => {
                    let message = format!("the bundle `{path}` cannot be read: {why}");
                    let error = Diagnostic::error(codes::ARCHIVE, message);
                    self.problems.push(error.hint("`ksail bundle create -o FILE` writes one"));
                    None
                }
            };
        }
        let file = self.loaded.config.spec.cluster.import_images.clone()?;
        let path = Path::parse("spec.cluster.importImages").unwrap_or_default();
        let facts = if self.project.exists(&file) {
            self.project.image_archive(&file)
        } else {
            Err("there is no such file".to_owned())
        };
        match facts {
            Ok(facts) => {
                if facts.images.is_empty() {
                    let warning = Diagnostic::warning(codes::ARCHIVE, format!("the archive `{file}` names no images"));
                    self.problems.push(self.loaded.label(warning, &path, ""));
                }
                let origin = self.loaded.origin(&path);
                Some(Supply { path: file, images: facts.images, origin, is_bundle: false })
            }
            Err(why) => {
                let error =
                    Diagnostic::error(codes::ARCHIVE, format!("the archive of images `{file}` cannot be read: {why}"));
                let error =
                    error.hint("`docker save -o FILE IMAGE…` writes one; the path is relative to the project's folder");
                self.problems.push(self.loaded.label(error, &path, ""));
                None
            }
        }
    }

    /// All images of the archive, on an engine without nodes that would take them.
    pub(super) fn images_of_supply(&mut self) {
        let Some(supply) = &self.supply else { return };
        let (references, origin): (Vec<String>, _) = (supply.images.keys().cloned().collect(), supply.origin.clone());
        for reference in references {
            self.needed_image(&reference, &origin, "the archive brings it");
        }
    }

    /// An image that something needs: from the archive that holds it, or else pulled.
    pub(super) fn needed_image(&mut self, reference: &str, origin: &Origin, why: &str) -> Address {
        let address = self.address(ImageSpec::KIND, reference);
        if self.graph.declarations.contains_key(&address) {
            return address;
        }
        let mut origins = Origins::all(origin.clone());
        let canonical = canonical_reference(reference);
        let found = self.supply.as_ref().map(|supply| (supply, supply.images.get(&canonical)));
        // How an image came to be there is no reason to bring it again, but where the file itself says what it shall be.
        let (source, by_file) = match found {
            Some((supply, Some(digest))) => {
                origins.set(Path::key("source"), supply.origin.clone());
                let at = Path::parse("source.digest").unwrap_or_default();
                origins.set(at, derived("the image in the archive at planning"));
                let source = ImageSource::Archive { path: supply.path.clone(), digest: digest.clone() };
                (source, !supply.is_bundle)
            }
            other => {
                if let Some((supply, None)) = other
                    && supply.is_bundle
                {
                    let message = format!("the bundle `{}` does not hold `{reference}`", supply.path);
                    let error = Diagnostic::error(codes::ARCHIVE, message);
                    self.problems.push(error.hint("`ksail bundle create` writes one that holds what this file needs"));
                }
                origins.set(Path::key("source"), derived(why));
                (ImageSource::Pull {}, false)
            }
        };
        let mut image = self.image(reference, source, origins);
        if !by_file {
            image.lifecycle.ignore = vec![Path::key("source")];
        }
        self.add(image)
    }

    pub(super) fn image(&self, reference: &str, source: ImageSource, origins: Origins) -> Declaration {
        let spec = ImageSpec { reference: reference.to_owned(), source };
        let mut image = self.declaration(reference, reference.to_owned(), &spec, origins);
        image.ownership = Ownership::Shared;
        image
    }

    /// The images of the archive in each node: all but those that only the engine needs.
    pub(super) fn images_of_nodes(&mut self) {
        let Some(supply) = &self.supply else { return };
        let of_engine = used_by_engine(&self.graph, supply.is_bundle);
        let wanted = workload_images(&self.graph);
        let images: BTreeMap<String, String> = supply
            .images
            .iter()
            .filter(|(reference, _)| wanted.contains(*reference) || !of_engine.contains(*reference))
            .map(|(reference, digest)| (reference.clone(), digest.clone()))
            .collect();
        if supply.is_bundle {
            for missing in wanted.iter().filter(|reference| !supply.images.contains_key(*reference)) {
                let message = format!("the bundle `{}` does not hold `{missing}`, which pods run", supply.path);
                let error = Diagnostic::error(codes::ARCHIVE, message);
                self.problems.push(error.hint("`ksail bundle create` writes one that holds what this file needs"));
            }
        }
        if images.is_empty() {
            return;
        }
        let spec = ImageImportSpec { path: supply.path.clone(), images, bundle: supply.is_bundle };
        let origin = supply.origin.clone();
        let machines = self.graph.declarations.values().filter(|one| one.address.kind() == MachineSpec::KIND);
        let machines: Vec<(Address, String)> =
            machines.map(|one| (one.address.clone(), one.identity.name.clone())).collect();
        for (machine, name) in machines {
            let node = machine.name_parts().pop().unwrap_or_default();
            let mut origins = Origins::all(origin.clone());
            origins.set(Path::key("images"), derived("what the archive holds, but what only the engine needs"));
            let mut import = self.declaration(&node, name, &spec, origins);
            import.host = Some(machine);
            declare_import(&mut self.graph, import);
        }
    }
}

/// Declares what brings images into a machine, before pods can come there: before its node joins, and before a workload that is
/// declared.
pub fn declare_import(graph: &mut DeclaredGraph, import: Declaration) {
    let address = import.address.clone();
    let Some(machine) = import.host.clone() else { return };
    let soft = |why: &str| Edge {
        condition: Condition::Ready,
        strength: Strength::Soft,
        ..edge(&address, ForceOn::Nothing, why)
    };
    for declaration in graph.declarations.values_mut() {
        let why = if declaration.address.kind() == BootstrapSpec::KIND
            && declaration.host.as_ref() == Some(&machine)
            && !begins(declaration)
        {
            "pods come to the node as soon as it joins"
        } else if declaration.address.kind() == manifests::KIND && has_images(&declaration.spec) {
            "its images are in the nodes before"
        } else {
            continue;
        };
        Arc::make_mut(declaration).edges.push(soft(why));
    }
    graph.declarations.insert(address, Arc::new(import));
}

/// Whether it is the bootstrap that begins the cluster: no pod is there then that would need an image.
fn begins(bootstrap: &Declaration) -> bool {
    bootstrap.spec.field("action").and_then(Value::as_str) == Some("init")
}

/// The images of which the engine makes containers. What registries are made of may be wanted in a cluster too, unless it came
/// with a bundle, which tells of each image what it is for.
fn used_by_engine(graph: &DeclaredGraph, is_bundle: bool) -> BTreeSet<String> {
    let kinds: &[&str] = if is_bundle {
        &[MachineSpec::KIND, LoadBalancerSpec::KIND, RegistrySpec::KIND, MirrorSpec::KIND]
    } else {
        &[MachineSpec::KIND]
    };
    let users = graph.declarations.values().filter(|one| kinds.contains(&one.address.kind()));
    users.filter_map(|one| Some(canonical_reference(one.spec.field("image")?.as_str()?))).collect()
}

/// The images that pods of declared objects run, as containerd looks for them.
fn workload_images(graph: &DeclaredGraph) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    for object in graph.declarations.values().filter(|one| one.address.kind() == manifests::KIND) {
        walk(&object.spec, &mut |image| {
            images.insert(canonical_reference(image));
        });
    }
    images
}

fn has_images(spec: &Value) -> bool {
    let mut found = false;
    walk(spec, &mut |_| found = true);
    found
}

/// Finds the images of containers, and those that are mounted, in whatever holds a pod.
fn walk(value: &Value, found: &mut dyn FnMut(&str)) {
    let text = |value: &Value, path: &[&str]| -> Option<String> {
        let at = path.iter().try_fold(value, |value, key| value.field(key))?;
        at.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    if let Some(map) = value.as_map() {
        for (key, inner) in map {
            let list = inner.as_list().map_or(&[][..], Vec::as_slice);
            if CONTAINERS.contains(&key.as_str()) {
                list.iter().filter_map(|container| text(container, &["image"])).for_each(|image| found(&image));
            } else if key == "volumes" {
                list.iter().filter_map(|volume| text(volume, &["image", "reference"])).for_each(|image| found(&image));
            }
            walk(inner, found);
        }
    } else if let Some(list) = value.as_list() {
        list.iter().for_each(|inner| walk(inner, found));
    }
}

/// An image that a plan needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededImage {
    /// Its canonical reference, as it is asked for.
    pub reference: String,
    /// Where it is to be had.
    pub from: ImageFrom,
}

/// Where an image is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageFrom {
    /// The engine has it under this reference, or pulls it.
    Engine(String),
    /// An archive holds it; relative to the project's folder.
    Archive(String),
}

/// All images that what is declared needs, on the engine and in nodes. What pods run is pulled from where `spec.images` says, and is
/// asked for as the pods name it.
pub fn needed_images(loaded: &Loaded, graph: &DeclaredGraph) -> Vec<NeededImage> {
    let mut needed: BTreeMap<String, ImageFrom> = BTreeMap::new();
    for declaration in graph.declarations.values() {
        let spec = &declaration.spec;
        if let Ok(image) = ImageSpec::from_value(spec)
            && declaration.address.kind() == ImageSpec::KIND
        {
            let from = match image.source {
                ImageSource::Archive { path, .. } => ImageFrom::Archive(path),
                _ => ImageFrom::Engine(image.reference.clone()),
            };
            needed.insert(canonical_reference(&image.reference), from);
        } else if let Ok(import) = ImageImportSpec::from_value(spec)
            && declaration.address.kind() == ImageImportSpec::KIND
        {
            for reference in import.images.into_keys() {
                needed.insert(reference, ImageFrom::Archive(import.path.clone()));
            }
        }
    }
    for reference in workload_images(graph) {
        let (pulled, _) = image_reference::rewrite(&reference, loaded.config.spec.images.as_slice());
        needed.entry(reference).or_insert(ImageFrom::Engine(pulled));
    }
    needed.into_iter().map(|(reference, from)| NeededImage { reference, from }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_are_found_in_whatever_holds_a_pod() {
        let pod = json!({
            "containers": [{"name": "a", "image": "a:1"}, {"name": "none"}],
            "initContainers": [{"image": "b:1"}],
            "volumes": [{"name": "v", "image": {"reference": "c:1"}}, {"name": "w", "emptyDir": {}}],
        });
        let job = Value::from(json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}}));
        let mut found = Vec::new();
        walk(&job, &mut |image| found.push(image.to_owned()));
        found.sort();
        assert_eq!(found, ["a:1", "b:1", "c:1"]);
        assert!(!has_images(&Value::from(json!({"data": {"image": "a:1", "containers": "a:1"}}))));
    }
}
