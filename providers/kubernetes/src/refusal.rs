//! What an answer of the server means.

use http::StatusCode;
use ksail_model::{Path, Preview};
use ksail_provider::CallError;
use serde_json::Value as Json;

use crate::call::Reply;

/// The server says that it is not there.
pub(crate) fn is_absent(reply: &Reply) -> bool {
    reply.status == StatusCode::NOT_FOUND && reply.body["kind"] == "Status"
}

/// The server serves no such path: the kind, or its version, is gone. Of the thing itself that says nothing.
pub(crate) fn is_no_path(reply: &Reply) -> bool {
    reply.status == StatusCode::NOT_FOUND
        && matches!(&reply.body, Json::String(text) if text.contains("404 page not found"))
}

/// What the server says of an apply that does not fit the kind's schema, or holds a text that is no value of its field (a time,
/// base64). It answers both as a fault of its own.
const DOES_NOT_FIT: [&str; 2] = ["failed to create typed patch object", "failed to convert new object"];

fn does_not_fit(reply: &Reply) -> bool {
    let message = message(reply);
    reply.status == StatusCode::INTERNAL_SERVER_ERROR && DOES_NOT_FIT.iter().any(|words| message.contains(words))
}

/// Whether the same request may be answered otherwise in a moment.
pub(crate) fn may_pass(reply: &Reply) -> bool {
    reply.status == StatusCode::TOO_MANY_REQUESTS || (reply.status.is_server_error() && !does_not_fit(reply))
}

/// Whether an answer leaves open what became of a change: a gateway that lost its server, a timeout behind the server.
pub(crate) fn is_open(reply: &Reply) -> bool {
    match reply.status {
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => true,
        StatusCode::INTERNAL_SERVER_ERROR => !does_not_fit(reply) && !message(reply).contains("webhook"),
        _ => false,
    }
}

fn message(reply: &Reply) -> String {
    match &reply.body {
        Json::String(text) => text.trim().to_owned(),
        body => readable(body["message"].as_str().unwrap_or("it gave no reason")),
    }
}

/// Stands before a value that the server refuses.
const INVALID: &str = "Invalid value: ";
/// The longest value that is shown as the server writes it, in bytes.
const LONGEST_VALUE: usize = 80;

/// A message in which whole objects are left out, which the server writes as JSON or as values of Go.
fn readable(message: &str) -> String {
    let mut out = String::new();
    let mut rest = message;
    while let Some(at) = rest.find(INVALID) {
        let (before, value) = rest.split_at(at + INVALID.len());
        out.push_str(before);
        rest = value;
        if let Some(end) = end_of_value(value).filter(|end| *end > LONGEST_VALUE) {
            out.push_str("{…}");
            rest = &value[end..];
        }
    }
    out.push_str(rest);
    out
}

/// Where a value in braces or brackets ends, with the name of a type before it.
fn end_of_value(text: &str) -> Option<usize> {
    let is_of_type = |c: char| c.is_ascii_alphanumeric() || "._*&[]".contains(c);
    let start = text.find(['{', '[']).filter(|start| text[..*start].chars().all(is_of_type))?;
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < start) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => {
                depth = depth.checked_sub(1)?;
                // `[]string{…}` goes on after its first bracket.
                let follows = text[at + 1..].chars().next().is_some_and(|next| is_of_type(next) || next == '{');
                if depth == 0 && !follows {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// A read that failed.
pub(crate) fn of_read(place: &str, what: &str, reply: &Reply) -> CallError {
    let text = format!("{what} in {place}: {} ({})", message(reply), reply.status.as_u16());
    if may_pass(reply) {
        return with_wait(CallError::transient(text), reply);
    }
    with_hint(CallError::refused(text), reply)
}

/// A change that was answered and not made, or that may have been made.
pub(crate) fn of_change(place: &str, what: &str, reply: &Reply) -> CallError {
    let text = format!("{what} in {place}: {} ({})", told(reply), reply.status.as_u16());
    if is_open(reply) {
        return CallError::indeterminate(text);
    }
    if may_pass(reply) || is_race(reply) {
        return with_wait(CallError::transient(text), reply);
    }
    with_hint(CallError::refused(text), reply)
}

/// It is there in another version than the one that was sent.
fn is_race(reply: &Reply) -> bool {
    reply.status == StatusCode::CONFLICT
        && owners(reply).is_empty()
        && message(reply).contains("object has been modified")
}

fn with_wait(error: CallError, reply: &Reply) -> CallError {
    match reply.retry_after {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}

fn with_hint(error: CallError, reply: &Reply) -> CallError {
    match hint(reply) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn hint(reply: &Reply) -> Option<&'static str> {
    match reply.status {
        StatusCode::UNAUTHORIZED => Some("`kubectl auth whoami` tells whether the login works"),
        StatusCode::FORBIDDEN => Some("`kubectl auth can-i --list` tells what this login may do"),
        StatusCode::CONFLICT if !owners(reply).is_empty() => Some(TAKE_HINT),
        _ => None,
    }
}

/// How to take a field from its owner.
const TAKE_HINT: &str = "leave the field out, or let it be by `spec.lifecycle[].ignore`; \
                         the annotation `ksail.io/conflicts: take` takes it";

/// Fields that others own, with their owners.
fn owners(reply: &Reply) -> Vec<(String, String)> {
    let causes = reply.body["details"]["causes"].as_array().map_or(&[][..], Vec::as_slice);
    causes
        .iter()
        .filter(|cause| cause["reason"] == "FieldManagerConflict")
        .map(|cause| {
            let field = cause["field"].as_str().unwrap_or_default().trim_start_matches('.').to_owned();
            let owner = cause["message"].as_str().unwrap_or_default();
            let owner = owner.split('"').nth(1).unwrap_or(owner).to_owned();
            (field, owner)
        })
        .collect()
}

/// What the server said, with conflicts in our words.
fn told(reply: &Reply) -> String {
    let owners = owners(reply);
    if owners.is_empty() {
        return message(reply);
    }
    let told: Vec<String> = owners.iter().map(|(field, owner)| format!("{field} is owned by {owner}")).collect();
    told.join(", ")
}

/// What a refused dry run says of the change.
pub(crate) fn preview(reply: &Reply, exists: bool) -> Preview {
    match reply.status {
        // What it needs (a namespace, a ServiceAccount, the right to change it) may not be there yet or not be ours to have.
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Preview::Unavailable,
        StatusCode::UNPROCESSABLE_ENTITY if exists && immutable(reply).is_some() => {
            immutable(reply).unwrap_or(Preview::Unavailable)
        }
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST | StatusCode::CONFLICT => {
            Preview::Refused { message: told(reply), hint: hint(reply).map(str::to_owned) }
        }
        _ if does_not_fit(reply) => Preview::Refused { message: told(reply), hint: None },
        _ => Preview::Unavailable,
    }
}

/// The field that cannot be changed in place, where that is all that is wrong.
fn immutable(reply: &Reply) -> Option<Preview> {
    let causes = reply.body["details"]["causes"].as_array()?;
    let says = |cause: &Json| {
        let text = cause["message"].as_str().unwrap_or_default().to_ascii_lowercase();
        ["immutable", "may not be changed", "cannot be changed", "updates to ", "may not change"]
            .iter()
            .any(|word| text.contains(word))
    };
    if causes.is_empty() || !causes.iter().all(says) {
        return None;
    }
    let field = causes[0]["field"].as_str().unwrap_or_default();
    let path = Path::parse(field).unwrap_or_default();
    let told = readable(causes[0]["message"].as_str().unwrap_or_default());
    let told = told.lines().next().unwrap_or_default();
    // What is there and what shall be stands in the plan itself.
    let told = told.strip_prefix(INVALID).and_then(|rest| rest.strip_prefix("{…}: ")).unwrap_or(told);
    let why = format!("{field} cannot be changed in place: {told}");
    Some(Preview::ForcesReplacement { path, why })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reply(status: u16, body: Json) -> Reply {
        Reply { status: StatusCode::from_u16(status).unwrap(), retry_after: None, body }
    }

    #[test]
    fn a_conflict_names_field_and_owner() {
        let conflict = reply(
            409,
            json!({"kind": "Status", "reason": "Conflict", "message": "Apply failed", "details": {"causes": [
                {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using apps/v1", "field": ".spec.replicas"},
            ]}}),
        );
        let error = of_change("here", "change it", &conflict);
        assert_eq!(error.message, "change it in here: spec.replicas is owned by kubectl-edit (409)");
        assert_eq!(error.kind, ksail_provider::CallErrorKind::Refused);
    }

    #[test]
    fn answers_are_told_apart() {
        use ksail_provider::CallErrorKind::{Indeterminate, Refused, Transient};
        let kind = |status, text: &str| of_change("", "", &reply(status, json!({"message": text}))).kind;
        assert_eq!(kind(429, "too many"), Transient);
        assert_eq!(kind(503, "down"), Transient);
        assert_eq!(kind(500, "etcdserver: request timed out"), Indeterminate);
        assert_eq!(kind(500, "failed calling webhook \"x\""), Transient);
        assert_eq!(
            kind(500, "failed to create typed patch object (x): .spec.y: field not declared in schema"),
            Refused
        );
        let converted =
            "failed to convert new object (a/b; /v1, Kind=ConfigMap) to proper version: illegal base64 data";
        assert_eq!(kind(500, converted), Refused);
        assert_eq!(kind(504, "gateway"), Indeterminate);
        assert_eq!(kind(422, "invalid"), Refused);
        assert_eq!(kind(409, "the object has been modified; please apply your changes"), Transient);
    }

    #[test]
    fn immutable_fields_force_a_replacement() {
        let causes = json!([{"reason": "FieldValueInvalid", "message": "Invalid value: 1: field is immutable", "field": "spec.selector"}]);
        let found = preview(&reply(422, json!({"details": {"causes": causes}})), true);
        assert!(matches!(found, Preview::ForcesReplacement { path, .. } if path.to_string() == "spec.selector"));
    }

    #[test]
    fn whole_objects_are_left_out_of_reasons() {
        let template = json!({"metadata": {"labels": {"a": "}\"{"}}, "spec": {"containers": [{"name": "x", "image": "y", "args": ["--some", "thing"]}]}});
        let cause = format!("Invalid value: {template}: field is immutable");
        let causes = json!([{"reason": "FieldValueInvalid", "message": cause, "field": "spec.template"}]);
        let body = json!({"message": format!("Job.batch \"m\" is invalid: spec.template: {cause}"), "details": {"causes": causes}});
        let Preview::ForcesReplacement { why, .. } = preview(&reply(422, body.clone()), true) else { panic!("{body}") };
        assert_eq!(why, "spec.template cannot be changed in place: field is immutable");
        let error = of_change("here", "change it", &reply(422, body));
        assert_eq!(
            error.message,
            "change it in here: Job.batch \"m\" is invalid: spec.template: Invalid value: {…}: field is immutable (422)"
        );
        let go = format!(
            "Invalid value: core.PodTemplateSpec{{Spec:core.PodSpec{{Args:[]string{{{}}}}}}}: no",
            "\"--some\", ".repeat(20)
        );
        assert_eq!(readable(&go), "Invalid value: {…}: no");
        for short in [
            "Invalid value: \"x\": must be y",
            "Invalid value: 1: no",
            "spec: Required value",
            "Invalid value: {\"a\":1}: no",
            "Invalid value: {",
        ] {
            assert_eq!(readable(short), short);
        }
    }
}
