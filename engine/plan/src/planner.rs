//! Declared × snapshot × observations × previews → plan.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ksail_model::{
    Address, Declaration, Digest, Edge, ForceOn, KindSchema, Observation, Ownership, Record, RecordKey, Reference,
    UnknownReason, Value,
};
use ksail_records::concluded;

use crate::classify::{HostState, Judged, Situation, judge};
use crate::digests::{content_digest, digest_of};
use crate::graph::{Needs, order};
use crate::nodes::Nodes;
use crate::notes::notes;
use crate::numbers::{ByKey, Numbers};
use crate::plan::{Action, Blocked, Drift, DriftResponse, Mode, PLAN_FORMAT, Plan, PlanNode, Reason};
use crate::select::{excluded, left_out};
use crate::steps::steps;
use crate::{Inputs, Observed, PlanError, Resolution, resolve_open_intents};

/// Makes a plan. Equal inputs give equal plans; nothing is read but the inputs.
pub fn plan(inputs: &Inputs<'_>) -> Result<Plan, PlanError> {
    let resolutions = resolve_open_intents(inputs.snapshot, inputs.observations, inputs.schemas, inputs.header.made_ms);
    let (records, moved) = records(inputs, &resolutions)?;
    let declared = inputs.declared.declarations.keys().cloned().map(RecordKey::current);
    let numbers = Numbers::new(declared.chain(records.keys().cloned()).collect());
    let known = ByKey::of_all(&numbers, numbers.keys().iter().map(|key| Known::of(key, inputs, &records)));
    check_declared(inputs, &known)?;
    let needs = ByKey::of_all(&numbers, known.iter().map(|(_, known)| known.needs()));
    let destroys = inputs.header.mode == Mode::Destroy;
    let mut left_out = left_out(&needs, &records, inputs.options, destroys)?;
    let order = order(&needs).map_err(PlanError::Cycle)?;

    let resolved: BTreeSet<&RecordKey> = resolutions.iter().map(|resolution| &resolution.outcome.key).collect();
    // Each round but the last brings at least one resource in that was left out.
    let (mut nodes, mut drift) = loop {
        let mut planner = Planner {
            inputs,
            records: &records,
            moved: &moved,
            remembered: remembered_generations(&records),
            freed: freed_names(inputs, &records, &left_out),
            resolved: resolved.clone(),
            known: &known,
            nodes: ByKey::new(&numbers),
            drift: Vec::new(),
        };
        for &number in &order.numbers {
            let key = &numbers.keys()[number];
            if left_out.contains(key) {
                planner.leave_out(key);
            } else {
                planner.judge(number)?;
            }
        }
        let Planner { nodes, drift, .. } = planner;
        let mut nodes = Nodes::of_sorted(nodes.into_values());
        let torn = torn_from(&nodes, &needs, &left_out);
        let excluded = if torn.is_empty() { BTreeSet::new() } else { excluded(&needs, inputs.options, destroys) };
        let (kept, pulled): (Vec<_>, Vec<_>) = torn.into_iter().partition(|(_, holder)| excluded.contains(holder));
        if pulled.is_empty() {
            for (key, holder) in kept {
                if let Some(node) = nodes.get_mut(&key) {
                    leave(node, cannot_be_left_out(&holder));
                }
            }
            break (nodes, drift);
        }
        for (_, holder) in pulled {
            left_out.remove(&holder);
        }
    };
    if inputs.header.new_state && inputs.header.mode == Mode::Apply {
        begin_nothing_beside_another_state(inputs, &mut nodes);
    }
    close_over_blocked(&mut nodes);
    settle_replacement_order(order.numbers.iter().map(|number| &numbers.keys()[*number]), &mut nodes);
    refuse_protected(&nodes)?;
    drift.sort_by(|a, b| a.key.cmp(&b.key));
    for drift in drift.iter_mut().filter(|drift| drift.response == DriftResponse::Reverted) {
        if nodes.get(&drift.key).is_some_and(|node| matches!(node.action, Action::Blocked { .. })) {
            drift.response = DriftResponse::Left;
        }
    }

    let steps = steps(&mut nodes, &numbers, &order.yielded, inputs.schemas)?;
    let notes = notes(inputs, &nodes, left_out.len());
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
        outputs_before: inputs.snapshot.outputs.clone(),
        notes,
    };
    plan.digest = digest_of(&plan);
    Ok(plan)
}

pub(crate) type Records = BTreeMap<RecordKey, Arc<Record>>;

/// The records as they are once open intents are resolved and moves are made.
fn records<'a>(
    inputs: &Inputs<'a>,
    resolutions: &[Resolution],
) -> Result<(Cow<'a, Records>, BTreeMap<Address, Address>), PlanError> {
    let snapshot = inputs.snapshot;
    // Mostly they are as they were recorded, and there may be many.
    let mut records = Cow::Borrowed(&snapshot.records);
    for resolution in resolutions {
        let key = &resolution.outcome.key;
        let Some(open) = snapshot.open.get(key) else { continue };
        let host = open.intent.declaration.as_ref().and_then(|declaration| declaration.host.clone());
        let generation =
            host.and_then(|host| snapshot.records.get(&RecordKey::current(host))).map(|host| host.generation);
        match concluded(open, &resolution.outcome, &resolution.operation, generation) {
            Some(record) => records.to_mut().insert(key.clone(), record),
            None => records.to_mut().remove(key),
        };
    }
    let mut moved = BTreeMap::new();
    for step in &inputs.declared.moved {
        let (from, to) = (RecordKey::current(step.from.clone()), RecordKey::current(step.to.clone()));
        let Some(record) = records.get(&from) else { continue };
        if crate::look::was_made(inputs.declared, &step.from, records.contains_key(&to)) {
            continue;
        }
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
        let mut record = Arc::clone(record);
        Arc::make_mut(&mut Arc::make_mut(&mut record).declaration).address = step.to.clone();
        let records = records.to_mut();
        records.remove(&from);
        records.insert(to, record);
        redirect(records, &step.from, &step.to);
        let origin = moved.remove(&step.from).unwrap_or_else(|| step.from.clone());
        moved.insert(step.to.clone(), origin);
    }
    Ok((records, moved))
}

/// Lets all that names a moved resource name its new address, as the state will when the move is made.
fn redirect(records: &mut Records, from: &Address, to: &Address) {
    for record in records.values_mut() {
        let declaration = &record.declaration;
        if declaration.host.as_ref() != Some(from) && declaration.edges.iter().all(|edge| edge.to != *from) {
            continue;
        }
        let declaration = Arc::make_mut(&mut Arc::make_mut(record).declaration);
        let named = declaration.host.iter_mut().chain(declaration.edges.iter_mut().map(|edge| &mut edge.to));
        for named in named.filter(|named| *named == from) {
            named.clone_from(to);
        }
    }
}

fn check_declared(inputs: &Inputs<'_>, known: &ByKey<'_, Known<'_>>) -> Result<(), PlanError> {
    let declarations = &inputs.declared.declarations;
    let is_declared = |address: &Address| known.current(address).is_some_and(|known| known.declared.is_some());
    for declaration in declarations.values() {
        let address = &declaration.address;
        if inputs.schemas.schema(address.kind()).is_none() {
            return Err(PlanError::UnknownKind { address: address.clone() });
        }
        let needed = declaration.edges.iter().map(|edge| &edge.to).chain(&declaration.host);
        if let Some(to) = needed.clone().find(|to| !is_declared(to)) {
            return Err(PlanError::DanglingEdge { from: address.clone(), to: to.clone() });
        }
    }
    match inputs.declared.imports.iter().find(|import| !declarations.contains_key(&import.to)) {
        Some(import) => Err(PlanError::ImportUndeclared { address: import.to.clone() }),
        None => Ok(()),
    }
}

/// What is known of one resource before it is judged.
struct Known<'a> {
    /// What is wanted; nothing of what is deposed.
    declared: Option<&'a Arc<Declaration>>,
    record: Option<&'a Arc<Record>>,
    observed: Option<&'a Observed>,
}

impl<'a> Known<'a> {
    fn of(key: &RecordKey, inputs: &Inputs<'a>, records: &'a Records) -> Self {
        Self {
            declared: key.deposed.is_none().then(|| inputs.declared.declarations.get(&key.address)).flatten(),
            record: records.get(key),
            observed: inputs.observations.get(key),
        }
    }

    fn needs(&self) -> Needs<'a> {
        let declaration = self.declared.or(self.record.map(|record| &record.declaration));
        Needs {
            edges: declaration.map(|declaration| declaration.edges.as_slice()).unwrap_or_default(),
            host: declaration.and_then(|declaration| declaration.host.as_ref()),
            recorded_only: self.declared.is_none(),
        }
    }
}

struct Planner<'a, 'b> {
    inputs: &'b Inputs<'a>,
    records: &'b Records,
    moved: &'b BTreeMap<Address, Address>,
    /// By host, the highest generation that a record of its contents was made in.
    remembered: BTreeMap<&'b Address, u32>,
    /// By name, what gives it up.
    freed: BTreeMap<Name, RecordKey>,
    /// Whose open calls could be told.
    resolved: BTreeSet<&'b RecordKey>,
    known: &'b ByKey<'b, Known<'b>>,
    nodes: ByKey<'b, PlanNode>,
    drift: Vec<Drift>,
}

impl Planner<'_, '_> {
    fn declared(&self, key: &RecordKey) -> Option<&Arc<Declaration>> {
        self.known.get(key).and_then(|known| known.declared)
    }

    fn schema(&self, address: &Address) -> Result<&KindSchema, PlanError> {
        self.inputs.schemas.schema(address.kind()).ok_or_else(|| PlanError::UnknownKind { address: address.clone() })
    }

    /// A resource outside `--target`: as recorded, not looked at.
    fn leave_out(&mut self, key: &RecordKey) {
        let Some(record) = self.records.get(key) else { return };
        let moved_from = self.moved.get(&key.address).filter(|_| key.deposed.is_none()).cloned();
        let mut node = crate::classify::untouched(key, record, moved_from);
        let host = record.declaration.host.clone().map(RecordKey::current).and_then(|host| self.nodes.get(&host));
        if let Some(host) = host.filter(|host| matches!(host.action, Action::Replace { .. } | Action::Delete)) {
            // The host is what the plan is about, and takes along what is in it, asked for or not.
            node.action = Action::Delete;
            node.reason = crate::classify::reason_of_loss(host);
            node.with_host = true;
            node.after = None;
            let schema = self.inputs.schemas.schema(key.address.kind());
            node.loses = schema.and_then(|schema| schema.holds_data).map(str::to_owned);
        }
        self.nodes.insert(key, node);
    }

    fn judge(&mut self, number: usize) -> Result<(), PlanError> {
        let Some(&Known { declared, record, observed }) = self.known.at(number) else { return Ok(()) };
        let key = &self.known.numbers().keys()[number];
        let schema = self.schema(&key.address)?;
        let host_address =
            record.map(|record| &record.declaration).or(declared).and_then(|declaration| declaration.host.as_ref());
        // Where it is, not where it will be: that is what was looked at.
        let host = host_address.map(|address| RecordKey::current(address.clone()));
        let host_node = host
            .as_ref()
            .and_then(|host| self.nodes.get(host))
            .map(|node| (node, self.host_state(node, record.map(Arc::as_ref))));
        let lost_host = host.clone().filter(|host| !self.is_in_plan(host));
        let wanted = declared.map(|declaration| {
            let mut wanted = self.resolved(declaration);
            if let Some(record) = record {
                let lifecycle = wanted.lifecycle.clone().over(&record.declaration.lifecycle);
                if lifecycle != wanted.lifecycle {
                    Arc::make_mut(&mut wanted).lifecycle = lifecycle;
                }
            }
            wanted
        });
        let import = declared
            .and_then(|declaration| self.inputs.declared.imports.iter().find(|import| import.to == declaration.address))
            .map(|import| import.id.as_str());
        let removal = self.inputs.declared.removed.iter().find(|removal| removal.from == key.address);
        let situation = Situation {
            key,
            schema,
            record,
            lost_host: lost_host.clone().filter(|_| declared.is_none()),
            wanted: wanted.as_ref(),
            declared,
            // A host leaves the state when it is deleted: what it held, and a kill left in the state, went with it.
            observed: match lost_host {
                Some(_) => Cow::Owned(Observed { observation: Observation::Absent, scope: None }),
                None => self.observed(key, observed, host_node),
            },
            host: host_node,
            preview: self.inputs.previews.get(key),
            import,
            removed_without_destroy: removal.is_some_and(|removal| !removal.destroy),
            removed: removal.is_some(),
            mode: &self.inputs.header.mode,
            lineage: &self.inputs.header.lineage,
            replace_requested: self.inputs.options.replace.iter().any(|selector| selector.matches(&key.address)),
            replaced_dependency: declared.and_then(|declaration| self.replaced_dependency(&declaration.edges)),
            name_freed_by: declared.filter(|_| record.is_none()).and_then(|declared| self.name_freed_by(key, declared)),
            // A record knows its own.
            last_generation: if record.is_none() { self.last_generation(&key.address) } else { None },
            interrupted: self.inputs.snapshot.open.get(key).map(|open| open.operation.as_str()),
            moved_from: self.moved.get(&key.address).filter(|_| key.deposed.is_none()).cloned(),
            record_is_known: true,
        };
        let Some(Judged { mut node, drift }) = judge(&situation) else { return Ok(()) };
        if node.action.is_change()
            && let Some(on) = declared.and_then(|declaration| self.blocked_need(declaration))
        {
            block(&mut node, on);
        }
        self.drift.extend(drift);
        self.nodes.insert(key, node);
        Ok(())
    }

    /// Whether what was looked for is not what is declared: a killed call was to make or delete it in another place or by another
    /// name, and turned out to have left nothing there.
    fn was_looked_for_elsewhere(&self, key: &RecordKey) -> bool {
        if self.known.get(key).is_some_and(|known| known.record.is_some()) {
            return false;
        }
        self.inputs.snapshot.records.get(key).is_some_and(|record| {
            self.declared(key).is_some_and(|declared| name_of(key, declared) != name_of(key, &record.declaration))
        })
    }

    fn is_in_plan(&self, key: &RecordKey) -> bool {
        self.known.get(key).is_some_and(|known| known.record.is_some() || known.declared.is_some())
    }

    /// The resource of another address that bears this name and gives it up in this plan: deleted, or made anew by another name.
    fn name_freed_by(&self, key: &RecordKey, declared: &Declaration) -> Option<RecordKey> {
        if self.freed.is_empty() {
            return None;
        }
        let name = name_of(key, declared);
        let bearer = self.freed.get(&name).filter(|bearer| *bearer != key)?;
        Some(bearer.clone())
    }

    /// The highest generation that is deposed at an address, or that records of its former contents remember.
    fn last_generation(&self, address: &Address) -> Option<u32> {
        let from = RecordKey { address: address.clone(), deposed: Some(0) };
        let to = RecordKey { address: address.clone(), deposed: Some(u32::MAX) };
        let deposed = self.records.range(from..=to).next_back().and_then(|(key, _)| key.deposed);
        deposed.max(self.remembered.get(address).copied())
    }

    fn host_state(&self, host: &PlanNode, record: Option<&Record>) -> HostState {
        let ready =
            match self.known.get(&host.key).and_then(|known| known.observed).map(|observed| &observed.observation) {
                Some(Observation::Present(seen)) => seen.readiness.is_ready(),
                // Its own host does not serve yet.
                Some(Observation::Unknown(UnknownReason::HostNotServing { .. })) => false,
                // Not looked at: what it holds was not looked at either, or by itself.
                _ => true,
            };
        HostState::of(host, ready, record)
    }

    fn observed<'s>(
        &'s self,
        key: &RecordKey,
        observed: Option<&'s Observed>,
        host: Option<(&PlanNode, HostState)>,
    ) -> Cow<'s, Observed> {
        let unknown = |reason| Cow::Owned(Observed { observation: Observation::Unknown(reason), scope: None });
        if let Some(open) = self.inputs.snapshot.open.get(key).filter(|_| !self.resolved.contains(key)) {
            // Why it cannot be told counts before the call that is open.
            return match observed {
                Some(observed)
                    if matches!(&observed.observation, Observation::Unknown(reason) if !matches!(reason, UnknownReason::NotRefreshed | UnknownReason::HostNotServing { .. }))
                        || (observed.scope.is_some()
                            && open.intent.scope.is_some()
                            && observed.scope != open.intent.scope) =>
                {
                    Cow::Borrowed(observed)
                }
                // Its host comes first: the step itself finds out what became of the call.
                _ => match host {
                    Some((host, HostState::NotServing)) => {
                        unknown(UnknownReason::HostNotServing { host: host.key.address.clone() })
                    }
                    _ => unknown(UnknownReason::OpenIntent {
                        operation: open.operation.clone(),
                        deadline_ms: open.intent.deadline_ms,
                    }),
                },
            };
        }
        match host {
            Some((_, HostState::Gone)) => Cow::Owned(Observed { observation: Observation::Absent, scope: None }),
            Some((host, HostState::Unknown)) => unknown(UnknownReason::HostUnknown { host: host.key.address.clone() }),
            Some((host, HostState::NotServing)) => {
                unknown(UnknownReason::HostNotServing { host: host.key.address.clone() })
            }
            _ => match observed {
                Some(_) if self.was_looked_for_elsewhere(key) => unknown(UnknownReason::NotRefreshed),
                Some(observed) => Cow::Borrowed(observed),
                None => unknown(UnknownReason::NotRefreshed),
            },
        }
    }

    fn resolved(&self, declaration: &Arc<Declaration>) -> Arc<Declaration> {
        if !declaration.spec.any_leaf(&|leaf| matches!(leaf, Value::Ref(_))) {
            return Arc::clone(declaration);
        }
        let spec = crate::resolve_references(&declaration.spec, &mut |reference| self.lookup(reference));
        Arc::new(Declaration { spec, ..declaration.as_ref().clone() })
    }

    /// The value that a reference has after the plan, if it is known now.
    fn lookup(&self, reference: &Reference) -> Option<Value> {
        let node = self.nodes.get(&RecordKey::current(reference.address.clone()))?;
        let known = |value: Option<&Value>| {
            value.and_then(|value| value.get(&reference.path)).filter(|value| !value.is_null()).cloned()
        };
        let declared = node.declaration.as_ref().map(|declaration| &declaration.spec);
        let schema = self.inputs.schemas.schema(reference.address.kind());
        let attribute = reference.path.to_string();
        let follows = || {
            let (follows, declaration) = (schema?.follows?, node.declaration.as_ref()?);
            let told = follows(&declaration.identity.name, &declaration.spec);
            told.into_iter().find(|(name, _)| *name == attribute).map(|(_, value)| value)
        };
        let is_kept = || attribute == "id" || schema.is_some_and(|schema| schema.keeps.contains(&attribute.as_str()));
        known(declared).or_else(|| match node.action {
            Action::NoOp | Action::Wait => known(node.after.as_ref()),
            Action::Update => follows().or_else(|| known(node.before.as_ref()).filter(|_| is_kept())),
            Action::Create | Action::Replace { .. } => follows(),
            _ => None,
        })
    }

    fn replaced_dependency(&self, edges: &[Edge]) -> Option<RecordKey> {
        edges
            .iter()
            .filter(|edge| edge.on_replace == ForceOn::Replace)
            .map(|edge| RecordKey::current(edge.to.clone()))
            .find(|key| {
                self.nodes.get(key).is_some_and(|node| {
                    matches!(node.action, Action::Replace { .. })
                        || (node.action == Action::Create && node.record.is_some())
                })
            })
    }

    fn blocked_need(&self, declaration: &Declaration) -> Option<RecordKey> {
        let hard = declaration.edges.iter().filter(|edge| edge.strength == ksail_model::Strength::Hard);
        hard.map(|edge| &edge.to)
            .chain(&declaration.host)
            .find(|on| self.nodes.current(on).is_some_and(|node| matches!(node.action, Action::Blocked { .. })))
            .map(|on| RecordKey::current(on.clone()))
    }
}

/// A first plan that meets things of this cluster with another lineage's mark makes nothing at all: whatever it made would
/// begin a second state, and then the first one would not count as lost any more.
fn begin_nothing_beside_another_state(inputs: &Inputs<'_>, nodes: &mut Nodes) {
    let is_of_this_cluster = |key: &RecordKey| {
        let seen = inputs.observations.get(key).and_then(|observed| observed.observation.seen());
        seen.and_then(|seen| seen.mark.as_ref()).is_some_and(|mark| mark.address.cluster() == key.address.cluster())
    };
    // What is in a place of the user's own is there for each of their clusters, and is no sign of a lost state.
    let is_apart =
        |node: &PlanNode| node.declaration.as_ref().is_some_and(|wanted| wanted.ownership == Ownership::Fields);
    let met = nodes.values().find(|node| {
        matches!(node.action, Action::Blocked { why: Blocked::NotOurs { .. } })
            && is_of_this_cluster(&node.key)
            && !is_apart(node)
    });
    let Some(of) = met.map(|node| node.key.clone()) else { return };
    for node in nodes.values_mut().filter(|node| node.action.is_change() || node.import.is_some()) {
        leave(node, Blocked::OtherState { of: of.clone() });
    }
}

/// What is left out although something that it cannot outlive is made anew: the one, and what stands on it.
fn torn_from(
    nodes: &Nodes,
    needs: &ByKey<'_, Needs<'_>>,
    left_out: &BTreeSet<RecordKey>,
) -> Vec<(RecordKey, RecordKey)> {
    let mut torn = Vec::new();
    for holder in left_out.iter().filter(|holder| nodes.get(holder).is_some_and(|node| !node.action.is_change())) {
        for edge in needs.get(holder).map(|needs| needs.edges).unwrap_or_default() {
            let key = RecordKey::current(edge.to.clone());
            let is_made_anew =
                nodes.get(&key).is_some_and(|node| matches!(node.action, Action::Replace { .. }) && !node.with_host);
            if is_made_anew && edge.on_replace == ForceOn::Replace {
                torn.push((key, holder.clone()));
            }
        }
    }
    torn
}

fn cannot_be_left_out(holder: &RecordKey) -> Blocked {
    Blocked::Refused {
        message: format!("{holder} is on it, cannot outlive it, and is left out"),
        hint: Some(format!("take {holder} out of --exclude, or leave both as they are")),
    }
}

/// What is to be deleted waits for the deletion of all that needs it; where that is blocked, so is this. And what is to
/// change stands on what is not blocked. Each of the two may bring about the other, until nothing more is to be blocked.
fn close_over_blocked(nodes: &mut Nodes) {
    let is_blocked = |node: &PlanNode| matches!(node.action, Action::Blocked { .. });
    let mut todo: Vec<RecordKey> =
        nodes.values().filter(|node| is_blocked(node)).map(|node| node.key.clone()).collect();
    if todo.is_empty() {
        return;
    }
    let standing = standing_on(nodes);
    while let Some(key) = todo.pop() {
        let Some(node) = nodes.get(&key) else { continue };
        // What its record stands on may not end.
        let mut blocks: Vec<RecordKey> = node
            .record
            .iter()
            .flat_map(|record| needed_by(&record.declaration))
            .map(RecordKey::current)
            .filter(|needed| {
                nodes.get(needed).is_some_and(|node| matches!(node.action, Action::Delete | Action::Replace { .. }))
            })
            .collect();
        // What stands on it may not change, and what goes with it does not go.
        blocks.extend(standing.get(&key).into_iter().flatten().cloned());
        for blocked in blocks {
            if let Some(node) = nodes.get_mut(&blocked).filter(|node| node.action.is_change()) {
                block(node, key.clone());
                todo.push(blocked);
            }
        }
    }
}

/// What a resource needs, its host included.
pub(crate) fn needed_by(declaration: &Declaration) -> impl Iterator<Item = Address> + '_ {
    let needed = declaration.edges.iter().filter(|edge| edge.is_need());
    needed.map(|edge| edge.to.clone()).chain(declaration.host.clone())
}

/// By host, the highest generation that a record of its contents was made in. A host that is made again is of a higher one,
/// so that what was in the former is not looked for in it.
fn remembered_generations(records: &Records) -> BTreeMap<&Address, u32> {
    let mut remembered: BTreeMap<&Address, u32> = BTreeMap::new();
    for record in records.values() {
        if let (Some(host), Some(generation)) = (&record.declaration.host, record.host_generation) {
            let known = remembered.entry(host).or_default();
            *known = generation.max(*known);
        }
    }
    remembered
}

/// Nothing is done to a node, because of another.
fn block(node: &mut PlanNode, on: RecordKey) {
    leave(node, Blocked::Dependency { on });
}

/// Nothing is done to a node.
fn leave(node: &mut PlanNode, why: Blocked) {
    node.action = Action::Blocked { why };
    node.reason = Reason::None;
    node.changes.clear();
    node.after = None;
    node.import = None;
    node.refreshed = None;
    node.with_host = false;
    node.loses = None;
}

/// By name outside, the record whose resource gives it up: its declaration is gone, or has another name.
fn freed_names(inputs: &Inputs<'_>, records: &Records, left_out: &BTreeSet<RecordKey>) -> BTreeMap<Name, RecordKey> {
    // Only what is made by a name that is borne can need this; mostly nothing is.
    if inputs.declared.declarations.keys().all(|address| records.contains_key(&RecordKey::current(address.clone()))) {
        return BTreeMap::new();
    }
    let kept =
        |address: &Address| inputs.declared.removed.iter().any(|removal| removal.from == *address && !removal.destroy);
    records
        .iter()
        .filter(|(key, _)| !left_out.contains(key) && (key.deposed.is_some() || !kept(&key.address)))
        .filter_map(|(key, record)| {
            let name = name_of(key, &record.declaration);
            let declared = inputs.declared.declarations.get(&key.address).filter(|_| key.deposed.is_none());
            declared.is_none_or(|declared| name_of(key, declared) != name).then(|| (name, key.clone()))
        })
        .collect()
}

/// By resource, what may not change while it is blocked.
fn standing_on(nodes: &Nodes) -> BTreeMap<RecordKey, Vec<RecordKey>> {
    let mut standing: BTreeMap<RecordKey, Vec<RecordKey>> = BTreeMap::new();
    let borne: BTreeMap<Name, &RecordKey> = nodes
        .values()
        .filter(|node| !matches!(node.action, Action::NoOp))
        .filter_map(|node| Some((name_of(&node.key, &node.record.as_ref()?.declaration), &node.key)))
        .collect();
    for node in nodes.values().filter(|node| node.action.is_change()) {
        let hard = node
            .declaration
            .iter()
            .flat_map(|declaration| &declaration.edges)
            .filter(|edge| edge.strength == ksail_model::Strength::Hard)
            .map(|edge| edge.to.clone());
        let declared_host = node.declaration.as_ref().and_then(|declaration| declaration.host.clone());
        let left_with = host_of(node).filter(|_| node.with_host);
        let bearer = node
            .declaration
            .as_ref()
            .and_then(|declaration| borne.get(&name_of(&node.key, declaration)))
            .filter(|bearer| ***bearer != node.key)
            .map(|bearer| (*bearer).clone());
        for needed in hard.chain(declared_host).map(RecordKey::current).chain(left_with).chain(bearer) {
            standing.entry(needed).or_default().push(node.key.clone());
        }
    }
    standing
}

/// A resource cannot be made before the old one is deleted if it needs something that is deleted before it is made anew,
/// or takes a name that is not free before: its own, or that of another that goes.
fn settle_replacement_order<'a>(order: impl Iterator<Item = &'a RecordKey>, nodes: &mut Nodes) {
    if !nodes.values().any(|node| node.action == Action::Replace { create_first: true }) {
        return;
    }
    let freed: BTreeSet<Name> = nodes
        .values()
        .filter(|node| matches!(node.action, Action::Delete | Action::Replace { .. }))
        .filter_map(|node| Some(name_of(&node.key, &node.record.as_ref().or(node.refreshed.as_ref())?.declaration)))
        .collect();
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
        let name_taken =
            node.declaration.as_ref().is_some_and(|declaration| freed.contains(&name_of(key, declaration)));
        if (needs_delete_first || name_taken)
            && let Some(node) = nodes.get_mut(key)
        {
            node.action = Action::Replace { create_first: false };
        }
    }
}

/// What finds a thing outside: provider, kind, host and name.
pub(crate) type Name = (String, String, Option<Address>, String);

/// The name of a resource outside.
pub(crate) fn name_of(key: &RecordKey, declaration: &Declaration) -> Name {
    (
        declaration.provider.clone(),
        key.address.kind().to_owned(),
        declaration.host.clone(),
        declaration.identity.name.clone(),
    )
}

/// What a resource lives or lived in.
pub(crate) fn host_of(node: &PlanNode) -> Option<RecordKey> {
    let declaration = node.record.as_ref().map(|record| &record.declaration).or(node.declaration.as_ref())?;
    declaration.host.clone().map(RecordKey::current)
}

/// Whether the plan ends a resource outside, by itself or with its host.
fn ends(nodes: &Nodes, key: &RecordKey) -> bool {
    nodes.get(key).is_some_and(|node| {
        matches!(node.action, Action::Delete | Action::Replace { .. })
            && (!node.with_host || host_of(node).is_some_and(|host| ends(nodes, &host)))
    })
}

fn refuse_protected(nodes: &Nodes) -> Result<(), PlanError> {
    let lost: Vec<(RecordKey, String)> = nodes
        .values()
        .filter(|node| {
            // While there is a declaration its word counts: what was protected can be given up by saying so. Where it says
            // nothing, it carries what is recorded.
            let declaration = node.declaration.as_ref().or(node.record.as_ref().map(|record| &record.declaration));
            declaration.is_some_and(|declaration| declaration.lifecycle.is_protected())
        })
        // What is gone with its host already is not lost by the plan.
        .filter(|node| !node.with_host || host_of(node).is_none_or(|host| ends(nodes, &host)))
        .filter_map(|node| match (&node.action, &node.reason) {
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

/// Whether a resource that nobody owns (read only) needs no steps of ours.
pub(crate) const fn is_read(declaration: &Declaration) -> bool {
    matches!(declaration.ownership, Ownership::Read)
}

/// The reason of a node that follows from a host's fate.
pub(crate) fn host_reason(host: &PlanNode) -> Reason {
    Reason::HostReplaced { host: host.key.clone() }
}
