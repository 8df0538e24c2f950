//! Judges a configuration that was read: contradictions, doubles, texts that cannot be understood.

use ksail_model::{Diagnostic, Path, Selector, Step};

use crate::codes;
use crate::compile::addresses;
use crate::endpoints::{self, RegistryPlace};
use crate::format::{Distribution, Provider};
use crate::loaded::Loaded;
use crate::nodes::{self, Node};
use crate::{stages, standing, versions};

/// All that is wrong with a configuration by itself, errors and warnings: what was found on reading, contradictions, and a
/// warning for each field whose effect is not built yet.
pub fn validate(loaded: &Loaded) -> Vec<Diagnostic> {
    let mut all = loaded.diagnostics.clone();
    all.extend(judge(loaded));
    for unbuilt in standing::not_built(loaded) {
        let warning =
            Diagnostic::warning(codes::NOT_BUILT, format!("{unbuilt} is not built yet, and `plan` refuses it"));
        all.push(loaded.label(warning, &unbuilt.path, ""));
    }
    all
}

/// Contradictions and the like, without what reading found.
pub(crate) fn judge(loaded: &Loaded) -> Vec<Diagnostic> {
    if loaded.broken.contains(&Path::root()) {
        return Vec::new();
    }
    let mut judge = Judge { loaded, found: Vec::new() };
    judge.names();
    judge.matrix();
    judge.no_cluster();
    judge.existing_cluster();
    judge.sections_without_effect();
    judge.spellings();
    judge.pools();
    judge.local_registry();
    judge.mirrors();
    judge.ports();
    judge.images();
    judge.required_version();
    judge.nodes();
    judge.found.extend(stages::judge(loaded));
    judge.control_planes();
    judge.lifecycle();
    judge.addresses();
    judge.found
}

struct Judge<'a> {
    loaded: &'a Loaded,
    found: Vec<Diagnostic>,
}

fn at(text: &str) -> Path {
    Path::parse(text).unwrap_or_default()
}

fn element(list: &str, index: usize, field: &str) -> Path {
    at(list).child(Step::Index(index)).child_key(field)
}

/// Networks that every engine has.
const RESERVED_NAMES: [&str; 4] = ["bridge", "host", "none", "default"];

/// The providers that a distribution runs on.
fn providers(distribution: Distribution) -> &'static [Provider] {
    use Provider::{Aws, Azure, Docker, Embedded, Gcp, Hetzner, Kubernetes, Omni};
    match distribution {
        Distribution::None => &[Docker, Embedded, Kubernetes],
        Distribution::Vanilla => &[Docker, Embedded, Hetzner, Kubernetes],
        Distribution::K3s => &[Docker, Hetzner, Kubernetes],
        Distribution::Talos => &[Docker, Hetzner, Omni, Kubernetes],
        Distribution::VCluster | Distribution::Kwok => &[Docker, Kubernetes],
        Distribution::Eks => &[Aws],
        Distribution::Gke => &[Gcp],
        Distribution::Aks => &[Azure],
    }
}

impl Judge<'_> {
    fn push(&mut self, diagnostic: Diagnostic, path: &Path, text: &str) {
        if !self.loaded.is_broken(path) {
            self.found.push(self.loaded.label(diagnostic, path, text));
        }
    }

    /// An error about two places; nothing if either was wrong by itself.
    fn between(&mut self, error: Diagnostic, first: (&Path, &str), second: (&Path, &str)) {
        if self.loaded.is_broken(first.0) || self.loaded.is_broken(second.0) {
            return;
        }
        let error = self.loaded.label(error, first.0, first.1);
        let error = if self.loaded.has(second.0) { self.loaded.label(error, second.0, second.1) } else { error };
        self.found.push(error);
    }

    /// Names that an engine keeps for its own networks, and environments that cannot be part of a name.
    fn names(&mut self) {
        let path = at("metadata.name");
        let name = self.loaded.config.name();
        if RESERVED_NAMES.contains(&name) {
            let message = format!("`{path}` cannot be `{name}`: engines have a network of that name");
            self.push(Diagnostic::error(codes::BAD_VALUE, message).hint("take another name"), &path, "");
        }
        if let Some(environment) = &self.loaded.environment {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if environment.is_empty() || !environment.chars().all(fits) {
                let message =
                    format!("`{environment}` cannot be an environment: its name takes letters, digits, `-` and `_`");
                self.found.push(Diagnostic::error(codes::BAD_VALUE, message));
            }
        }
    }

    fn matrix(&mut self) {
        let config = &self.loaded.config;
        let (distribution, provider) = (config.distribution(), config.provider());
        let fitting = providers(distribution);
        if fitting.contains(&provider) {
            return;
        }
        let names: Vec<&str> = fitting.iter().map(|provider| provider.as_str()).collect();
        let (given, where_from) = (at("spec.cluster.provider"), at("spec.cluster.distribution"));
        let default = if self.loaded.has(&where_from) { "" } else { ", the default," };
        let message = format!(
            "distribution {distribution}{default} does not run on provider {provider}: it runs on {}",
            names.join(", ")
        );
        let mut error = Diagnostic::error(codes::NOT_ALLOWED_TOGETHER, message);
        if provider == Provider::Embedded {
            error = error.hint("write `distribution: Vanilla` or `None`, or take another provider");
        }
        self.between(error, (&given, "this provider"), (&where_from, "this distribution"));
    }

    /// Without a cluster nothing can run in one.
    fn no_cluster(&mut self) {
        if self.loaded.config.distribution() != Distribution::None {
            return;
        }
        let distribution = at("spec.cluster.distribution");
        for (path, value) in standing::cluster_features(self.loaded) {
            let message = format!("`{path}: {value}` needs a cluster, and distribution None makes none");
            let error = Diagnostic::error(codes::NOT_ALLOWED_TOGETHER, message)
                .hint("leave the field out, or take another distribution");
            self.between(error, (&path, "needs a cluster"), (&distribution, "makes none"));
        }
    }

    /// Manifests need a cluster, and on one that exists there is no engine for the rest.
    fn existing_cluster(&mut self) {
        let provider = at("spec.cluster.provider");
        let manifests = at("spec.manifests");
        if self.loaded.config.provider() != Provider::Kubernetes {
            let has_cluster = self.loaded.config.has_cluster();
            if !self.loaded.config.spec.manifests.is_empty() && !has_cluster {
                let given = self.loaded.config.provider();
                let error = Diagnostic::error(
                    codes::NOT_ALLOWED_TOGETHER,
                    format!("`{manifests}` needs a cluster that a kubeconfig reaches, and provider {given} has none"),
                )
                .hint("take `provider: Kubernetes` with `distribution: None`, or `distribution: Vanilla` with `provider: Docker` or `Embedded`");
                self.between(error, (&manifests, "needs a cluster"), (&provider, "this provider"));
            }
            return;
        }
        for text in ["spec.mirrors", "spec.cluster.localRegistry", "spec.cluster.importImages"] {
            let path = at(text);
            if self.loaded.has(&path) {
                let message = format!("`{path}` needs an engine, and provider Kubernetes has none");
                let error = Diagnostic::error(codes::NOT_ALLOWED_TOGETHER, message).hint("leave it out");
                self.between(error, (&path, "needs an engine"), (&provider, "this provider"));
            }
        }
    }

    /// The format takes 0, and a cluster without a control plane is none.
    fn control_planes(&mut self) {
        let path = at("spec.cluster.controlPlanes");
        if self.loaded.scalar(&path) != Some("0") || self.loaded.config.distribution() == Distribution::None {
            return;
        }
        let warning = Diagnostic::warning(
            codes::NO_EFFECT,
            format!("`{path}: 0` makes one: a cluster has at least one control plane"),
        );
        self.push(warning.hint("write 1, or leave it out"), &path, "");
    }

    fn sections_without_effect(&mut self) {
        let config = &self.loaded.config;
        let (distribution, provider) = (config.distribution(), config.provider());
        let of_distribution = [
            ("spec.cluster.vanilla", Distribution::Vanilla),
            ("spec.cluster.talos", Distribution::Talos),
            ("spec.cluster.eks", Distribution::Eks),
        ];
        let of_provider = [
            ("spec.provider.embedded", Provider::Embedded),
            ("spec.provider.hetzner", Provider::Hetzner),
            ("spec.provider.omni", Provider::Omni),
            ("spec.provider.aws", Provider::Aws),
            ("spec.provider.gcp", Provider::Gcp),
            ("spec.provider.azure", Provider::Azure),
            ("spec.provider.kubernetes", Provider::Kubernetes),
        ];
        let unused = of_distribution
            .iter()
            .filter(|(_, needed)| *needed != distribution)
            .map(|(path, needed)| (*path, format!("distribution {needed}"), format!("distribution {distribution}")))
            .chain(
                of_provider
                    .iter()
                    .filter(|(_, needed)| *needed != provider)
                    .map(|(path, needed)| (*path, format!("provider {needed}"), format!("provider {provider}"))),
            );
        for (path, needed, actual) in unused.collect::<Vec<_>>() {
            let path = at(path);
            if self.loaded.has(&path) {
                let message = format!("`{path}` is for {needed} and has no effect with {actual}");
                let warning = Diagnostic::warning(codes::NO_EFFECT, message);
                if !self.loaded.is_broken(&path) {
                    self.found.push(self.loaded.sources.label(warning, self.loaded.place(&path), ""));
                }
            }
        }
    }

    /// Older and newer spellings of one thing must agree.
    fn spellings(&mut self) {
        let pairs = [
            ("spec.cluster.nodeAutoscaling", "spec.cluster.autoscaler.node.enabled"),
            ("spec.cluster.talos.controlPlanes", "spec.cluster.controlPlanes"),
            ("spec.cluster.talos.workers", "spec.cluster.workers"),
            ("spec.cluster.sops.ageKeyEnvVar", "spec.cluster.sops.env.var"),
        ];
        for (old, new) in pairs {
            let (old, new) = (at(old), at(new));
            if let (Some(one), Some(other)) = (self.loaded.scalar(&old), self.loaded.scalar(&new))
                && one != other
            {
                let message = format!("`{old}` and `{new}` mean the same and differ");
                let error = Diagnostic::error(codes::NOT_ALLOWED_TOGETHER, message).hint("keep only the second");
                self.between(error, (&old, "the older spelling"), (&new, "the newer one"));
            }
        }
    }

    fn pools(&mut self) {
        let list = "spec.cluster.autoscaler.node.pools";
        for (index, pool) in self.loaded.config.spec.cluster.autoscaler.node.pools.iter().enumerate() {
            if let (Some(min), Some(max)) = (pool.min, pool.max)
                && min > max
            {
                let error = Diagnostic::error(codes::NOT_ALLOWED_TOGETHER, "`min` of a pool is greater than its `max`");
                self.between(
                    error,
                    (&element(list, index, "min"), "at least"),
                    (&element(list, index, "max"), "at most"),
                );
            }
        }
        let names: Vec<(Path, String)> = self
            .loaded
            .config
            .spec
            .cluster
            .autoscaler
            .node
            .pools
            .iter()
            .enumerate()
            .filter_map(|(index, pool)| Some((element(list, index, "name"), pool.name.clone()?)))
            .collect();
        self.doubles(&names, "two pools are named");
    }

    /// Reports every key that stands twice, with both places.
    fn doubles(&mut self, keys: &[(Path, String)], what: &str) {
        for (index, (path, key)) in keys.iter().enumerate() {
            if let Some((first, _)) = keys[..index].iter().find(|(_, other)| other == key) {
                let error = Diagnostic::error(codes::DUPLICATE_ENTRY, format!("{what} `{key}`"));
                self.between(error, (path, "again here"), (first, "first here"));
            }
        }
    }

    fn local_registry(&mut self) {
        let path = at("spec.cluster.localRegistry.registry");
        let Some(text) = self.loaded.scalar(&path) else { return };
        if let Err(why) = endpoints::registry_place(text) {
            let error = Diagnostic::error(codes::BAD_VALUE, format!("`{path}` cannot be understood: {why}"));
            self.push(error.hint("write `localhost:5050`, or `ghcr.io/owner/repository`"), &path, "");
        }
    }

    fn mirrors(&mut self) {
        let list = "spec.mirrors";
        let mirrors = self.loaded.config.spec.mirrors.as_slice();
        let hosts: Vec<(Path, String)> = mirrors
            .iter()
            .enumerate()
            .map(|(index, mirror)| (element(list, index, "host"), mirror.host.to_lowercase()))
            .collect();
        self.doubles(&hosts, "two mirrors answer for");
        for (index, mirror) in mirrors.iter().enumerate() {
            let upstream = element(list, index, "upstream");
            match endpoints::upstream(mirror) {
                Err(why) => {
                    let error = Diagnostic::error(
                        codes::BAD_VALUE,
                        format!("the mirror of `{}` cannot be understood: {why}", mirror.host),
                    );
                    self.push(error.hint("write `upstream: https://host[:port][/path]`"), &upstream, "");
                }
                Ok(read) if read.username.is_null() != read.password.is_null() => {
                    let (has, lacks) =
                        if read.password.is_null() { ("username", "password") } else { ("password", "username") };
                    let message = format!("the mirror of `{}` has a {has} and no {lacks}", mirror.host);
                    let error = Diagnostic::error(codes::BAD_VALUE, message);
                    let field = element(list, index, has);
                    let field = if self.loaded.has(&field) { field } else { upstream };
                    if !self.loaded.is_broken(&at(list).child(Step::Index(index))) {
                        self.push(error.hint("upstreams take both or neither"), &field, "");
                    }
                }
                Ok(_) => {}
            }
        }
    }

    /// Ports of this machine that are given twice.
    fn ports(&mut self) {
        let config = &self.loaded.config;
        let mut ports: Vec<(Path, String)> = Vec::new();
        let registry = at("spec.cluster.localRegistry.registry");
        if let Some(Ok(RegistryPlace::Local { port: Some(port), .. })) =
            self.loaded.scalar(&registry).map(endpoints::registry_place)
        {
            ports.push((registry, format!("{port}/TCP")));
        }
        for (index, mirror) in config.spec.mirrors.iter().enumerate() {
            ports.extend(mirror.port.map(|port| (element("spec.mirrors", index, "port"), format!("{port}/TCP"))));
        }
        for (index, mapping) in config.spec.cluster.talos.extra_port_mappings.iter().enumerate() {
            let protocol = mapping.protocol.map_or("TCP", |protocol| protocol.as_str());
            let path = element("spec.cluster.talos.extraPortMappings", index, "hostPort");
            ports.extend(mapping.host_port.filter(|port| *port != 0).map(|port| (path, format!("{port}/{protocol}"))));
        }
        self.doubles(&ports, "two things take the port");
    }

    fn images(&mut self) {
        let list = "spec.images";
        let rules = self.loaded.config.spec.images.as_slice();
        let keys: Vec<(Path, String)> = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| (element(list, index, "from"), rule.from.trim_end_matches('/').to_owned()))
            .collect();
        self.doubles(&keys, "two rewrites are for");
        for (index, rule) in rules.iter().enumerate() {
            for (field, text) in [("from", &rule.from), ("to", &rule.to)] {
                let wrong = text.trim_end_matches('/').is_empty()
                    || text.starts_with('/')
                    || text.contains("://")
                    || text.contains(|c: char| c.is_whitespace() || matches!(c, '@' | '?' | '#'));
                if wrong {
                    let path = element(list, index, field);
                    let error = Diagnostic::error(
                        codes::BAD_VALUE,
                        format!("`{path}` is not the beginning of an image reference"),
                    );
                    self.push(error.hint("write a registry and a path, such as `docker.io/library`"), &path, "");
                }
            }
        }
    }

    fn required_version(&mut self) {
        let path = at("spec.requiredVersion");
        let Some(text) = &self.loaded.config.spec.required_version else { return };
        if let Err(error) = semver::VersionReq::parse(text) {
            let error = Diagnostic::error(codes::BAD_VALUE, format!("`{path}` is not a version requirement: {error}"));
            self.push(error.hint("write it as `>=0.1, <0.3`"), &path, "");
        }
    }

    /// Rules for nodes are about nodes that there are, and versions are versions.
    fn nodes(&mut self) {
        let cluster = &self.loaded.config.spec.cluster;
        if !self.loaded.config.has_cluster() {
            let (path, distribution) = (at("spec.nodes"), at("spec.cluster.distribution"));
            if !self.loaded.config.spec.nodes.is_empty() {
                let error = Diagnostic::error(
                    codes::NOT_ALLOWED_TOGETHER,
                    format!("`{path}` needs nodes that ksail makes, and the file asks for none"),
                )
                .hint("nodes are built for `distribution: Vanilla` with `provider: Docker` or `Embedded`");
                self.between(error, (&path, "needs nodes"), (&distribution, "makes none"));
            }
            return;
        }
        let nodes = nodes::of(cluster);
        // On Docker the distribution's own file may list them.
        let is_listed =
            !self.loaded.config.has_docker_cluster() || cluster.control_planes.is_some() && cluster.workers.is_some();
        for (index, rule) in self.loaded.config.spec.nodes.iter().enumerate() {
            if is_listed && !nodes.iter().any(|node| rule.concerns(node)) {
                let path = match &rule.name {
                    Some(_) => element("spec.nodes", index, "name"),
                    None => element("spec.nodes", index, "role"),
                };
                let known: Vec<String> = nodes.iter().map(Node::name).collect();
                let warning = Diagnostic::warning(codes::MATCHES_NOTHING, "no node is of this name and role");
                self.push(warning.hint(format!("the nodes are {}", known.join(", "))), &path, "");
            }
            for (position, taint) in rule.taints.iter().enumerate() {
                for (field, is_there) in [("key", taint.key.is_some()), ("effect", taint.effect.is_some())] {
                    if !is_there {
                        let path = element("spec.nodes", index, "taints").child(Step::Index(position));
                        let message = format!("a taint needs its `{field}`");
                        self.push(Diagnostic::error(codes::MISSING, message), &path, "");
                    }
                }
            }
        }
        if let Some(version) = &cluster.kubernetes_version
            && !versions::is_version(version)
        {
            let path = at("spec.cluster.kubernetesVersion");
            let error = Diagnostic::error(codes::BAD_VALUE, format!("`{version}` is no version of Kubernetes"));
            self.push(error.hint("write it as `v1.36.3`"), &path, "");
        }
    }

    fn lifecycle(&mut self) {
        let list = "spec.lifecycle";
        for (index, rule) in self.loaded.config.spec.lifecycle.iter().enumerate() {
            if Selector::parse(&rule.r#match).is_err() {
                let path = element(list, index, "match");
                let message = format!("`{}` is neither an address nor the beginning of one", rule.r#match);
                let error = Diagnostic::error(codes::BAD_ADDRESS, message).hint("write `volume` or `registry/local`");
                self.push(error, &path, "");
            }
            for (position, text) in rule.ignore.iter().enumerate() {
                let path = element(list, index, "ignore").child(Step::Index(position));
                match Path::parse(text) {
                    Err(error) => self.push(Diagnostic::error(codes::BAD_VALUE, error.to_string()), &path, ""),
                    Ok(field) if field.is_root() => {
                        let error =
                            Diagnostic::error(codes::BAD_VALUE, "an empty path would ignore the whole resource");
                        self.push(error.hint("name a field, such as `running`"), &path, "");
                    }
                    Ok(_) => {}
                }
            }
        }
    }

    /// Addresses of moves, removals and imports: readable, and each said once.
    fn addresses(&mut self) {
        let spec = &self.loaded.config.spec;
        let mut texts: Vec<(Path, String, &str)> = Vec::new();
        for (index, moved) in spec.moved.iter().enumerate() {
            texts.push((element("spec.moved", index, "from"), moved.from.clone(), "from"));
            texts.push((element("spec.moved", index, "to"), moved.to.clone(), "to"));
        }
        for (index, removed) in spec.removed.iter().enumerate() {
            texts.push((element("spec.removed", index, "from"), removed.from.clone(), "from"));
        }
        for (index, import) in spec.imports.iter().enumerate() {
            texts.push((element("spec.imports", index, "to"), import.to.clone(), "to"));
        }
        let mut from: Vec<(Path, String)> = Vec::new();
        let mut to: Vec<(Path, String)> = Vec::new();
        for (path, text, side) in texts {
            match addresses::read(&text, self.loaded.config.name()) {
                Err(error) => {
                    let error = Diagnostic::error(codes::BAD_ADDRESS, error.to_string());
                    self.push(error.hint("write `registry/local`, or with the cluster before it"), &path, "");
                }
                Ok(address) if side == "from" => from.push((path, address.to_string())),
                Ok(address) => to.push((path, address.to_string())),
            }
        }
        for (path, address) in &to {
            if let Some((other, _)) = from.iter().find(|(other, text)| text == address && is_one_entry(other, path)) {
                let error = Diagnostic::error(codes::NOT_ALLOWED_TOGETHER, format!("{address} is moved to itself"));
                self.between(error, (path, ""), (&other.clone(), ""));
            }
        }
        self.doubles(&from, "two entries are about");
        self.doubles(&to, "two entries lead to");
    }
}

/// Whether two paths are fields of one entry of a list.
fn is_one_entry(one: &Path, other: &Path) -> bool {
    one.steps().len() == other.steps().len()
        && one.steps()[..one.steps().len() - 1] == other.steps()[..other.steps().len() - 1]
}
