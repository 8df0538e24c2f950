//! What only ksail knows, in objects named `ksail`.

use ksail_model::RecordKey;
use ksail_plan::{Action, Blocked, Drift, FieldChange, Mode, Plan, PlanNode};
use serde_json::{Value as Json, json};

use crate::words;

fn mode(plan: &Plan) -> &'static str {
    match plan.header.mode {
        Mode::Apply => "apply",
        Mode::Destroy => "destroy",
        Mode::RefreshOnly => "refresh-only",
        Mode::Undo { .. } => "undo",
        Mode::Recover => "recover",
    }
}

/// Of the plan.
pub(super) fn about_plan(plan: &Plan) -> Json {
    let header = &plan.header;
    let undoes = match &header.mode {
        Mode::Undo { operation } => Some(operation),
        _ => None,
    };
    json!({
        "version": header.version,
        "mode": mode(plan),
        "undoes": undoes,
        "stack": header.stack,
        "environment": header.environment,
        "source": header.source,
        "commit": header.commit,
        "lineage": header.lineage,
        "serial": header.serial,
        "new_state": header.new_state,
        "content_digest": plan.content_digest,
        "digest": plan.digest,
        "counts": plan.counts(),
        "steps": plan.steps.len(),
        "blocked": plan.nodes.values().filter_map(blocked).collect::<Vec<_>>(),
        "resolutions": plan.resolutions.iter().map(|resolution| json!({
            "operation": resolution.operation,
            "key": resolution.outcome.key,
            "what": words::resolution(resolution),
        })).collect::<Vec<_>>(),
        "yielded": plan.yielded.iter().map(|(key, edge)| json!({
            "key": key,
            "to": edge.to,
            "condition": edge.condition,
            "origin": edge.origin.to_string(),
        })).collect::<Vec<_>>(),
        "notes": plan.notes,
    })
}

fn blocked(node: &PlanNode) -> Option<Json> {
    let Action::Blocked { why } = &node.action else { return None };
    Some(json!({
        "address": node.key.address,
        "deposed": node.key.deposed,
        "why": kind_of(why),
        "on": on(why),
        "message": words::blocked(why),
        "hint": words::blocked_hint(&node.key, why),
    }))
}

const fn kind_of(why: &Blocked) -> &'static str {
    match why {
        Blocked::Unknown { .. } => "unknown",
        Blocked::Dependency { .. } => "dependency",
        Blocked::NotOurs { .. } => "not-ours",
        Blocked::OtherState { .. } => "other-state",
        Blocked::Unrecorded { .. } => "unrecorded",
        Blocked::Refused { .. } => "refused",
        Blocked::NothingToImport { .. } => "nothing-to-import",
    }
}

const fn on(why: &Blocked) -> Option<&RecordKey> {
    match why {
        Blocked::Dependency { on } | Blocked::OtherState { of: on } => Some(on),
        _ => None,
    }
}

/// What is done to a node, as a word.
pub(crate) const fn action(node: &PlanNode) -> &'static str {
    match node.action {
        Action::NoOp => "no-op",
        Action::Create => "create",
        Action::Update => "update",
        Action::Replace { .. } => "replace",
        Action::Delete => "delete",
        Action::Forget => "forget",
        Action::Wait => "wait",
        Action::Blocked { .. } => "blocked",
    }
}

fn causes(changes: &[FieldChange]) -> Json {
    changes.iter().map(|change| json!({ "path": change.path, "cause": change.cause })).collect()
}

/// What the state says otherwise from now on.
fn recorded(node: &PlanNode) -> Json {
    let changes = match node.action {
        Action::NoOp => node.recorded_only(),
        _ => node.lifecycle_changes(),
    };
    changes.iter().map(|change| json!({ "change": change, "message": words::record_change(change) })).collect()
}

/// Of a node.
pub(super) fn about_node(node: &PlanNode) -> Json {
    let protected = node.record.as_ref().is_some_and(|record| record.declaration.lifecycle.is_protected())
        || node.declaration.as_ref().is_some_and(|declaration| declaration.lifecycle.is_protected());
    json!({
        "key": node.key,
        "action": action(node),
        "reason": node.reason,
        "why": words::reason(&node.reason),
        "causes": causes(&node.changes),
        "generation": node.generation,
        "protected": protected,
        "recorded": recorded(node),
        "with_host": node.with_host,
        "loses": node.loses,
        "forecast": node.forecast,
        "scope": node.scope,
    })
}

/// Of drift.
pub(super) fn about_drift(drift: &Drift) -> Json {
    json!({ "key": drift.key, "response": drift.response, "what": words::response(drift), "causes": causes(&drift.changes) })
}
