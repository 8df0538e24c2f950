//! Declared × snapshot × observations × previews → plan.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ksail_model::{
    Address, Declaration, Digest, Edge, KindSchema, Observation, Ownership, Record, RecordKey, Reference, Value,
};
use ksail_records::concluded;

use crate::classify::{HostState, Judged, Situation, judge};
use crate::graph::{Needs, order};
use crate::plan::{Action, Blocked, Drift, Mode, PLAN_FORMAT, Plan, PlanNode, Reason};
use crate::select::left_out;
use crate::steps::steps;
use crate::{Inputs, Observed, PlanError, Resolution, resolve_open_intents};

/// Makes a plan. Equal inputs give equal plans; nothing is read but the inputs.
pub fn plan(inputs: &Inputs<'_>) -> Result<Plan, PlanError> {
    let resolutions = resolve_open_intents(inputs.snapshot, inputs.observations, inputs.schemas, inputs.header.made_ms);
    let (records, moved) = records(inputs, &resolutions)?;
    check_declared(inputs)?;

    let keys: BTreeSet<RecordKey> =
        inputs.declared.declarations.keys().cloned().map(RecordKey::current).chain(records.keys().cloned()).collect();
    let needs: BTreeMap<RecordKey, Needs<'_>> =
        keys.iter().map(|key| (key.clone(), needs_of(key, inputs, &records))).collect();
    let left_out = left_out(&needs, inputs.options, inputs.header.mode == Mode::Destroy)?;
    let order = order(&needs).map_err(PlanError::Cycle)?;

    let mut planner = Planner { inputs, records: &records, moved: &moved, nodes: BTreeMap::new(), drift: Vec::new() };
    for key in &order.keys {
        if left_out.contains(key) {
            planner.leave_out(key);
        } else {
            planner.judge(key)?;
        }
    }
    let Planner { mut nodes, mut drift, .. } = planner;
    block_deletions(&order.keys, &needs, &mut nodes);
    settle_replacement_order(&order.keys, &mut nodes);
    refuse_protected(&nodes)?;
    drift.sort_by(|a, b| a.key.cmp(&b.key));

    let steps = steps(&nodes, &order.yielded, inputs.schemas)?;
    let mut plan = Plan {
        format: PLAN_FORMAT,
        content_digest: content_digest(inputs),
        digest: Digest::of_bytes(b""),
        header: inputs.header.clone(),
        nodes,
        steps,
        drift,
        resolutions,
        yielded: order.yielded,
        providers: providers(inputs),
        outputs: inputs.declared.outputs.clone(),
        notes: notes(inputs, left_out.len()),
    };
    plan.digest = plan_digest(&plan);
    Ok(plan)
}

type Records<'a> = BTreeMap<RecordKey, Cow<'a, Record>>;

/// The records as they are once open intents are resolved and moves are made.
fn records<'a>(
    inputs: &Inputs<'a>,
    resolutions: &[Resolution],
) -> Result<(Records<'a>, BTreeMap<Address, Address>), PlanError> {
    let snapshot = inputs.snapshot;
    let mut records: Records<'a> =
        snapshot.records.iter().map(|(key, record)| (key.clone(), Cow::Borrowed(record))).collect();
    for resolution in resolutions {
        let key = &resolution.outcome.key;
        let Some(open) = snapshot.open.get(key) else { continue };
        let host = open.intent.declaration.as_ref().and_then(|declaration| declaration.host.clone());
        let generation =
            host.and_then(|host| snapshot.records.get(&RecordKey::current(host))).map(|host| host.generation);
        match concluded(open, &resolution.outcome, &resolution.operation, generation) {
            Some(record) => records.insert(key.clone(), Cow::Owned(record)),
            None => records.remove(key),
        };
    }
    let mut moved = BTreeMap::new();
    for step in &inputs.declared.moved {
        let (from, to) = (RecordKey::current(step.from.clone()), RecordKey::current(step.to.clone()));
        let Some(record) = records.get(&from) else { continue };
        let why = if records.contains_key(&to) {
            Some("there is a record already")
        } else if snapshot.open.contains_key(&from) {
            Some("a killed operation left a call of it open; apply once without the move")
        } else if step.from.kind() != step.to.kind() {
            Some("it would be of another kind")
        } else {
            None
        };
        if let Some(why) = why {
            return Err(PlanError::BadMove { from: step.from.clone(), to: step.to.clone(), why: why.to_owned() });
        }
        let mut record = record.clone().into_owned();
        record.declaration.address = step.to.clone();
        records.remove(&from);
        records.insert(to, Cow::Owned(record));
        moved.insert(step.to.clone(), step.from.clone());
    }
    Ok((records, moved))
}

fn check_declared(inputs: &Inputs<'_>) -> Result<(), PlanError> {
    let declarations = &inputs.declared.declarations;
    for declaration in declarations.values() {
        let address = &declaration.address;
        if inputs.schemas.schema(address.kind()).is_none() {
            return Err(PlanError::UnknownKind { address: address.clone() });
        }
        let needed = declaration.edges.iter().map(|edge| &edge.to).chain(&declaration.host);
        if let Some(to) = needed.clone().find(|to| !declarations.contains_key(*to)) {
            return Err(PlanError::DanglingEdge { from: address.clone(), to: to.clone() });
        }
    }
    match inputs.declared.imports.iter().find(|import| !declarations.contains_key(&import.to)) {
        Some(import) => Err(PlanError::ImportUndeclared { address: import.to.clone() }),
        None => Ok(()),
    }
}

fn needs_of<'a>(key: &RecordKey, inputs: &Inputs<'a>, records: &'a Records<'_>) -> Needs<'a> {
    let declared = key.deposed.is_none().then(|| inputs.declared.declarations.get(&key.address)).flatten();
    let recorded = records.get(key).map(|record| &record.declaration);
    let (declaration, recorded_only) = match (declared, recorded) {
        (Some(declaration), _) => (Some(declaration), false),
        (None, recorded) => (recorded, true),
    };
    Needs {
        edges: declaration.map(|declaration| declaration.edges.as_slice()).unwrap_or_default(),
        host: declaration.and_then(|declaration| declaration.host.as_ref()),
        recorded_only,
    }
}

struct Planner<'a, 'b> {
    inputs: &'b Inputs<'a>,
    records: &'b Records<'a>,
    moved: &'b BTreeMap<Address, Address>,
    nodes: BTreeMap<RecordKey, PlanNode>,
    drift: Vec<Drift>,
}

impl Planner<'_, '_> {
    fn declared(&self, key: &RecordKey) -> Option<&Declaration> {
        if key.deposed.is_some() { None } else { self.inputs.declared.declarations.get(&key.address) }
    }

    fn schema(&self, address: &Address) -> Result<&KindSchema, PlanError> {
        self.inputs.schemas.schema(address.kind()).ok_or_else(|| PlanError::UnknownKind { address: address.clone() })
    }

    /// A resource outside `--target`: as recorded, not looked at.
    fn leave_out(&mut self, key: &RecordKey) {
        if let Some(record) = self.records.get(key) {
            let node = crate::classify::untouched(key, record, self.moved.get(&key.address).cloned());
            self.nodes.insert(key.clone(), node);
        }
    }

    fn judge(&mut self, key: &RecordKey) -> Result<(), PlanError> {
        let schema = self.schema(&key.address)?;
        let record = self.records.get(key).map(Cow::as_ref);
        let declared = self.declared(key);
        let host_address =
            declared.or(record.map(|record| &record.declaration)).and_then(|declaration| declaration.host.as_ref());
        let host = host_address.map(|address| RecordKey::current(address.clone()));
        let host_node =
            host.as_ref().and_then(|host| self.nodes.get(host)).map(|node| (node, self.host_state(node, record)));
        let wanted = declared.map(|declaration| self.resolved(declaration));
        let import = declared
            .and_then(|declaration| self.inputs.declared.imports.iter().find(|import| import.to == declaration.address))
            .map(|import| import.id.as_str());
        let removal = self.inputs.declared.removed.iter().find(|removal| removal.from == key.address);
        let situation = Situation {
            key,
            schema,
            record,
            wanted: wanted.as_ref(),
            declared,
            observed: self.observed(key, host_node),
            host: host_node,
            preview: self.inputs.previews.get(key),
            import,
            removed_without_destroy: removal.is_some_and(|removal| !removal.destroy),
            removed: removal.is_some(),
            mode: &self.inputs.header.mode,
            lineage: &self.inputs.header.lineage,
            replace_requested: self.inputs.options.replace.iter().any(|selector| selector.matches(&key.address)),
            replaced_dependency: declared.and_then(|declaration| self.replaced_dependency(&declaration.edges)),
            interrupted: self.inputs.snapshot.open.get(key).map(|open| open.operation.as_str()),
            moved_from: self.moved.get(&key.address).filter(|_| key.deposed.is_none()).cloned(),
        };
        let Some(Judged { mut node, drift }) = judge(&situation) else { return Ok(()) };
        if node.action.is_change()
            && let Some(on) = declared.and_then(|declaration| self.blocked_need(declaration, host.as_ref()))
        {
            node.action = Action::Blocked { why: Blocked::Dependency { on } };
            node.changes.clear();
        }
        self.drift.extend(drift);
        self.nodes.insert(key.clone(), node);
        Ok(())
    }

    fn host_state(&self, host: &PlanNode, record: Option<&Record>) -> HostState {
        let ready = match self.inputs.observations.get(&host.key).map(|observed| &observed.observation) {
            Some(Observation::Present(seen)) => seen.readiness.is_ready(),
            // Not looked at: what it holds was not looked at either, or by itself.
            _ => true,
        };
        HostState::of(host, ready, record)
    }

    fn observed(&self, key: &RecordKey, host: Option<(&PlanNode, HostState)>) -> Cow<'_, Observed> {
        let unknown = |reason| Cow::Owned(Observed { observation: Observation::Unknown(reason), scope: None });
        match host {
            Some((_, HostState::Gone)) => Cow::Owned(Observed { observation: Observation::Absent, scope: None }),
            Some((host, HostState::Unknown)) => {
                unknown(ksail_model::UnknownReason::HostUnknown { host: host.key.address.clone() })
            }
            Some((host, HostState::NotServing)) => {
                unknown(ksail_model::UnknownReason::HostNotServing { host: host.key.address.clone() })
            }
            _ => match self.inputs.observations.get(key) {
                Some(observed) => Cow::Borrowed(observed),
                None => unknown(ksail_model::UnknownReason::NotRefreshed),
            },
        }
    }

    fn resolved(&self, declaration: &Declaration) -> Declaration {
        let spec = crate::resolve_references(&declaration.spec, &mut |reference| self.lookup(reference));
        Declaration { spec, ..declaration.clone() }
    }

    /// The value that a reference has after the plan, if it is known now.
    fn lookup(&self, reference: &Reference) -> Option<Value> {
        let node = self.nodes.get(&RecordKey::current(reference.address.clone()))?;
        let known = |value: Option<&Value>| {
            value.and_then(|value| value.get(&reference.path)).filter(|value| !value.is_null()).cloned()
        };
        let declared = node.declaration.as_ref().map(|declaration| &declaration.spec);
        known(declared).or_else(|| match node.action {
            Action::NoOp | Action::Wait => known(node.after.as_ref()),
            Action::Update => known(node.before.as_ref()).filter(|_| reference.path.to_string() == "id"),
            _ => None,
        })
    }

    fn replaced_dependency(&self, edges: &[Edge]) -> Option<RecordKey> {
        edges
            .iter()
            .filter(|edge| edge.on_replace == ksail_model::ForceOn::Replace)
            .map(|edge| RecordKey::current(edge.to.clone()))
            .find(|key| {
                self.nodes.get(key).is_some_and(|node| {
                    matches!(node.action, Action::Replace { .. })
                        || (node.action == Action::Create && node.record.is_some())
                })
            })
    }

    fn blocked_need(&self, declaration: &Declaration, host: Option<&RecordKey>) -> Option<RecordKey> {
        let hard = declaration.edges.iter().filter(|edge| edge.strength == ksail_model::Strength::Hard);
        hard.map(|edge| RecordKey::current(edge.to.clone()))
            .chain(host.cloned())
            .find(|key| self.nodes.get(key).is_some_and(|node| matches!(node.action, Action::Blocked { .. })))
    }
}

/// What is to be deleted waits for the deletion of all that needs it; where that is blocked, so is this.
fn block_deletions(
    order: &[RecordKey],
    needs: &BTreeMap<RecordKey, Needs<'_>>,
    nodes: &mut BTreeMap<RecordKey, PlanNode>,
) {
    // Dependents come later in the order, so that one pass from the end is enough.
    for key in order.iter().rev() {
        let Some(node) = nodes.get(key) else { continue };
        let blocks = match &node.action {
            Action::Blocked { .. } => node.record.is_some(),
            _ => false,
        };
        if !blocks {
            continue;
        }
        let Some(needs) = needs.get(key) else { continue };
        let recorded: Vec<Address> = node
            .record
            .iter()
            .flat_map(|record| {
                record.declaration.edges.iter().map(|edge| edge.to.clone()).chain(record.declaration.host.clone())
            })
            .chain(needs.edges.iter().map(|edge| edge.to.clone()))
            .collect();
        for address in recorded {
            if let Some(needed) = nodes.get_mut(&RecordKey::current(address))
                && matches!(needed.action, Action::Delete | Action::Replace { .. })
            {
                needed.action = Action::Blocked { why: Blocked::Dependency { on: key.clone() } };
                needed.changes.clear();
            }
        }
    }
}

/// A resource cannot be made before the old one is deleted if it needs something that is deleted before it is made anew.
fn settle_replacement_order(order: &[RecordKey], nodes: &mut BTreeMap<RecordKey, PlanNode>) {
    for key in order {
        let Some(node) = nodes.get(key) else { continue };
        if node.action != (Action::Replace { create_first: true }) {
            continue;
        }
        let needs_delete_first = node.declaration.iter().flat_map(|declaration| &declaration.edges).any(|edge| {
            nodes
                .get(&RecordKey::current(edge.to.clone()))
                .is_some_and(|needed| needed.action == Action::Replace { create_first: false })
        });
        if needs_delete_first && let Some(node) = nodes.get_mut(key) {
            node.action = Action::Replace { create_first: false };
        }
    }
}

fn refuse_protected(nodes: &BTreeMap<RecordKey, PlanNode>) -> Result<(), PlanError> {
    let lost: Vec<(RecordKey, String)> = nodes
        .values()
        .filter(|node| {
            let declared = node.declaration.as_ref().is_some_and(|declaration| declaration.lifecycle.protect);
            let recorded = node.record.as_ref().is_some_and(|record| record.declaration.lifecycle.protect);
            declared || recorded
        })
        .filter_map(|node| match (&node.action, &node.reason) {
            // What is gone outside already is not lost by the plan.
            (Action::Replace { .. }, _) => Some((node.key.clone(), "made anew".to_owned())),
            (Action::Delete, _) => Some((node.key.clone(), "deleted".to_owned())),
            _ => None,
        })
        .collect();
    if lost.is_empty() { Ok(()) } else { Err(PlanError::Protected(lost)) }
}

fn providers(inputs: &Inputs<'_>) -> BTreeMap<String, ksail_model::ProviderConfig> {
    let mut providers = inputs.snapshot.providers.clone();
    providers.extend(inputs.declared.providers.clone());
    providers
}

fn notes(inputs: &Inputs<'_>, left_out: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(operation) = &inputs.snapshot.operation {
        notes.push(format!(
            "operation {} of {} has not been sealed: it is under way, or was killed; the next apply goes on from what is there",
            operation.id, operation.who
        ));
    }
    if left_out > 0 {
        notes.push(format!("{left_out} resources are left out by --target or --exclude"));
    }
    notes
}

fn content_digest(inputs: &Inputs<'_>) -> Digest {
    let declarations: Vec<Digest> = inputs.declared.declarations.values().map(Declaration::digest).collect();
    let removed: Vec<_> = inputs.declared.removed.iter().map(|removal| (&removal.from, removal.destroy)).collect();
    let moved: Vec<_> = inputs.declared.moved.iter().map(|step| (&step.from, &step.to)).collect();
    let imports: Vec<_> = inputs.declared.imports.iter().map(|import| (&import.to, &import.id)).collect();
    Digest::of(&(declarations, &inputs.declared.providers, removed, moved, imports))
}

fn plan_digest(plan: &Plan) -> Digest {
    let header = &plan.header;
    let nodes: Vec<_> = plan
        .nodes
        .values()
        .map(|node| (&node.key, &node.action, &node.seen, &node.scope, node.generation, &node.import, &node.changes))
        .collect();
    Digest::of(&(
        (&header.lineage, &header.stack, &header.environment, header.serial, &header.mode),
        (&plan.content_digest, nodes, &plan.steps),
    ))
}

/// Whether a resource that nobody owns (read only) needs no steps of ours.
pub(crate) const fn is_read(declaration: &Declaration) -> bool {
    matches!(declaration.ownership, Ownership::Read)
}

/// The reason of a node that follows from a host's fate.
pub(crate) fn host_reason(host: &PlanNode) -> Reason {
    Reason::HostReplaced { host: host.key.clone() }
}
