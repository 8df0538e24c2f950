//! A plan as Terraform's plan JSON, so that tools which read that read this.
//!
//! Every key outside a `ksail` object is one of Terraform's, with Terraform's type. Blocked nodes are in none of
//! Terraform's lists of changes, where a tool could take them for unchanged: they stand in `ksail.blocked`, and `complete`
//! is false.

mod changes;
mod configuration;
mod own;
mod resources;
mod values;

use std::collections::BTreeMap;

use jiff::{Timestamp, Unit};
use ksail_model::{Schemas, Value};
use ksail_plan::{Action, Explanation, Plan, PlanNode};
use serde_json::{Map, Value as Json};

pub(crate) use self::own::action;
use self::values::object;
use crate::mask::Mask;
use crate::printable::is_hostile;
use crate::words;

/// The version of the plan JSON's form.
pub const FORMAT_VERSION: &str = "1.2";

/// The version of the state's form within it.
const STATE_FORMAT_VERSION: &str = "1.0";

/// The Terraform whose form this is. Tools ask for a minimum here; the version of ksail is `ksail.version`.
pub const TERRAFORM_VERSION: &str = "1.11.4";

/// The plan as JSON. Sensitive values are null, and flagged in `before_sensitive`, `after_sensitive` and
/// `sensitive_values`.
pub fn plan_json(plan: &Plan, schemas: &dyn Schemas) -> Json {
    let mut out = object([
        ("format_version", FORMAT_VERSION.into()),
        ("terraform_version", TERRAFORM_VERSION.into()),
        ("planned_values", resources::planned_values(plan, schemas)),
        ("resource_changes", changes::resource_changes(plan, schemas)),
        ("output_changes", changes::output_changes(plan, schemas)),
        ("configuration", configuration::configuration(plan, schemas)),
        ("timestamp", timestamp(plan.header.made_ms).into()),
        ("applyable", is_applyable(plan).into()),
        ("complete", plan.is_complete().into()),
        ("errored", false.into()),
        ("ksail", own::about_plan(plan)),
    ]);
    insert_list(&mut out, "resource_drift", changes::resource_drift(plan, schemas));
    insert_list(&mut out, "relevant_attributes", configuration::relevant_attributes(plan));
    values::set(&mut out, "prior_state", resources::prior_state(plan, schemas));
    Json::Object(out)
}

/// Outputs as `terraform output -json` writes them: `{name: {sensitive, value}}`, where a sensitive value is null.
pub fn outputs_json(outputs: &BTreeMap<String, Value>) -> Json {
    let output = |value: &Value| {
        let sensitive = value.any_leaf(&values::is_sensitive);
        let plain = if sensitive { Json::Null } else { values::plain(value) };
        Json::Object(object([("sensitive", sensitive.into()), ("value", plain)]))
    };
    Json::Object(outputs.iter().map(|(name, value)| (name.clone(), output(value))).collect())
}

/// An explanation as JSON: its own fields, with sensitive values as null and what is known after apply left out.
pub fn explanation_json(explanation: &Explanation, schemas: &dyn Schemas) -> Json {
    let mask = Mask::of_explanation(schemas.schema(explanation.key.address.kind()), explanation);
    let causes = explanation.causes.iter().map(|cause| {
        let sensitive = mask.hides(&cause.path);
        let side = |value: &Option<Value>| match value {
            Some(value) if !sensitive => values::plain(&mask.apply(value, &cause.path)),
            _ => Json::Null,
        };
        serde_json::json!({
            "path": cause.path,
            "before": side(&cause.before),
            "after": side(&cause.after),
            "after_unknown": cause.after.as_ref().is_some_and(|after| after.any_leaf(&values::is_unknown)),
            "sensitive": sensitive || [&cause.before, &cause.after].into_iter().flatten().any(|v| v.any_leaf(&values::is_sensitive)),
            "cause": cause.cause,
            "origin": cause.origin,
            "forces_replacement": cause.forces_replacement,
        })
    });
    serde_json::json!({
        "key": explanation.key,
        "action": explanation.action,
        "reason": explanation.reason,
        "why": words::reason(&explanation.reason),
        "declared_at": explanation.declared_at,
        "causes": causes.collect::<Vec<_>>(),
        "drift": explanation.drift.as_ref().map(own::about_drift),
        "needs": explanation.needs.iter().map(|(key, condition, origin)| serde_json::json!({
            "key": key, "condition": condition, "origin": origin,
        })).collect::<Vec<_>>(),
        "forces": explanation.forces.iter().map(|(key, action)| serde_json::json!({
            "key": key, "action": action,
        })).collect::<Vec<_>>(),
        "disturbs": explanation.disturbs,
        "loses": explanation.loses,
        "forecast": explanation.forecast,
        "others": explanation.others,
    })
}

/// JSON as text that is safe to print: characters that could steer a terminal are written as `\\u` escapes, which every
/// reader of JSON takes back. `pretty` breaks it into lines; without, it is one line and has no newline at its end.
pub fn text(json: &Json, pretty: bool) -> String {
    let text = if pretty { format!("{json:#}") } else { json.to_string() };
    if !text.contains(|c| c != '\n' && is_hostile(c)) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c != '\n' && is_hostile(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Terraform leaves out lists that are empty.
fn insert_list(out: &mut Map<String, Json>, key: &str, list: Vec<Json>) {
    values::set(out, key, (!list.is_empty()).then_some(Json::Array(list)));
}

/// Whether an apply would do anything.
fn is_applyable(plan: &Plan) -> bool {
    let takes_in = |node: &PlanNode| node.import.is_some() || node.moved_from.is_some() || node.refreshed.is_some();
    let acts = plan
        .nodes
        .values()
        .any(|node| node.action.is_change() || (takes_in(node) && !matches!(node.action, Action::Blocked { .. })));
    plan.has_changes() && (acts || !plan.resolutions.is_empty() || plan.changes_outputs())
}

/// RFC 3339 in UTC, to the second. Times that no calendar holds become the epoch.
fn timestamp(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .and_then(|time| time.round(Unit::Second).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_safe_and_reads_back() {
        let json = serde_json::json!({"a": "\u{1b}[2J\u{9b}\u{202e}\u{e0041}\n", "b": [1, null]});
        for pretty in [false, true] {
            let text = text(&json, pretty);
            assert!(!text.contains(|c| c != '\n' && is_hostile(c)), "{text}");
            assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), json);
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(timestamp(1_700_000_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(timestamp(u64::MAX), "1970-01-01T00:00:00Z");
    }
}
