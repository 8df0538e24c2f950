//! What is done to one resource, and why.

mod compare;
mod refresh;

use std::borrow::Cow;
use std::sync::Arc;

use ksail_model::{
    Address, Declaration, Edge, KindSchema, Observation, Ownership, Path, Preview, Record, RecordKey, Seen, Status,
    UnknownReason, Value,
};

use crate::fields::{is_declared, is_ignored, keep_unknown_references};
use crate::plan::{Action, Blocked, Cause, Drift, DriftResponse, Mode, PlanNode, Reason, SeenAt};
use crate::{Observed, joined, seen_digest};

/// What a host is to what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostState {
    /// It serves, or was not looked at: what it holds was looked at by itself.
    Serving,
    /// It is there and does not serve yet; the plan makes it serve.
    NotServing,
    /// It is not there, or is made anew: what it held is gone.
    Gone,
    /// It is deleted, and takes with it what it holds.
    Going,
    /// It is not known.
    Unknown,
}

impl HostState {
    /// What `host` is to the resource of `record`.
    pub(crate) fn of(host: &PlanNode, ready: bool, record: Option<&Record>) -> Self {
        let other_generation =
            record.is_some_and(|record| record.host_generation.is_some_and(|made_in| made_in != host.generation));
        match &host.action {
            Action::Create | Action::Replace { .. } => Self::Gone,
            Action::Delete | Action::Forget => Self::Going,
            Action::Blocked { .. } => Self::Unknown,
            Action::NoOp | Action::Update | Action::Wait if other_generation => Self::Gone,
            Action::NoOp | Action::Update | Action::Wait => {
                if ready {
                    Self::Serving
                } else {
                    Self::NotServing
                }
            }
        }
    }
}

/// All that is known of one resource.
pub(crate) struct Situation<'a> {
    pub(crate) key: &'a RecordKey,
    pub(crate) schema: &'a KindSchema,
    pub(crate) record: Option<&'a Arc<Record>>,
    /// Its host, if that is neither recorded nor declared any more: nothing leads to it, and it went with its host.
    pub(crate) lost_host: Option<RecordKey>,
    /// The declaration with references resolved.
    pub(crate) wanted: Option<&'a Arc<Declaration>>,
    /// The declaration as it was written.
    pub(crate) declared: Option<&'a Arc<Declaration>>,
    pub(crate) observed: Cow<'a, Observed>,
    pub(crate) host: Option<(&'a PlanNode, HostState)>,
    pub(crate) preview: Option<&'a Preview>,
    pub(crate) import: Option<&'a str>,
    pub(crate) removed_without_destroy: bool,
    pub(crate) removed: bool,
    pub(crate) mode: &'a Mode,
    pub(crate) lineage: &'a str,
    pub(crate) replace_requested: bool,
    pub(crate) replaced_dependency: Option<RecordKey>,
    /// Which other resource bears the name now and gives it up.
    pub(crate) name_freed_by: Option<RecordKey>,
    /// The highest generation that is known to have been here, where there is no record.
    pub(crate) last_generation: Option<u32>,
    pub(crate) interrupted: Option<&'a str>,
    pub(crate) moved_from: Option<Address>,
    /// Whether the record was read, not made up from what was just seen.
    pub(crate) record_is_known: bool,
}

/// A judgement.
pub(crate) struct Judged {
    pub(crate) node: PlanNode,
    pub(crate) drift: Option<Drift>,
}

impl From<PlanNode> for Judged {
    fn from(node: PlanNode) -> Self {
        Self { node, drift: None }
    }
}

/// What was seen, once the scope is checked.
enum Sight<'a> {
    Present(&'a Seen),
    Absent,
    /// Judged by the record: looked at later, or not at all.
    ByRecord(SeenAt),
    Unknown(UnknownReason),
}

/// Judges one resource; `None` if there is nothing to say of it.
pub(crate) fn judge(situation: &Situation<'_>) -> Option<Judged> {
    if let (Some(host), Some(record)) = (&situation.lost_host, situation.record) {
        let mut node = situation.node(Action::Forget, Reason::HostDeleted { host: host.clone() }, SeenAt::NotLooked);
        node.before = Some(joined(&record.fields, &record.attributes));
        return Some(node.into());
    }
    if *situation.mode == Mode::RefreshOnly {
        return situation.refresh_only();
    }
    match (situation.wanted, situation.record) {
        (None, None) => None,
        (None, Some(record)) => Some(situation.undeclared(record)),
        (Some(wanted), None) => Some(situation.unrecorded(wanted)),
        (Some(wanted), Some(record)) => Some(situation.managed(wanted, record)),
    }
}

/// A resource that the plan is not about: as recorded.
pub(crate) fn untouched(key: &RecordKey, record: &Arc<Record>, moved_from: Option<Address>) -> PlanNode {
    let known = joined(&record.fields, &record.attributes);
    PlanNode {
        key: key.clone(),
        action: Action::NoOp,
        reason: Reason::None,
        changes: Vec::new(),
        before: Some(known.clone()),
        after: Some(known),
        declaration: None,
        record: Some(Arc::clone(record)),
        seen: SeenAt::NotLooked,
        scope: record.scope.clone(),
        generation: record.generation,
        import: None,
        moved_from,
        with_host: false,
        loses: None,
        forecast: Vec::new(),
        others: Vec::new(),
        refreshed: None,
    }
}

impl Situation<'_> {
    fn sight(&self) -> Sight<'_> {
        let observed = self.observed.as_ref();
        if let (Some(recorded), Some(found)) = (self.record.and_then(|record| record.scope.as_ref()), &observed.scope)
            && recorded != found
        {
            return Sight::Unknown(UnknownReason::OtherScope { recorded: recorded.clone(), found: found.clone() });
        }
        // What bears the name of a deposed thing may be its successor.
        let successor = |seen: &Seen| {
            let ours = seen.mark.as_ref().filter(|mark| mark.lineage == self.lineage);
            self.key.deposed.is_some_and(|generation| ours.is_some_and(|mark| mark.generation != generation))
        };
        match &observed.observation {
            Observation::Present(seen) if successor(seen) => Sight::Absent,
            Observation::Present(seen) => Sight::Present(seen),
            Observation::Absent => Sight::Absent,
            Observation::Unknown(UnknownReason::HostNotServing { .. }) => Sight::ByRecord(SeenAt::Deferred),
            Observation::Unknown(UnknownReason::NotRefreshed) => Sight::ByRecord(SeenAt::NotLooked),
            Observation::Unknown(reason) => Sight::Unknown(reason.clone()),
        }
    }

    fn node(&self, action: Action, reason: Reason, seen: SeenAt) -> PlanNode {
        PlanNode {
            key: self.key.clone(),
            action,
            reason,
            changes: Vec::new(),
            before: None,
            after: None,
            declaration: self.wanted.map(|wanted| self.with_written_references(wanted)),
            record: self.record.cloned(),
            seen,
            scope: self.observed.scope.clone().or_else(|| self.record.and_then(|record| record.scope.clone())),
            generation: self.record.map_or_else(|| self.first_generation(), |record| record.generation),
            import: None,
            moved_from: self.moved_from.clone(),
            with_host: false,
            loses: None,
            forecast: Vec::new(),
            others: match self.sight() {
                Sight::Present(seen) => seen.others.clone(),
                _ => Vec::new(),
            },
            refreshed: None,
        }
    }

    /// The generation of what has no record: above all that were before.
    fn first_generation(&self) -> u32 {
        self.last_generation.map_or(1, |last| last + 1)
    }

    /// The declaration as the plan carries it: references that are known are resolved, the others stay references.
    fn with_written_references(&self, wanted: &Arc<Declaration>) -> Arc<Declaration> {
        let Some(declared) = self.declared else { return Arc::clone(wanted) };
        if !wanted.spec.any_leaf(&|leaf| *leaf == Value::Unknown) {
            return Arc::clone(wanted);
        }
        let spec = keep_unknown_references(&declared.spec, &wanted.spec);
        Arc::new(Declaration { spec, ..wanted.as_ref().clone() })
    }

    fn blocked(&self, why: Blocked) -> PlanNode {
        let mut node = self.node(Action::Blocked { why }, Reason::None, SeenAt::NotLooked);
        node.before = self.record.map(|record| joined(&record.fields, &record.attributes));
        node
    }

    fn seen_at(&self) -> SeenAt {
        match self.sight() {
            Sight::Present(seen) => SeenAt::Present { digest: seen_digest(seen) },
            Sight::Absent => SeenAt::Absent,
            Sight::ByRecord(how) => how,
            Sight::Unknown(_) => SeenAt::NotLooked,
        }
    }

    /// A record without a declaration.
    fn undeclared(&self, record: &Record) -> Judged {
        let before = Some(joined(&record.fields, &record.attributes));
        if let Some((host, HostState::Going | HostState::Gone)) = self.host {
            let stays = host.action == Action::Forget && host.reason != Reason::DeletedOutside;
            let action = if stays { Action::Forget } else { Action::Delete };
            let mut node = self.node(action, reason_of_loss(host), SeenAt::NotLooked);
            if stays {
                node.before = before;
                return node.into();
            }
            node.with_host = true;
            node.before = before;
            node.loses = self.schema.holds_data.map(str::to_owned);
            return node.into();
        }
        let reason = match (self.mode, self.key.deposed) {
            (_, Some(_)) => Reason::Deposed,
            (Mode::Destroy, _) => Reason::Destroy,
            _ if self.removed => Reason::Removed,
            _ => Reason::NoLongerDeclared,
        };
        if self.removed_without_destroy || record.declaration.ownership == Ownership::Read {
            let mut node = self.node(Action::Forget, reason, SeenAt::NotLooked);
            node.before = before;
            return node.into();
        }
        match self.sight() {
            Sight::Unknown(reason) => self.blocked(Blocked::Unknown { reason }).into(),
            Sight::Absent => {
                let mut node = self.node(Action::Forget, Reason::DeletedOutside, SeenAt::Absent);
                node.before = before;
                Judged { node, drift: Some(self.deleted_drift(DriftResponse::Agrees)) }
            }
            Sight::Present(seen) => {
                if let Some(why) = self.in_place_of_ours(record, seen) {
                    return self.blocked(why).into();
                }
                let mut node = self.node(Action::Delete, reason, self.seen_at());
                node.before = Some(joined(&seen.fields, &seen.attributes));
                node.loses = self.loses();
                let drift = self.field_drift(record, seen, |_| DriftResponse::Left);
                Judged { node, drift }
            }
            Sight::ByRecord(how) => {
                let mut node = self.node(Action::Delete, reason, how);
                node.before = before;
                node.loses = self.loses();
                node.into()
            }
        }
    }

    /// Why nothing is done to what was seen in the place of what is recorded: it carries another lineage's mark, or none
    /// although ours was made with one. What was adopted never had a mark, and what is shared or read is not known by one.
    fn in_place_of_ours(&self, record: &Record, seen: &Seen) -> Option<Blocked> {
        let is_ours = match &seen.mark {
            Some(mark) => mark.lineage == self.lineage,
            None => record.adopted,
        };
        let is_known_by_mark = matches!(record.declaration.ownership, Ownership::Owned | Ownership::Fields);
        if is_ours || !is_known_by_mark {
            return None;
        }
        let name = record.declaration.identity.name.clone();
        Some(Blocked::NotOurs { owner: owner_of(seen), name, recorded: true })
    }

    fn loses(&self) -> Option<String> {
        let shared = self.record.is_some_and(|record| record.declaration.ownership == Ownership::Shared);
        self.schema.holds_data.filter(|_| !shared).map(str::to_owned)
    }

    /// A declaration without a record.
    fn unrecorded(&self, wanted: &Arc<Declaration>) -> Judged {
        match self.sight() {
            Sight::Unknown(reason) => self.blocked(Blocked::Unknown { reason }).into(),
            Sight::Absent => match self.import {
                Some(id) => self.blocked(Blocked::NothingToImport { id: id.to_owned() }).into(),
                None if crate::planner::is_read(wanted) => self.nothing_to_read(wanted).into(),
                None => self.creation(Reason::Declared, SeenAt::Absent).into(),
            },
            // What exists already can only be found by looking.
            Sight::ByRecord(how) if self.import.is_some() || crate::planner::is_read(wanted) => {
                let reason = match (how, &self.observed.observation) {
                    (SeenAt::Deferred, Observation::Unknown(reason)) => reason.clone(),
                    _ => UnknownReason::NotRefreshed,
                };
                self.blocked(Blocked::Unknown { reason }).into()
            }
            Sight::ByRecord(how) => self.creation(Reason::Declared, how).into(),
            Sight::Present(seen) => {
                let ours = seen.mark.as_ref().is_some_and(|mark| mark.lineage == self.lineage);
                match self.import {
                    Some(id) if seen.mark.is_none() || ours => self.adoption(wanted, seen, Some(id), Reason::Imported),
                    _ if *self.mode == Mode::Recover && ours => self.adoption(wanted, seen, None, Reason::Imported),
                    _ if matches!(wanted.ownership, Ownership::Shared) => {
                        self.creation(Reason::Declared, self.seen_at()).into()
                    }
                    // Another of ours bears the name, and gives it up before.
                    None if self.name_is_freed(seen) => self.creation(Reason::Declared, self.seen_at()).into(),
                    // The way back from a record that was removed is the record.
                    _ if ours && matches!(self.mode, Mode::Undo { .. }) => {
                        self.adoption(wanted, seen, None, Reason::Imported)
                    }
                    _ if crate::planner::is_read(wanted) => self.adoption(wanted, seen, None, Reason::Declared),
                    _ if ours => self.blocked(Blocked::Unrecorded { name: wanted.identity.name.clone() }).into(),
                    _ => {
                        let name = wanted.identity.name.clone();
                        self.blocked(Blocked::NotOurs { owner: owner_of(seen), name, recorded: false }).into()
                    }
                }
            }
        }
    }

    fn name_is_freed(&self, seen: &Seen) -> bool {
        let bearer = seen.mark.as_ref().filter(|mark| mark.lineage == self.lineage).map(|mark| &mark.address);
        bearer.is_some_and(|address| self.name_freed_by.as_ref().is_some_and(|key| key.address == *address))
    }

    fn creation(&self, reason: Reason, seen: SeenAt) -> PlanNode {
        let mut node = self.node(Action::Create, reason, seen);
        node.generation = self.record.map_or_else(|| self.first_generation(), |record| record.generation + 1);
        // It is made where its host will be then, which is another outside than the one it was recorded in.
        node.scope.clone_from(&self.observed.scope);
        if let Some(wanted) = self.wanted {
            node.after = Some(self.after_creation(wanted));
            let interrupted = matches!(node.reason, Reason::DeletedOutside)
                && self.record.is_some_and(|record| record.status == Status::Creating);
            if interrupted {
                node.reason = Reason::Interrupted;
            }
        }
        match self.preview {
            Some(Preview::Refused { message, hint }) => {
                self.blocked(Blocked::Refused { message: message.clone(), hint: hint.clone() })
            }
            _ => node,
        }
    }

    /// What is only looked at is never made.
    fn nothing_to_read(&self, wanted: &Declaration) -> PlanNode {
        self.blocked(Blocked::NothingToImport { id: wanted.identity.name.clone() })
    }

    /// The declared fields, what follows from them, and the other computed ones as unknowns.
    fn after_creation(&self, wanted: &Declaration) -> Value {
        let mut after = wanted.spec.clone();
        let computed = self.schema.fields.iter().filter(|field| field.computed);
        for field in computed {
            if after.get(&field.path).is_none_or(Value::is_null) {
                after.set(&field.path, Value::Unknown);
            }
        }
        if after.as_map().is_some_and(|map| !map.contains_key("id")) {
            after.set(&Path::key("id"), Value::Unknown);
        }
        if let Value::Map(map) = &mut after {
            let follows = self.schema.follows.map(|follows| follows(&wanted.identity.name, &wanted.spec));
            for (attribute, value) in follows.into_iter().flatten() {
                map.insert(attribute.to_owned(), value);
            }
        }
        after
    }

    /// Something that exists becomes ours.
    fn adoption(&self, wanted: &Arc<Declaration>, seen: &Seen, import: Option<&str>, reason: Reason) -> Judged {
        let mut declaration = Arc::clone(wanted);
        if let Some(id) = import {
            Arc::make_mut(&mut declaration).identity =
                ksail_model::Identity { name: id.to_owned(), id: seen.id.clone() };
        }
        let record = Arc::new(Record {
            declaration,
            id: seen.id.clone(),
            fields: seen.fields.clone(),
            attributes: seen.attributes.clone(),
            scope: self.observed.scope.clone(),
            generation: seen.mark.as_ref().map_or(1, |mark| mark.generation),
            host_generation: self.host.as_ref().and_then(|(host, _)| host.record.as_ref()).map(|host| host.generation),
            adopted: seen.mark.is_none(),
            status: Status::from(&seen.readiness),
            operation: seen.mark.as_ref().map(|mark| mark.operation.clone()).unwrap_or_default(),
            durations: ksail_model::Durations::default(),
        });
        let adopted = Situation {
            record: Some(&record),
            import: None,
            observed: self.observed.clone(),
            host: self.host,
            wanted: Some(wanted),
            moved_from: None,
            replaced_dependency: None,
            name_freed_by: None,
            lost_host: None,
            record_is_known: false,
            ..*self
        };
        let Judged { mut node, drift: _ } = adopted.managed(wanted, &record);
        node.import = Some(import.map_or_else(|| seen.id.clone().unwrap_or_default(), str::to_owned));
        node.refreshed = Some(record);
        node.record = None;
        if matches!(node.action, Action::Blocked { .. }) {
            node.import = None;
            node.refreshed = None;
        }
        if node.action == Action::NoOp {
            node.reason = reason;
        }
        // It was never as declared: what differs is not drift.
        for change in node.changes.iter_mut().filter(|change| change.cause == Cause::Drifted) {
            change.cause = Cause::Declared;
        }
        if node.reason == Reason::Drifted {
            node.reason = Reason::DeclarationChanged;
        }
        node.into()
    }

    /// A declaration with a record.
    fn managed(&self, wanted: &Arc<Declaration>, record: &Record) -> Judged {
        match self.sight() {
            Sight::Unknown(reason) => self.blocked(Blocked::Unknown { reason }).into(),
            Sight::Absent if crate::planner::is_read(wanted) => self.nothing_to_read(wanted).into(),
            Sight::Absent => {
                if let Some((host, HostState::Gone)) = self.host {
                    let mut node = self.creation(crate::planner::host_reason(host), SeenAt::Absent);
                    if node.action == Action::Create {
                        node.action = Action::Replace { create_first: false };
                        node.with_host = true;
                        node.before = Some(joined(&record.fields, &record.attributes));
                        node.loses = self.loses();
                    }
                    return node.into();
                }
                let node = self.creation(Reason::DeletedOutside, SeenAt::Absent);
                Judged { node, drift: Some(self.deleted_drift(DriftResponse::Reverted)) }
            }
            // A killed operation left a call open in a host that does not serve yet: once it does, the step finds out what
            // became of the call, and makes it again where it had not been made.
            Sight::ByRecord(SeenAt::Deferred) if self.interrupted.is_some() && !record_is_whole(record) => {
                self.half_done(wanted, record).into()
            }
            Sight::ByRecord(how) => self.compared(wanted, record, &record.fields, None, how).into(),
            Sight::Present(seen) => {
                if let Some(why) = self.in_place_of_ours(record, seen) {
                    return self.blocked(why).into();
                }
                let node = self.compared(wanted, record, &seen.fields, Some(seen), self.seen_at());
                let changed: Vec<&Path> = node.changes.iter().map(|change| &change.path).collect();
                let replaced = matches!(node.action, Action::Replace { .. });
                let blocked = matches!(node.action, Action::Blocked { .. });
                let drift = self.field_drift(record, seen, |path| {
                    if blocked {
                        DriftResponse::Left
                    } else if replaced || changed.iter().any(|changed| changed.covers(path) || path.covers(changed)) {
                        DriftResponse::Reverted
                    } else if is_ignored(wanted, path) || !is_declared(wanted, path) {
                        DriftResponse::Left
                    } else {
                        DriftResponse::Agrees
                    }
                });
                Judged { node, drift }
            }
        }
    }

    /// What a killed operation left half made or half deleted in a host that does not serve yet: made where the call was
    /// for what is wanted now, else made anew.
    fn half_done(&self, wanted: &Arc<Declaration>, record: &Record) -> PlanNode {
        // A record that is being deleted tells what it was; one that is being made, what it shall be.
        let was = match record.status {
            Status::Creating => &record.declaration.spec,
            _ => &record.fields,
        };
        let mut node = self.compared(wanted, record, was, None, SeenAt::Deferred);
        match node.action {
            Action::NoOp | Action::Wait => {
                let mut node = self.creation(Reason::Interrupted, SeenAt::Deferred);
                node.generation = record.generation;
                node
            }
            Action::Update => {
                node.action = Action::Replace { create_first: false };
                node.generation = record.generation + 1;
                node
            }
            _ => node,
        }
    }
}

/// Whose a thing is, where its mark tells.
fn owner_of(seen: &Seen) -> Option<String> {
    seen.mark.as_ref().map(|mark| format!("lineage {} ({})", mark.lineage, mark.address))
}

/// Whether two declarations have the same edges; where they came from does not count.
fn same_edges(old: &Declaration, new: &Declaration) -> bool {
    let same = |old: &Edge, new: &Edge| {
        old.to == new.to
            && old.condition == new.condition
            && old.strength == new.strength
            && old.on_replace == new.on_replace
    };
    old.edges.len() == new.edges.len() && old.edges.iter().zip(&new.edges).all(|(old, new)| same(old, new))
}

/// Whether a record tells what the thing is: not while its create or its delete is open.
const fn record_is_whole(record: &Record) -> bool {
    !matches!(record.status, Status::Creating | Status::Deleting)
}

/// Why what lives in a host that ends is lost.
pub(crate) fn reason_of_loss(host: &PlanNode) -> Reason {
    match host.action {
        Action::Replace { .. } => Reason::HostReplaced { host: host.key.clone() },
        _ => Reason::HostDeleted { host: host.key.clone() },
    }
}
