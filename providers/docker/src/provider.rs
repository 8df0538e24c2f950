//! The provider: the calls of the contract, each handed to its kind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use ksail_model::{Identity, Observation, Ownership, Preview, Seen, UnknownReason, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, ObserveReply, Owned, PortInUse,
    PreviewRequest, Provider, Target, UpdateRequest, WaitRequest,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::call::{Call, before_sending};
use crate::endpoint::Endpoint;
use crate::host::{self, HostFacts};
use crate::image::Files;
use crate::image_load::{ImagesFrom, NodeImages, SavedImages};
use crate::labels;
use crate::logs::{self, ExportedLogs};
use crate::nodes::{self, NodeContainer};
use crate::observed::Observed;
use crate::ports::{self, INSPECTIONS};
use crate::session::Session;
use crate::written::Written;
use crate::{
    addon, bootstrap, cluster, container, control_plane, etcd, image, image_import, image_load, machine, made_by_kind,
    network, subnets, volume, wait,
};

/// The kinds that are containers outside.
const CONTAINERS: [&str; 4] = ["container", "registry", "mirror", "load-balancer"];
/// The kind that is a container on a volume.
const MACHINE: &str = "machine";
/// The kinds that live in a machine.
const BOOTSTRAP: &str = "bootstrap";
const IMAGE_IMPORT: &str = image_import::KIND;
/// The kind that machines make up, and those that live in it.
const CLUSTER: &str = cluster::KIND;
const ADDON: &str = "addon";
const ETCD_MEMBER: &str = etcd::KIND;

/// The pause between two looks at a control plane that does not serve.
const CONTROL_PLANE_PAUSE: Duration = Duration::from_millis(500);

/// Where on an engine the things of a session are.
enum Inside {
    /// On the engine itself.
    Engine,
    /// In a machine: what makes it a node.
    Machine(String),
    /// In a cluster on machines, through its control plane.
    Cluster(String),
}

/// Networks, volumes, images, containers, registries, mirrors, machines and clusters on one engine, or what lives in one of these.
///
/// It connects at its first call and keeps what it found: the place, the engine's id (the scope) and whether its ports are
/// on this machine. After a crash nothing of it is left to clean up.
pub struct DockerProvider {
    endpoint: Endpoint,
    project: PathBuf,
    inside: Inside,
    session: Mutex<Option<Arc<Session>>>,
}

/// What the engine has, of the kinds that were asked for.
#[derive(Default)]
struct Lists {
    networks: Vec<bollard::models::Network>,
    volumes: Vec<bollard::models::Volume>,
    containers: Vec<bollard::models::ContainerSummary>,
    images: Vec<bollard::models::ImageSummary>,
}

impl DockerProvider {
    /// A provider for the engine at an endpoint. Nothing is connected to before the first call. Paths of archives are
    /// relative to the current folder, unless [`project`](Self::project) says otherwise.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, project: PathBuf::new(), inside: Inside::Engine, session: Mutex::new(None) }
    }

    /// This provider, with the folder that paths of archives are relative to.
    #[must_use]
    pub fn project(mut self, folder: impl Into<PathBuf>) -> Self {
        self.project = folder.into();
        self
    }

    /// This provider, for what lives in a machine of the engine: what makes it a node.
    #[must_use]
    pub fn in_machine(mut self, name: impl Into<String>) -> Self {
        self.inside = Inside::Machine(name.into());
        self
    }

    /// This provider, for what lives in a cluster on machines of the engine, by the cluster's name.
    #[must_use]
    pub fn in_cluster(mut self, name: impl Into<String>) -> Self {
        self.inside = Inside::Cluster(name.into());
        self
    }

    /// The kubeconfig with which the administrator of this cluster reaches it: at an endpoint on the engine's machine, or at the
    /// server that it names itself. It is a secret.
    ///
    /// # Errors
    /// No machine of its control plane runs, or none was ever bootstrapped.
    pub async fn kubeconfig(&self, context: &CallContext, endpoint: Option<&str>) -> Result<Arc<str>, CallError> {
        let call = self.call(context).await?;
        cluster::kubeconfig(&call, self.cluster(&call, CLUSTER)?, endpoint).await
    }

    /// The nodes of all clusters on the engine, whoever made them.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn nodes(&self, context: &CallContext) -> Result<Vec<NodeContainer>, CallError> {
        nodes::nodes(&self.call(context).await?).await
    }

    /// The machine that the engine runs on.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn host(&self, context: &CallContext) -> Result<HostFacts, CallError> {
        host::facts(&self.call(context).await?).await
    }

    /// Writes what the nodes of a cluster say into a folder, as `kind export logs` lays it out. No secret is held back: it is what stands in
    /// the nodes, for their owner.
    ///
    /// # Errors
    /// The engine does not answer, or the folder cannot be written.
    pub async fn export_logs(
        &self,
        context: &CallContext,
        cluster: &str,
        folder: &Path,
    ) -> Result<ExportedLogs, CallError> {
        logs::export(&self.call(context).await?, cluster, folder).await
    }

    /// Puts images into nodes of a cluster, all or those that are named, whoever made it. A node that has one already does not get
    /// it again.
    ///
    /// # Errors
    /// There is no such image, archive, cluster or node, or a node does not run.
    pub async fn load_images(
        &self,
        context: &CallContext,
        cluster: &str,
        nodes: &[String],
        from: ImagesFrom<'_>,
    ) -> Result<Vec<NodeImages>, CallError> {
        let config = self.endpoint.config_folder.as_deref();
        image_load::load(&mut self.call(context).await?, cluster, nodes, from, config).await
    }

    /// Has the engine save images, by their full references, into an archive in a folder, where it leaves no file. What it lacks it
    /// pulls first. Those that are named by a digest are fetched from their registries, into another archive.
    ///
    /// # Errors
    /// An image cannot be had, or the folder has no room.
    pub async fn save_images(
        &self,
        context: &CallContext,
        names: &[String],
        scratch: &Path,
    ) -> Result<SavedImages, CallError> {
        let config = self.endpoint.config_folder.as_deref();
        image_load::save_with_missing(&mut self.call(context).await?, names, scratch, config).await
    }

    /// The machine that this is about.
    fn machine(&self, call: &Call, kind: &str) -> Result<&str, CallError> {
        match &self.inside {
            Inside::Machine(name) => Ok(name),
            _ => Err(call.refused(kind, "it lives in a machine, and none is named")),
        }
    }

    /// The cluster that this is about.
    fn cluster(&self, call: &Call, kind: &str) -> Result<&str, CallError> {
        match &self.inside {
            Inside::Cluster(name) => Ok(name),
            _ => Err(call.refused(kind, "it lives in a cluster, and none is named")),
        }
    }

    async fn call(&self, context: &CallContext) -> Result<Call, CallError> {
        let deadline = Instant::now() + context.timeout;
        let session = before_sending(context, deadline, &self.endpoint, async {
            let mut open = self.session.lock().await;
            if let Some(session) = open.as_ref() {
                return Ok(Arc::clone(session));
            }
            let session = Arc::new(Session::open(&self.endpoint).await?);
            *open = Some(Arc::clone(&session));
            Ok(session)
        })
        .await?;
        Ok(Call::new(session, context.clone(), deadline))
    }

    /// Waits until the control plane serves what there is of it; at the deadline, tells why it does not.
    async fn wait_for_control_plane(&self, call: &Call, request: &WaitRequest) -> Result<Seen, CallError> {
        let (target, targets) = (&request.target, std::slice::from_ref(&request.target));
        let what = format!("wait for {}", target.address);
        let last_look = wait::last_look(call);
        loop {
            let seen = match &self.inside {
                Inside::Cluster(cluster) => observe_in_cluster(call, cluster, targets).await?.into_iter().next(),
                _ => {
                    let lists = lists(call, |kinds| kinds.contains(&CLUSTER)).await?;
                    Some(observe_one(call, &lists, &BTreeMap::new(), target).await?)
                }
            };
            let Some(Observation::Present(seen)) = seen else { return Err(call.refused(&what, "it is not there")) };
            if seen.readiness.is_ready() || Instant::now() >= last_look {
                return Ok(*seen);
            }
            call.pause(&what, CONTROL_PLANE_PAUSE).await?;
        }
    }

    fn files(&self) -> Files<'_> {
        Files { project: &self.project, config: self.endpoint.config_folder.as_deref() }
    }
}

fn applied(call: &Call, seen: Seen) -> Applied {
    Applied { scope: call.session.scope.clone(), seen }
}

fn spec_of<'a>(call: &Call, target: &'a Target) -> Result<&'a Value, CallError> {
    target.spec.as_ref().ok_or_else(|| call.refused(&format!("{}", target.address), "it has no spec"))
}

fn unknown_kind(call: &Call, target: &Target) -> CallError {
    let kind = target.address.kind();
    call.refused(&format!("{}", target.address), &format!("there is no kind `{kind}`"))
}

/// One list for each kind of thing that is asked for.
async fn lists(call: &Call, wants: impl Fn(&[&str]) -> bool) -> Result<Lists, CallError> {
    let networks = async { if wants(&["network"]) { network::list(call).await } else { Ok(Vec::new()) } };
    let volumes =
        async { if wants(&["volume", MACHINE, CLUSTER]) { volume::list(call).await } else { Ok(Vec::new()) } };
    let containers = async {
        if wants(&CONTAINERS) || wants(&[MACHINE, CLUSTER]) { container::list(call).await } else { Ok(Vec::new()) }
    };
    let images = async { if wants(&["image"]) { image::list(call).await } else { Ok(Vec::new()) } };
    let (networks, volumes, containers, images) = futures::try_join!(networks, volumes, containers, images)?;
    Ok(Lists { networks, volumes, containers, images })
}

/// What the list of containers cannot tell (environment, configuration, ports of one that is stopped): one look at each
/// container that a target means, some at a time.
async fn inspections(
    call: &Call,
    lists: &Lists,
    targets: &[Target],
) -> Result<BTreeMap<String, Option<Observed>>, CallError> {
    let is_container = |target: &&Target| CONTAINERS.contains(&target.address.kind());
    let ids: BTreeSet<String> = targets
        .iter()
        .filter(is_container)
        .filter_map(|target| container::find(&lists.containers, &target.identity))
        .collect();
    let looks = ids.into_iter().map(|id| async move {
        let observed = container::inspect(call, &id).await?;
        Ok((id, observed))
    });
    futures::stream::iter(looks).buffered(INSPECTIONS).try_collect().await
}

async fn observe_one(
    call: &Call,
    lists: &Lists,
    inspected: &BTreeMap<String, Option<Observed>>,
    target: &Target,
) -> Result<Observation, CallError> {
    let identity = &target.identity;
    let lineage = &call.context.lineage;
    let seen = match target.address.kind() {
        "network" => {
            network::find(&lists.networks, identity, lineage).map(|found| network::seen(found, target.spec.as_ref()))
        }
        "volume" => lists.volumes.iter().find(|volume| volume.name == identity.name).map(volume::seen),
        "image" => image::seen(&lists.images, target, lineage),
        MACHINE => return machine::observe(call, &lists.containers, &lists.volumes, target).await,
        CLUSTER => return cluster::observe(call, &lists.containers, &lists.volumes, target).await,
        kind if CONTAINERS.contains(&kind) => {
            // One that is in the list and not inspected went away between the two requests.
            let id = container::find(&lists.containers, identity);
            match id.and_then(|id| inspected.get(&id)).and_then(Option::as_ref) {
                None => None,
                Some(observed) => Some(container::seen(call, kind, observed, target.spec.as_ref()).await?),
            }
        }
        _ => {
            let message = unknown_kind(call, target).message;
            return Ok(Observation::Unknown(UnknownReason::Denied { message }));
        }
    };
    Ok(seen.map_or(Observation::Absent, |seen| Observation::Present(Box::new(seen))))
}

fn of_unknown_kind(call: &Call, target: &Target) -> Observation {
    Observation::Unknown(UnknownReason::Denied { message: unknown_kind(call, target).message })
}

/// Looks at what lives in a machine.
async fn observe_in_machine(call: &Call, machine: &str, targets: &[Target]) -> Result<Vec<Observation>, CallError> {
    let mut observations = Vec::with_capacity(targets.len());
    for target in targets {
        observations.push(match target.address.kind() {
            BOOTSTRAP => bootstrap::observe_target(call, machine, target).await?,
            IMAGE_IMPORT => image_import::observe(call, machine).await?,
            _ => of_unknown_kind(call, target),
        });
    }
    Ok(observations)
}

/// What is seen of something that is kept in a cluster, if it lives there and is there.
fn seen_in_cluster(kind: &str, name: &str, known: &etcd::Known, written: Written) -> Option<Seen> {
    match kind {
        ADDON => Some(addon::seen(name, written)),
        ETCD_MEMBER => etcd::seen_of(name, known, written),
        _ => None,
    }
}

/// Looks at what lives in a cluster.
async fn observe_in_cluster(call: &Call, cluster: &str, targets: &[Target]) -> Result<Vec<Observation>, CallError> {
    let what = format!("look at what is kept in the cluster `{cluster}`");
    let kept = control_plane::all_kept(call, cluster, &what).await?;
    let wants_members = targets.iter().any(|target| target.address.kind() == ETCD_MEMBER);
    let known = if wants_members { etcd::known(call, cluster, &what).await? } else { etcd::Known::default() };
    let mut observations = Vec::with_capacity(targets.len());
    for target in targets {
        let (kind, name) = (target.address.kind(), &target.identity.name);
        if !matches!(kind, ADDON | ETCD_MEMBER) {
            observations.push(of_unknown_kind(call, target));
            continue;
        }
        let seen = match control_plane::kept_of(&kept, (kind, name)) {
            Some(written) => seen_in_cluster(kind, name, &known, written),
            None if kind == ADDON && made_by_kind::is_imported(&target.identity) => {
                made_by_kind::addon(call, cluster, target).await?
            }
            None => None,
        };
        observations.push(seen.map_or(Observation::Absent, |seen| Observation::Present(Box::new(seen))));
    }
    Ok(observations)
}

fn owned(kind: &str, identity: Identity, seen: Seen, ownership: Ownership) -> Owned {
    Owned { kind: kind.to_owned(), identity, seen, ownership }
}

/// What in a machine carries a mark.
async fn owned_in_machine(call: &Call, machine: &str) -> Result<Vec<Owned>, CallError> {
    let found = [
        (BOOTSTRAP, bootstrap::observe(call, machine).await?),
        (IMAGE_IMPORT, image_import::observe(call, machine).await?),
    ];
    let owned_of = |(kind, observation)| match observation {
        Observation::Present(seen) => Some(owned(kind, Identity::named(machine), *seen, Ownership::Owned)),
        _ => None,
    };
    Ok(found.into_iter().filter_map(owned_of).collect())
}

/// What in a cluster carries a mark, apart from objects.
async fn owned_in_cluster(call: &Call, cluster: &str) -> Result<Vec<Owned>, CallError> {
    let what = format!("list what is kept in the cluster `{cluster}`");
    let kept = control_plane::all_kept(call, cluster, &what).await?;
    let known = etcd::known(call, cluster, &what).await?;
    let one = |(kind, name, written): control_plane::Kept| {
        let seen = seen_in_cluster(&kind, &name, &known, written)?;
        Some(owned(&kind, Identity::named(name), seen, Ownership::Owned))
    };
    Ok(kept.into_iter().filter_map(one).collect())
}

/// What a change would give, of kinds that need not ask the engine.
fn preview_of(request: &PreviewRequest) -> Preview {
    match request.target.address.kind() {
        "network" => subnets::preview_of_family(request),
        BOOTSTRAP => bootstrap::preview(request),
        MACHINE => made_by_kind::preview_of_machine(request, &machine::OF_CONTAINER),
        _ => Preview::Unavailable,
    }
}

/// The same, where networks shall have subnets of their own.
async fn subnets_and_others(call: &Call, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
    let networks = subnets::preview(call, requests).await?;
    let both = requests.iter().zip(networks);
    Ok(both.map(|(request, network)| if subnets::asks(request) { network } else { preview_of(request) }).collect())
}

async fn owned_container(call: &Call, kind: String, id: String) -> Result<Option<(String, Identity, Seen)>, CallError> {
    let Some(observed) = container::inspect(call, &id).await? else { return Ok(None) };
    let seen = match kind.as_str() {
        MACHINE => machine::seen(call, &observed, None).await?,
        _ => container::seen(call, &kind, &observed, None).await?,
    };
    Ok(Some((kind, Identity::named(observed.name()), seen)))
}

#[async_trait]
impl Provider for DockerProvider {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        let call = self.call(context).await?;
        let reply = |observations| ObserveReply { scope: call.session.scope.clone(), observations };
        match &self.inside {
            Inside::Machine(machine) => return Ok(reply(observe_in_machine(&call, machine, targets).await?)),
            Inside::Cluster(cluster) => return Ok(reply(observe_in_cluster(&call, cluster, targets).await?)),
            Inside::Engine => {}
        }
        let lists = lists(&call, |kinds| targets.iter().any(|target| kinds.contains(&target.address.kind()))).await?;
        let inspected = inspections(&call, &lists, targets).await?;
        // The futures are made first: a closure over borrowed targets is not general enough for an async trait.
        let mut looks = Vec::with_capacity(targets.len());
        for target in targets {
            looks.push(observe_one(&call, &lists, &inspected, target));
        }
        Ok(reply(futures::stream::iter(looks).buffered(INSPECTIONS).try_collect().await?))
    }

    async fn preview(&self, context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        if matches!(self.inside, Inside::Engine) && requests.iter().any(subnets::asks) {
            return subnets_and_others(&self.call(context).await?, requests).await;
        }
        Ok(requests.iter().map(preview_of).collect())
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        let mut call = self.call(context).await?;
        call.hide(request.secrets.values().map(ksail_provider::SecretText::expose));
        let target = &request.target;
        let spec = spec_of(&call, target)?;
        let seen = match target.address.kind() {
            "network" => network::create(&call, request, spec).await?,
            "volume" => volume::create(&call, request, spec).await?,
            "image" => image::ensure(&mut call, target, spec, &request.mark, false, &self.files()).await?,
            MACHINE => machine::create(&call, request, spec).await?,
            CLUSTER => cluster::create(&call, request, spec).await?,
            kind @ BOOTSTRAP => bootstrap::create(&call, self.machine(&call, kind)?, request, spec).await?,
            kind @ IMAGE_IMPORT => {
                image_import::create(&call, self.machine(&call, kind)?, request, spec, &self.files()).await?
            }
            kind @ ADDON => addon::create(&call, self.cluster(&call, kind)?, request, spec).await?,
            kind @ ETCD_MEMBER => etcd::create(&call, self.cluster(&call, kind)?, request, spec).await?,
            kind if CONTAINERS.contains(&kind) => container::create(&call, request, spec).await?,
            _ => return Err(unknown_kind(&call, target)),
        };
        Ok(applied(&call, seen))
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        let mut call = self.call(context).await?;
        call.hide(request.secrets.values().map(ksail_provider::SecretText::expose));
        let target = &request.target;
        let spec = spec_of(&call, target)?;
        let seen = match target.address.kind() {
            MACHINE => machine::update(&call, request, spec).await?,
            CLUSTER => cluster::update(&call, request, spec).await?,
            kind @ BOOTSTRAP => bootstrap::update(&call, self.machine(&call, kind)?, request, spec).await?,
            kind @ IMAGE_IMPORT => {
                image_import::update(&call, self.machine(&call, kind)?, request, spec, &self.files()).await?
            }
            kind @ ADDON => addon::update(&call, self.cluster(&call, kind)?, request, spec).await?,
            kind if CONTAINERS.contains(&kind) => container::update(&call, request, spec).await?,
            "image" => image::ensure(&mut call, target, spec, &request.mark, true, &self.files()).await?,
            kind @ ETCD_MEMBER => etcd::update(&call, self.cluster(&call, kind)?, request, spec).await?,
            kind @ ("network" | "volume") => {
                let what = format!("change {kind} `{}`", target.identity.name);
                return Err(call.refused(&what, "nothing of it can be changed in place"));
            }
            _ => return Err(unknown_kind(&call, target)),
        };
        Ok(applied(&call, seen))
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        let call = self.call(context).await?;
        match request.target.address.kind() {
            "network" => network::delete(&call, request).await,
            "volume" => volume::delete(&call, request).await,
            "image" => image::release(&call, request).await,
            MACHINE => machine::delete(&call, request).await,
            CLUSTER => cluster::delete(&call, request).await,
            kind @ BOOTSTRAP => bootstrap::delete(&call, self.machine(&call, kind)?, request).await,
            kind @ IMAGE_IMPORT => image_import::release(&call, self.machine(&call, kind)?, request).await,
            kind @ ADDON => addon::delete(&call, self.cluster(&call, kind)?, request).await,
            kind @ ETCD_MEMBER => etcd::delete(&call, self.cluster(&call, kind)?, request).await,
            kind if CONTAINERS.contains(&kind) => container::delete(&call, request).await,
            _ => Err(unknown_kind(&call, &request.target)),
        }
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        let call = self.call(context).await?;
        if CONTAINERS.contains(&request.target.address.kind()) {
            let seen = wait::wait(&call, request).await?;
            return Ok(applied(&call, seen));
        }
        if request.target.address.kind() == MACHINE {
            return Ok(applied(&call, machine::wait(&call, &request.target).await?));
        }
        if request.target.address.kind() == BOOTSTRAP {
            let machine = self.machine(&call, BOOTSTRAP)?;
            return Ok(applied(&call, bootstrap::wait(&call, machine, &request.target).await?));
        }
        if request.target.address.kind() == IMAGE_IMPORT {
            let machine = self.machine(&call, IMAGE_IMPORT)?;
            return Ok(applied(&call, image_import::wait(&call, machine, &request.target).await?));
        }
        if matches!(request.target.address.kind(), CLUSTER | ETCD_MEMBER) {
            return Ok(applied(&call, self.wait_for_control_plane(&call, request).await?));
        }
        // All other kinds are ready as soon as they are there.
        if let Inside::Cluster(cluster) = &self.inside {
            let observed = observe_in_cluster(&call, cluster, std::slice::from_ref(&request.target)).await?;
            return match observed.into_iter().next() {
                Some(Observation::Present(seen)) => Ok(applied(&call, *seen)),
                _ => Err(call.refused(&format!("wait for {}", request.target.address), "it is not there")),
            };
        }
        let lists = lists(&call, |kinds| kinds.contains(&request.target.address.kind())).await?;
        match observe_one(&call, &lists, &BTreeMap::new(), &request.target).await? {
            Observation::Present(seen) => Ok(applied(&call, *seen)),
            _ => Err(call.refused(&format!("wait for {}", request.target.address), "it is not there")),
        }
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        let call = self.call(context).await?;
        match &self.inside {
            Inside::Machine(machine) => return owned_in_machine(&call, machine).await,
            Inside::Cluster(cluster) => return owned_in_cluster(&call, cluster).await,
            Inside::Engine => {}
        }
        let lists = lists(&call, |_| true).await?;
        let mut all = Vec::new();
        for network in lists.networks.iter().filter(|network| network::mark(network).is_some()) {
            let name = network.name.clone().unwrap_or_default();
            all.push(owned("network", Identity::named(name), network::seen(network, None), Ownership::Owned));
        }
        for volume in lists.volumes.iter().filter(|volume| volume::mark(volume).is_some()) {
            let identity = Identity::named(volume.name.clone());
            all.push(owned("volume", identity, volume::seen(volume), Ownership::Owned));
        }
        for (identity, seen) in image::owned(&lists.images) {
            all.push(owned("image", identity, seen, Ownership::Shared));
        }
        for (name, seen) in cluster::list(&call, &lists.containers).await? {
            all.push(owned(CLUSTER, Identity::named(name), seen, Ownership::Owned));
        }
        let mut looks = Vec::new();
        for container in &lists.containers {
            let found = container.labels.as_ref().filter(|labels| labels.contains_key(labels::LINEAGE));
            let kind = found.and_then(|labels| labels.get(labels::KIND));
            if let (Some(kind), Some(id)) =
                (kind.filter(|kind| kind.as_str() == MACHINE || CONTAINERS.contains(&kind.as_str())), &container.id)
            {
                looks.push(owned_container(&call, kind.clone(), id.clone()));
            }
        }
        let inspected: Vec<_> = futures::stream::iter(looks).buffered(INSPECTIONS).try_collect().await?;
        let inspected = inspected.into_iter().flatten().filter(|(_, _, seen)| seen.mark.is_some());
        all.extend(inspected.map(|(kind, identity, seen)| owned(&kind, identity, seen, Ownership::Owned)));
        Ok(all)
    }

    async fn ports_in_use(&self, context: &CallContext, ports: &[u16]) -> Result<Vec<PortInUse>, CallError> {
        let call = self.call(context).await?;
        ports::in_use(&call, ports).await
    }
}
