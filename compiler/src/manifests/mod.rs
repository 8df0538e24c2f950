//! Manifests as declared objects, with edges from what they mean.

mod edges;
mod object;
mod scalar;
mod scopes;

use std::collections::BTreeMap;

use ksail_model::{
    Address, Declaration, DeclaredGraph, Diagnostic, Identity, Lifecycle, Origin, Origins, Ownership, Path, Step, Value,
};

use crate::codes;
use crate::loaded::Loaded;
use crate::sources::{Project, SourceFile};
use crate::tree::{Data, Node, Place, Role, Texts};
use crate::yaml;
use edges::Edges;
use object::Object;
pub(crate) use scopes::Scopes;

/// The kind of resource that an object is.
const KIND: &str = "object";
/// Lists of objects end so.
const LIST: &str = "List";

/// Reads all manifests of a configuration and declares their objects, made by this provider.
pub(crate) fn declare(
    loaded: &Loaded,
    project: &dyn Project,
    provider: &str,
    graph: &mut DeclaredGraph,
) -> Vec<Diagnostic> {
    let mut reader = Reader { project, texts: Texts::default(), objects: Vec::new(), problems: Vec::new() };
    let mut read = BTreeMap::new();
    for (index, pattern) in loaded.config.spec.manifests.iter().enumerate() {
        let at = Path::key("spec").child_key("manifests").child(Step::Index(index));
        match project.manifests(pattern) {
            Ok(files) => {
                for file in files {
                    // A file that two entries name counts once.
                    if read.insert(file.name.clone(), ()).is_none() {
                        reader.file(&file);
                    }
                }
            }
            Err(why) => {
                let error =
                    Diagnostic::error(codes::MANIFEST, format!("the manifests `{pattern}` cannot be read: {why}"));
                let error = error.hint("an entry is a file, a folder or a pattern such as `apps/**/*.yaml`, relative to the project's folder");
                reader.problems.push(loaded.label(error, &at, ""));
            }
        }
    }
    reader.declare(loaded.config.name(), provider, graph);
    reader.problems
}

/// The text at a path of a document of a file of manifests.
///
/// # Errors
/// A fragment that says why there is none. It holds nothing of the text.
pub fn manifest_text(text: &str, document: usize, path: &Path) -> Result<String, String> {
    let (documents, problems) = yaml::read_all(&Texts::default(), 0, text);
    if let Some(problem) = problems.first() {
        return Err(problem.message.clone());
    }
    let document = documents.get(document).ok_or("it has fewer documents than when the plan was made")?;
    match document.at(path).map(|(node, _)| &node.data) {
        Some(Data::Scalar { text, .. }) => Ok(text.clone()),
        _ => Err(format!("it has no text at {path}")),
    }
}

struct Reader<'a> {
    project: &'a dyn Project,
    texts: Texts,
    objects: Vec<(Object, Place)>,
    problems: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn file(&mut self, file: &SourceFile) {
        let index = self.texts.add(&file.name, &file.text, Role::File);
        let (documents, problems) = yaml::read_all(&self.texts, index, &file.text);
        self.problems.extend(problems);
        for (number, document) in documents.iter().enumerate() {
            self.node(document, &file.name, number, &Path::root());
        }
        // Values of Secrets stand in the text: it is not kept longer than it is needed.
        self.texts.0[index].text.clear();
    }

    fn node(&mut self, node: &Node, file: &str, document: usize, at: &Path) {
        if node.is_null() {
            return;
        }
        if let Some(items) = list_items(node) {
            for (index, item) in items.iter().enumerate() {
                self.node(item, file, document, &at.child_key("items").child(Step::Index(index)));
            }
            return;
        }
        match Object::read(node, file, document, at) {
            Ok(object) => {
                for name in object.variables() {
                    if self.project.env(&name).is_none() {
                        let message = format!("the environment variable `{name}` is not set, and a Secret needs it");
                        let error = Diagnostic::error(codes::SECRET_UNSET, message)
                            .hint(format!("set `{name}` where ksail runs"));
                        self.problems.push(self.texts.label(error, node.place, "needed here"));
                    }
                }
                self.objects.push((object, node.place));
            }
            Err(problem) => {
                let error = Diagnostic::error(codes::NOT_AN_OBJECT, problem.message).hint(problem.hint);
                self.problems.push(self.texts.label(error, problem.place.unwrap_or(node.place), ""));
            }
        }
    }

    fn origin(&self, place: Place) -> Origin {
        let file = self.texts.0.get(place.text).map(|text| text.name.clone()).unwrap_or_default();
        Origin::File { file, span: place.span }
    }

    fn declare(&mut self, cluster: &str, provider: &str, graph: &mut DeclaredGraph) {
        let scopes = Scopes::of(self.objects.iter().map(|(object, _)| object));
        let mut places: BTreeMap<Address, Place> = BTreeMap::new();
        let mut objects = Vec::with_capacity(self.objects.len());
        for (mut object, place) in std::mem::take(&mut self.objects) {
            let defaulted = object.settle_namespace(&scopes);
            let address = object.address(cluster);
            if let Some(first) = places.insert(address.clone(), place) {
                let error = Diagnostic::error(
                    codes::DUPLICATE_ENTRY,
                    format!("{} stands twice in the manifests", object.name()),
                );
                let error = self.texts.label(error, place, "again here");
                self.problems.push(self.texts.label(error, first, "first here"));
            }
            objects.push((address, object, place, defaulted));
        }
        let edges = Edges::of(objects.iter().map(|(address, object, _, _)| (address, object)));
        for (address, object, place, defaulted) in &objects {
            let (found, unknown) = edges.from(address, object);
            for name in unknown {
                let message = format!("`{name}`, which {} shall come after, is not declared", object.name());
                let error = Diagnostic::error(codes::NOT_DECLARED, message)
                    .hint("an object is named as in plans: `apps.Deployment/web/shop`, with `_` for no namespace");
                self.problems.push(self.texts.label(error, *place, ""));
            }
            let mut origins = Origins::all(self.origin(*place));
            for (path, place) in &object.places {
                origins.set(path.clone(), self.origin(*place));
            }
            if *defaulted {
                origins.set(namespace_path(), Origin::Default { field: "metadata.namespace".into() });
            }
            origins
                .set(Path::key(MANAGER_FIELD), Origin::Derived { why: "what is declared is managed by ksail".into() });
            let mut spec = object.spec.clone();
            if let Value::Map(map) = &mut spec {
                map.insert(MANAGER_FIELD.to_owned(), Value::from(MANAGER));
            }
            let declaration = Declaration {
                address: address.clone(),
                kind_version: 1,
                provider: provider.to_owned(),
                identity: Identity::named(object.name()),
                spec,
                host: None,
                edges: found,
                ownership: Ownership::Owned,
                lifecycle: Lifecycle::default(),
                choices: Vec::new(),
                origins,
            };
            graph.declarations.insert(address.clone(), declaration);
        }
    }
}

/// The field beside the object's own: who manages it.
const MANAGER_FIELD: &str = "fieldManager";
const MANAGER: &str = "ksail";

fn namespace_path() -> Path {
    Path::key("metadata").child_key("namespace")
}

/// The elements of a list of objects, if it is one.
fn list_items(node: &Node) -> Option<&[Node]> {
    let kind = match &node.entry("kind")?.value.data {
        Data::Scalar { text, .. } => text,
        _ => return None,
    };
    match &node.entry("items")?.value.data {
        Data::List(items) if kind.ends_with(LIST) => Some(items),
        _ => None,
    }
}
