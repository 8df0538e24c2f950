//! What is chosen at planning: ports. A recorded choice stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ksail_execute::ApplyError;
use ksail_model::{
    Address, Choice, Declaration, DeclaredGraph, Diagnostic, Observation, Origin, Path, ProviderConfig, Readiness,
    RecordKey, UnknownReason, Value,
};
use ksail_plan::{Action, Observed, Plan, SeenAt};
use ksail_provider::{CallContext, Connector, HostSession, PortInUse, Provider};
use ksail_records::Snapshot;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, codes};

/// How long an engine may take to tell which of its ports are in use.
const PORTS_TIMEOUT: Duration = Duration::from_secs(10);
/// How many ports after the last preferred one are tried.
const FURTHER_PORTS: u16 = 200;
/// Where a port stands in a spec that is fixed by the declaration.
const PORT: &str = "port";

/// A port that a declaration fixes and that something holds.
pub(crate) struct Collision {
    address: Address,
    diagnostic: Diagnostic,
}

/// A port that was chosen before and stays, and how another one would be chosen.
struct Kept {
    address: Address,
    path: Path,
    preferred: Vec<u16>,
}

/// What came out of the choices.
#[derive(Default)]
pub(crate) struct Choices {
    /// Ports that declarations fix and that something holds. It may be the resource itself, so that only a plan tells whether this
    /// is an error.
    pub(crate) collisions: Vec<Collision>,
    /// What was chosen otherwise than before and why, as sentences without a full stop.
    pub(crate) notes: Vec<String>,
    kept: Vec<Kept>,
}

/// Fills in every choice, and refuses two resources that would share a port, unless all ports are held already.
pub(crate) async fn choose(
    graph: &mut DeclaredGraph,
    snapshot: &Snapshot,
    connector: &Arc<dyn Connector>,
    are_held: bool,
) -> Result<Choices, Error> {
    let choices = choose_ports(graph, snapshot, connector).await?;
    let shared = if are_held { Vec::new() } else { shared_ports(graph) };
    if shared.is_empty() { Ok(choices) } else { Err(Error::Diagnostics(shared)) }
}

async fn choose_ports(
    graph: &mut DeclaredGraph,
    snapshot: &Snapshot,
    connector: &Arc<dyn Connector>,
) -> Result<Choices, Error> {
    let mut taken = ports_declared(graph);
    let mut kept = Vec::new();
    let mut used: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    let mut todo: Vec<(Address, Path, Vec<u16>)> = Vec::new();
    let imported: BTreeSet<Address> = graph.imports.iter().map(|import| import.to.clone()).collect();
    for declaration in undecided(graph) {
        let has_record = snapshot.records.contains_key(&RecordKey::current(declaration.address.clone()));
        if imported.contains(&declaration.address) && !has_record {
            // It exists, with a port: `take_over` finds out which.
            continue;
        }
        for choice in std::mem::take(&mut declaration.choices) {
            let (path, preferred) = match choice {
                Choice::Port { path, preferred } => (path, preferred),
                Choice::Text { path, proposed, why } => {
                    choose_text(snapshot, declaration, &path, proposed, why);
                    continue;
                }
            };
            match recorded(snapshot, declaration, &path) {
                Some(port) => {
                    taken.insert(port);
                    set(declaration, &path, port, chosen_before());
                    kept.push(Kept { address: declaration.address.clone(), path, preferred });
                }
                None => {
                    todo.push((declaration.address.clone(), path, preferred));
                }
            }
        }
    }
    let fixed = new_fixed_ports(graph, snapshot, &todo);
    for (address, port) in &fixed {
        used.entry(asked(&graph.declarations[address])).or_default().push(*port);
    }
    for (address, _, preferred) in &todo {
        used.entry(asked(&graph.declarations[address])).or_default().extend(candidates(preferred));
    }
    let in_use = all_in_use(graph, snapshot, connector, used).await;
    let collisions = fixed.iter().filter_map(|(address, port)| collision(graph, address, *port, &in_use)).collect();
    for (address, path, preferred) in todo {
        let Some(declaration) = graph.declarations.get_mut(&address) else { continue };
        let port = first_free(&address, &preferred, &taken, in_use.get(&asked(declaration)))?;
        taken.insert(port);
        set(
            Arc::make_mut(declaration),
            &path,
            port,
            Origin::Chosen { why: "the first preferred port that is free".into() },
        );
    }
    Ok(Choices { collisions, notes: Vec::new(), kept })
}

/// Chooses anew what was chosen before for a resource that does not hold its port now, where something else does: otherwise the
/// apply would find that out. A port that the file fixes is a collision then.
pub(crate) async fn choose_anew(
    graph: &mut DeclaredGraph,
    snapshot: &Snapshot,
    observations: &BTreeMap<RecordKey, Observed>,
    connector: &Arc<dyn Connector>,
    choices: &mut Choices,
) -> Result<(), Error> {
    let path = Path::key(PORT);
    let idle: Vec<(Address, u16)> = graph
        .declarations
        .values()
        .filter(|declaration| snapshot.records.contains_key(&RecordKey::current(declaration.address.clone())))
        .filter(|declaration| is_idle(observations.get(&RecordKey::current(declaration.address.clone()))))
        .filter_map(|declaration| Some((declaration.address.clone(), port_at(&declaration.spec, &path)?)))
        // What was imported bears no mark by which its port could be told to be its own.
        .filter(|(address, port)| {
            let key = RecordKey::current(address.clone());
            let seen = observations.get(&key).and_then(|observed| observed.observation.seen());
            let has_it = seen.is_some_and(|seen| port_at(&seen.fields, &path) == Some(*port));
            !(has_it && snapshot.records.get(&key).is_some_and(|record| record.adopted))
        })
        .collect();
    if idle.is_empty() {
        return Ok(());
    }
    let kept = std::mem::take(&mut choices.kept);
    let kept: BTreeMap<&Address, &Kept> = kept.iter().map(|kept| (&kept.address, kept)).collect();
    let mut used: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    for (address, port) in &idle {
        let ports = used.entry(asked(&graph.declarations[address])).or_default();
        ports.push(*port);
        ports.extend(kept.get(address).into_iter().flat_map(|kept| candidates(&kept.preferred)));
    }
    let in_use = all_in_use(graph, snapshot, connector, used).await;
    let mut taken = ports_declared(graph);
    for (address, port) in idle {
        let busy = in_use.get(&asked(&graph.declarations[&address]));
        let Some(holder) = busy.and_then(|busy| busy.get(&port)) else { continue };
        if holder.lineage.as_deref() == Some(snapshot.lineage.as_str()) {
            continue;
        }
        let Some(kept) = kept.get(&address).filter(|kept| kept.path == path) else {
            choices.collisions.extend(collision(graph, &address, port, &in_use));
            continue;
        };
        let another = first_free(&address, &kept.preferred, &taken, busy)?;
        taken.insert(another);
        let why = format!("port {port}, which was chosen before, is held by {}", holder.holder);
        choices.notes.push(format!("{address} gets port {another}: {why}"));
        if let Some(declaration) = graph.declarations.get_mut(&address) {
            set(Arc::make_mut(declaration), &path, another, Origin::Chosen { why: why.into() });
        }
    }
    Ok(())
}

/// Whether what was seen does not tell that the resource serves. What is unknown is blocked anyway.
fn is_idle(observed: Option<&Observed>) -> bool {
    match observed.map(|observed| &observed.observation) {
        Some(Observation::Present(seen)) => seen.readiness != Readiness::Ready,
        Some(Observation::Absent | Observation::Unknown(UnknownReason::HostNotServing { .. })) => true,
        Some(Observation::Unknown(_)) | None => false,
    }
}

/// The ports that are tried, in order.
fn candidates(preferred: &[u16]) -> impl Iterator<Item = u16> {
    let last = preferred.last().copied().unwrap_or(1024);
    preferred.iter().copied().chain(last.saturating_add(1)..=last.saturating_add(FURTHER_PORTS))
}

fn first_free(
    address: &Address,
    preferred: &[u16],
    taken: &BTreeSet<u16>,
    busy: Option<&BTreeMap<u16, PortInUse>>,
) -> Result<u16, Error> {
    let is_free = |port: &u16| !taken.contains(port) && busy.is_none_or(|busy| !busy.contains_key(port));
    candidates(preferred).find(is_free).ok_or_else(|| {
        let last = preferred.last().copied().unwrap_or(1024);
        let message = format!("no port is free for {address}: {FURTHER_PORTS} were tried after {last}");
        Error::new(codes::PORT_IN_USE, message, "fix one in the file that is free")
    })
}

/// Ports that two resources of one outside would have.
fn shared_ports(graph: &DeclaredGraph) -> Vec<Diagnostic> {
    let path = Path::key(PORT);
    let mut first: BTreeMap<(String, u16), &Declaration> = BTreeMap::new();
    let mut shared = Vec::new();
    for declaration in graph.declarations.values() {
        let Some(port) = port_at(&declaration.spec, &path) else { continue };
        let Some(other) = first.insert((asked(declaration), port), declaration) else { continue };
        // The one that the file fixes can be changed there.
        let is_fixed = |declaration: &Declaration| {
            matches!(declaration.origins.of(&path), Some(Origin::File { .. } | Origin::Overlay { .. }))
        };
        let (fixed, other) = if is_fixed(other) { (other, &**declaration) } else { (&**declaration, other) };
        let message = format!("port {port} of {} is that of {} too", fixed.address, other.address);
        let diagnostic = Diagnostic::error(codes::PORT_IN_USE, message)
            .hint("choose another port in the file, or leave it out to have a free one chosen");
        shared.push(at_port(diagnostic, fixed));
    }
    shared
}

/// A message with the place in the file at which a port is fixed.
fn at_port(diagnostic: Diagnostic, declaration: &Declaration) -> Diagnostic {
    match declaration.origins.of(&Path::key(PORT)) {
        Some(Origin::File { file, span } | Origin::Overlay { file, span }) => {
            diagnostic.at(Arc::clone(file), *span, "fixed here")
        }
        _ => diagnostic,
    }
}

/// Refuses a plan that makes or starts something whose port is held already. What exists and is not ours holds its port itself.
pub(crate) fn refuse_collisions(plan: &Plan, collisions: Vec<Collision>) -> Result<(), Error> {
    let is_made = |address: &Address| {
        plan.nodes.get(&RecordKey::current(address.clone())).is_some_and(|node| match node.action {
            Action::Create | Action::Replace { .. } | Action::Update | Action::Wait => true,
            Action::NoOp => node.seen == SeenAt::Deferred,
            Action::Delete | Action::Forget | Action::Blocked { .. } => false,
        })
    };
    let errors: Vec<Diagnostic> = collisions
        .into_iter()
        .filter(|collision| is_made(&collision.address))
        .map(|collision| collision.diagnostic)
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Error::Diagnostics(errors)) }
}

/// Fills in the choices of what is imported, from what was seen of it.
pub(crate) fn take_over(graph: &mut DeclaredGraph, observations: &BTreeMap<RecordKey, Observed>) {
    for declaration in undecided(graph) {
        let key = RecordKey::current(declaration.address.clone());
        let seen = observations.get(&key).and_then(|observed| observed.observation.seen());
        for choice in std::mem::take(&mut declaration.choices) {
            match choice {
                Choice::Port { path, .. } => {
                    if let Some(port) = seen.and_then(|seen| port_at(&seen.fields, &path)) {
                        let why = "the port that the imported thing has".into();
                        set(declaration, &path, port, Origin::Chosen { why });
                    }
                }
                Choice::Text { path, proposed, .. } => {
                    let has = seen.and_then(|seen| seen.fields.get(&path)?.as_str().map(str::to_owned));
                    set(
                        declaration,
                        &path,
                        has.unwrap_or(proposed),
                        Origin::Chosen { why: "what the imported thing has".into() },
                    );
                }
            }
        }
    }
}

/// Makes a port that was chosen for a declaration of before one to choose again: the same if it is free, or else one after it.
pub(crate) fn choose_again(declaration: &mut Declaration) {
    let path = Path::key(PORT);
    let was_chosen = match declaration.origins.of(&path) {
        Some(Origin::Chosen { .. }) => true,
        origin => origin == Some(&chosen_before()),
    };
    if let Some(port) = port_at(&declaration.spec, &path).filter(|_| was_chosen) {
        declaration.spec.set(&path, Value::Null);
        declaration.choices.push(Choice::Port { path, preferred: vec![port] });
    }
}

/// The declarations with something to choose.
fn undecided(graph: &mut DeclaredGraph) -> impl Iterator<Item = &mut Declaration> {
    graph.declarations.values_mut().filter(|declaration| !declaration.choices.is_empty()).map(Arc::make_mut)
}

/// A text is what it was when it was planned first, whoever plans now, and wherever.
fn choose_text(snapshot: &Snapshot, declaration: &mut Declaration, path: &Path, proposed: String, why: String) {
    let record = snapshot.records.get(&RecordKey::current(declaration.address.clone()));
    match record.and_then(|record| record.declaration.spec.get(path)?.as_str().map(str::to_owned)) {
        Some(kept) => set(declaration, path, kept, chosen_before()),
        None => set(declaration, path, proposed, Origin::Chosen { why: why.into() }),
    }
}

fn set(declaration: &mut Declaration, path: &Path, chosen: impl Into<Value>, origin: Origin) {
    declaration.spec.set(path, chosen.into());
    declaration.origins.set(path.clone(), origin);
}

/// The origin of what is as it was chosen before.
fn chosen_before() -> Origin {
    Origin::State { what: "chosen when it was planned first".into() }
}

fn port_at(spec: &Value, path: &Path) -> Option<u16> {
    spec.get(path).and_then(Value::as_i64).and_then(|port| u16::try_from(port).ok())
}

/// The port that was chosen before, if the resource is still the same thing.
fn recorded(snapshot: &Snapshot, declaration: &Declaration, path: &Path) -> Option<u16> {
    let record = snapshot.records.get(&RecordKey::current(declaration.address.clone()))?;
    port_at(&record.declaration.spec, path)
}

/// Which provider is asked for ports: that of the host, where there is one, for it may not run yet.
fn asked(declaration: &Declaration) -> String {
    if declaration.host.is_some() { "embedded".to_owned() } else { declaration.provider.clone() }
}

/// The ports that declarations fix: their own, and those that a machine publishes beside it.
fn ports_declared(graph: &DeclaredGraph) -> BTreeSet<u16> {
    let published = |spec: &Value| {
        let ports = spec.field("ports").and_then(Value::as_list).into_iter().flatten();
        ports.filter_map(|port| port_at(port, &Path::key("host"))).collect::<Vec<_>>()
    };
    let all = |declaration: &Arc<Declaration>| {
        let own = port_at(&declaration.spec, &Path::key(PORT));
        own.into_iter().chain(published(&declaration.spec)).collect::<Vec<_>>()
    };
    graph.declarations.values().flat_map(all).collect()
}

/// Ports that are fixed by declarations and that the resource does not hold already.
fn new_fixed_ports(
    graph: &DeclaredGraph,
    snapshot: &Snapshot,
    chosen: &[(Address, Path, Vec<u16>)],
) -> Vec<(Address, u16)> {
    graph
        .declarations
        .values()
        .filter(|declaration| {
            // A port that the stack holds already is freed, or kept, by the plan itself.
            let path = Path::key(PORT);
            let wanted = port_at(&declaration.spec, &path);
            !snapshot.records.values().any(|record| port_at(&record.declaration.spec, &path) == wanted)
        })
        .filter(|declaration| !graph.imports.iter().any(|import| import.to == declaration.address))
        .filter(|declaration| !chosen.iter().any(|(address, _, _)| *address == declaration.address))
        .filter_map(|declaration| Some((declaration.address.clone(), port_at(&declaration.spec, &Path::key(PORT))?)))
        .collect()
}

/// A port that a declaration fixes, if something holds it.
fn collision(
    graph: &DeclaredGraph,
    address: &Address,
    port: u16,
    in_use: &BTreeMap<String, BTreeMap<u16, PortInUse>>,
) -> Option<Collision> {
    let declaration = &graph.declarations[address];
    let holder = &in_use.get(&asked(declaration))?.get(&port)?.holder;
    let diagnostic = Diagnostic::error(codes::PORT_IN_USE, format!("port {port} of {address} is in use: {holder}"))
        .hint("free it, choose another port in the file, or leave it out to have a free one chosen");
    Some(Collision { address: address.clone(), diagnostic: at_port(diagnostic, declaration) })
}

/// Refuses a plan whose ports somebody took since it was made: what bears them would be gone by the time that this came out.
/// A plan that goes on after a kill holds some of them itself.
pub(crate) async fn refuse_taken(
    plan: &Plan,
    snapshot: &Snapshot,
    connector: &Arc<dyn Connector>,
) -> Result<(), Error> {
    if snapshot.operation.as_ref().is_some_and(|operation| operation.plan_digest == plan.digest) {
        return Ok(());
    }
    let path = Path::key(PORT);
    let mut wanted: BTreeMap<String, Vec<(u16, &Declaration)>> = BTreeMap::new();
    for node in plan.nodes.values() {
        // What is imported holds its port already.
        let made =
            matches!(node.action, Action::Create | Action::Replace { .. } | Action::Update) && node.import.is_none();
        let Some(declaration) = node.declaration.as_ref().filter(|_| made) else { continue };
        let Some(port) = port_at(&declaration.spec, &path) else { continue };
        // What the stack holds is freed, or kept, by the plan itself.
        if !snapshot.records.values().any(|record| port_at(&record.declaration.spec, &path) == Some(port)) {
            wanted.entry(asked(declaration)).or_default().push((port, declaration));
        }
    }
    let mut taken = Vec::new();
    for (provider, wanted) in wanted {
        let ports: Vec<u16> = wanted.iter().map(|(port, _)| *port).collect();
        let held = ports_in_use(&plan.providers, snapshot, connector, &provider, &ports).await;
        for (port, declaration) in wanted {
            // A killed call may have left it half made.
            let is_foreign = |held: &&PortInUse| held.lineage.as_deref() != Some(plan.header.lineage.as_str());
            if let Some(held) = held.get(&port).filter(is_foreign) {
                taken.push(format!("port {port} of {} was taken meanwhile: {}", declaration.address, held.holder));
            }
        }
    }
    if taken.is_empty() { Ok(()) } else { Err(Error::Apply(ApplyError::Stale(taken))) }
}

/// Which ports are in use, by the provider that is asked.
async fn all_in_use(
    graph: &DeclaredGraph,
    snapshot: &Snapshot,
    connector: &Arc<dyn Connector>,
    asked: BTreeMap<String, Vec<u16>>,
) -> BTreeMap<String, BTreeMap<u16, PortInUse>> {
    let mut in_use = BTreeMap::new();
    for (provider, mut ports) in asked {
        ports.sort_unstable();
        ports.dedup();
        let held = ports_in_use(&graph.providers, snapshot, connector, &provider, &ports).await;
        in_use.insert(provider, held);
    }
    in_use
}

/// Which ports are in use; none where the engine cannot be asked: then the plan says that it is unreachable anyway.
async fn ports_in_use(
    providers: &BTreeMap<String, ProviderConfig>,
    snapshot: &Snapshot,
    connector: &Arc<dyn Connector>,
    provider: &str,
    ports: &[u16],
) -> BTreeMap<u16, PortInUse> {
    let Some(config) = providers.get(provider).or_else(|| snapshot.providers.get(provider)) else {
        return BTreeMap::new();
    };
    let no_host: Option<&HostSession> = None;
    let session: Arc<dyn Provider> = match connector.connect(provider, config, no_host).await {
        Ok(session) => session,
        Err(_) => return BTreeMap::new(),
    };
    let context = CallContext {
        lineage: snapshot.lineage.clone(),
        operation: None,
        timeout: PORTS_TIMEOUT,
        cancel: CancellationToken::new(),
    };
    let in_use = session.ports_in_use(&context, ports).await.unwrap_or_default();
    in_use.into_iter().map(|held| (held.port, held)).collect()
}
