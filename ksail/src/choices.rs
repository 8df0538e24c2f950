//! What is chosen at planning: ports. A recorded choice stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ksail_execute::ApplyError;
use ksail_model::{
    Address, Choice, Declaration, DeclaredGraph, Diagnostic, Origin, Path, ProviderConfig, RecordKey, Value,
};
use ksail_plan::{Action, Observed, Plan};
use ksail_provider::{CallContext, Connector, HostSession, Provider};
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

/// Fills in every choice. Answers which of the ports that declarations fix are held by something, of resources that are not in
/// the state: it may be the resource itself, so that only a plan tells whether this is an error.
pub(crate) async fn choose(
    graph: &mut DeclaredGraph,
    snapshot: &Snapshot,
    connector: &Arc<dyn Connector>,
) -> Result<Vec<Collision>, Error> {
    let mut taken = ports_declared(graph);
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
                Choice::Text { path, proposed } => {
                    choose_text(snapshot, declaration, &path, proposed);
                    continue;
                }
            };
            match recorded(snapshot, declaration, &path) {
                Some(port) => {
                    taken.insert(port);
                    let origin = Origin::State { what: "chosen when it was planned first".into() };
                    set(declaration, &path, port, origin);
                }
                None => {
                    let provider = asked(declaration);
                    used.entry(provider).or_default().extend(&preferred);
                    todo.push((declaration.address.clone(), path, preferred));
                }
            }
        }
    }
    let fixed = new_fixed_ports(graph, snapshot, &todo);
    for (address, port) in &fixed {
        used.entry(asked(&graph.declarations[address])).or_default().push(*port);
    }
    if used.is_empty() {
        return Ok(Vec::new());
    }
    let mut in_use: BTreeMap<String, BTreeMap<u16, String>> = BTreeMap::new();
    for (provider, mut ports) in used {
        let chosen = todo.iter().filter(|(address, _, _)| asked(&graph.declarations[address]) == provider);
        for last in chosen.filter_map(|(_, _, preferred)| preferred.last().copied()) {
            ports.extend(last.saturating_add(1)..=last.saturating_add(FURTHER_PORTS));
        }
        ports.sort_unstable();
        ports.dedup();
        in_use.insert(provider.clone(), ports_in_use(&graph.providers, snapshot, connector, &provider, &ports).await);
    }
    let collisions = collisions(graph, &fixed, &in_use);
    for (address, path, preferred) in todo {
        let Some(declaration) = graph.declarations.get_mut(&address) else { continue };
        let busy = in_use.get(&asked(declaration));
        let is_free = |port: &u16| !taken.contains(port) && busy.is_none_or(|busy| !busy.contains_key(port));
        let last = preferred.last().copied().unwrap_or(1024);
        let further = last.saturating_add(1)..=last.saturating_add(FURTHER_PORTS);
        let Some(port) = preferred.iter().copied().chain(further).find(is_free) else {
            let message = format!("no port is free for {address}: {FURTHER_PORTS} were tried after {last}");
            return Err(Error::new(codes::PORT_IN_USE, message, "fix one in the file that is free"));
        };
        taken.insert(port);
        set(
            Arc::make_mut(declaration),
            &path,
            port,
            Origin::Chosen { why: "the first preferred port that is free".into() },
        );
    }
    Ok(collisions)
}

/// Refuses a plan that makes something whose port is held already. What exists, ours or not, holds its port itself.
pub(crate) fn refuse_collisions(plan: &Plan, collisions: Vec<Collision>) -> Result<(), Error> {
    let is_made = |address: &Address| {
        plan.nodes
            .get(&RecordKey::current(address.clone()))
            .is_some_and(|node| matches!(node.action, Action::Create | Action::Replace { .. }))
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
                Choice::Text { path, proposed } => {
                    let has = seen.and_then(|seen| seen.fields.get(&path)?.as_str().map(str::to_owned));
                    set_text(
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

/// The declarations with something to choose.
fn undecided(graph: &mut DeclaredGraph) -> impl Iterator<Item = &mut Declaration> {
    graph.declarations.values_mut().filter(|declaration| !declaration.choices.is_empty()).map(Arc::make_mut)
}

/// A text is what it was when it was planned first, whoever plans now, and wherever.
fn choose_text(snapshot: &Snapshot, declaration: &mut Declaration, path: &Path, proposed: String) {
    let record = snapshot.records.get(&RecordKey::current(declaration.address.clone()));
    match record.and_then(|record| record.declaration.spec.get(path)?.as_str().map(str::to_owned)) {
        Some(kept) => {
            set_text(declaration, path, kept, Origin::State { what: "chosen when it was planned first".into() })
        }
        None => set_text(declaration, path, proposed, Origin::Chosen { why: "the surroundings of this plan".into() }),
    }
}

fn set_text(declaration: &mut Declaration, path: &Path, text: String, origin: Origin) {
    declaration.spec.set(path, Value::from(text));
    declaration.origins.set(path.clone(), origin);
}

fn set(declaration: &mut Declaration, path: &Path, port: u16, origin: Origin) {
    declaration.spec.set(path, Value::from(port));
    declaration.origins.set(path.clone(), origin);
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

fn ports_declared(graph: &DeclaredGraph) -> BTreeSet<u16> {
    graph.declarations.values().filter_map(|declaration| port_at(&declaration.spec, &Path::key(PORT))).collect()
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

fn collisions(
    graph: &DeclaredGraph,
    fixed: &[(Address, u16)],
    in_use: &BTreeMap<String, BTreeMap<u16, String>>,
) -> Vec<Collision> {
    fixed
        .iter()
        .filter_map(|(address, port)| {
            let declaration = &graph.declarations[address];
            let holder = in_use.get(&asked(declaration))?.get(port)?;
            let origin = declaration.origins.of(&Path::key(PORT));
            let mut diagnostic =
                Diagnostic::error(codes::PORT_IN_USE, format!("port {port} of {address} is in use: {holder}"))
                    .hint("free it, choose another port in the file, or leave it out to have a free one chosen");
            if let Some(Origin::File { file, span } | Origin::Overlay { file, span }) = origin {
                diagnostic = diagnostic.at(std::sync::Arc::clone(file), *span, "fixed here");
            }
            Some(Collision { address: address.clone(), diagnostic })
        })
        .collect()
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
        let made = matches!(node.action, Action::Create | Action::Replace { .. });
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
            // What a killed call left half made bears the very name.
            let own = format!("`{}`", declaration.identity.name);
            if let Some(holder) = held.get(&port).filter(|holder| !holder.contains(&own)) {
                taken.push(format!("port {port} of {} was taken meanwhile: {holder}", declaration.address));
            }
        }
    }
    if taken.is_empty() { Ok(()) } else { Err(Error::Apply(ApplyError::Stale(taken))) }
}

/// Which ports are in use; none where the engine cannot be asked: then the plan says that it is unreachable anyway.
async fn ports_in_use(
    providers: &BTreeMap<String, ProviderConfig>,
    snapshot: &Snapshot,
    connector: &Arc<dyn Connector>,
    provider: &str,
    ports: &[u16],
) -> BTreeMap<u16, String> {
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
    session.ports_in_use(&context, ports).await.unwrap_or_default().into_iter().collect()
}
