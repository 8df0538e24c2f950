//! What is there against what is recorded.

use std::sync::Arc;

use ksail_model::{Declaration, Path, Record, Seen, Status};

use super::{Judged, Sight, Situation, same_edges, untouched};
use crate::diff::diff;
use crate::fields::{fingerprints_kept, is_secret};
use crate::joined;
use crate::plan::{Action, Blocked, Cause, Drift, DriftResponse, FieldChange, Reason, SeenAt};

impl Situation<'_> {
    /// The record as it should be although nothing is done outside; `None` if it is so already.
    pub(super) fn refreshed(&self, wanted: &Arc<Declaration>, record: &Record, seen: &Seen) -> Option<Record> {
        let mut declaration = Arc::clone(wanted);
        if record.adopted {
            Arc::make_mut(&mut declaration).identity = record.declaration.identity.clone();
        }
        // Mostly they are equal to the last origin, which is cheaper to tell than digests are.
        let same_declaration = record.declaration == declaration
            || (record.declaration.digest() == declaration.digest()
                && same_edges(&record.declaration, &declaration)
                && fingerprints_kept(&record.declaration.spec, &declaration.spec));
        let same = same_declaration
            && record.id == seen.id
            && record.fields == seen.fields
            && record.attributes == seen.attributes
            && record.status == Status::Present
            && self.moved_from.is_none();
        (!same).then(|| Record {
            declaration,
            id: seen.id.clone(),
            fields: seen.fields.clone(),
            attributes: seen.attributes.clone(),
            scope: self.observed.scope.clone().or_else(|| record.scope.clone()),
            status: Status::from(&seen.readiness),
            ..record.clone()
        })
    }

    /// `--refresh-only`: what was seen is taken into the state.
    pub(super) fn refresh_only(&self) -> Option<Judged> {
        let record = self.record?;
        Some(match self.sight() {
            Sight::Unknown(reason) => self.blocked(Blocked::Unknown { reason }).into(),
            Sight::ByRecord(_) => untouched(self.key, record, self.moved_from.clone()).into(),
            Sight::Absent => {
                let mut node = self.node(Action::Forget, Reason::DeletedOutside, SeenAt::Absent);
                node.before = Some(joined(&record.fields, &record.attributes));
                Judged { node, drift: Some(self.deleted_drift(DriftResponse::Accepted)) }
            }
            Sight::Present(seen) => {
                if let Some(why) = self.in_place_of_ours(record, seen) {
                    return Some(self.blocked(why).into());
                }
                let mut node = untouched(self.key, record, self.moved_from.clone());
                node.seen = self.seen_at();
                node.after = Some(joined(&seen.fields, &seen.attributes));
                let drift = self.field_drift(record, seen, |_| DriftResponse::Accepted);
                let same = record.fields == seen.fields && record.attributes == seen.attributes && record.id == seen.id;
                if !same || record.status != Status::from(&seen.readiness) {
                    node.refreshed = Some(Arc::new(Record {
                        id: seen.id.clone(),
                        fields: seen.fields.clone(),
                        attributes: seen.attributes.clone(),
                        status: Status::from(&seen.readiness),
                        ..record.as_ref().clone()
                    }));
                }
                Judged { node, drift }
            }
        })
    }

    pub(super) fn deleted_drift(&self, response: DriftResponse) -> Drift {
        Drift { key: self.key.clone(), deleted: true, changes: Vec::new(), response }
    }

    /// What changed outside since it was recorded.
    pub(super) fn field_drift(
        &self,
        record: &Record,
        seen: &Seen,
        response: impl Fn(&Path) -> DriftResponse,
    ) -> Option<Drift> {
        if matches!(record.status, Status::Creating | Status::Deleting) || self.interrupted.is_some() {
            return None;
        }
        let changes: Vec<FieldChange> = diff(&record.fields, &seen.fields, self.schema)
            .into_iter()
            .map(|difference| FieldChange {
                forces_replacement: false,
                sensitive: self.schema.field(&difference.path).sensitive || is_secret(&difference),
                path: difference.path,
                before: difference.before,
                after: difference.after,
                cause: Cause::Drifted,
            })
            .collect();
        let worst = changes.iter().map(|change| response(&change.path)).min_by_key(|response| match response {
            DriftResponse::Reverted => 0,
            DriftResponse::Accepted => 1,
            DriftResponse::Left => 2,
            DriftResponse::Agrees => 3,
        })?;
        Some(Drift { key: self.key.clone(), deleted: false, changes, response: worst })
    }
}
