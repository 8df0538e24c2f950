//! Planning: compile, read, choose, look, preview, plan. It takes no lock and writes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ksail_compiler::format::Provider as Built;
use ksail_execute::Looker;
use ksail_kinds::{BuiltinKinds, ClusterSpec, Spec as _};
use ksail_model::{Declaration, DeclaredGraph, Diagnostic, Import, Origin, Preview, RecordKey, Schemas as _, Selector};
use ksail_plan::{
    Action, Inputs, Mode, Observed, Options, Plan, PlanHeader, PlanNode, joined, look_list, plan as make_plan,
};
use ksail_provider::{
    CallContext, Connector, Forecast, ForecastRequest, HostSession, PreviewRequest, Provider, Target,
};
use ksail_provider_kubernetes::preview_in_new;
use ksail_records::Snapshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::bundle::keep_imports;
use crate::choices::{Choices, choose, choose_anew, refuse_collisions, take_over};
use crate::commit::commit_of;
use crate::connector::kubernetes;
use crate::doctor::unfit;
use crate::error::Error;
use crate::kind_cluster;
use crate::late::wait_for_unwanted;
use crate::names::follow_imports;
use crate::platform::{Platform, Stack};
use crate::power::stopped;
use crate::settings::{VERSION, new_id, now_ms};
use crate::versions::refuse_versions;

/// Whether the outside is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refresh {
    /// It is.
    #[default]
    Yes,
    /// It is not: the state is believed (`--refresh=false`).
    No,
    /// It is, and nothing else is planned than to take what was seen into the state (`--refresh-only`).
    Only,
}

/// What a plan shall be about.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// Whether all is destroyed.
    pub destroy: bool,
    /// Whether the outside is looked at.
    pub refresh: Refresh,
    /// Only these and what they need.
    pub targets: Vec<Selector>,
    /// All but these and what needs them.
    pub excludes: Vec<Selector>,
    /// Make these anew.
    pub replace: Vec<Selector>,
    /// Things that exist and become ours, beside those in the file.
    pub imports: Vec<Import>,
    /// How long one batch of observations may take.
    pub timeout: Option<Duration>,
    /// Cancels the plan.
    pub cancel: CancellationToken,
}

/// A plan, and what was noticed on the way.
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
    /// Whether something of an earlier apply is kept on this machine and not yet stored: see [`Platform::store_rescued`].
    pub unstored: bool,
}

/// How long one batch of observations may take, where nothing else is asked for.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(30);

impl Platform {
    /// Makes a plan.
    pub async fn plan(&self, options: &PlanOptions) -> Result<Planned, Error> {
        let _ahead = self.connect_ahead(options);
        let stack = if options.destroy { self.stack_to_destroy()? } else { self.stack()? };
        self.plan_stack(stack, options, None).await
    }

    /// Begins to connect to the cluster that the file names, while all else is read and compiled. It ends with what comes back.
    fn connect_ahead(&self, options: &PlanOptions) -> Option<AbortOnDropHandle<()>> {
        let is_looked_at = options.refresh != Refresh::No && self.loaded.config.provider() == Built::Kubernetes;
        // A file that is wrong is told of without anybody being asked.
        if !is_looked_at || self.loaded.diagnostics.iter().any(Diagnostic::is_error) {
            return None;
        }
        let connection = &self.loaded.config.spec.cluster.connection;
        let (kubeconfig, named) = (connection.kubeconfig.as_deref(), connection.context.as_deref());
        let provider = kubernetes(&self.settings, kubeconfig, named).sharing(&self.clusters);
        let context = context("", options);
        Some(AbortOnDropHandle::new(tokio::spawn(async move { provider.connect_ahead(&context).await })))
    }

    /// A destroy needs the state only: a file whose declarations no longer compile does not stand in its way.
    fn stack_to_destroy(&self) -> Result<Stack, Error> {
        let broken = self.validate();
        if broken.iter().any(Diagnostic::is_error) {
            return Err(Error::Diagnostics(broken));
        }
        let name = self.stack_name();
        let place = self.place(&name)?;
        Ok(Stack {
            graph: DeclaredGraph::default(),
            cluster: self.loaded.config.name().to_owned(),
            name,
            environment: self.settings.environment.clone(),
            warnings: Vec::new(),
            place,
        })
    }

    /// Makes a plan of a stack. `mode` is given where the plan is not simply that of the declarations.
    pub(crate) async fn plan_stack(
        &self,
        mut stack: Stack,
        options: &PlanOptions,
        mode: Option<(Mode, Option<Snapshot>)>,
    ) -> Result<Planned, Error> {
        // Asked before the state is read: an operation that ends in between has left nothing open in what is read.
        let at_work = stack.place.backend.lock_owner().await.ok().flatten().map(|owner| match owner.pid {
            0 => "another process works on this state".to_owned(),
            pid => format!("{} of {} is under way (pid {pid})", owner.doing, owner.who),
        });
        let stored = stack.place.read(&stack.name, stack.environment.as_deref()).await?;
        let mut warnings = std::mem::take(&mut stack.warnings);
        warnings.extend(stored.warnings.iter().map(|text| Diagnostic::warning(crate::codes::DAMAGED, text.clone())));
        let is_of_file = mode.is_none() && !options.destroy;
        let (mode, replaced) = match mode {
            Some((mode, snapshot)) => (mode, snapshot),
            None if options.destroy => (Mode::Destroy, None),
            None if options.refresh == Refresh::Only => (Mode::RefreshOnly, None),
            None => (Mode::Apply, None),
        };
        // A state that a recovery is to take the place of does not count.
        let begins =
            |state: &ksail_records::State| replaced.as_ref().is_some_and(|new| new.lineage != state.snapshot().lineage);
        let new_state = stored.state.as_ref().is_none_or(begins);
        let mut snapshot = replaced
            .or_else(|| stored.state.map(ksail_records::State::into_snapshot))
            .unwrap_or_else(|| Snapshot::empty(new_id(), &stack.name, stack.environment.clone()));
        if new_state {
            // The history of a lost state may be there still: what comes now is newer, and is to be told apart from it.
            let newest = stack.place.backend.history(1).await.unwrap_or_default();
            snapshot.serial = newest.first().map_or(0, |operation| operation.serial);
        }
        if is_of_file && self.settings.bundle.is_none() {
            keep_imports(&mut stack.graph, &snapshot);
        }
        stack.graph.imports.extend(options.imports.iter().cloned());
        if is_of_file {
            kind_cluster::adopt(&mut stack.graph, &snapshot, &stack.cluster, &self.settings).await?;
        }
        let mut choices = Choices::default();
        let changes_something = mode != Mode::RefreshOnly;
        if changes_something {
            // What is only taken into the state is there, with its ports: one may tell that of another, as a cluster that of its machine.
            let are_held = mode == Mode::Recover;
            choices = choose(&mut stack.graph, &snapshot, &stack.place.connector, are_held).await?;
            refuse_versions(&stack.graph, &snapshot, &options.replace)?;
            stack.place.secrets.fetch(stack.place.backend.as_ref(), &stack.graph).await?;
            stack.place.secrets.fingerprint_graph(&mut stack.graph)?;
        }
        let header = PlanHeader {
            lineage: snapshot.lineage.clone(),
            new_state,
            stack: stack.name.clone(),
            environment: stack.environment.clone(),
            serial: snapshot.serial,
            mode,
            version: VERSION.to_owned(),
            commit: commit_of(&self.settings.project),
            source: self.files.base.display().to_string(),
            made_ms: now_ms(),
            at_work,
        };
        let mut observations = observe(&stack.graph, &snapshot, &stack.place.connector, options).await;
        if changes_something {
            wait_for_unwanted(&stack.graph, &snapshot, &stack.place.connector, options, &mut observations).await;
        }
        kind_cluster::leave_out_absent(&mut stack.graph, &observations);
        take_over(&mut stack.graph, &observations);
        if changes_something {
            choose_anew(&mut stack.graph, &snapshot, &observations, &stack.place.connector, &mut choices).await?;
        }
        follow_imports(&mut stack.graph, &snapshot, &observations, &options.replace);
        let plan_options = Options {
            targets: options.targets.clone(),
            excludes: options.excludes.clone(),
            replace: options.replace.clone(),
        };
        let no_previews = BTreeMap::new();
        let mut inputs = Inputs {
            declared: &stack.graph,
            snapshot: &snapshot,
            observations: &observations,
            previews: &no_previews,
            schemas: &BuiltinKinds,
            options: &plan_options,
            header,
        };
        let mut plan = make_plan(&inputs)?;
        let previews = preview(&plan, &observations, &stack.place.connector, options).await;
        if previews.values().any(|preview| *preview != Preview::Unavailable) {
            inputs.previews = &previews;
            plan = make_plan(&inputs)?;
        }
        kind_cluster::refuse_new_containers(&plan)?;
        let forecasts = forecasts(&plan, &observations, &stack.place.connector, options).await;
        if !forecasts.is_empty() {
            plan.add_forecasts(forecasts);
        }
        let (counts, steps) = (plan.counts(), plan.steps.len());
        tracing::debug!(digest = %plan.digest.short(), serial = plan.header.serial, steps, ?counts, "planned");
        refuse_collisions(&plan, choices.collisions)?;
        let (errors, more): (Vec<_>, Vec<_>) =
            unfit(&plan, &self.settings).await.into_iter().partition(Diagnostic::is_error);
        if !errors.is_empty() {
            return Err(Error::Diagnostics(errors));
        }
        warnings.extend(more);
        let notes: Vec<String> = simulated(&plan)
            .into_iter()
            .chain(stopped(&snapshot, &observations))
            .chain(untried(&plan, &previews))
            .chain(choices.notes)
            .collect();
        // The digest of all of it is made anew for them.
        if !notes.is_empty() {
            plan.add_notes(notes);
        }
        let unstored = stack.place.backend.has_rescued().await.unwrap_or(false);
        Ok(Planned { plan, warnings, unstored })
    }
}

fn context(lineage: &str, options: &PlanOptions) -> CallContext {
    CallContext {
        lineage: lineage.to_owned(),
        operation: None,
        timeout: options.timeout.unwrap_or(OBSERVE_TIMEOUT),
        cancel: options.cancel.clone(),
    }
}

/// Looks at all that is recorded or declared.
pub(crate) async fn observe(
    graph: &DeclaredGraph,
    snapshot: &Snapshot,
    connector: &Arc<dyn Connector>,
    options: &PlanOptions,
) -> BTreeMap<RecordKey, Observed> {
    if options.refresh == Refresh::No {
        return BTreeMap::new();
    }
    let mut providers = snapshot.providers.clone();
    providers.extend(graph.providers.clone());
    let looker = Looker::new(Arc::clone(connector), providers, context(&snapshot.lineage, options));
    looker.look(&look_list(graph, snapshot), &|_| None).await
}

/// A provider's name, and the host if the graph has one.
type Session = (String, Option<RecordKey>);

/// Asks the outside what the changes of a plan would give. What cannot be asked is left out.
async fn preview(
    plan: &Plan,
    observations: &BTreeMap<RecordKey, Observed>,
    connector: &Arc<dyn Connector>,
    options: &PlanOptions,
) -> BTreeMap<RecordKey, Preview> {
    let mut batches: BTreeMap<Session, Vec<(RecordKey, PreviewRequest)>> = BTreeMap::new();
    let mut previews = BTreeMap::new();
    for node in plan.nodes.values() {
        let Some(declaration) = &node.declaration else { continue };
        if !matches!(node.action, Action::Create | Action::Update | Action::Replace { .. }) {
            continue;
        }
        let seen = observations.get(&node.key).and_then(|observed| observed.observation.seen());
        let target = Target {
            address: node.key.address.clone(),
            kind_version: declaration.kind_version,
            identity: declaration.identity.clone(),
            id: seen.and_then(|seen| seen.id.clone()),
            spec: Some(declaration.spec.clone()),
            ownership: declaration.ownership,
        };
        let comes_after = declaration.edges.iter().filter(|edge| edge.is_need()).filter_map(|edge| {
            let needed = plan.nodes.get(&RecordKey::current(edge.to.clone()))?;
            Some(needed.declaration.as_ref()?.identity.clone())
        });
        let comes_after = comes_after.collect();
        let request = PreviewRequest { target, current: seen.map(|seen| seen.fields.clone()), comes_after };
        if is_in_new_cluster(plan, declaration) {
            previews.insert(node.key.clone(), preview_in_new(&request));
            continue;
        }
        if node.with_host {
            continue;
        }
        let session = (declaration.provider.clone(), declaration.host.clone().map(RecordKey::current));
        batches.entry(session).or_default().push((node.key.clone(), request));
    }
    let context = context(&plan.header.lineage, options);
    for (session, requests) in batches {
        let Some(session) = open(plan, observations, connector, &session).await else { continue };
        let (keys, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        if let Ok(replies) = session.preview(&context, &requests).await {
            previews.extend(keys.into_iter().zip(replies));
        }
    }
    previews
}

/// Whether an object is to be in a cluster that the plan makes, or makes anew, so that nothing is in it yet.
fn is_in_new_cluster(plan: &Plan, declaration: &Declaration) -> bool {
    let Some(host) = &declaration.host else { return false };
    let is_object = BuiltinKinds.schema(declaration.address.kind()).is_some_and(|schema| schema.normalises);
    let host = plan.nodes.get(&RecordKey::current(host.clone()));
    is_object && host.is_some_and(|host| matches!(host.action, Action::Create | Action::Replace { .. }))
}

/// Opens a session; `None` where it cannot be, or where its host does not serve and can tell nothing.
async fn open(
    plan: &Plan,
    observations: &BTreeMap<RecordKey, Observed>,
    connector: &Arc<dyn Connector>,
    (provider, host): &Session,
) -> Option<Arc<dyn Provider>> {
    let config = plan.providers.get(provider)?;
    let host = match host {
        None => None,
        Some(host) => {
            let seen = observations.get(host).and_then(|observed| observed.observation.seen())?;
            if !seen.readiness.is_ready() {
                return None;
            }
            let attributes = joined(&seen.fields, &seen.attributes);
            Some(HostSession { address: host.address.clone(), attributes })
        }
    };
    connector.connect(provider, config, host.as_ref()).await.ok()
}

/// What an action of a plan does beside, so that it is worth asking, and the declaration that it is about.
fn foretold(node: &PlanNode) -> Option<(Forecast, &Declaration)> {
    let record = node.record.as_ref()?;
    match node.action {
        Action::Delete | Action::Replace { .. } => Some((Forecast::Deletion, &record.declaration)),
        Action::Update => {
            let schema = BuiltinKinds.schema(node.key.address.kind())?;
            let disturbs = node.changes.iter().any(|change| schema.field(&change.path).in_turn);
            node.declaration.as_deref().filter(|_| disturbs).map(|declaration| (Forecast::Change, declaration))
        }
        _ => None,
    }
}

/// Asks the outside what else the deletions of a plan do, and the changes that are made in turn. What cannot be asked is left out.
async fn forecasts(
    plan: &Plan,
    observations: &BTreeMap<RecordKey, Observed>,
    connector: &Arc<dyn Connector>,
    options: &PlanOptions,
) -> Vec<(RecordKey, Vec<String>)> {
    let mut batches: BTreeMap<Session, Vec<(RecordKey, ForecastRequest)>> = BTreeMap::new();
    for node in plan.nodes.values().filter(|node| !node.with_host) {
        let Some((what, declaration)) = foretold(node) else { continue };
        let target = Target {
            address: node.key.address.clone(),
            kind_version: declaration.kind_version,
            identity: declaration.identity.clone(),
            id: node.record.as_ref().and_then(|record| record.id.clone()),
            spec: Some(declaration.spec.clone()),
            ownership: declaration.ownership,
        };
        let session = (declaration.provider.clone(), declaration.host.clone().map(RecordKey::current));
        batches.entry(session).or_default().push((node.key.clone(), ForecastRequest { target, what }));
    }
    let context = context(&plan.header.lineage, options);
    let mut told = Vec::new();
    for (session, requests) in batches {
        let Some(session) = open(plan, observations, connector, &session).await else { continue };
        let (keys, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        if let Ok(forecasts) = session.forecast(&context, &requests).await {
            told.extend(keys.into_iter().zip(forecasts).filter(|(_, forecast)| !forecast.is_empty()));
        }
    }
    told
}

/// Says that a cluster is none.
fn simulated(plan: &Plan) -> Option<String> {
    let is_embedded = |declaration: &Declaration| {
        declaration.address.kind() == ClusterSpec::KIND
            && plan.providers.get(&declaration.provider).is_some_and(|provider| provider.kind == "embedded")
    };
    let declared = plan.nodes.values().filter_map(|node| node.declaration.as_deref());
    let cluster = declared.into_iter().find(|declaration| is_embedded(declaration))?;
    let name = &cluster.identity.name;
    Some(format!(
        "SIMULATED: the cluster {name} is served by the embedded engine; objects live in it as in a real one, and no container runs"
    ))
}

/// Says which changes the outside could not be asked about, of kinds whose fields it writes its own way.
fn untried(plan: &Plan, previews: &BTreeMap<RecordKey, Preview>) -> Option<String> {
    let untried: Vec<String> = plan
        .nodes
        .values()
        .filter(|node| matches!(node.action, Action::Update | Action::Replace { .. }))
        .filter(|node| BuiltinKinds.schema(node.key.address.kind()).is_some_and(|schema| schema.normalises))
        .filter(|node| matches!(previews.get(&node.key), None | Some(Preview::Unavailable)))
        .map(|node| node.key.to_string())
        .collect();
    let first = untried.first()?;
    let more = match untried.len() - 1 {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!("what would become of {first}{more} could not be tried: it is shown as it is declared"))
}

/// An import that a command line asks for.
pub(crate) fn import(to: ksail_model::Address, id: &str) -> Import {
    Import { to, id: id.to_owned(), origin: Origin::Flag { flag: format!("import {id}").into() } }
}
