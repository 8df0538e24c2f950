//! Which parts of the format have an effect in this version. Data, and the one function that asks a file.

use std::fmt;

use ksail_model::Path;

use crate::endpoints::{self, RegistryPlace};
use crate::format::{Distribution, Provider};
use crate::loaded::Loaded;

/// What a field does in this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// What it says.
    Built,
    /// Some of its words do what they say.
    Partly(&'static str),
    /// `plan` refuses it, apart from values that ask for nothing.
    NotYet,
    /// It is read and checked, and changes nothing.
    NoEffect,
}

/// By path, the nearest above counts.
const STANDINGS: &[(&str, Standing)] = &[
    ("apiVersion", Standing::Built),
    ("kind", Standing::Built),
    ("metadata", Standing::Built),
    ("spec", Standing::Built),
    ("spec.editor", Standing::NoEffect),
    ("spec.chat", Standing::NoEffect),
    ("spec.workload", Standing::NoEffect),
    ("spec.provider", Standing::NoEffect),
    ("spec.provider.embedded", Standing::Built),
    ("spec.cluster", Standing::NoEffect),
    ("spec.cluster.distribution", Standing::Partly("None, and Vanilla on Docker and Embedded")),
    ("spec.cluster.provider", Standing::Partly("Docker, Embedded, Kubernetes")),
    ("spec.cluster.distributionConfig", Standing::Partly("`kind.yaml` of Vanilla on Docker")),
    ("spec.cluster.connection.kubeconfig", Standing::Built),
    ("spec.cluster.connection.context", Standing::Built),
    ("spec.cluster.localRegistry.registry", Standing::Built),
    ("spec.cluster.importImages", Standing::Built),
    ("spec.cluster.cni", Standing::NotYet),
    ("spec.cluster.csi", Standing::NotYet),
    ("spec.cluster.cdi", Standing::NotYet),
    ("spec.cluster.metricsServer", Standing::NotYet),
    ("spec.cluster.loadBalancer", Standing::NotYet),
    ("spec.cluster.certManager", Standing::NotYet),
    ("spec.cluster.imageVerification", Standing::NotYet),
    ("spec.cluster.policyEngine", Standing::NotYet),
    ("spec.cluster.gitOpsEngine", Standing::NotYet),
    ("spec.cluster.nodeAutoscaling", Standing::NotYet),
    ("spec.cluster.autoscaler", Standing::NotYet),
    ("spec.cluster.controlPlanes", Standing::Partly("on Embedded, and one on Docker")),
    ("spec.cluster.workers", Standing::Partly("on Docker and Embedded")),
    ("spec.cluster.kubernetesVersion", Standing::Partly("on Docker and Embedded")),
    ("spec.cluster.oidc", Standing::NotYet),
    ("spec.cluster.audit", Standing::Partly("on Docker")),
    ("spec.cluster.vanilla", Standing::NotYet),
    ("spec.cluster.talos", Standing::NotYet),
    ("spec.cluster.eks", Standing::NotYet),
    ("spec.cluster.sops", Standing::NotYet),
];

/// What the field at a dotted path does in this version.
pub(crate) fn standing(path: &str) -> Standing {
    STANDINGS
        .iter()
        .filter(|(known, _)| {
            path.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
        .max_by_key(|(known, _)| known.len())
        .map_or(Standing::Built, |(_, standing)| *standing)
}

/// Fields that ask for something in a cluster, with the words that ask for nothing.
pub(crate) const CLUSTER_FEATURES: &[(&str, &[&str])] = &[
    ("spec.cluster.cni", &["Default"]),
    ("spec.cluster.csi", &["Default", "Disabled"]),
    ("spec.cluster.cdi", &["Default", "Disabled"]),
    ("spec.cluster.metricsServer", &["Default", "Disabled"]),
    ("spec.cluster.loadBalancer", &["Default", "Disabled"]),
    ("spec.cluster.certManager", &["Disabled"]),
    ("spec.cluster.imageVerification", &["Disabled"]),
    ("spec.cluster.policyEngine", &["None"]),
    ("spec.cluster.gitOpsEngine", &["None"]),
    ("spec.cluster.nodeAutoscaling", &["Disabled"]),
    ("spec.cluster.autoscaler.node.enabled", &["Disabled"]),
    ("spec.cluster.autoscaler.pod.horizontal", &["Disabled"]),
    ("spec.cluster.autoscaler.pod.vertical", &["Disabled"]),
    ("spec.cluster.sops.enabled", &["Default", "Disabled"]),
    ("spec.cluster.oidc.issuerURL", &[""]),
    ("spec.cluster.controlPlanes", &["0"]),
    ("spec.cluster.workers", &["0"]),
    ("spec.cluster.talos.controlPlanes", &["0"]),
    ("spec.cluster.talos.workers", &["0"]),
];

/// Those that every cluster has that this version makes.
const BUILT_FEATURES: &[&str] = &["spec.cluster.controlPlanes", "spec.cluster.workers"];

/// Fields of a file that ask for something in a cluster, with their values.
pub(crate) fn cluster_features(loaded: &Loaded) -> Vec<(Path, String)> {
    CLUSTER_FEATURES
        .iter()
        .filter_map(|(text, nothing)| {
            let path = Path::parse(text).ok()?;
            let value = loaded.scalar(&path)?;
            (!nothing.contains(&value)).then(|| (path, value.to_owned()))
        })
        .collect()
}

/// A field whose value is not built yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unbuilt {
    /// The field.
    pub(crate) path: Path,
    /// What it asks for.
    what: String,
}

impl fmt::Display for Unbuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// All that a file asks for and this version cannot make.
pub(crate) fn not_built(loaded: &Loaded) -> Vec<Unbuilt> {
    let config = &loaded.config;
    let mut found = Vec::new();
    let mut add = |path: Path, what: String| found.push(Unbuilt { path, what });
    let at = |text: &str| Path::parse(text).unwrap_or_default();

    let distribution = at("spec.cluster.distribution");
    let has_cluster = config.has_cluster();
    if config.distribution() != Distribution::None && !loaded.is_broken(&distribution) {
        let default = if loaded.has(&distribution) { "" } else { " (the default)" };
        if !has_cluster {
            add(distribution, format!("distribution {}{default}", config.distribution()));
        }
        for (path, value) in cluster_features(loaded) {
            if has_cluster && BUILT_FEATURES.contains(&path.to_string().as_str()) {
                continue;
            }
            let name = path.to_string();
            add(path, format!("{} {value}", name.trim_start_matches("spec.cluster.")));
        }
    }
    if config.has_docker_cluster() {
        not_built_on_docker(loaded, &mut add);
    } else if config.spec.cluster.audit.is_some() {
        add(
            at("spec.cluster.audit"),
            format!("audit of distribution {} on {}", config.distribution(), config.provider()),
        );
    }
    let provider = at("spec.cluster.provider");
    if !matches!(config.provider(), Provider::Docker | Provider::Embedded | Provider::Kubernetes)
        && !loaded.is_broken(&provider)
    {
        add(provider, format!("provider {}", config.provider()));
    }
    let registry = at("spec.cluster.localRegistry.registry");
    if let Some(text) = loaded.scalar(&registry)
        && let Ok(RegistryPlace::Local { has_credentials: true, .. }) = endpoints::registry_place(text)
    {
        add(registry, "a password on the local registry".to_owned());
    }
    found.sort_by_key(|unbuilt| {
        let place = loaded.place(&unbuilt.path);
        (place.text, place.span.line)
    });
    found
}

/// What a cluster on Docker cannot have yet.
fn not_built_on_docker(loaded: &Loaded, add: &mut dyn FnMut(Path, String)) {
    let config = &loaded.config;
    let at = |text: &str| Path::parse(text).unwrap_or_default();
    if config.spec.cluster.vanilla.mirrors_dir.is_some() {
        add(at("spec.cluster.vanilla.mirrorsDir"), "vanilla.mirrorsDir".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_standing_counts() {
        assert_eq!(standing("spec.mirrors[].host"), Standing::Built);
        assert_eq!(standing("spec.cluster.cni"), Standing::NotYet);
        assert_eq!(standing("spec.cluster.autoscaler.node.pools[].min"), Standing::NotYet);
        assert_eq!(standing("spec.cluster.connection.timeout"), Standing::NoEffect);
        assert_eq!(standing("spec.cluster.localRegistry.registry"), Standing::Built);
    }

    #[test]
    fn every_entry_is_a_path_of_the_format() {
        let mut known = Vec::new();
        crate::shape::ROOT.walk("", &mut |path, _| known.push(path.to_owned()));
        for path in STANDINGS.iter().map(|(path, _)| path).chain(CLUSTER_FEATURES.iter().map(|(path, _)| path)) {
            assert!(known.iter().any(|other| other == path), "{path}");
        }
    }
}
