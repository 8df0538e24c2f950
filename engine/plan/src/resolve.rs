//! What is resolved before the diff: calls of a killed operation, by what was seen of them.

use std::collections::BTreeMap;

use ksail_model::{KindSchema, Mark, Observation, RecordKey, Schemas, Seen, Value};
use ksail_records::{Call, OpenIntent, Outcome, OutcomeKind, Snapshot};

use crate::diff::diff;
use crate::{Observed, Resolution};

/// What became of the open intents that can be told now. An intent that is left out stays open.
pub fn resolve_open_intents(
    snapshot: &Snapshot,
    observations: &BTreeMap<RecordKey, Observed>,
    schemas: &dyn Schemas,
    now_ms: u64,
) -> Vec<Resolution> {
    snapshot
        .open
        .iter()
        .filter_map(|(key, open)| {
            let observed = observations.get(key)?;
            let schema = schemas.schema(key.address.kind());
            let kind = resolve(open, observed, &snapshot.lineage, schema, now_ms)?;
            Some(Resolution {
                operation: open.operation.clone(),
                outcome: Outcome { key: key.clone(), kind, took_ms: None },
            })
        })
        .collect()
}

fn resolve(
    open: &OpenIntent,
    observed: &Observed,
    lineage: &str,
    schema: Option<&KindSchema>,
    now_ms: u64,
) -> Option<OutcomeKind> {
    // Another outside answers: what it holds says nothing of the call.
    if let (Some(called), Some(found)) = (&open.intent.scope, &observed.scope)
        && called != found
    {
        return None;
    }
    let over = schema.is_some_and(|schema| schema.repeat_safe) || now_ms > open.intent.deadline_ms;
    let not_done = |message: &str| OutcomeKind::NotDone { message: message.to_owned() };
    match (open.intent.call, &observed.observation) {
        (_, Observation::Unknown(_)) => None,
        (Call::Create, Observation::Present(seen)) => {
            let intent = &open.intent;
            let is_ours = |mark: &Mark| mark.is_of(lineage, &intent.key.address, intent.generation);
            let ours = seen.mark.as_ref().is_some_and(is_ours);
            if ours { applied(seen, observed) } else { Some(not_done("its create had not been made")) }
        }
        (Call::Create, Observation::Absent) => over.then(|| not_done("its create had not been made")),
        (Call::Update, Observation::Present(seen)) => {
            let wanted = open.intent.declaration.as_ref().map(|declaration| &declaration.spec);
            match (wanted, schema) {
                (Some(wanted), Some(schema)) if diff(&seen.fields, wanted, schema).is_empty() => {
                    applied(seen, observed)
                }
                _ => Some(not_done("its update had not been made")),
            }
        }
        (Call::Update, Observation::Absent) => Some(not_done("it is gone")),
        (Call::Delete, Observation::Absent) => Some(OutcomeKind::Deleted),
        (Call::Delete, Observation::Present(_)) => Some(not_done("its delete had not been made")),
    }
}

fn applied(seen: &Seen, observed: &Observed) -> Option<OutcomeKind> {
    Some(OutcomeKind::Applied {
        id: seen.id.clone(),
        fields: seen.fields.clone(),
        attributes: seen.attributes.clone(),
        scope: observed.scope.clone()?,
        readiness: seen.readiness.clone(),
    })
}

/// Fields and attributes joined into one map, as people see a resource; on equal names the field wins.
pub fn joined(fields: &Value, attributes: &Value) -> Value {
    let mut map = attributes.as_map().cloned().unwrap_or_default();
    if let Some(fields) = fields.as_map() {
        map.extend(
            fields.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())),
        );
    }
    Value::Map(map)
}
