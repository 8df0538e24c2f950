//! Actions, reasons and blockages in words.

use ksail_model::{Others, Ownership, RecordKey, UnknownReason};
use ksail_plan::{Action, Blocked, Drift, DriftResponse, PlanNode, Reason, RecordChange, Resolution, StepDo};
use ksail_records::OutcomeKind;

use crate::page::Tone;

/// What others have of a resource.
pub(crate) fn others(others: &Others) -> String {
    let fields: Vec<String> = others.fields.iter().map(ToString::to_string).collect();
    match (fields.as_slice(), others.reconciles) {
        ([], _) => format!("{} manages it too", others.owner),
        (_, false) => format!("{} of {}", fields.join(", "), others.owner),
        (_, true) => format!("{} of {}, which manages it too", fields.join(", "), others.owner),
    }
}

/// The sign of an action and its tone. Signs are two or three columns wide at most, and distinct without colour.
pub(crate) fn sign(node: &PlanNode) -> (&'static str, Tone) {
    match &node.action {
        Action::NoOp => ("", Tone::Plain),
        Action::Create | Action::Update if is_read(node) => ("<=", Tone::Read),
        Action::Create => ("+", Tone::Add),
        Action::Update => ("~", Tone::Change),
        Action::Replace { create_first: false } => ("-/+", Tone::Remove),
        Action::Replace { create_first: true } => ("+/-", Tone::Remove),
        Action::Delete => ("-", Tone::Remove),
        Action::Forget => (".", Tone::Faint),
        Action::Wait => ("..", Tone::Read),
        Action::Blocked { .. } => ("!", Tone::Warn),
    }
}

/// What a sign means, in the order of the legend.
pub(crate) const LEGEND: [(&str, Tone, &str); 9] = [
    ("+", Tone::Add, "create"),
    ("~", Tone::Change, "update in-place"),
    ("-", Tone::Remove, "destroy"),
    ("-/+", Tone::Remove, "destroy and then create replacement"),
    ("+/-", Tone::Remove, "create replacement and then destroy"),
    ("<=", Tone::Read, "read"),
    (".", Tone::Faint, "forget: leave the state, stay outside"),
    ("..", Tone::Read, "wait until ready"),
    ("!", Tone::Warn, "blocked"),
];

/// Whether the resource is only looked at.
pub(crate) fn is_read(node: &PlanNode) -> bool {
    let declared = node.declaration.as_ref().or(node.record.as_ref().map(|record| &record.declaration));
    declared.is_some_and(|declaration| declaration.ownership == Ownership::Read)
}

/// Whether the resource is shared with other stacks.
fn is_shared(node: &PlanNode) -> bool {
    let declared = node.record.as_ref().map(|record| &record.declaration).or(node.declaration.as_ref());
    declared.is_some_and(|declaration| declaration.ownership == Ownership::Shared)
}

/// The resource, with its generation in words if it is deposed.
pub(crate) fn subject(key: &RecordKey) -> String {
    match key.deposed {
        None => key.address.to_string(),
        Some(generation) => format!("{} (deposed generation {generation})", key.address),
    }
}

/// What will be done to the resource, as a sentence without a full stop.
pub(crate) fn verdict(node: &PlanNode) -> String {
    let subject = subject(&node.key);
    match &node.action {
        Action::NoOp if node.import.is_some() => format!("{subject} will be imported"),
        Action::NoOp => match &node.moved_from {
            Some(from) => format!("{from} has moved to {subject}"),
            None => format!("{subject} is as it shall be"),
        },
        Action::Create | Action::Update if is_read(node) => format!("{subject} will be read during apply"),
        Action::Create => format!("{subject} will be created"),
        Action::Update => format!("{subject} will be updated in-place"),
        Action::Replace { .. } if node.reason == Reason::ReplaceRequested => {
            format!("{subject} will be replaced, as requested")
        }
        Action::Replace { .. } => format!("{subject} must be replaced"),
        Action::Delete if is_shared(node) => {
            format!("{subject} will be released, and destroyed if no other stack needs it")
        }
        Action::Delete => format!("{subject} will be destroyed"),
        Action::Forget => format!("{subject} will no longer be managed by ksail, but will not be destroyed"),
        Action::Wait => format!("{subject} is not ready and will be waited for"),
        Action::Blocked { .. } => format!("{subject} is blocked"),
    }
}

/// Why, as a fragment; `None` where the verdict says it already.
pub(crate) fn reason(reason: &Reason) -> Option<String> {
    Some(match reason {
        Reason::None | Reason::ReplaceRequested | Reason::Imported => return None,
        Reason::Declared => "it is declared and not in the state".to_owned(),
        Reason::DeclarationChanged => "its declaration changed".to_owned(),
        Reason::Drifted => "it was changed outside of ksail".to_owned(),
        Reason::DeletedOutside => "it was deleted outside of ksail".to_owned(),
        Reason::NoLongerDeclared => "it is no longer declared".to_owned(),
        Reason::Removed => "spec.removed says so".to_owned(),
        Reason::Destroy => "everything is destroyed".to_owned(),
        Reason::HostReplaced { host } => format!("its host {host} is made anew"),
        Reason::HostDeleted { host } => format!("its host {host} is destroyed"),
        Reason::DependencyReplaced { dependency } => format!("{dependency}, which it needs, is made anew"),
        Reason::DependencyChanged { dependency } => format!("{dependency}, which it depends on, changes"),
        Reason::Deposed => "left over from a replacement".to_owned(),
        Reason::NotReady { why } => format!("it is not ready: {why}"),
        Reason::Interrupted => "a killed operation left it half-done".to_owned(),
        Reason::OutsideForces { why } => format!("it cannot be changed in place: {why}"),
    })
}

/// What the state says otherwise from now on, as a fragment.
pub(crate) fn record_change(change: &RecordChange) -> String {
    let switch = |on: &bool| if *on { "on" } else { "off" };
    fn list<T: ToString>(items: &[T]) -> String {
        let texts: Vec<String> = items.iter().map(T::to_string).collect();
        if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") }
    }
    match change {
        RecordChange::Protection { before, after } => format!("protection: {} → {}", switch(before), switch(after)),
        RecordChange::CreateBeforeDestroy { before, after } => {
            format!("create before destroy: {} → {}", switch(before), switch(after))
        }
        RecordChange::Ignored { before, after } => format!("ignored fields: {} → {}", list(before), list(after)),
        RecordChange::Needs { before, after } => format!("needs: {} → {}", list(before), list(after)),
        RecordChange::Seen { attributes } => format!("seen otherwise than recorded: {}", list(attributes)),
        RecordChange::Ready => "as it shall be, after it was on the way".to_owned(),
    }
}

/// Why a node is blocked, as a fragment.
pub(crate) fn blocked(why: &Blocked) -> String {
    match why {
        Blocked::Unknown { reason } => format!("what is outside is unknown: {reason}"),
        Blocked::Dependency { on } => format!("{on}, which it needs, is blocked"),
        Blocked::NotOurs { owner: None, name, recorded: true } => {
            format!("{name} is not the one that the state records: it carries no mark")
        }
        Blocked::NotOurs { owner: None, name, .. } => format!("{name} exists and is not ours"),
        Blocked::NotOurs { owner: Some(owner), name, .. } => format!("{name} exists and belongs to {owner}"),
        Blocked::OtherState { of } => {
            format!("{of} belongs to another state of this cluster, and a second one is not begun beside it")
        }
        Blocked::Unrecorded { name } => {
            format!("{name} exists and carries the mark of this state, which has no record of it")
        }
        Blocked::Refused { message, .. } => format!("the outside would refuse it: {message}"),
        Blocked::NothingToImport { id } => format!("there is nothing to import with the id {id}"),
    }
}

/// What resolves that there is another state of the cluster.
const OTHER_STATE_HINT: &str = "if that state was lost, run `ksail state recover`; if it is elsewhere, use it (--state, KSAIL_STATE, \
     spec.state), or give this cluster another name";

/// What resolves a blockage, with the command where there is one.
pub(crate) fn blocked_hint(key: &RecordKey, why: &Blocked) -> Option<String> {
    Some(match why {
        Blocked::Unknown { reason } => unknown_hint(reason),
        Blocked::Dependency { .. } => return None,
        Blocked::NotOurs { owner: Some(_), recorded: true, .. } => {
            let address = shell_word(key.address.as_str());
            format!("destroy it with the state that it belongs to, or give ours up with `ksail state rm {address}`")
        }
        Blocked::NotOurs { owner: None, name, recorded: true } => {
            let (address, name) = (shell_word(key.address.as_str()), shell_word(name));
            format!(
                "remove it, and `ksail apply` makes ours again; or give ours up with `ksail state rm {address}`, and take it \
                 over with `ksail import {address} {name}` where nobody else manages it"
            )
        }
        Blocked::NotOurs { owner: None, .. } if key.address.kind() == "machine" => {
            let cluster = shell_word(key.address.cluster());
            format!(
                "where kind made it, `ksail import {cluster}/cluster/main {cluster}` takes the whole cluster over; else give this one another \
                 name"
            )
        }
        Blocked::NotOurs { owner: None, name, .. } => {
            format!("take it over with `ksail import {} {}`, or give it another name", shell_word(key.address.as_str()), shell_word(name))
        }
        Blocked::OtherState { .. } => OTHER_STATE_HINT.to_owned(),
        Blocked::Unrecorded { name } => {
            format!("take it up again with `ksail import {} {}`", shell_word(key.address.as_str()), shell_word(name))
        }
        Blocked::NotOurs { owner: Some(_), .. } => {
            "destroy it with the state that it belongs to, or give it another name; if that state was lost and was yours, \
             run `ksail state recover`"
                .to_owned()
        }
        Blocked::Refused { hint, .. } => return hint.clone(),
        Blocked::NothingToImport { .. } => {
            "correct the id in spec.imports, or remove the entry to have it created; then run `ksail plan`".to_owned()
        }
    })
}

/// Why several nodes are blocked, as a fragment that holds for each of them, and what resolves it.
pub(crate) fn blocked_together(why: &Blocked) -> (String, Option<String>) {
    match why {
        Blocked::Dependency { on } => (format!("{on}, which they need, is blocked"), None),
        Blocked::NotOurs { owner: Some(_), recorded: true, .. } => (
            "what exists by their names belongs to another state".to_owned(),
            Some(
                "destroy it with the state that it belongs to, or give ours up with `ksail state rm ADDRESS`".to_owned(),
            ),
        ),
        Blocked::NotOurs { owner: None, recorded: true, .. } => (
            "what exists by their names is not what the state records".to_owned(),
            Some(
                "remove it, and `ksail apply` makes ours again; or give ours up with `ksail state rm ADDRESS`, and take over \
                 with `ksail import ADDRESS NAME` what nobody else manages"
                    .to_owned(),
            ),
        ),
        Blocked::NotOurs { owner: None, .. } => (
            "what exists by their names is not ours".to_owned(),
            Some("take one over with `ksail import ADDRESS NAME`, or give it another name".to_owned()),
        ),
        Blocked::NotOurs { owner: Some(_), .. } => (
            "what exists by their names belongs to another state".to_owned(),
            Some(
                "destroy it with the state that it belongs to, or give it another name; if that state was lost and was yours, \
                 run `ksail state recover`"
                    .to_owned(),
            ),
        ),
        Blocked::OtherState { .. } => (blocked(why), Some(OTHER_STATE_HINT.to_owned())),
        Blocked::Unrecorded { .. } => (
            "they exist and carry the mark of this state, which has no record of them".to_owned(),
            Some("take all of them up again with `ksail state recover`, or one with `ksail import ADDRESS NAME`".to_owned()),
        ),
        Blocked::Unknown { reason } => (blocked(why), Some(unknown_hint(reason))),
        Blocked::Refused { hint, .. } => (blocked(why), hint.clone()),
        Blocked::NothingToImport { .. } => (
            "there is nothing to import with their ids".to_owned(),
            Some(
                "correct the ids in spec.imports, or remove the entries to have them created; then run `ksail plan`"
                    .to_owned(),
            ),
        ),
    }
}

/// What is to be said of one of several that are blocked for the same reason, as a fragment.
pub(crate) fn blocked_alone(why: &Blocked) -> Option<String> {
    match why {
        Blocked::NotOurs { owner: None, name, .. } | Blocked::Unrecorded { name } => Some(name.clone()),
        Blocked::NotOurs { owner: Some(owner), name, .. } => Some(format!("{name} belongs to {owner}")),
        Blocked::NothingToImport { id } => Some(id.clone()),
        Blocked::Unknown { .. } | Blocked::Dependency { .. } | Blocked::OtherState { .. } | Blocked::Refused { .. } => {
            None
        }
    }
}

/// A text as one word of a shell's command line, because people copy hints.
pub(crate) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn unknown_hint(reason: &UnknownReason) -> String {
    match reason {
        UnknownReason::Unreachable { .. } => "make it reachable, then run `ksail plan` again".to_owned(),
        UnknownReason::OtherScope { recorded, .. } => {
            format!(
                "go back to {recorded} (context, DOCKER_HOST), then run `ksail plan` again; if it is gone for good, \
                     drop what was in it with `ksail state rm`"
            )
        }
        UnknownReason::HostUnknown { host } => format!("resolve {host} first, then run `ksail plan` again"),
        UnknownReason::HostNotServing { host } => {
            format!("run `ksail apply` to bring {host} up; what is in it is planned after that")
        }
        UnknownReason::OpenIntent { operation, .. } => {
            format!(
                "wait until the call's deadline is past, then run `ksail plan` again; `ksail state history` shows {operation}"
            )
        }
        UnknownReason::NotRefreshed => "run `ksail plan` without --refresh=false".to_owned(),
        UnknownReason::Denied { .. } => "give the rights to read it, then run `ksail plan` again".to_owned(),
    }
}

/// What became of a killed operation's call, as a sentence without a full stop.
pub(crate) fn resolution(resolution: &Resolution) -> String {
    let key = subject(&resolution.outcome.key);
    match &resolution.outcome.kind {
        OutcomeKind::Applied { .. } => format!("an interrupted create or update of {key} had succeeded"),
        OutcomeKind::Deleted => format!("an interrupted delete of {key} had succeeded"),
        OutcomeKind::NotDone { message } => format!("an interrupted call for {key} had not happened: {message}"),
        OutcomeKind::Indeterminate { message } => {
            format!("it is still unknown if a call for {key} happened: {message}")
        }
    }
}

/// What drifted, as a sentence without a full stop.
pub(crate) fn drifted(drift: &Drift) -> String {
    let verb = if drift.deleted { "was deleted" } else { "was changed" };
    format!("{} {verb} outside of ksail", subject(&drift.key))
}

/// What the plan does about drift, as a fragment.
pub(crate) fn response(drift: &Drift) -> &'static str {
    match (drift.response, drift.deleted) {
        (DriftResponse::Reverted, true) => "this plan makes it anew",
        (DriftResponse::Reverted, false) => "this plan brings it back to what is declared",
        (DriftResponse::Agrees, true) => "it is no longer declared either; it leaves the state",
        (DriftResponse::Agrees, false) => "it is what is declared now; only the state changes",
        (DriftResponse::Left, _) => "this plan leaves it alone",
        (DriftResponse::Accepted, true) => "this plan takes that into the state: it leaves it",
        (DriftResponse::Accepted, false) => "this plan takes that into the state",
    }
}

/// A step under way, as a participle.
pub(crate) const fn doing(step: StepDo) -> &'static str {
    match step {
        StepDo::Create => "creating",
        StepDo::Update => "updating",
        StepDo::Delete => "destroying",
        StepDo::Wait => "waiting until ready",
        StepDo::Depose => "deposing",
        StepDo::Put => "recording",
        StepDo::Forget => "forgetting",
    }
}

/// A step that is over.
pub(crate) const fn done(step: StepDo) -> &'static str {
    match step {
        StepDo::Create => "created",
        StepDo::Update => "updated",
        StepDo::Delete => "destroyed",
        StepDo::Wait => "ready",
        StepDo::Depose => "deposed",
        StepDo::Put => "recorded",
        StepDo::Forget => "forgotten",
    }
}

/// A step as a noun.
pub(crate) const fn noun(step: StepDo) -> &'static str {
    match step {
        StepDo::Create => "create",
        StepDo::Update => "update",
        StepDo::Delete => "destroy",
        StepDo::Wait => "wait",
        StepDo::Depose => "depose",
        StepDo::Put => "record",
        StepDo::Forget => "forget",
    }
}
