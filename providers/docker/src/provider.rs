//! The provider: the calls of the contract, each handed to its kind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

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
use crate::image::Files;
use crate::labels;
use crate::observed::Observed;
use crate::ports::{self, INSPECTIONS};
use crate::session::Session;
use crate::{addon, bootstrap, cluster, container, image, machine, network, volume, wait};

/// The kinds that are containers outside.
const CONTAINERS: [&str; 3] = ["container", "registry", "mirror"];
/// The kind that is a container on a volume.
const MACHINE: &str = "machine";
/// The kinds that live in a machine.
const BOOTSTRAP: &str = "bootstrap";
const ADDON: &str = "addon";
const CLUSTER: &str = "cluster";

/// Networks, volumes, images, containers, registries, mirrors and machines on one engine, or what lives in one of its machines.
///
/// It connects at its first call and keeps what it found: the place, the engine's id (the scope) and whether its ports are
/// on this machine. After a crash nothing of it is left to clean up.
pub struct DockerProvider {
    endpoint: Endpoint,
    project: PathBuf,
    machine: Option<String>,
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
        Self { endpoint, project: PathBuf::new(), machine: None, session: Mutex::new(None) }
    }

    /// This provider, with the folder that paths of archives are relative to.
    #[must_use]
    pub fn project(mut self, folder: impl Into<PathBuf>) -> Self {
        self.project = folder.into();
        self
    }

    /// This provider, for what lives in a machine of the engine: what makes it a node, and the cluster that it holds.
    #[must_use]
    pub fn in_machine(mut self, name: impl Into<String>) -> Self {
        self.machine = Some(name.into());
        self
    }

    /// The kubeconfig with which the administrator of a machine's cluster reaches it: at an endpoint on the engine's machine, or at the
    /// server that it names itself. It is a secret.
    ///
    /// # Errors
    /// The machine is not there, or was never bootstrapped.
    pub async fn kubeconfig(&self, context: &CallContext, endpoint: Option<&str>) -> Result<Arc<str>, CallError> {
        let call = self.call(context).await?;
        cluster::kubeconfig(&call, self.inside(&call, CLUSTER)?, endpoint).await
    }

    /// The machine that this is about.
    fn inside(&self, call: &Call, kind: &str) -> Result<&str, CallError> {
        self.machine.as_deref().ok_or_else(|| call.refused(kind, "it lives in a machine, and none is named"))
    }

    /// Looks at what lives in the machine.
    async fn observe_inside(&self, call: &Call, targets: &[Target]) -> Result<ObserveReply, CallError> {
        let mut looks = Vec::with_capacity(targets.len());
        for target in targets {
            looks.push(observe_inside(call, self.inside(call, target.address.kind())?, target));
        }
        let observations = futures::stream::iter(looks).buffered(INSPECTIONS).try_collect().await?;
        Ok(ObserveReply { scope: call.session.scope.clone(), observations })
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

    async fn wait_inside(&self, call: &Call, machine: &str, target: &Target) -> Result<Applied, CallError> {
        if target.address.kind() == BOOTSTRAP {
            return Ok(applied(call, bootstrap::wait(call, machine, target).await?));
        }
        match observe_inside(call, machine, target).await? {
            Observation::Present(seen) => Ok(applied(call, *seen)),
            _ => Err(call.refused(&format!("wait for {}", target.address), "it is not there")),
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
    let volumes = async { if wants(&["volume", MACHINE]) { volume::list(call).await } else { Ok(Vec::new()) } };
    let containers =
        async { if wants(&CONTAINERS) || wants(&[MACHINE]) { container::list(call).await } else { Ok(Vec::new()) } };
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
        "network" => network::find(&lists.networks, identity, lineage).map(network::seen),
        "volume" => lists.volumes.iter().find(|volume| volume.name == identity.name).map(volume::seen),
        "image" => image::seen(&lists.images, target, lineage),
        MACHINE => return machine::observe(call, &lists.containers, &lists.volumes, target).await,
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

async fn observe_inside(call: &Call, machine: &str, target: &Target) -> Result<Observation, CallError> {
    match target.address.kind() {
        BOOTSTRAP => bootstrap::observe(call, machine).await,
        ADDON => addon::observe(call, machine, target).await,
        CLUSTER => cluster::observe(call, machine).await,
        _ => {
            let message = unknown_kind(call, target).message;
            Ok(Observation::Unknown(UnknownReason::Denied { message }))
        }
    }
}

/// What in a machine carries a mark.
async fn owned_inside(call: &Call, machine: &str) -> Result<Vec<Owned>, CallError> {
    let (bootstrap, cluster) = futures::try_join!(bootstrap::observe(call, machine), cluster::observe(call, machine))?;
    let addons = addon::list(call, machine).await?;
    let seen = |observation: Observation| match observation {
        Observation::Present(seen) => Some(*seen),
        _ => None,
    };
    let bootstrap = seen(bootstrap).map(|seen| (BOOTSTRAP, machine.to_owned(), seen));
    // The cluster's name is that of its address.
    let cluster = seen(cluster).map(|seen| {
        let name = seen.mark.as_ref().map(|mark| mark.address.cluster().to_owned()).unwrap_or_default();
        (CLUSTER, name, seen)
    });
    let addons = addons.into_iter().map(|(name, seen)| (ADDON, name, seen));
    Ok(bootstrap
        .into_iter()
        .chain(cluster)
        .chain(addons)
        .map(|(kind, name, seen)| Owned {
            kind: kind.to_owned(),
            identity: Identity::named(name),
            seen,
            ownership: Ownership::Owned,
        })
        .collect())
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
        if self.machine.is_some() {
            return self.observe_inside(&call, targets).await;
        }
        let lists = lists(&call, |kinds| targets.iter().any(|target| kinds.contains(&target.address.kind()))).await?;
        let inspected = inspections(&call, &lists, targets).await?;
        // The futures are made first: a closure over borrowed targets is not general enough for an async trait.
        let mut looks = Vec::with_capacity(targets.len());
        for target in targets {
            looks.push(observe_one(&call, &lists, &inspected, target));
        }
        let observations = futures::stream::iter(looks).buffered(INSPECTIONS).try_collect().await?;
        Ok(ObserveReply { scope: call.session.scope.clone(), observations })
    }

    async fn preview(&self, _context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        let preview = |request: &PreviewRequest| match request.target.address.kind() {
            MACHINE => machine::preview(request),
            BOOTSTRAP => bootstrap::preview(request),
            CLUSTER => cluster::preview(request),
            _ => Preview::Unavailable,
        };
        Ok(requests.iter().map(preview).collect())
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
            kind @ BOOTSTRAP => bootstrap::create(&call, self.inside(&call, kind)?, request, spec).await?,
            kind @ ADDON => addon::create(&call, self.inside(&call, kind)?, request, spec).await?,
            kind @ CLUSTER => cluster::create(&call, self.inside(&call, kind)?, request, spec).await?,
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
            kind @ BOOTSTRAP => bootstrap::update(&call, self.inside(&call, kind)?, request, spec).await?,
            kind @ ADDON => addon::update(&call, self.inside(&call, kind)?, request, spec).await?,
            kind @ CLUSTER => cluster::update(&call, self.inside(&call, kind)?, request, spec).await?,
            kind if CONTAINERS.contains(&kind) => container::update(&call, request, spec).await?,
            "image" => image::ensure(&mut call, target, spec, &request.mark, true, &self.files()).await?,
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
            kind @ BOOTSTRAP => bootstrap::delete(&call, self.inside(&call, kind)?, request).await,
            kind @ ADDON => addon::delete(&call, self.inside(&call, kind)?, request).await,
            kind @ CLUSTER => cluster::delete(&call, self.inside(&call, kind)?, request).await,
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
        if let Some(name) = &self.machine {
            return self.wait_inside(&call, name, &request.target).await;
        }
        // All other kinds are ready as soon as they are there.
        let lists = lists(&call, |kinds| kinds.contains(&request.target.address.kind())).await?;
        match observe_one(&call, &lists, &BTreeMap::new(), &request.target).await? {
            Observation::Present(seen) => Ok(applied(&call, *seen)),
            _ => Err(call.refused(&format!("wait for {}", request.target.address), "it is not there")),
        }
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        let call = self.call(context).await?;
        if let Some(machine) = &self.machine {
            return owned_inside(&call, machine).await;
        }
        let lists = lists(&call, |_| true).await?;
        let owned = |kind: &str, identity: Identity, seen: Seen, ownership| Owned {
            kind: kind.to_owned(),
            identity,
            seen,
            ownership,
        };
        let mut all = Vec::new();
        for network in lists.networks.iter().filter(|network| network::mark(network).is_some()) {
            let name = network.name.clone().unwrap_or_default();
            all.push(owned("network", Identity::named(name), network::seen(network), Ownership::Owned));
        }
        for volume in lists.volumes.iter().filter(|volume| volume::mark(volume).is_some()) {
            let identity = Identity::named(volume.name.clone());
            all.push(owned("volume", identity, volume::seen(volume), Ownership::Owned));
        }
        for (identity, seen) in image::owned(&lists.images) {
            all.push(owned("image", identity, seen, Ownership::Shared));
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
