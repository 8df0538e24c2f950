//! State lost: it is rebuilt from the marks on what exists, as a reviewed plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ksail_kinds::{EngineSpec, Spec as _};
use ksail_model::{
    Address, Condition, Declaration, DeclaredGraph, Edge, ForceOn, Lifecycle, Mark, Origin, Origins, Ownership,
    RecordKey, Selector, Strength, Value,
};
use ksail_plan::{Action, Mode, Plan, joined};
use ksail_provider::{CallContext, CallError, Connector, HostSession, Owned};
use ksail_records::{Snapshot, State, StateError};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, codes};
use crate::plan::{PlanOptions, Planned};
use crate::platform::{Platform, Stack};
use crate::settings::VERSION;

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
    /// Hosts that this plan brings back. Once it is applied, another recovery finds what they hold.
    pub asleep: Vec<Address>,
    /// Whether this plan only releases what a state that was begun beside the lost one holds. Once it is applied, another
    /// recovery takes up the lineage.
    pub releases: bool,
}

/// A thing that carries a mark, with how it was reached.
struct Found {
    owned: Owned,
    mark: Mark,
    provider: String,
    host: Option<Address>,
}

/// What was found, and the hosts that are there and cannot tell what they hold.
#[derive(Default)]
struct Search {
    found: Vec<Found>,
    asleep: BTreeSet<Address>,
}

impl Platform {
    /// Plans to rebuild a lost state: everything of this cluster that carries the mark of `lineage` (of the only one there is, if
    /// none is named) is taken into a state of that lineage. Nothing outside changes, but that a host that does not run is
    /// brought back, for only then it tells what it holds: see [`Recovery::asleep`]. What differs from the file is for the next
    /// plan.
    ///
    /// Where a state was begun beside the lost one and holds nothing but what is shared, `lineage` must name the lost one:
    /// that state's plan of destruction comes first ([`Recovery::releases`]), and the apply of the second puts it aside.
    pub async fn plan_recovery(&self, lineage: Option<&str>, options: &PlanOptions) -> Result<Recovery, Error> {
        let mut stack = self.stack()?;
        let known = stack.place.backend.read().await.ok().and_then(|stored| stored.state).map(State::into_snapshot);
        let mut search = self.find_marked(&stack).await?;
        let kept = lineage.or(known.as_ref().map(|known| known.lineage.as_str()));
        let elsewhere = leave_others_out(&stack.graph, &mut search.found, kept);
        let known = match known {
            Some(known) => match beside(&stack, &known, &search.found, lineage)? {
                Beside::No => Some(known),
                Beside::Empty => None,
                Beside::HoldsShared => return self.plan_release(&known.lineage, options).await,
            },
            None => None,
        };
        let lineage = match &known {
            Some(known) => {
                search.found.retain(|found| found.mark.lineage == known.lineage);
                let lost = |found: &Found| !known.records.contains_key(&RecordKey::current(found.mark.address.clone()));
                if lineage.is_some_and(|lineage| lineage != known.lineage) || !search.found.iter().any(lost) {
                    return Err(nothing_lost(&stack));
                }
                known.lineage.clone()
            }
            None => choose_lineage(&stack.cluster, &search.found, lineage, elsewhere)?,
        };
        search.found.retain(|found| found.mark.lineage == lineage);
        search.asleep.retain(|host| search.found.iter().any(|found| found.mark.address == *host));
        stack.graph = recovered_graph(&stack.graph, &search);
        let mut options = options.clone();
        if let Some(known) = &known {
            // What the state knows is none of this plan's business, but for what the rest stands on.
            let unknown = |address: &&Address| !known.records.contains_key(&RecordKey::current((*address).clone()));
            let lost = stack.graph.declarations.keys().filter(unknown);
            options.targets = lost.filter_map(|address| Selector::parse(address.as_str()).ok()).collect();
        }
        let snapshot = known.unwrap_or_else(|| Snapshot::empty(&lineage, &stack.name, stack.environment.clone()));
        let mut planned = self.plan_stack(stack, &options, Some((Mode::Recover, Some(snapshot)))).await?;
        refuse_more(&planned, &search.asleep)?;
        planned.plan.add_notes([note(&search.asleep)]);
        planned.plan.add_notes(others(elsewhere));
        Ok(Recovery { planned, lineage, asleep: search.asleep.into_iter().collect(), releases: false })
    }

    /// The plan that gives up what a state holds that was begun beside the lost one.
    async fn plan_release(&self, lineage: &str, options: &PlanOptions) -> Result<Recovery, Error> {
        let mut planned = self.plan(&PlanOptions { destroy: true, ..options.clone() }).await?;
        planned.plan.add_notes([format!(
            "the state here, of lineage {lineage}, was begun beside the lost one and holds only what is shared: it is released, and the \
             lost state is the next plan of this command"
        )]);
        Ok(Recovery { planned, lineage: lineage.to_owned(), asleep: Vec::new(), releases: true })
    }

    /// Puts a state without records aside where a recovery is to take its place. Answers where it is kept.
    pub(crate) async fn make_room(&self, plan: &Plan, lock_wait: Duration) -> Result<Option<String>, Error> {
        let is_in_the_way = |state: Option<State>| {
            state
                .is_some_and(|state| state.snapshot().lineage != plan.header.lineage && holds_nothing(state.snapshot()))
        };
        if plan.header.mode != Mode::Recover || !plan.header.new_state {
            return Ok(None);
        }
        let place = self.place(&plan.header.stack)?;
        if !is_in_the_way(place.backend.read().await.ok().and_then(|stored| stored.state)) {
            return Ok(None);
        }
        let mut writer = place.backend.lock(&self.owner("state recover"), lock_wait).await?;
        let moved = async {
            Ok(if is_in_the_way(writer.load().await?.state) { Some(writer.set_aside().await?) } else { None })
        }
        .await;
        let released = writer.release().await;
        let moved: Result<Option<String>, StateError> = moved;
        let moved = moved?;
        released?;
        Ok(moved)
    }

    /// Everything of this cluster that carries a mark, on the engines that the file names, and in the hosts found there.
    async fn find_marked(&self, stack: &Stack) -> Result<Search, Error> {
        let declared = stack.graph.declarations.values();
        let direct: BTreeSet<&String> = declared
            .clone()
            .filter(|declaration| declaration.host.is_none())
            .map(|declaration| &declaration.provider)
            .collect();
        let hosted: BTreeSet<(&String, &Address)> =
            declared.filter_map(|declaration| Some((&declaration.provider, declaration.host.as_ref()?))).collect();
        let mut search = Search::default();
        for provider in direct {
            search.found.extend(list(stack, provider, None).await?);
        }
        for (provider, host) in hosted {
            let Some(seen) =
                search.found.iter().find(|found| found.mark.address == *host).map(|found| &found.owned.seen)
            else {
                continue;
            };
            if !seen.readiness.is_ready() {
                search.asleep.insert(host.clone());
                continue;
            }
            let session = HostSession { address: host.clone(), attributes: joined(&seen.fields, &seen.attributes) };
            search.found.extend(list(stack, provider, Some(&session)).await?);
        }
        search.found.retain(|found| found.mark.address.cluster() == stack.cluster);
        Ok(search)
    }
}

/// Whether a state was begun beside the one that is to be recovered.
enum Beside {
    /// It was not, or nobody said so.
    No,
    /// It was, and holds nothing.
    Empty,
    /// It was, and holds only what is shared.
    HoldsShared,
}

fn holds_nothing(known: &Snapshot) -> bool {
    known.records.is_empty() && known.open.is_empty() && known.operation.is_none()
}

/// Judges the state that there is, where things of another lineage exist too.
fn beside(stack: &Stack, known: &Snapshot, found: &[Found], wanted: Option<&str>) -> Result<Beside, Error> {
    let is_lost = |found: &&Found| {
        found.mark.lineage == known.lineage
            && !known.records.contains_key(&RecordKey::current(found.mark.address.clone()))
    };
    let owned = known.records.iter().find(|(_, record)| record.declaration.ownership != Ownership::Shared);
    let Some(other) = found.iter().find(|found| found.mark.lineage != known.lineage).map(|found| &found.mark) else {
        return Ok(Beside::No);
    };
    match wanted {
        Some(wanted) if wanted == known.lineage => Ok(Beside::No),
        Some(wanted) => {
            choose_lineage(&stack.cluster, found, Some(wanted), 0)?;
            match owned {
                Some((key, _)) => Err(Error::new(
                    codes::OTHER_STATE,
                    format!(
                        "the state in {}, of lineage {}, has records of its own, {key} among them",
                        stack.place.backend.place(),
                        known.lineage
                    ),
                    "`ksail destroy` gives up what it holds, then recover; or recover into another place with --state",
                )),
                None if holds_nothing(known) => Ok(Beside::Empty),
                None => Ok(Beside::HoldsShared),
            }
        }
        None if owned.is_none() && !found.iter().any(|found| is_lost(&found)) => Err(Error::new(
            codes::OTHER_STATE,
            format!(
                "there is a state in {} that holds nothing of its own, and {} is of lineage {}",
                stack.place.backend.place(),
                other.address,
                other.lineage
            ),
            format!(
                "if that lineage is yours and its state was lost, `ksail state recover --lineage {}` puts it in the place of this one",
                other.lineage
            ),
        )),
        None => Ok(Beside::No),
    }
}

fn nothing_lost(stack: &Stack) -> Error {
    let message = format!("there is a state in {}: nothing is lost", stack.place.backend.place());
    Error::new(codes::OTHER_STATE, message, "`ksail state list` shows it; `ksail plan` compares it")
}

fn note(asleep: &BTreeSet<Address>) -> String {
    if asleep.is_empty() {
        return "the state is rebuilt and nothing outside changes; what differs from the file is for the next plan"
            .to_owned();
    }
    let hosts: Vec<&str> = asleep.iter().map(Address::as_str).collect();
    format!(
        "{} does not run and is brought back first; what it holds is found then, and is the next plan of this command",
        hosts.join(", ")
    )
}

/// A recovery takes up what is there, and starts what does not run; a plan that would do more is not one.
fn refuse_more(planned: &Planned, asleep: &BTreeSet<Address>) -> Result<(), Error> {
    let more = planned.plan.nodes.values().find(|node| match node.action {
        Action::Create | Action::Replace { .. } | Action::Delete => true,
        Action::Update => !asleep.contains(&node.key.address),
        Action::NoOp | Action::Wait | Action::Forget | Action::Blocked { .. } => false,
    });
    match more {
        None => Ok(()),
        Some(node) => Err(Error::new(
            codes::OTHER_STATE,
            format!("{} would have to be changed before the rest is taken into the state", node.key),
            "`ksail apply` first, then recover",
        )),
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

/// Leaves out what is of lineages that hold nothing that the file declares, where another one does or one is meant: several projects
/// may have clusters of one name in the same place. Answers how many lineages that are.
fn leave_others_out(declared: &DeclaredGraph, found: &mut Vec<Found>, kept: Option<&str>) -> usize {
    let lineages = |found: &[Found]| found.iter().map(|found| found.mark.lineage.clone()).collect::<BTreeSet<_>>();
    let of_the_file: Vec<&Found> = (found.iter())
        // What lies in a place of the user's is there for all clusters of theirs.
        .filter(|found| found.owned.ownership == Ownership::Owned)
        .filter(|found| declared.declarations.contains_key(&found.mark.address))
        .collect();
    let mut meant: BTreeSet<String> = of_the_file.into_iter().map(|found| found.mark.lineage.clone()).collect();
    if meant.is_empty() {
        return 0;
    }
    meant.extend(kept.map(str::to_owned));
    let all = lineages(found).len();
    found.retain(|found| meant.contains(&found.mark.lineage));
    all - lineages(found).len()
}

/// What is said of lineages that were left out.
fn others(count: usize) -> Option<String> {
    match count {
        0 => None,
        1 => Some("1 other lineage has things of a cluster of this name, and nothing that the file declares: it is left alone".to_owned()),
        more => Some(format!(
            "{more} other lineages have things of a cluster of this name, and nothing that the file declares: they are left alone"
        )),
    }
}

fn choose_lineage(cluster: &str, found: &[Found], wanted: Option<&str>, elsewhere: usize) -> Result<String, Error> {
    let mut lineages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for found in found {
        lineages.entry(&found.mark.lineage).or_default().push(found.mark.address.as_str());
    }
    let told = || {
        lineages
            .iter()
            .map(|(lineage, addresses)| match addresses.as_slice() {
                [one] => format!("{lineage} (of {one})"),
                [first, ..] => format!("{lineage} ({} things, {first} among them)", addresses.len()),
                [] => (*lineage).to_owned(),
            })
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
            [Some(format!("things of several lineages exist: {}", told())), others(elsewhere)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("; "),
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

/// The graph of what was found, each thing declared as it is, and a host that does not run as it is when it runs.
fn recovered_graph(declared: &DeclaredGraph, search: &Search) -> DeclaredGraph {
    let found = &search.found;
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
                spec: match search.asleep.contains(&thing.mark.address) {
                    true => awake(&thing.owned.seen.fields),
                    false => thing.owned.seen.fields.clone(),
                },
                host: thing.host.clone(),
                edges,
                ownership: thing.owned.ownership,
                lifecycle: written.map_or_else(Lifecycle::default, |written| written.lifecycle.clone()),
                choices: Vec::new(),
                origins: Origins::all(Origin::State { what: "found outside by its mark".into() }),
            };
            (thing.mark.address.clone(), Arc::new(declaration))
        })
        .collect();
    DeclaredGraph {
        declarations,
        providers: declared.providers.clone(),
        outputs: declared.outputs.clone(),
        ..DeclaredGraph::default()
    }
}

/// An engine as this ksail runs it.
fn awake(fields: &Value) -> Value {
    match EngineSpec::from_value(fields) {
        Ok(spec) => EngineSpec { running: true, version: VERSION.to_owned(), ..spec }.to_value(),
        Err(_) => fields.clone(),
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
