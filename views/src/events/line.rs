//! Events as lines, for logs and where there is no terminal.

use std::borrow::Cow;

use ksail_execute::{Ending, Event};
use ksail_plan::{Counts, StepDo};

use super::duration::{about, duration, estimate};
use crate::printable::printable;
use crate::words::{doing, done, noun};

/// How many lines below its first are shown of a failure, and how each begins.
const MOST_LINES_BELOW: usize = 30;
const BELOW: &str = "\n    | ";

/// What a person reads of an event: a line, below it what more was told of a failure, and a hint; without colour and without a newline at the
/// end. `None` for what is not worth a line (a record that is about to be written).
pub fn event_line(event: &Event) -> Option<String> {
    let (text, below, hint) = match event {
        Event::StepStarted { step, .. } if is_bookkeeping(*step) => return None,
        Event::StepFailed { key, step, message, hint, indeterminate, .. } => {
            let (message, below) = message.split_once('\n').unwrap_or((message, ""));
            (format!("{key}: {}", failure(*step, message, *indeterminate)), below, hint.as_deref())
        }
        other => (words(other), "", None),
    };
    let mut text = printable(&text).into_owned();
    // What was told of a failure beyond its first line, such as what a container wrote: marked, so that it cannot pass for ours.
    for line in lines_below(below) {
        text.push_str(BELOW);
        text.push_str(&line);
    }
    Some(hint.map_or_else(|| text.clone(), |hint| format!("{text}\n  hint: {}", printable(hint))))
}

/// What stands below the first line of a failure, in lines that steer nothing.
pub(super) fn lines_below(below: &str) -> impl Iterator<Item = Cow<'_, str>> {
    below.split('\n').filter(|line| !line.is_empty()).take(MOST_LINES_BELOW).map(printable)
}

/// Whether a step writes the state only and takes no time.
pub(super) const fn is_bookkeeping(step: StepDo) -> bool {
    matches!(step, StepDo::Depose | StepDo::Put | StepDo::Forget)
}

/// How a step failed, as a fragment.
pub(super) fn failure(step: StepDo, message: &str, indeterminate: bool) -> String {
    if indeterminate {
        format!("it is not known if its {} happened: {message}", noun(step))
    } else {
        format!("{} failed: {message}", noun(step))
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::Started { operation, resumed: true, steps, done, .. } => {
            format!("operation {operation} goes on: {done} of {steps} steps were done before")
        }
        Event::Started { operation, counts, steps, .. } => {
            format!("operation {operation} begins: {} ({})", planned(counts), count(*steps, "step"))
        }
        Event::Verifying { nodes } => format!("looking again at {}…", count(*nodes, "resource")),
        Event::Resolved { key, what } => format!("{key}: {what}"),
        Event::StepStarted { key, step, estimate_ms, .. } => match estimate(*estimate_ms) {
            Some(estimate) => format!("{key}: {}… ({estimate})", doing(*step)),
            None => format!("{key}: {}…", doing(*step)),
        },
        Event::StepRetried { key, step, attempt, message, wait_ms } => {
            format!("{key}: {} is tried again in {} (try {attempt}): {message}", noun(*step), about(*wait_ms))
        }
        Event::StepWaiting { key, why, .. } => format!("{key}: waiting until ready: {why}"),
        Event::StepHeld { key, step, why, .. } => format!("{key}: {}, and waits: {why}", doing(*step)),
        Event::StepDone { key, step, .. } if is_bookkeeping(*step) => format!("{key}: {}", done(*step)),
        Event::StepDone { key, step: StepDo::Wait, took_ms, .. } => {
            format!("{key}: ready after {}", duration(*took_ms))
        }
        Event::StepDone { key, step, took_ms, .. } => format!("{key}: {} in {}", done(*step), duration(*took_ms)),
        Event::StepFailed { key, step, message, indeterminate, .. } => {
            format!("{key}: {}", failure(*step, message, *indeterminate))
        }
        Event::StepBlocked { key, step, by, why } if key == by => format!("{key}: {} not begun: {why}", noun(*step)),
        Event::StepBlocked { key, step, by, why } => format!("{key}: {} not begun: {why} ({by})", noun(*step)),
        Event::Note { message } => format!("note: {message}"),
        Event::Finished { operation, ending, done, failed, blocked, at_ms } => {
            let ending = match ending {
                Ending::Complete => "is complete",
                Ending::Partial => "is done in part",
                Ending::Interrupted => "was interrupted",
            };
            let mut text = format!("operation {operation} {ending} after {}: {done} done", duration(*at_ms));
            for (number, what) in [(failed, "failed"), (blocked, "not begun")] {
                if *number > 0 {
                    text.push_str(&format!(", {number} {what}"));
                }
            }
            text
        }
    }
}

fn planned(counts: &Counts) -> String {
    format!(
        "{} to add, {} to change, {} to destroy",
        counts.create + counts.replace,
        counts.update,
        counts.delete + counts.replace
    )
}

/// A number of things.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
