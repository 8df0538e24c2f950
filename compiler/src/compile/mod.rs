//! A configuration as a declared graph.

pub(crate) mod addresses;
mod audit;
mod cluster;
mod control_planes;
mod hosting;
mod images;
mod kubeadm;
mod kubeconfig;
mod lifecycle;
mod machine_addresses;
mod machines;
mod made_by_kind;
mod names;
mod node_taints;
mod proxies;
mod resources;

pub use images::{ImageFrom, NeededImage, declare_import, needed_images};
use ksail_model::{DeclaredGraph, Diagnostic, Path};
pub use made_by_kind::{as_made_by_kind, context_of_kind};

use crate::codes;
use crate::loaded::Loaded;
use crate::rules;
use crate::sources::Project;
use crate::standing;

/// The product that compiles, as resources need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Its version, as semver.
    pub version: String,
}

/// What a configuration compiles to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// All that is declared.
    pub graph: DeclaredGraph,
    /// The stack's name: the cluster's, with `.<environment>` where one was chosen.
    pub stack: String,
    /// The cluster's name.
    pub cluster: String,
    /// The environment's name.
    pub environment: Option<String>,
    /// What was noticed and stops nothing.
    pub warnings: Vec<Diagnostic>,
}

/// Compiles a configuration.
///
/// # Errors
/// All that is wrong with it, several at once: what [`validate`](crate::validate) finds, fields whose effect is not built yet
/// (one error for all of them), variables of credentials that are not set, an archive that cannot be read, and
/// addresses that are not declared. Then nothing is compiled.
pub fn compile(loaded: &Loaded, project: &dyn Project, product: &Product) -> Result<Compiled, Vec<Diagnostic>> {
    let (mut errors, mut warnings): (Vec<_>, Vec<_>) =
        loaded.diagnostics.iter().cloned().chain(rules::judge(loaded)).partition(Diagnostic::is_error);
    errors.extend(wrong_version(loaded, product));
    errors.extend(not_built(loaded));
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut builder = resources::Builder::new(loaded, project, product);
    builder.declare();
    let (mut graph, problems) = builder.finish();
    let found = unset_credentials(loaded, project).chain(problems).chain(lifecycle::apply(loaded, &mut graph));
    let found: Vec<Diagnostic> = found.collect();
    let (errors, more): (Vec<_>, Vec<_>) = found.into_iter().partition(Diagnostic::is_error);
    if !errors.is_empty() {
        return Err(errors);
    }
    warnings.extend(more);
    let cluster = loaded.config.name().to_owned();
    let stack = match &loaded.environment {
        Some(environment) => format!("{cluster}.{environment}"),
        None => cluster.clone(),
    };
    Ok(Compiled { graph, stack, cluster, environment: loaded.environment.clone(), warnings })
}

/// The variables of credentials must be set, wherever the credential stands, so that a plan sees when it changed.
fn unset_credentials<'a>(loaded: &'a Loaded, project: &'a dyn Project) -> impl Iterator<Item = Diagnostic> + 'a {
    let unset = loaded.needed.iter().filter(|(_, name)| project.env(name).is_none());
    unset.map(|(path, name)| {
        let message = format!("the environment variable `{name}` is not set, and a credential needs it");
        let error = Diagnostic::error(codes::SECRET_UNSET, message).hint(format!("set `{name}` where ksail runs"));
        loaded.label(error, path, "needed here")
    })
}

/// One error that names every field whose effect is not built yet.
fn not_built(loaded: &Loaded) -> Option<Diagnostic> {
    let found = standing::not_built(loaded);
    let names: Vec<String> = found.iter().map(|unbuilt| unbuilt.to_string()).collect();
    let message = match names.as_slice() {
        [] => return None,
        [one] => format!("this version cannot make what the file asks for: {one} is not built yet"),
        several => format!("this version cannot make what the file asks for: {} are not built yet", several.join(", ")),
    };
    let hint = "built are `distribution: None` (network, registries, mirrors and images on Docker or Embedded, objects on Kubernetes) and `Vanilla` on Docker or Embedded";
    let error = Diagnostic::error(codes::NOT_BUILT, message).hint(hint);
    Some(found.iter().fold(error, |error, unbuilt| loaded.label(error, &unbuilt.path, "not built yet")))
}

fn wrong_version(loaded: &Loaded, product: &Product) -> Option<Diagnostic> {
    let path = Path::key("spec").child_key("requiredVersion");
    let required = semver::VersionReq::parse(loaded.config.spec.required_version.as_deref()?).ok()?;
    let version = semver::Version::parse(&product.version).ok()?;
    if required.matches(&version) {
        return None;
    }
    let message = format!("the file requires ksail {required}, and this is {version}");
    let error = Diagnostic::error(codes::WRONG_VERSION, message)
        .hint("install a version that fits, or change `spec.requiredVersion`");
    Some(loaded.label(error, &path, "required here"))
}
