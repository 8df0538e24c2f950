//! Why a resource changes, in words.

use ksail_model::{Path, RecordKey, Schemas, Value};
use ksail_plan::{Action, Cause, ChangeCause, Explanation};

use super::{TextOptions, Verbosity, is, print};
use crate::mask::Mask;
use crate::page::{Page, Tone};
use crate::words;

/// How many fields or resources a list names, unless all is asked for.
const MAX_LISTED: usize = 40;

/// An explanation as text: what is done and why, which line of which file or what drift each field comes from, what the
/// resource needs, what it forces, and what it disturbs. Sensitive values and control characters are not in it.
pub fn explanation(explanation: &Explanation, schemas: &dyn Schemas, options: &TextOptions) -> String {
    let limit = if options.verbosity == Verbosity::Verbose { usize::MAX } else { MAX_LISTED };
    let mask = Mask::of_explanation(schemas.schema(explanation.key.address.kind()), explanation);
    let mut page = Page::new(options.color, options.width);
    opening(&mut page, explanation);

    let causes = &explanation.causes;
    list(&mut page, "Fields:", causes, limit, |page, cause| field(page, cause, &mask));
    if let Some(drift) = &explanation.drift {
        page.gap();
        page.prose(
            "",
            Tone::Strong,
            &format!("It {} outside of ksail; {}.", drifted(drift.deleted), words::response(drift)),
        );
    }
    list(&mut page, "Left to others:", &explanation.others, limit, |page, others| {
        page.prose("  - ", Tone::Plain, &words::others(others));
    });
    list(&mut page, "It needs:", &explanation.needs, limit, |page, (key, condition, why)| {
        page.prose("  - ", Tone::Plain, &format!("{key}, until it {} ({why})", is(*condition)));
    });
    list(&mut page, "Because of it:", &explanation.forces, limit, |page, (key, action)| {
        page.prose("  - ", Tone::Plain, &format!("{key} {}", fate(action)));
    });
    list(&mut page, "It is missed for a while by:", &explanation.disturbs, limit, |page, key: &RecordKey| {
        page.prose("  - ", Tone::Plain, &key.to_string());
    });
    page.finish()
}

fn opening(page: &mut Page, explanation: &Explanation) {
    let subject = words::subject(&explanation.key);
    page.prose("", Tone::Strong, &format!("{subject} {}", fate(&explanation.action)));
    if let Some(reason) = words::reason(&explanation.reason) {
        page.prose("  because ", Tone::Plain, &reason);
    }
    if let Action::Blocked { why } = &explanation.action {
        page.prose("  because ", Tone::Plain, &words::blocked(why));
        if let Some(hint) = words::blocked_hint(&explanation.key, why) {
            page.prose("  hint: ", Tone::Plain, &hint);
        }
    }
    if let Some(place) = &explanation.declared_at {
        page.prose("  declared at ", Tone::Plain, place);
    }
    if let Some(loses) = &explanation.loses {
        page.prose("  warning: ", Tone::Warn, &format!("this loses {loses}"));
    }
    for told in &explanation.forecast {
        page.prose("  ", Tone::Plain, told);
    }
}

const fn drifted(deleted: bool) -> &'static str {
    if deleted { "was deleted" } else { "was changed" }
}

/// What is done, after the resource's name.
const fn fate(action: &Action) -> &'static str {
    match action {
        Action::NoOp => "does not change",
        Action::Create => "will be created",
        Action::Update => "will be updated in-place",
        Action::Replace { .. } => "must be replaced",
        Action::Delete => "will be destroyed",
        Action::Forget => "will no longer be managed by ksail",
        Action::Wait => "will be waited for",
        Action::Blocked { .. } => "is blocked",
    }
}

fn list<T>(page: &mut Page, title: &str, items: &[T], limit: usize, mut one: impl FnMut(&mut Page, &T)) {
    if items.is_empty() {
        return;
    }
    page.gap();
    page.line(&[(Tone::Strong, title)]);
    for item in items.iter().take(limit) {
        one(page, item);
    }
    if items.len() > limit {
        page.line(&[(Tone::Faint, &format!("  … and {} more", items.len() - limit))]);
    }
}

fn field(page: &mut Page, cause: &ChangeCause, mask: &Mask) {
    let shown = |value: &Option<Value>| {
        let value = value.as_ref().filter(|value| !value.is_null())?;
        Some(match mask.apply(value, &cause.path) {
            Value::String(text) if text.contains('\n') => format!("(text of {} lines)", text.lines().count()),
            value => print::scalar(&value),
        })
    };
    let name = if cause.path == Path::root() { "(all)".to_owned() } else { cause.path.to_string() };
    let (sign, tone, change) = match (shown(&cause.before), shown(&cause.after)) {
        (Some(before), Some(after)) if before == after => ("~", Tone::Change, after),
        (Some(before), Some(after)) => ("~", Tone::Change, format!("{before} -> {after}")),
        (Some(before), None) => ("-", Tone::Remove, format!("{before} -> null")),
        (None, after) => ("+", Tone::Add, after.unwrap_or_else(|| "null".to_owned())),
    };
    let forces = cause.forces_replacement.then_some("forces replacement");
    let why = match cause.cause {
        Cause::Declared => None,
        Cause::Drifted => Some("changed outside"),
        Cause::Dependency => Some("follows from another resource"),
    };
    let said: Vec<&str> = forces.into_iter().chain(why).chain(cause.origin.as_deref()).collect();
    let said = if said.is_empty() { String::new() } else { format!(" # {}", said.join(", ")) };
    let tone_of_said = if cause.forces_replacement { Tone::Remove } else { Tone::Faint };
    page.line(&[(tone, &format!("  {sign} ")), (Tone::Plain, &format!("{name} = {change}")), (tone_of_said, &said)]);
}
