//! Options in the query of a request. What a real server refuses of them is refused: a dry run that is misspelt must not become a write.

use axum::http::{Method, header};
use serde_json::Value;

use super::router::Asked;
use crate::status::{Cause, Status};
use crate::write::delete::DeleteOptions;
use crate::write::{Options, Validation};

/// The longest name of a field manager, in bytes.
const MAX_MANAGER: usize = 128;
const APPLY: &str = "application/apply-patch+yaml";

impl Asked {
    /// The options of a write.
    pub(crate) fn options(&self) -> Result<Options, Status> {
        let agent = self.header(header::USER_AGENT).split('/').next().unwrap_or_default();
        let agent = if agent.is_empty() { "unknown" } else { agent };
        let given = self.query("fieldManager");
        let mut causes = dry_run(&self.stages());
        if let Some(manager) = given {
            causes.extend(manager_causes(manager));
        }
        if self.method == Method::PATCH && self.content_type() != APPLY && self.query("force").is_some() {
            causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
        }
        let validation = match self.query("fieldValidation") {
            Some("Strict") => Validation::Strict,
            Some("Ignore") => Validation::Ignore,
            Some("Warn") | None => Validation::Warn,
            Some(other) => {
                causes.push(unsupported("fieldValidation", other.into(), &["", "Ignore", "Strict", "Warn"]));
                Validation::Warn
            }
        };
        let kind = match self.method {
            Method::POST => "CreateOptions",
            Method::PUT => "UpdateOptions",
            _ => "PatchOptions",
        };
        refuse(kind, &causes)?;
        Ok(Options {
            manager: given.unwrap_or(agent).to_owned(),
            dry_run: self.query("dryRun").is_some(),
            force: self.flag("force"),
            validation,
        })
    }

    /// The options of a deletion, of which a body may say more.
    pub(crate) fn delete_options(&self) -> Result<DeleteOptions, Status> {
        let mut causes = dry_run(&self.stages());
        let mut options = DeleteOptions {
            propagation: self.query("propagationPolicy").map(str::to_owned),
            grace: self.query("gracePeriodSeconds").and_then(|seconds| seconds.parse().ok()),
            dry_run: self.query("dryRun").is_some(),
            ..DeleteOptions::default()
        };
        if let Some(orphan) = self.query("orphanDependents") {
            options.propagation = Some(if orphan == "true" { "Orphan" } else { "Background" }.to_owned());
        }
        if !self.body.is_empty() {
            let body = self.object()?;
            causes.extend(dry_run(body["dryRun"].as_array().map_or(&[][..], Vec::as_slice)));
            if let (Some(policy), false) = (body["propagationPolicy"].as_str(), body["orphanDependents"].is_null()) {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                causes.push(Cause::invalid("propagationPolicy", &policy.into(), detail));
            }
            options.read(&body);
        }
        if let Some(policy) = &options.propagation
            && !["Foreground", "Background", "Orphan"].contains(&policy.as_str())
        {
            let allowed = ["Foreground", "Background", "Orphan", "nil"];
            causes.push(unsupported("propagationPolicy", policy.as_str().into(), &allowed));
        }
        refuse("DeleteOptions", &causes)?;
        Ok(options)
    }

    /// Judges what a list or a watch asks of versions.
    pub(crate) fn check_list(&self, watches: bool) -> Result<(), Status> {
        let path = "resourceVersionMatch";
        let (version, initial) = (self.query("resourceVersion"), self.query("sendInitialEvents"));
        let mut causes = Vec::new();
        if watches && initial.is_some() && self.query(path) != Some("NotOlderThan") {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(Cause::forbidden(path, why));
        }
        if let Some(wanted) = self.query(path) {
            let mut forbid = |why: &str| causes.push(Cause::forbidden(path, &format!("{path} is forbidden {why}")));
            if watches && initial.is_none() {
                forbid("for watch unless sendInitialEvents is provided");
            } else if !watches && version.is_none() {
                forbid("unless resourceVersion is provided");
            }
            if self.query("continue").is_some() {
                forbid("when continue is provided");
            }
            let allowed: &[&str] = if watches { &["NotOlderThan"] } else { &["Exact", "NotOlderThan", ""] };
            if !allowed.contains(&wanted) {
                causes.push(unsupported(path, wanted.into(), allowed));
            }
            if !watches && wanted == "Exact" && version == Some("0") {
                let why = format!("{path} \"exact\" is forbidden for resourceVersion \"0\"");
                causes.push(Cause::forbidden(path, &why));
            }
        }
        if !watches && initial.is_some() {
            causes.push(Cause::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        refuse("ListOptions", &causes)
    }

    /// A number of the query.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let parse = |text: &str| {
            text.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
        };
        self.query(name).map(parse).transpose()
    }

    /// What `dryRun` says, as a list.
    fn stages(&self) -> Vec<Value> {
        self.query("dryRun").map(|stage| vec![stage.into()]).unwrap_or_default()
    }
}

fn dry_run(stages: &[Value]) -> Vec<Cause> {
    let is_known = stages.iter().all(|stage| stage == "All");
    if is_known { Vec::new() } else { vec![unsupported("dryRun", Value::from(stages), &["All"])] }
}

fn manager_causes(manager: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    if manager.len() > MAX_MANAGER {
        let message = format!("Too long: may not be more than {MAX_MANAGER} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: "fieldManager".to_owned(), message });
    }
    if manager.chars().any(char::is_control) {
        let detail = "should only contain printable characters";
        causes.push(Cause::invalid("fieldManager", &manager.into(), detail));
    }
    causes
}

/// A value that is none of those that are allowed, which are told in their order.
fn unsupported(field: &str, value: Value, allowed: &[&str]) -> Cause {
    let allowed: Vec<String> = allowed.iter().map(|value| format!("{value:?}")).collect();
    let message = format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
    Cause { reason: "FieldValueNotSupported", field: field.to_owned(), message }
}

fn refuse(kind: &str, causes: &[Cause]) -> Result<(), Status> {
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", kind, "", causes)) }
}
