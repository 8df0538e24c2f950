//! Texts to a typed configuration in which every leaf knows where it came from.

use std::sync::Arc;

use ksail_model::{Diagnostic, Origin, Origins, Path, Span};

use crate::check::{self, Checked};
use crate::codes;
use crate::format::Config;
use crate::layers::{self, Layering};
use crate::mask;
use crate::sources::{Project, SourceFile, Sources};
use crate::tree::{Data, Node, Place, Role, Texts};
use crate::yaml;

/// A configuration that was read. It may have errors: what is wrong is left out of [`config`](Self::config), so
/// that the rest can be judged too. [`validate`](crate::validate) and [`compile`](crate::compile()) tell them all.
#[derive(Clone)]
pub struct Loaded {
    /// The typed configuration, variables expanded, apart from those in credentials' places.
    pub config: Config,
    /// Where every leaf came from, defaults included.
    pub origins: Origins,
    /// What was wrong with the texts.
    pub diagnostics: Vec<Diagnostic>,
    /// How the files were taken together.
    pub layering: Layering,
    /// The environment's name.
    pub environment: Option<String>,
    /// The texts that diagnostics point into, for snippets. Credentials that stand in them openly are masked;
    /// lines and columns are those of the originals.
    pub texts: Vec<SourceFile>,
    pub(crate) tree: Node,
    pub(crate) sources: Texts,
    pub(crate) broken: Vec<Path>,
    /// The variables of credentials, each with the place that needs it.
    pub(crate) needed: Vec<(Path, String)>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("config", &self.config)
            .field("diagnostics", &self.diagnostics)
            .field("layering", &self.layering)
            .finish_non_exhaustive()
    }
}

/// Reads the texts. Never fails: what is wrong is in [`Loaded::diagnostics`].
pub fn load(sources: &Sources, project: &dyn Project) -> Loaded {
    let mut loader = Loader { texts: Texts::default(), masked: Vec::new(), diagnostics: Vec::new() };
    let (mut root, layering) = loader.layers(sources);
    for argument in &sources.set {
        loader.set(&mut root, argument);
    }
    let Checked { tree, mut diagnostics, mut broken, needed } = check::check(&loader.texts, project, root);
    loader.diagnostics.append(&mut diagnostics);
    if loader.diagnostics.iter().any(|diagnostic| diagnostic.code == codes::SYNTAX) {
        broken.push(Path::root());
    } else if !broken.contains(&Path::root()) {
        loader.require_envelope(&tree, &mut broken);
    }
    let config = serde_json::from_value(tree.to_json()).unwrap_or_else(|error| {
        // The checks let through only what the types take, so this is a fault of ours.
        broken.push(Path::root());
        let message = format!("the checked file does not fit its types: {error}");
        loader.diagnostics.push(Diagnostic::error(codes::INTERNAL, message));
        Config::default()
    });
    let mut loaded = Loaded {
        config,
        origins: Origins::default(),
        diagnostics: loader.diagnostics,
        layering,
        environment: sources.environment.clone(),
        texts: loader.masked,
        tree,
        sources: loader.texts,
        broken,
        needed,
    };
    loaded.origins = loaded.collect_origins();
    loaded
}

struct Loader {
    texts: Texts,
    masked: Vec<SourceFile>,
    diagnostics: Vec<Diagnostic>,
}

impl Loader {
    fn layers(&mut self, sources: &Sources) -> (Node, Layering) {
        let base_name = sources.base.name.clone();
        let Some(overlay) = &sources.overlay else {
            return (self.file(&sources.base, Role::File), Layering::Single { file: base_name });
        };
        let above = self.file(overlay, Role::Overlay);
        if layers::is_complete(&above) {
            self.texts.0[0].role = Role::File;
            return (above, Layering::StandsAlone { file: overlay.name.clone(), unused: base_name });
        }
        let below = self.file(&sources.base, Role::File);
        (layers::lay_over(below, above), Layering::LaidOver { base: base_name, overlay: overlay.name.clone() })
    }

    fn file(&mut self, file: &SourceFile, role: Role) -> Node {
        let index = self.texts.add(&file.name, &file.text, role);
        let read = yaml::read(&self.texts, index, &file.text, 0);
        self.masked.push(SourceFile { name: file.name.clone(), text: mask::mask_file(&file.text, read.root.as_ref()) });
        self.diagnostics.extend(read.diagnostics);
        let place = Place { text: index, span: Span { line: 1, column: 1, length: 1 }, last_line: 1 };
        match read.root {
            Some(root) if !root.is_null() => root,
            _ => Node { data: Data::Map(Vec::new()), place, env: None },
        }
    }

    fn set(&mut self, root: &mut Node, argument: &str) {
        let before = self.texts.0.len();
        let problems = layers::set(&mut self.texts, root, argument);
        self.diagnostics.extend(problems);
        if let Some(text) = self.texts.0.get(before) {
            let masked = mask::mask_argument(argument);
            self.masked.push(SourceFile { name: text.name.to_string(), text: masked });
        }
    }

    /// The envelope is required after all layers are taken together, so that an overlay need not repeat it.
    fn require_envelope(&mut self, tree: &Node, broken: &mut Vec<Path>) {
        for (key, value) in [("apiVersion", "ksail.io/v1alpha1"), ("kind", "Cluster")] {
            let path = Path::key(key);
            if tree.entry(key).is_none() && !broken.contains(&path) {
                let error = Diagnostic::error(codes::MISSING, format!("`{key}` is missing"));
                let error = error.hint(format!("begin the file with `{key}: {value}`"));
                self.diagnostics.push(self.texts.label(error, tree.place, ""));
                broken.push(path);
            }
        }
    }
}

impl Loaded {
    /// The place of a path's key (of the element itself, in lists), or of the nearest above it that the texts have.
    pub(crate) fn place(&self, path: &Path) -> Place {
        let steps = path.steps();
        (0..=steps.len())
            .rev()
            .find_map(|length| self.tree.at(&Path::from(steps[..length].to_vec())))
            .map_or(self.tree.place, |(_, place)| place)
    }

    /// The place of a path's value, if the texts have it.
    pub(crate) fn value_place(&self, path: &Path) -> Option<Place> {
        self.tree.at(path).map(|(node, _)| node.place)
    }

    /// The text of a scalar that the files give, in its canonical form.
    pub(crate) fn scalar(&self, path: &Path) -> Option<&str> {
        match &self.tree.at(path)?.0.data {
            Data::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether the texts give a value for the path.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.tree.at(path).is_some()
    }

    /// Whether something at or below a path was wrong, so that it cannot be judged further.
    pub(crate) fn is_broken(&self, path: &Path) -> bool {
        self.broken.iter().any(|broken| path.covers(broken) || broken.covers(path))
    }

    /// The diagnostic with the place of a path's value.
    pub(crate) fn label(&self, diagnostic: Diagnostic, path: &Path, text: impl Into<String>) -> Diagnostic {
        let place = self.value_place(path).unwrap_or_else(|| self.place(path));
        self.sources.label(diagnostic, place, text)
    }

    /// The origin of a path: of the value there, or of the nearest above it.
    pub fn origin(&self, path: &Path) -> Origin {
        match self.origins.of(path) {
            Some(origin) => origin.clone(),
            None => self.origin_of(self.value_place(path).unwrap_or_else(|| self.place(path)), None),
        }
    }

    fn origin_of(&self, place: Place, env: Option<&Arc<str>>) -> Origin {
        if let Some(name) = env {
            return Origin::Env { name: Arc::clone(name) };
        }
        match self.sources.0.get(place.text) {
            Some(text) => match text.role {
                Role::File => Origin::File { file: Arc::clone(&text.name), span: place.span },
                Role::Overlay => Origin::Overlay { file: Arc::clone(&text.name), span: place.span },
                Role::Flag => {
                    let shown = self.texts.iter().find(|masked| *masked.name == *text.name);
                    let flag = shown.map_or_else(|| text.name.to_string(), |masked| format!("--set {}", masked.text));
                    Origin::Flag { flag: flag.into() }
                }
            },
            None => Origin::Default { field: "the file".into() },
        }
    }

    fn collect_origins(&self) -> Origins {
        let mut origins = Origins::default();
        self.tree.leaves(&Path::root(), &mut |path, node| {
            origins.set(path.clone(), self.origin_of(node.place, node.env.as_ref()));
        });
        crate::shape::ROOT.walk("", &mut |text, field| {
            if field.default.is_none() || text.contains("[]") || text.contains('<') {
                return;
            }
            let Ok(path) = Path::parse(text) else { return };
            if !self.has(&path) {
                origins.set(path, Origin::Default { field: text.into() });
            }
        });
        origins
    }
}
