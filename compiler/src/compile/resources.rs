//! The resources of a configuration without a cluster: engine, network, volumes, images, registry and mirrors.

use std::sync::Arc;

use ksail_kinds::{
    BuiltinKinds, ClusterSpec, EngineSpec, ImageSource, ImageSpec, MirrorSpec, NetworkSpec, RegistrySpec, Spec,
    VolumeSpec,
};
use ksail_model::{
    Address, Choice, Condition, Declaration, DeclaredGraph, Diagnostic, Edge, ForceOn, Identity, Lifecycle, Origin,
    Origins, Ownership, Path, ProviderConfig, Reference, Schemas as _, Step, Strength, Value,
};

use super::Product;
use super::images::Supply;
use super::machine_addresses::Addresses;
use crate::catalogue::{self, CatalogueImage};
use crate::codes;
use crate::endpoints::{self, RegistryPlace};
use crate::format::{MirrorEntry, Provider};
use crate::image_reference;
use crate::kind_file::{self, Family};
use crate::loaded::Loaded;
use crate::manifests;
use crate::sources::Project;

/// The provider of what runs on an engine, and of the embedded engine itself; keys of the graph's providers.
pub(super) const DOCKER: &str = "docker";
pub(super) const EMBEDDED: &str = "embedded";
/// The provider of objects.
pub(super) const KUBERNETES: &str = "kubernetes";

/// Ports that are tried first for the embedded engine's status page.
const ENGINE_PORTS: std::ops::RangeInclusive<u16> = 6180..=6195;
/// The port that is tried first for the local registry, and those after it.
const REGISTRY_PORT: u16 = 5050;
const FURTHER_REGISTRY_PORTS: std::ops::RangeInclusive<u16> = 5100..=5114;
/// Ports that are tried first for mirrors: each begins at its own position.
const MIRROR_PORTS: std::ops::RangeInclusive<u16> = 5051..=5099;

/// How many ports are tried before any free one is taken.
const PREFERRED_PORTS: usize = 16;

/// The longest name that is given to a container, which is its host name on the network too.
const LONGEST_NAME: usize = 63;
/// How much of a longer one is kept, before a digest.
const KEPT_OF_NAME: usize = 50;

/// Where registries answer on the engine's machine.
pub(super) const LOOPBACK: &str = "127.0.0.1";

/// Makes the declarations of one cluster.
pub(super) struct Builder<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) project: &'a dyn Project,
    product: &'a Product,
    pub(super) cluster: &'a str,
    pub(super) host: Option<Address>,
    pub(super) graph: DeclaredGraph,
    pub(super) problems: Vec<Diagnostic>,
    /// The archive that images are taken from.
    pub(super) supply: Option<Supply>,
}

/// What a registry or mirror stands on.
struct Base {
    network: Address,
    image: Address,
    image_reference: String,
    image_origin: Origin,
}

impl<'a> Builder<'a> {
    pub(super) fn new(loaded: &'a Loaded, project: &'a dyn Project, product: &'a Product) -> Self {
        let cluster = loaded.config.name();
        Self {
            loaded,
            project,
            product,
            cluster,
            host: None,
            graph: DeclaredGraph::default(),
            problems: Vec::new(),
            supply: None,
        }
    }

    pub(super) fn finish(self) -> (DeclaredGraph, Vec<Diagnostic>) {
        (self.graph, self.problems)
    }

    pub(super) fn declare(&mut self) {
        match self.loaded.config.provider() {
            Provider::Kubernetes => return self.objects(),
            Provider::Embedded => self.engine(),
            _ => {}
        }
        if self.loaded.config.has_embedded_cluster() {
            self.embedded_cluster();
        }
        self.provider(DOCKER);
        let file = match self.loaded.config.has_docker_cluster().then(|| kind_file::read(self.loaded, self.project)) {
            Some(Err(problems)) => return self.problems.extend(problems),
            Some(Ok(file)) => Some(file),
            None => None,
        };
        let network = self.network(file.as_ref().map(|file| file.networking.family));
        self.supply = self.supply();
        match file {
            Some(file) => self.docker_cluster(&network, file),
            None => self.images_of_supply(),
        }
        self.registries(network);
        if self.loaded.config.has_docker_cluster() {
            self.images_of_nodes();
        }
    }

    /// The local registry and the mirrors, with what they stand on.
    fn registries(&mut self, network: Address) {
        let registry = self.local_registry_port();
        let mirrors = self.loaded.config.spec.mirrors.as_slice();
        if registry.is_none() && mirrors.is_empty() {
            return;
        }
        let base = self.registry_image(network);
        if let Some(port) = registry {
            self.local_registry(&base, port);
        }
        let taken: Vec<u16> = mirrors.iter().filter_map(|mirror| mirror.port).chain(registry.flatten()).collect();
        for (index, mirror) in mirrors.iter().enumerate() {
            self.mirror(&base, index, mirror, &taken);
        }
    }

    /// Objects on a cluster that a kubeconfig reaches.
    fn objects(&mut self) {
        self.provider(KUBERNETES);
        let connection = &self.loaded.config.spec.cluster.connection;
        let given = [("kubeconfig", &connection.kubeconfig), ("context", &connection.context)];
        if let Some(config) = self.graph.providers.get_mut(KUBERNETES) {
            for (key, value) in given {
                config.settings.extend(value.clone().map(|value| (key.to_owned(), value)));
            }
        }
        let problems = manifests::declare(self.loaded, self.project, KUBERNETES, None, &mut self.graph);
        self.problems.extend(problems);
    }

    pub(super) fn provider(&mut self, kind: &str) {
        let config = ProviderConfig { kind: kind.to_owned(), ..ProviderConfig::default() };
        self.graph.providers.insert(kind.to_owned(), config);
    }

    pub(super) fn address(&self, kind: &str, name: &str) -> Address {
        Address::new(self.cluster, kind, &[name])
    }

    pub(super) fn origin(&self, path: &str) -> Origin {
        self.loaded.origin(&Path::parse(path).unwrap_or_default())
    }

    /// A declaration without edges; what it lives in is the engine, where that is ours.
    pub(super) fn declaration<S: Spec>(&self, name: &str, identity: String, spec: &S, origins: Origins) -> Declaration {
        let kind_version = BuiltinKinds.schema(S::KIND).map_or(1, |schema| schema.version);
        Declaration {
            address: self.address(S::KIND, name),
            kind_version,
            provider: DOCKER.to_owned(),
            identity: Identity::named(identity),
            spec: spec.to_value(),
            host: self.host.clone(),
            edges: Vec::new(),
            ownership: Ownership::Owned,
            lifecycle: Lifecycle::default(),
            choices: Vec::new(),
            origins,
        }
    }

    pub(super) fn add(&mut self, declaration: Declaration) -> Address {
        let address = declaration.address.clone();
        self.graph.declarations.insert(address.clone(), Arc::new(declaration));
        address
    }

    fn engine(&mut self) {
        self.provider(EMBEDDED);
        let mut origins = Origins::all(self.origin("spec.cluster.provider"));
        origins.set(Path::key("version"), derived("the engine is of the same version as ksail"));
        origins.set(Path::key("running"), derived("what it hosts needs it running"));
        let spec = EngineSpec { version: self.product.version.clone(), port: 0, running: true };
        let mut engine = self.declaration("main", "engine".to_owned(), &spec, origins);
        engine.provider = EMBEDDED.to_owned();
        choose_port(&mut engine, ENGINE_PORTS.collect());
        self.host = Some(self.add(engine));
    }

    /// The network of a cluster that speaks some family of addresses, or of registries alone.
    fn network(&mut self, family: Option<Family>) -> Address {
        let mut origins = Origins::all(derived("what a cluster has on an engine shares one network"));
        let mut spec = NetworkSpec::bridge();
        if let Some(family) = family {
            let addresses = Addresses::of(self.cluster, family);
            spec.subnet = Some(addresses.subnet());
            spec.given = Some(addresses.given());
            spec.ipv6_subnet = addresses.ipv6_subnet();
            spec.ipv6_given = addresses.ipv6_given();
            let why = derived("nodes keep their addresses, so the subnet follows from the cluster's name");
            for field in ["subnet", "given"] {
                origins.set(Path::key(field), why.clone());
            }
            let why = derived("the distribution's file asks for IPv6, and the subnet follows from the cluster's name");
            for field in ["ipv6_subnet", "ipv6_given"].into_iter().filter(|_| family.has_v6()) {
                origins.set(Path::key(field), why.clone());
            }
        }
        let network = self.declaration("main", self.cluster.to_owned(), &spec, origins);
        self.add(network)
    }

    /// The image of registries and mirrors. One that an archive brings is loaded, not pulled.
    fn registry_image(&mut self, network: Address) -> Base {
        let embedded = self.loaded.config.provider() == Provider::Embedded;
        let CatalogueImage { entry, reference } =
            if embedded { catalogue::EMBEDDED_REGISTRY } else { catalogue::REGISTRY };
        let rules = self.loaded.config.spec.images.as_slice();
        let (reference, rule) =
            if embedded { (reference.to_owned(), None) } else { image_reference::rewrite(reference, rules) };
        let origin = match rule {
            Some(index) => self.origin(&format!("spec.images[{index}].to")),
            None => Origin::Catalogue { entry: entry.into() },
        };
        let address = self.address(ImageSpec::KIND, &reference);
        if !embedded {
            self.needed_image(&reference, &origin, "registries need it");
        } else if !self.graph.declarations.contains_key(&address) {
            let mut origins = Origins::all(origin.clone());
            origins.set(Path::key("source"), derived("the embedded engine has it built in"));
            let image = self.image(&reference, ImageSource::Present {}, origins);
            self.add(image);
        }
        Base { network, image: address, image_reference: reference, image_origin: origin }
    }

    /// The port of the registry on this machine, if one is to be made; `Some(None)` is a port still to be chosen.
    /// One elsewhere is used as it is: its address, without the credentials before it, is what there is to tell.
    fn local_registry_port(&mut self) -> Option<Option<u16>> {
        let registry = self.loaded.config.spec.cluster.local_registry.as_ref()?;
        match endpoints::registry_place(registry.registry.as_deref().unwrap_or_default()) {
            Ok(RegistryPlace::Local { port, .. }) => Some(port),
            Ok(RegistryPlace::Remote { address }) => {
                self.graph.outputs.insert("registry".to_owned(), Value::from(address.as_str()));
                None
            }
            // What cannot be read was refused before.
            Err(_) => None,
        }
    }

    fn local_registry(&mut self, base: &Base, port: Option<u16>) {
        let field = self.origin("spec.cluster.localRegistry");
        let name = self.engine_name(&format!("{}-", self.cluster), "local-registry");
        let volume = self.volume("local-registry", &name, &field);
        let spec = RegistrySpec {
            image: base.image_reference.clone(),
            network: self.cluster.to_owned(),
            volume: name.clone(),
            address: LOOPBACK.to_owned(),
            port: port.unwrap_or_default(),
            running: true,
        };
        let mut origins = self.registry_origins(base, &field);
        origins.set(Path::key("port"), self.origin("spec.cluster.localRegistry.registry"));
        let mut registry = self.declaration("local", name, &spec, origins);
        if port.is_none() {
            choose_port(&mut registry, std::iter::once(REGISTRY_PORT).chain(FURTHER_REGISTRY_PORTS).collect());
        }
        registry.edges = edges(base, volume, "registry");
        let address = self.add(registry);
        if self.loaded.config.has_docker_cluster() {
            self.registry_hosting(&self.address(ClusterSpec::KIND, "main"), &address);
        }
        self.graph.outputs.insert("registry".to_owned(), endpoint(address));
    }

    pub(super) fn volume(&mut self, name: &str, identity: &str, origin: &Origin) -> Address {
        let spec = VolumeSpec { driver: "local".to_owned() };
        let volume = self.declaration(name, identity.to_owned(), &spec, Origins::all(origin.clone()));
        self.add(volume)
    }

    fn mirror(&mut self, base: &Base, index: usize, mirror: &MirrorEntry, taken: &[u16]) {
        let entry = Path::parse("spec.mirrors").unwrap_or_default().child(Step::Index(index));
        let at = |field: &str| entry.child_key(field);
        let upstream = match endpoints::upstream(mirror) {
            Ok(upstream) => upstream,
            Err(why) => {
                let error =
                    Diagnostic::error(codes::INTERNAL, format!("a mirror passed the checks and is wrong: {why}"));
                self.problems.push(self.loaded.label(error, &entry, ""));
                return;
            }
        };
        let host = mirror.host.to_lowercase();
        let field = self.loaded.origin(&at("host"));
        let name = self.engine_name(&format!("{}-mirror-", self.cluster), &host);
        let volume = self.volume(&format!("mirror-{host}"), &name, &field);
        let spec = MirrorSpec {
            host: host.clone(),
            upstream: upstream.url,
            username: upstream.username,
            password: upstream.password,
            image: base.image_reference.clone(),
            network: self.cluster.to_owned(),
            volume: name.clone(),
            address: LOOPBACK.to_owned(),
            port: mirror.port.unwrap_or_default(),
            running: true,
        };
        let mut origins = self.registry_origins(base, &field);
        let given = |name: &str| self.loaded.has(&at(name)).then(|| self.loaded.origin(&at(name)));
        let from_upstream = given("upstream").unwrap_or(Origin::Default { field: "spec.mirrors[].upstream".into() });
        for name in ["username", "password"] {
            if !spec.to_value().field(name).is_none_or(Value::is_null) {
                origins.set(Path::key(name), given(name).unwrap_or_else(|| from_upstream.clone()));
            }
        }
        origins.set(Path::key("upstream"), from_upstream);
        if let Some(port) = given("port") {
            origins.set(Path::key("port"), port);
        }
        let mut declaration = self.declaration(&host, name, &spec, origins);
        if mirror.port.is_none() {
            let first = MIRROR_PORTS.start().saturating_add(u16::try_from(index).unwrap_or(u16::MAX));
            let own = MIRROR_PORTS.filter(|port| *port >= first);
            let preferred = own.chain(MIRROR_PORTS.filter(|port| *port < first)).filter(|port| !taken.contains(port));
            choose_port(&mut declaration, preferred.take(PREFERRED_PORTS).collect());
        }
        declaration.edges = edges(base, volume, "mirror");
        let address = self.add(declaration);
        let outputs = self.graph.outputs.entry("mirrors".to_owned()).or_insert_with(Value::empty_map);
        if let Value::Map(mirrors) = outputs {
            mirrors.insert(host, endpoint(address));
        }
    }

    /// Origins that a registry and a mirror have in common.
    fn registry_origins(&self, base: &Base, field: &Origin) -> Origins {
        let mut origins = Origins::all(field.clone());
        origins.set(Path::key("image"), base.image_origin.clone());
        origins.set(Path::key("network"), derived("what a cluster has on an engine shares one network"));
        origins.set(Path::key("volume"), derived("its blobs are kept in a volume of its own"));
        origins.set(Path::key("address"), derived("registries answer on this machine only"));
        origins.set(Path::key("running"), derived("what is declared runs"));
        origins
    }

    /// A name that engines take: other characters become `-`. Where that made two names equal, or the name is too long, a digest of the
    /// text tells them apart.
    pub(super) fn engine_name(&self, prefix: &str, text: &str) -> String {
        let clean: String = text
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
            .collect();
        let name = format!("{prefix}{clean}");
        let taken = self.graph.declarations.values().any(|other| other.identity.name == name);
        if !taken && name.len() <= LONGEST_NAME {
            return name;
        }
        let short = name.get(..KEPT_OF_NAME).unwrap_or(&name);
        format!("{short}-{}", ksail_model::Digest::of_bytes(format!("{prefix}{text}").as_bytes()).short())
    }
}

pub(super) fn derived(why: &str) -> Origin {
    Origin::Derived { why: why.into() }
}

/// Leaves the port out of the spec, to be chosen when planning.
pub(super) fn choose_port(declaration: &mut Declaration, preferred: Vec<u16>) {
    if let Value::Map(fields) = &mut declaration.spec {
        fields.remove("port");
    }
    let path = Path::key("port");
    declaration.origins.set(path.clone(), Origin::Chosen { why: "a free port of the engine's machine".into() });
    declaration.choices.push(Choice::Port { path, preferred });
}

/// What a registry or mirror needs: its network, its volume and its image. A container cannot outlive the first two.
fn edges(base: &Base, volume: Address, what: &str) -> Vec<Edge> {
    let edge = |to: Address, on_replace, why: String| Edge {
        to,
        condition: Condition::Exists,
        strength: Strength::Hard,
        on_replace,
        origin: Origin::Derived { why: why.into() },
    };
    vec![
        edge(base.network.clone(), ForceOn::Replace, format!("the {what} is on the cluster's network")),
        edge(volume, ForceOn::Replace, format!("the {what} keeps its blobs in the volume")),
        edge(base.image.clone(), ForceOn::Nothing, format!("the {what} is a container of the image")),
    ]
}

fn endpoint(address: Address) -> Value {
    Value::Ref(Reference { address, path: Path::key("endpoint") })
}
