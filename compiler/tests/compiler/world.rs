//! A project in memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ksail_compiler::{
    ArchiveFacts, BadExpression, Compiled, Loaded, Product, Project, SourceFile, Sources, compile, load, validate,
};
use ksail_model::{Diagnostic, Severity};

/// What stands outside of the files.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) archives: BTreeMap<String, ArchiveFacts>,
    pub(crate) manifests: BTreeMap<String, String>,
    pub(crate) bundle: Option<String>,
}

impl World {
    pub(crate) fn with_env(pairs: &[(&str, &str)]) -> Self {
        let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { env, ..Self::default() }
    }
}

impl Project for World {
    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn image_archive(&self, path: &str) -> Result<ArchiveFacts, String> {
        self.archives.get(path).cloned().ok_or_else(|| "it is torn".to_owned())
    }

    fn bundle(&self) -> Option<String> {
        self.bundle.clone()
    }

    fn manifests(&self, entry: &str) -> Result<Vec<SourceFile>, String> {
        let folder = format!("{}/", entry.trim_end_matches('/'));
        let files: Vec<SourceFile> = (self.manifests.iter())
            .filter(|(name, _)| *name == entry || name.starts_with(&folder))
            .map(|(name, text)| SourceFile { name: name.clone(), text: text.clone() })
            .collect();
        if files.is_empty() { Err("there is no such file or folder".to_owned()) } else { Ok(files) }
    }

    fn file(&self, path: &str) -> Result<SourceFile, String> {
        let text = self.manifests.get(path).ok_or_else(|| "there is no such file".to_owned())?;
        Ok(SourceFile { name: path.to_owned(), text: text.clone() })
    }

    fn expression(&self, text: &str) -> Result<(), BadExpression> {
        if text.starts_with("self.") {
            return Ok(());
        }
        Err(BadExpression { message: "it is not about self".to_owned(), hint: Some("begin with self".to_owned()) })
    }

    fn kubeconfig(&self) -> String {
        "~/.kube/config".to_owned()
    }

    fn exists(&self, path: &str) -> bool {
        self.archives.contains_key(path)
            || self.manifests.contains_key(path)
            || path == "torn.tar"
            || path == "token.txt"
    }
}

pub(crate) const QUICKSTART: &str = include_str!("../quickstart.yaml");

pub(crate) fn product() -> Product {
    Product { version: "0.1.0".to_owned() }
}

pub(crate) fn sources(text: &str) -> Sources {
    let base = SourceFile { name: "ksail.yaml".to_owned(), text: text.to_owned() };
    Sources { base, overlay: None, set: Vec::new(), environment: None }
}

/// The envelope before a `spec` that is indented by two.
pub(crate) fn with_spec(spec: &str) -> String {
    format!("apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\nspec:\n{spec}")
}

pub(crate) fn read(text: &str) -> Loaded {
    load(&sources(text), &World::default())
}

pub(crate) fn built(sources: &Sources, world: &World) -> Result<Compiled, Vec<Diagnostic>> {
    compile(&load(sources, world), world, &product())
}

/// What `validate` says of a text, as a person would see it.
pub(crate) fn judged(text: &str) -> String {
    let loaded = read(text);
    render(&loaded, &validate(&loaded))
}

/// Diagnostics with snippets, labels and hints.
pub(crate) fn render(loaded: &Loaded, diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let severity = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
        let _ = writeln!(out, "{severity}: {diagnostic}");
        for label in &diagnostic.labels {
            let text = loaded.texts.iter().find(|text| *text.name == *label.file).map_or("", |text| text.text.as_str());
            let line = text.lines().nth(label.span.line as usize - 1).unwrap_or("");
            let _ = writeln!(out, "  {:>3} | {line}", label.span.line);
            let marks = "^".repeat(label.span.length as usize);
            let _ =
                writeln!(out, "      | {:width$}{marks} {}", "", label.text, width = label.span.column as usize - 1);
        }
        if let Some(hint) = &diagnostic.hint {
            let _ = writeln!(out, "  hint: {hint}");
        }
    }
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
