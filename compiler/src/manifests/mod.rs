//! Manifests as declared objects, with edges from what they mean.

mod after;
mod edges;
mod object;
mod references;
mod scalar;
mod schema;
mod scopes;
mod secret_value;

use std::collections::BTreeMap;
use std::sync::Arc;

use ksail_model::{
    Address, Declaration, DeclaredGraph, Diagnostic, Identity, Lifecycle, Origin, Origins, Ownership, Path, SecretPart,
    Step, Value,
};

use crate::check::nearest;
use crate::codes;
use crate::loaded::Loaded;
use crate::sources::{Project, SourceFile};
use crate::tree::{Data, Node, Place, Role, Texts};
use crate::yaml;
use after::Afters;
use edges::Edges;
use object::{AFTER, Object, READY};
pub(crate) use schema::judge_status;
pub(crate) use scopes::Scopes;

/// The kind of resource that an object is.
pub(crate) const KIND: &str = "object";
/// Lists of objects end so.
const LIST: &str = "List";

/// Reads all manifests of a configuration and declares their objects, made by this provider in this host.
pub(crate) fn declare(
    loaded: &Loaded,
    project: &dyn Project,
    provider: &str,
    host: Option<&Address>,
    graph: &mut DeclaredGraph,
) -> Vec<Diagnostic> {
    let mut reader = Reader {
        loaded,
        project,
        is_known: host.is_some(),
        texts: Texts::default(),
        entries: Vec::new(),
        objects: Vec::new(),
        problems: Vec::new(),
    };
    let mut files: Vec<SourceFile> = Vec::new();
    let mut read: BTreeMap<String, usize> = BTreeMap::new();
    for (index, entry) in loaded.config.spec.manifests.iter().enumerate() {
        let at = Path::key("spec").child_key("manifests").child(Step::Index(index)).child_key("path");
        match project.manifests(&entry.path) {
            Ok(found) => {
                for file in found {
                    // A file that two entries name counts once, and belongs to both.
                    let position = *read.entry(file.name.clone()).or_insert_with(|| {
                        files.push(file);
                        reader.entries.push(Vec::new());
                        files.len() - 1
                    });
                    reader.entries[position].push(index);
                }
            }
            Err(why) => {
                let message = format!("the manifests `{}` cannot be read: {why}", entry.path);
                let error = Diagnostic::error(codes::MANIFEST, message);
                let error = error.hint("an entry is a file, a folder or a pattern such as `apps/**/*.yaml`, relative to the project's folder");
                reader.problems.push(loaded.label(error, &at, ""));
            }
        }
    }
    for (position, file) in files.into_iter().enumerate() {
        reader.file(position, &file);
    }
    reader.declare(provider, host, graph);
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
    loaded: &'a Loaded,
    project: &'a dyn Project,
    /// Whether the types of the cluster are those that this version knows.
    is_known: bool,
    texts: Texts,
    /// Of each file, which entries mean it.
    entries: Vec<Vec<usize>>,
    objects: Vec<Read>,
    problems: Vec<Diagnostic>,
}

/// An object as it was read.
struct Read {
    object: Object,
    place: Place,
    /// The position of its file.
    file: usize,
}

impl Reader<'_> {
    fn file(&mut self, position: usize, file: &SourceFile) {
        let index = self.texts.add(&file.name, &file.text, Role::File);
        let (documents, problems) = yaml::read_all(&self.texts, index, &file.text);
        self.problems.extend(problems);
        for (number, document) in documents.iter().enumerate() {
            self.node(document, (position, &file.name), number, &Path::root());
        }
        // Values of Secrets stand in the text: it is not kept longer than it is needed.
        self.texts.0[index].text.clear();
    }

    fn node(&mut self, node: &Node, file: (usize, &str), document: usize, at: &Path) {
        if node.is_null() {
            return;
        }
        if let Some(items) = list_items(node) {
            for (index, item) in items.iter().enumerate() {
                self.node(item, file, document, &at.child_key("items").child(Step::Index(index)));
            }
            return;
        }
        match Object::read(node, file.1, document, at) {
            Ok(object) => {
                for wrong in if self.is_known { schema::judge(node) } else { Vec::new() } {
                    let error = Diagnostic::error(codes::NOT_OF_ITS_KIND, wrong.message);
                    let error = match wrong.hint {
                        Some(hint) => error.hint(hint),
                        None => error,
                    };
                    self.problems.push(self.texts.label(error, wrong.place, ""));
                }
                for (key, place) in &object.not_base64 {
                    let message = format!("{}: the value of `{key}` is not base64", object.kind);
                    let hint = match object.kind.as_str() {
                        "Secret" => "write the text itself under `stringData`, or encode it: `base64 -w0 FILE`",
                        _ => "write the text itself under `data`, or encode it: `base64 -w0 FILE`",
                    };
                    let error = Diagnostic::error(codes::NOT_OF_ITS_KIND, message).hint(hint);
                    self.problems.push(self.texts.label(error, *place, ""));
                }
                for (part, place) in &object.sources {
                    self.source(part, *place);
                }
                self.objects.push(Read { object, place: node.place, file: file.0 });
            }
            Err(problem) => {
                let error = Diagnostic::error(codes::NOT_AN_OBJECT, problem.message).hint(problem.hint);
                self.problems.push(self.texts.label(error, problem.place.unwrap_or(node.place), ""));
            }
        }
    }

    /// What a value of a Secret is taken from must be there when planning, so that a changed one is seen. A command is run then.
    fn source(&mut self, part: &SecretPart, place: Place) {
        let error = match part {
            SecretPart::Base64(part) => return self.source(part, place),
            SecretPart::Env(name) if self.project.env(name).is_none() => {
                let message = format!("the environment variable `{name}` is not set, and a Secret needs it");
                Diagnostic::error(codes::SECRET_UNSET, message).hint(format!("set `{name}` where ksail runs"))
            }
            SecretPart::File(path) if !self.project.exists(path) => {
                let message = format!("there is no file {path}, and a Secret needs it");
                Diagnostic::error(codes::SECRET_SOURCE, message).hint("the path is relative to the project's folder")
            }
            _ => return,
        };
        self.problems.push(self.texts.label(error, place, "needed here"));
    }

    fn origin(&self, place: Place) -> Origin {
        let file = self.texts.0.get(place.text).map(|text| text.name.clone()).unwrap_or_default();
        Origin::File { file, span: place.span }
    }

    fn declare(&mut self, provider: &str, host: Option<&Address>, graph: &mut DeclaredGraph) {
        let cluster = self.loaded.config.name();
        let scopes = Scopes::of(self.objects.iter().map(|read| &read.object));
        let mut places: BTreeMap<Address, Place> = BTreeMap::new();
        let mut objects = Vec::with_capacity(self.objects.len());
        for mut read in std::mem::take(&mut self.objects) {
            let defaulted = read.object.settle_namespace(&scopes);
            let address = read.object.address(cluster);
            if let Some(first) = places.insert(address.clone(), read.place) {
                let error = Diagnostic::error(
                    codes::DUPLICATE_ENTRY,
                    format!("{} stands twice in the manifests", read.object.name()),
                );
                let error = self.texts.label(error, read.place, "again here");
                self.problems.push(self.texts.label(error, first, "first here"));
            }
            objects.push((address, read, defaulted));
        }
        let edges = Edges::of(objects.iter().map(|(address, read, _)| (address, &read.object)));
        let members: Vec<_> =
            objects.iter().map(|(address, read, _)| (address, self.entries[read.file].as_slice())).collect();
        let (afters, problems) = Afters::of(self.loaded, &members);
        self.problems.extend(problems);
        for (address, Read { object, place, file }, defaulted) in &objects {
            let (found, unknown) = edges.from(address, object, afters.of_entries(&self.entries[*file]));
            for name in unknown {
                let message = format!("`{name}`, which {} shall come after, is not declared", object.name());
                let error = Diagnostic::error(codes::NOT_DECLARED, message);
                let error = match nearest(&name, edges.names()) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error
                        .hint("an object is named as in plans: `apps.Deployment/web/shop`, with `_` for no namespace"),
                };
                let place = object.said(AFTER).map_or(*place, |(_, place)| place);
                self.problems.push(self.texts.label(error, place, ""));
            }
            if let Some((text, place)) = object.said(READY)
                && let Err(bad) = self.project.expression(text)
            {
                let message = format!("`{READY}` of {} cannot be used: {}", object.name(), bad.message);
                let mut error = Diagnostic::error(codes::BAD_EXPRESSION, message);
                error.hint = bad.hint;
                self.problems.push(self.texts.label(error, place, ""));
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
                host: host.cloned(),
                edges: found,
                ownership: Ownership::Owned,
                lifecycle: Lifecycle::default(),
                choices: Vec::new(),
                origins,
            };
            graph.declarations.insert(address.clone(), Arc::new(declaration));
        }
    }
}

/// The field beside the object's own: who manages it.
pub(crate) const MANAGER_FIELD: &str = "fieldManager";
pub(crate) const MANAGER: &str = "ksail";

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
