//! The last words of an apply.

use ksail_execute::{Ending, Failure, Skipped, Summary};

use ksail_plan::Plan;

use super::line::{count, failure, lines_below};
use crate::page::{Page, Tone};
use crate::text::{self, TextOptions, Verbosity};
use crate::words::{noun, shell_word};

/// How many failures, and how many steps that were not begun, are named; the rest are counted.
const MAX_NAMED: usize = 25;

/// What an apply did: how it ended, what failed and why, what was not begun, what its plan left blocked, and the next
/// command. `command` is the one that was given, as a shell would take it (`ksail apply plan.out`).
pub fn final_summary(summary: &Summary, plan: &Plan, command: &[&str], options: &TextOptions) -> String {
    let mut page = Page::new(options.color, options.width);
    for failed in summary.failed.iter().take(MAX_NAMED) {
        failure_lines(&mut page, failed);
    }
    more(&mut page, summary.failed.len(), "failed");
    if options.verbosity > Verbosity::Quiet {
        for skipped in summary.skipped.iter().take(MAX_NAMED) {
            skipped_line(&mut page, skipped);
        }
        more(&mut page, summary.skipped.len(), "not begun");
    }
    let blocked = plan.counts().blocked;
    if summary.ending == Ending::Partial {
        text::blocked::blocked(&mut page, plan, options.verbosity);
    }
    page.gap();
    let mut line = match summary.ending {
        Ending::Complete => format!("Apply complete: {} done", count(summary.done, "step")),
        Ending::Partial => format!("Apply done in part: {} done", count(summary.done, "step")),
        Ending::Interrupted => format!("Apply interrupted: {} done", count(summary.done, "step")),
    };
    for (number, what) in [(summary.failed.len(), "failed"), (summary.skipped.len(), "not begun"), (blocked, "blocked")]
    {
        if number > 0 {
            line.push_str(&format!(", {number} {what}"));
        }
    }
    page.line(&[(Tone::Strong, &format!("{line}."))]);
    if let Some(next) = next(summary, command) {
        page.prose("hint: ", Tone::Plain, &next);
    }
    page.finish()
}

fn failure_lines(page: &mut Page, failed: &Failure) {
    let (message, below) = failed.message.split_once('\n').unwrap_or((&failed.message, ""));
    let said = failure(failed.step, message, failed.indeterminate);
    page.prose("  ! ", Tone::Remove, &format!("{}: {said}", failed.key));
    for line in lines_below(below) {
        page.line(&[(Tone::Faint, &format!("    | {line}"))]);
    }
    if let Some(hint) = &failed.hint {
        page.prose("    hint: ", Tone::Plain, hint);
    }
}

fn skipped_line(page: &mut Page, skipped: &Skipped) {
    let Skipped { key, step, by, why } = skipped;
    let cause = if key == by { why.clone() } else { format!("{why} ({by})") };
    page.prose("  - ", Tone::Plain, &format!("{key}: {} not begun: {cause}", noun(*step)));
}

fn more(page: &mut Page, all: usize, what: &str) {
    if all > MAX_NAMED {
        page.line(&[(Tone::Faint, &format!("    … and {} more {what}", all - MAX_NAMED))]);
    }
}

fn next(summary: &Summary, command: &[&str]) -> Option<String> {
    let command: Vec<String> = command.iter().map(|word| shell_word(word)).collect();
    let command = command.join(" ");
    match summary.ending {
        Ending::Complete => None,
        Ending::Interrupted => Some(format!("`{command}` goes on where this stopped; what is done stays done")),
        Ending::Partial if summary.failed.iter().any(|failed| failed.indeterminate) => {
            Some("what is done stays done; `ksail plan` looks at what came of the rest".to_owned())
        }
        Ending::Partial if summary.failed.is_empty() && summary.skipped.is_empty() => Some(
            "what is done stays done; resolve what blocks the rest, then `ksail plan` shows what remains".to_owned(),
        ),
        Ending::Partial if summary.failed.is_empty() => {
            Some("what is done stays done; `ksail plan` shows what remains".to_owned())
        }
        Ending::Partial => {
            Some("what is done stays done; put right what failed, then `ksail plan` shows what remains".to_owned())
        }
    }
}
