//! State lost: it is rebuilt from the marks on what exists, as a reviewed plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ksail_model::{
    Address, Condition, Declaration, DeclaredGraph, Edge, ForceOn, Lifecycle, Mark, Origin, Origins, RecordKey,
    Strength, Value,
};
use ksail_plan::{Mode, joined};
use ksail_provider::{CallContext, CallError, Connector, HostSession, Owned};
use ksail_records::Snapshot;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, codes};
use crate::plan::{PlanOptions, Planned};
use crate::platform::{Platform, Stack};

/// How long one provider may take to list what carries a mark.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// The version of the specs that observations come in.
const KIND_VERSION: u32 = 1;

/// A plan that rebuilds the state.
pub struct Recovery {
    /// The plan.
    pub planned: Planned,
    /// The lineage that is taken up.
    pub lineage: String,
}

/// A thing that carries a mark, with how it was reached.
struct Found {
    owned: Owned,
    mark: Mark,
    provider: String,
    host: Option<Address>,
}

impl Platform {
    /// Plans to rebuild a lost state: everything of this cluster that carries the mark of `lineage` (of the only one there is, if
    /// none is named) is taken into a new state of that lineage. Nothing outside changes; what differs from the file is for the next plan.
    pub async fn plan_recovery(&self, lineage: Option<&str>, options: &PlanOptions) -> Result<Recovery, Error> {
        let mut stack = self.stack()?;
        if stack.place.backend.read().await.is_ok_and(|stored| stored.state.is_some()) {
            let message = format!("there is a state in {}: nothing is lost", stack.place.backend.place());
            return Err(Error::new(
                codes::OTHER_STATE,
                message,
                "`ksail state list` shows it; `ksail plan` compares it",
            ));
        }
        let found = self.find_marked(&stack).await?;
        let lineage = choose_lineage(&stack.cluster, &found, lineage)?;
        let found: Vec<Found> = found.into_iter().filter(|found| found.mark.lineage == lineage).collect();
        stack.graph = recovered_graph(&stack.graph, &found);
        let snapshot = Snapshot::empty(&lineage, &stack.name, stack.environment.clone());
        let mut planned = self.plan_stack(stack, options, Some((Mode::Recover, Some(snapshot)))).await?;
        planned.plan.notes.push(
            "the state is rebuilt and nothing outside changes; what differs from the file is for the next plan"
                .to_owned(),
        );
        Ok(Recovery { planned, lineage })
    }

    /// Everything of this cluster that carries a mark, on the engines that the file names, and in the hosts found there.
    async fn find_marked(&self, stack: &Stack) -> Result<Vec<Found>, Error> {
        let declared = stack.graph.declarations.values();
        let direct: BTreeSet<&String> = declared
            .clone()
            .filter(|declaration| declaration.host.is_none())
            .map(|declaration| &declaration.provider)
            .collect();
        let hosted: BTreeSet<(&String, &Address)> =
            declared.filter_map(|declaration| Some((&declaration.provider, declaration.host.as_ref()?))).collect();
        let mut found = Vec::new();
        for provider in direct {
            found.extend(list(stack, provider, None).await?);
        }
        for (provider, host) in hosted {
            let session = found.iter().find(|found| found.mark.address == *host).map(|found| HostSession {
                address: host.clone(),
                attributes: joined(&found.owned.seen.fields, &found.owned.seen.attributes),
            });
            if let Some(session) = session {
                found.extend(list(stack, provider, Some(&session)).await?);
            }
        }
        found.retain(|found| found.mark.address.cluster() == stack.cluster);
        Ok(found)
    }
}

async fn list(stack: &Stack, provider: &str, host: Option<&HostSession>) -> Result<Vec<Found>, Error> {
    let failed = |error: CallError| {
        let hint = error.hint.clone().unwrap_or_else(|| "everything must be seen before a state is rebuilt".to_owned());
        Error::new(codes::PROVIDER, format!("{provider} cannot tell what exists: {}", error.message), hint)
    };
    let Some(config) = stack.graph.providers.get(provider) else { return Ok(Vec::new()) };
    let connector: &Arc<dyn Connector> = &stack.place.connector;
    let session = connector.connect(provider, config, host).await.map_err(failed)?;
    let context = CallContext {
        lineage: String::new(),
        operation: None,
        timeout: LIST_TIMEOUT,
        cancel: CancellationToken::new(),
    };
    let owned = session.list_owned(&context).await.map_err(failed)?;
    Ok(owned
        .into_iter()
        .filter_map(|owned| {
            let mark = owned.seen.mark.clone()?;
            let host = host.map(|host| host.address.clone());
            Some(Found { owned, mark, provider: provider.to_owned(), host })
        })
        .collect())
}

fn choose_lineage(cluster: &str, found: &[Found], wanted: Option<&str>) -> Result<String, Error> {
    let mut lineages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for found in found {
        lineages.entry(&found.mark.lineage).or_default().push(found.mark.address.as_str());
    }
    let told = || {
        lineages
            .iter()
            .map(|(lineage, addresses)| format!("{lineage} ({} things, {} among them)", addresses.len(), addresses[0]))
            .collect::<Vec<_>>()
            .join("; ")
    };
    match (wanted, lineages.len()) {
        (_, 0) => Err(Error::new(
            codes::NOT_FOUND,
            format!("nothing that exists carries a mark of cluster {cluster}"),
            "there is nothing to recover: `ksail plan` starts anew",
        )),
        (None, 1) => Ok(lineages.keys().next().map(|lineage| (*lineage).to_owned()).unwrap_or_default()),
        (None, _) => Err(Error::new(
            codes::FOREIGN,
            format!("things of several lineages exist: {}", told()),
            "name the one that is yours with --lineage; the others are somebody else's",
        )),
        (Some(wanted), _) if lineages.contains_key(wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => Err(Error::new(
            codes::FOREIGN,
            format!("nothing carries a mark of lineage {wanted}; what exists is of {}", told()),
            "name one of these with --lineage, if it is yours",
        )),
    }
}

/// The graph of what was found, each thing declared as it is.
fn recovered_graph(declared: &DeclaredGraph, found: &[Found]) -> DeclaredGraph {
    let known: BTreeSet<&Address> = found.iter().map(|found| &found.mark.address).collect();
    let declarations = found
        .iter()
        .map(|thing| {
            let written = declared.declarations.get(&thing.mark.address);
            let mut edges: Vec<Edge> = match written {
                Some(written) => written.edges.clone(),
                None => {
                    found.iter().filter(|other| names(thing, other)).map(|other| edge(&other.mark.address)).collect()
                }
            };
            edges.retain(|edge| known.contains(&edge.to));
            let declaration = Declaration {
                address: thing.mark.address.clone(),
                kind_version: written.map_or(KIND_VERSION, |written| written.kind_version),
                provider: thing.provider.clone(),
                identity: thing.owned.identity.clone(),
                spec: thing.owned.seen.fields.clone(),
                host: thing.host.clone(),
                edges,
                ownership: thing.owned.ownership,
                lifecycle: written.map_or_else(Lifecycle::default, |written| written.lifecycle.clone()),
                choices: Vec::new(),
                origins: Origins::all(Origin::State { what: "found outside by its mark".into() }),
            };
            (thing.mark.address.clone(), declaration)
        })
        .collect();
    DeclaredGraph {
        declarations,
        providers: declared.providers.clone(),
        outputs: declared.outputs.clone(),
        ..DeclaredGraph::default()
    }
}

/// Whether a thing that is no longer declared names another in its fields, and so stands on it.
fn names(thing: &Found, other: &Found) -> bool {
    let key = RecordKey::current(other.mark.address.clone());
    matches!(key.address.kind(), "network" | "volume" | "image")
        && thing.mark.address != other.mark.address
        && thing.owned.seen.fields.any_leaf(&|leaf| *leaf == Value::from(other.owned.identity.name.as_str()))
}

fn edge(to: &Address) -> Edge {
    Edge {
        to: to.clone(),
        condition: Condition::Exists,
        strength: Strength::Hard,
        on_replace: ForceOn::Nothing,
        origin: Origin::Derived { why: "its fields name it".into() },
    }
}
