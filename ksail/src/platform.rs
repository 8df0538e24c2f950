//! A project with its configuration, its state and its providers.

use std::path::PathBuf;
use std::sync::Arc;

use ksail_compiler::format::{Config, Provider};
use ksail_compiler::{Loaded, Product, SourceFile, Sources, codes as compiler_codes, compile, load, validate};
use ksail_model::{Code, DeclaredGraph, Diagnostic, Origin, Path};
use ksail_plan::Plan;
use ksail_provider::Connector;
use ksail_provider_kubernetes::Kept;
use ksail_records::{Backend, LockOwner, Stored};

use crate::bundle::no_images;
use crate::connector::Connectors;
use crate::error::{Error, codes};
use crate::project::{ConfigFiles, ProjectView, read_sources};
use crate::secrets::SecretStore;
use crate::settings::{Settings, VERSION, new_id, now_ms};
use crate::state_place::StateHome;

/// What the file says of resources by their addresses is judged against what it declares.
const LIFECYCLE_CODES: [Code; 5] = [
    compiler_codes::NOT_ALLOWED_TOGETHER,
    compiler_codes::MATCHES_NOTHING,
    compiler_codes::CANNOT_COEXIST,
    compiler_codes::NOT_DECLARED,
    compiler_codes::STILL_DECLARED,
];

/// What is wrong within the manifests themselves, whatever else of the project is there.
const MANIFEST_CODES: [Code; 5] = [
    compiler_codes::SYNTAX,
    compiler_codes::DUPLICATE_KEY,
    compiler_codes::NOT_AN_OBJECT,
    compiler_codes::BAD_EXPRESSION,
    compiler_codes::NOT_OF_ITS_KIND,
];

/// One project with one configuration.
pub struct Platform {
    pub(crate) settings: Settings,
    pub(crate) loaded: Loaded,
    pub(crate) files: ConfigFiles,
    /// Clusters that are open.
    pub(crate) clusters: Arc<Kept>,
}

/// A configuration compiled, with its state and its providers.
pub(crate) struct Stack {
    pub(crate) graph: DeclaredGraph,
    pub(crate) name: String,
    pub(crate) cluster: String,
    pub(crate) environment: Option<String>,
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) place: StackPlace,
}

/// Where a stack's state is, and how it is reached.
pub(crate) struct StackPlace {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) secrets: Arc<SecretStore>,
}

impl Platform {
    /// Reads the configuration. What is wrong within it is told by [`validate`](Self::validate) and by all that needs it; only a
    /// file that cannot be read is an error here.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        check_environment(settings.environment.as_deref())?;
        let (sources, files) = read_sources(&settings)?;
        let loaded = load(&sources, &ProjectView(&settings));
        tracing::debug!(layers = %loaded.layering, found = loaded.diagnostics.len(), "configuration loaded");
        Ok(Self { settings, loaded, files, clusters: Arc::default() })
    }

    /// Opens the project for a plan that was made before. The configuration need not be there: the plan carries all that is
    /// applied. Where it is there, it tells where the state is.
    pub fn open_for_plan(settings: Settings, plan: &Plan) -> Result<Self, Error> {
        let named = settings.file.clone().unwrap_or_else(|| PathBuf::from("ksail.yaml"));
        if settings.file.is_some() || settings.project.join(&named).exists() {
            return Self::open(settings);
        }
        check_environment(settings.environment.as_deref())?;
        let cluster = match &plan.header.environment {
            Some(environment) => {
                plan.header.stack.strip_suffix(&format!(".{environment}")).unwrap_or(&plan.header.stack)
            }
            None => &plan.header.stack,
        };
        let text = format!("apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata:\n  name: {cluster}\n");
        let base = SourceFile { name: plan.header.source.clone(), text };
        let sources = Sources { base, overlay: None, set: Vec::new(), environment: settings.environment.clone() };
        let loaded = load(&sources, &ProjectView(&settings));
        Ok(Self { settings, loaded, files: ConfigFiles { base: named, overlay: None }, clusters: Arc::default() })
    }

    /// Judges the text of a file that is about to be written to the project's folder. Answers what was found, and the texts that
    /// it points into; credentials in them are masked.
    pub fn judge_new(settings: &Settings, file: SourceFile) -> (Vec<Diagnostic>, Vec<SourceFile>) {
        let sources = Sources { base: file, overlay: None, set: Vec::new(), environment: None };
        let loaded = load(&sources, &ProjectView(settings));
        (validate(&loaded), loaded.texts)
    }

    /// The configuration. What is wrong in the files is left out of it.
    pub const fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// The configuration's files.
    pub const fn files(&self) -> &ConfigFiles {
        &self.files
    }

    /// How the files were taken together, as a sentence.
    pub fn layering(&self) -> String {
        self.loaded.layering.to_string()
    }

    /// The texts that diagnostics point into; credentials in them are masked.
    pub fn texts(&self) -> &[ksail_compiler::SourceFile] {
        &self.loaded.texts
    }

    /// Judges the file, with the place that it names for the state, with what its rules for the life of resources come to, and
    /// with the manifests that are there.
    pub fn validate(&self) -> Vec<Diagnostic> {
        let mut found = validate(&self.loaded);
        if let Err(error) = StateHome::check_spec(&self.settings, &self.loaded.config.spec.state) {
            let path = Path::key("spec").child_key("state").child_key("path");
            found.extend(error.diagnostics().into_iter().map(|diagnostic| match self.loaded.origin(&path) {
                Origin::File { file, span } | Origin::Overlay { file, span } => diagnostic.at(file, span, ""),
                _ => diagnostic,
            }));
        }
        if found.iter().any(Diagnostic::is_error) {
            return found;
        }
        let product = Product { version: VERSION.to_owned() };
        let of_graph = match compile(&self.loaded, &ProjectView(&self.settings), &product) {
            Ok(compiled) => compiled.warnings,
            // What other files of the project must be there is for a plan to say.
            Err(errors) => errors,
        };
        let is_told =
            |code: &Code, is_error: bool| LIFECYCLE_CODES.contains(code) || (is_error && MANIFEST_CODES.contains(code));
        found.extend(of_graph.into_iter().filter(|diagnostic| is_told(&diagnostic.code, diagnostic.is_error())));
        found
    }

    /// Compiles, and finds the state.
    pub(crate) fn stack(&self) -> Result<Stack, Error> {
        let provider = self.loaded.config.provider();
        if self.settings.bundle.is_some() && provider != Provider::Docker {
            return Err(no_images(&provider.to_string()));
        }
        let product = Product { version: VERSION.to_owned() };
        let compiled = compile(&self.loaded, &ProjectView(&self.settings), &product).map_err(Error::Diagnostics)?;
        tracing::debug!(
            stack = compiled.stack,
            resources = compiled.graph.declarations.len(),
            warnings = compiled.warnings.len(),
            "configuration compiled"
        );
        for declaration in compiled.graph.declarations.values() {
            let host = declaration.host.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::trace!(address = %declaration.address, host, edges = declaration.edges.len(), "declared");
        }
        let place = self.place(&compiled.stack)?;
        Ok(Stack {
            graph: compiled.graph,
            name: compiled.stack,
            cluster: compiled.cluster,
            environment: compiled.environment,
            warnings: compiled.warnings,
            place,
        })
    }

    /// The state's place, for a file that need not compile: the state can be looked after while the file is broken.
    pub(crate) fn place(&self, stack: &str) -> Result<StackPlace, Error> {
        let home = StateHome::of_project(&self.settings, &self.loaded.config.spec.state)?;
        let folder = home.folder(stack);
        let backend = home.backend(&self.settings, stack)?;
        Ok(StackPlace {
            connector: Arc::new(Connectors::new(self.settings.clone(), folder.clone(), Arc::clone(&self.clusters))),
            secrets: Arc::new(SecretStore::new(self.settings.clone(), folder, backend.is_shared())),
            backend,
        })
    }

    /// The stack's name, by the file's name and environment alone.
    pub(crate) fn stack_name(&self) -> String {
        let cluster = self.loaded.config.name();
        match &self.settings.environment {
            Some(environment) => format!("{cluster}.{environment}"),
            None => cluster.to_owned(),
        }
    }

    pub(crate) fn owner(&self, doing: &str) -> LockOwner {
        LockOwner {
            id: new_id(),
            who: self.settings.who(),
            doing: doing.to_owned(),
            pid: std::process::id(),
            since_ms: now_ms(),
        }
    }
}

/// Names of environments become parts of file names: only what is harmless there is taken.
fn check_environment(name: Option<&str>) -> Result<(), Error> {
    let is_harmless =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    match name {
        Some(name) if !is_harmless(name) => {
            let message = format!("`{name}` is not the name of an environment");
            Err(Error::new(
                codes::USAGE,
                message,
                "use letters, digits, `-` and `_`: --environment prod takes ksail.prod.yaml",
            ))
        }
        _ => Ok(()),
    }
}

impl StackPlace {
    /// Reads the state; it must be of this stack and environment.
    pub(crate) async fn read(&self, stack: &str, environment: Option<&str>) -> Result<Stored, Error> {
        let began = std::time::Instant::now();
        let stored = self.backend.read().await?;
        let (place, took) = (self.backend.place(), began.elapsed());
        match stored.state.as_ref().map(ksail_records::State::snapshot) {
            None => tracing::debug!(place, ?took, "no state here"),
            Some(snapshot) => tracing::debug!(
                place,
                ?took,
                lineage = snapshot.lineage,
                serial = snapshot.serial,
                records = snapshot.records.len(),
                open = snapshot.open.len(),
                "state read"
            ),
        }
        if let Some(state) = &stored.state {
            let snapshot = state.snapshot();
            if snapshot.stack != stack || snapshot.environment.as_deref() != environment {
                return Err(Error::State(ksail_records::StateError::OtherStack {
                    place: self.backend.place(),
                    found: snapshot.stack.clone(),
                    wanted: stack.to_owned(),
                }));
            }
        }
        Ok(stored)
    }
}
