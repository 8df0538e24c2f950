//! What is there against what is declared: nothing to do, an update, or a replacement.

use std::sync::Arc;

use ksail_model::{Declaration, Preview, Readiness, Record, RecordKey, Seen, Status, Value};

use super::{Situation, record_is_whole};
use crate::diff::{Difference, diff};
use crate::fields::{after_update, is_ignored, is_secret};
use crate::ignored::with_ignored;
use crate::joined;
use crate::plan::{Action, Blocked, Cause, FieldChange, PlanNode, Reason, SeenAt};

impl Situation<'_> {
    /// Compares what is wanted with the fields as they are, or as they were recorded.
    pub(super) fn compared(
        &self,
        wanted: &Arc<Declaration>,
        record: &Record,
        current: &Value,
        seen: Option<&Seen>,
        how: SeenAt,
    ) -> PlanNode {
        let attributes = seen.map_or(&record.attributes, |seen| &seen.attributes);
        let (ignored, mut differences): (Vec<Difference>, Vec<Difference>) = self
            .differences(wanted, record, current)
            .into_iter()
            .partition(|difference| is_ignored(wanted, &difference.path));
        // Where the outside normalises, the texts of the declaration are no measure: what it says that the call would give is.
        let predicted = match self.preview {
            Some(Preview::Accepted { fields }) if self.schema.normalises => Some(fields),
            _ => None,
        };
        if let Some(fields) = predicted {
            differences = diff(current, fields, self.schema);
            differences.retain(|difference| !is_ignored(wanted, &difference.path));
        }
        let declared = wanted;
        // What is ignored is sent as it is, so that a change of something else leaves it alone.
        let wanted = &if ignored.is_empty() {
            Arc::clone(wanted)
        } else {
            let spec = with_ignored(&wanted.spec, current, &ignored, self.schema);
            Arc::new(Declaration { spec, ..wanted.as_ref().clone() })
        };
        let declared_since = diff(&record.declaration.spec, &wanted.spec, self.schema);
        let changes: Vec<FieldChange> = if crate::planner::is_read(wanted) {
            Vec::new()
        } else {
            differences.into_iter().map(|difference| self.change(difference, &declared_since)).collect()
        };
        let mut node = self.node(Action::NoOp, Reason::None, how);
        node.before = Some(joined(current, attributes));
        if let Some(reason) = self.replacement_reason(wanted, record, &changes)
            && !crate::planner::is_read(wanted)
        {
            let declared_since = diff(&record.declaration.spec, &declared.spec, self.schema);
            // It is made as declared: what was left alone as it was goes with it.
            let gone = ignored.into_iter().map(|difference| self.change(difference, &declared_since));
            let gone = gone.map(|change| FieldChange { forces_replacement: false, ..change });
            let changes = changes.into_iter().chain(gone).collect();
            return self.replacement(node, declared, reason, changes);
        }
        let not_ready = match (seen.map(|seen| &seen.readiness), &record.status) {
            (Some(Readiness::NotReady(why)), _) => Some(why.clone()),
            // It is looked at once its host serves.
            (None, Status::NotReady { why }) if node.seen == SeenAt::Deferred => Some(why.clone()),
            _ => None,
        };
        if !changes.is_empty() {
            if let Some(Preview::Refused { message, hint }) = self.preview {
                return self.blocked(Blocked::Refused { message: message.clone(), hint: hint.clone() });
            }
            node.action = Action::Update;
            node.reason = if self.interrupted.is_some() { Reason::Interrupted } else { self.update_reason(&changes) };
            node.after = Some(match predicted {
                Some(fields) => joined(fields, attributes),
                None => after_update(current, &wanted.spec, attributes, self.schema),
            });
            if !ignored.is_empty() {
                node.declaration = Some(self.with_written_references(wanted));
            }
            node.changes = changes;
        } else if let Some(why) = not_ready {
            node.action = Action::Wait;
            node.reason = Reason::NotReady { why };
            node.after.clone_from(&node.before);
            node.refreshed = seen.and_then(|seen| self.refreshed(wanted, record, seen)).map(Arc::new);
        } else {
            node.after.clone_from(&node.before);
            node.refreshed = seen.and_then(|seen| self.refreshed(wanted, record, seen)).map(Arc::new);
        }
        node
    }

    /// How the fields as they are differ from the declared ones. Where the outside normalises, a field whose declaration and
    /// whose value are both as they were does not differ.
    pub(super) fn differences(&self, wanted: &Declaration, record: &Record, current: &Value) -> Vec<Difference> {
        let mut differences = diff(current, &wanted.spec, self.schema);
        // What becomes ours now was never declared, and what a kill left was not seen whole: nothing is proven of them.
        let proven = self.record_is_known && self.interrupted.is_none() && record_is_whole(record);
        if self.schema.normalises && proven {
            let mut touched = diff(&record.declaration.spec, &wanted.spec, self.schema);
            touched.extend(diff(&record.fields, current, self.schema));
            differences.retain(|difference| {
                touched.iter().any(|other| other.path.covers(&difference.path) || difference.path.covers(&other.path))
            });
        }
        differences
    }

    /// `declared_since` is how the declaration differs from the one that was applied: what differs besides was changed
    /// outside.
    pub(super) fn change(&self, difference: Difference, declared_since: &[Difference]) -> FieldChange {
        let field = self.schema.field(&difference.path);
        let wanted = self.declared.and_then(|declared| declared.spec.get(&difference.path));
        let cause = if matches!(wanted, Some(Value::Ref(_))) || difference.after == Some(Value::Unknown) {
            Cause::Dependency
        } else if declared_since
            .iter()
            .any(|declared| declared.path.covers(&difference.path) || difference.path.covers(&declared.path))
        {
            Cause::Declared
        } else {
            Cause::Drifted
        };
        let forced_by_preview =
            matches!(self.preview, Some(Preview::ForcesReplacement { path, .. }) if path.covers(&difference.path));
        FieldChange {
            forces_replacement: field.forces_replacement || forced_by_preview,
            sensitive: field.sensitive || is_secret(&difference),
            path: difference.path,
            before: difference.before,
            after: difference.after,
            cause,
        }
    }

    pub(super) fn replacement_reason(
        &self,
        wanted: &Declaration,
        record: &Record,
        changes: &[FieldChange],
    ) -> Option<Reason> {
        if self.replace_requested {
            return Some(Reason::ReplaceRequested);
        }
        if let Some(dependency) = &self.replaced_dependency {
            return Some(Reason::DependencyReplaced { dependency: dependency.clone() });
        }
        let applied = &record.declaration;
        let elsewhere = (!record.adopted && applied.identity.name != wanted.identity.name)
            || applied.provider != wanted.provider
            || applied.host != wanted.host;
        if elsewhere {
            return Some(Reason::DeclarationChanged);
        }
        if let Some(Preview::ForcesReplacement { why, .. }) = self.preview
            && !changes.is_empty()
        {
            return Some(Reason::OutsideForces { why: why.clone() });
        }
        let forcing: Vec<FieldChange> = changes.iter().filter(|change| change.forces_replacement).cloned().collect();
        (!forcing.is_empty()).then(|| self.update_reason(&forcing))
    }

    pub(super) fn update_reason(&self, changes: &[FieldChange]) -> Reason {
        let has = |cause| changes.iter().any(|change| change.cause == cause);
        let dependency = changes.iter().filter(|change| change.cause == Cause::Dependency).find_map(|change| {
            let mut found = None;
            self.declared?.spec.walk(&mut |path, leaf| {
                if let Value::Ref(reference) = leaf
                    && (path.covers(&change.path) || change.path.covers(path))
                {
                    found.get_or_insert_with(|| RecordKey::current(reference.address.clone()));
                }
            });
            found
        });
        match dependency {
            Some(dependency) if !has(Cause::Declared) => Reason::DependencyChanged { dependency },
            _ if has(Cause::Declared) || !has(Cause::Drifted) => Reason::DeclarationChanged,
            _ => Reason::Drifted,
        }
    }

    pub(super) fn replacement(
        &self,
        mut node: PlanNode,
        wanted: &Declaration,
        reason: Reason,
        changes: Vec<FieldChange>,
    ) -> PlanNode {
        let create_first = wanted.lifecycle.create_before_destroy && self.schema.may_coexist.is_ok();
        node.action = Action::Replace { create_first };
        node.reason = reason;
        node.generation += 1;
        node.after = Some(self.after_creation(wanted));
        node.changes = changes;
        node.loses = self.loses();
        node
    }
}
