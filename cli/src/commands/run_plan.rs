//! What plan, apply, destroy, refresh, import, undo and recover share: show a plan, ask, apply, tell.

use std::sync::Arc;
use std::time::Duration;

use ksail::{
    Applied, ApplyOptions, BuiltinKinds, Diagnostic, Ending, Error, Exit, Plan, PlanOptions, Planned, Platform,
    Refresh, Selector, codes, outputs_of,
};
use ksail_views::{events, json, text};

use super::Outcome;
use crate::args::{ApplyFlags, Global, PlanFlags};
use crate::interrupt::Interrupts;
use crate::report::Failure;
use crate::{progress, report, terminal};

/// The options of a plan, from flags.
pub(super) fn plan_options(flags: &PlanFlags, interrupts: &Interrupts) -> Result<PlanOptions, Failure> {
    let selectors = |texts: &[String]| -> Result<Vec<Selector>, Failure> {
        texts
            .iter()
            .map(|text| {
                Selector::parse(text).map_err(|error| {
                    Error::new(codes::USAGE, error.to_string(), "an address reads cluster/kind/name").into()
                })
            })
            .collect()
    };
    Ok(PlanOptions {
        refresh: if flags.refresh { Refresh::Yes } else { Refresh::No },
        targets: selectors(&flags.targets)?,
        excludes: selectors(&flags.excludes)?,
        replace: selectors(&flags.replace)?,
        cancel: interrupts.stop.clone(),
        ..PlanOptions::default()
    })
}

/// Tells warnings, and prints the plan.
pub(super) fn show(global: &Global, platform: &Platform, planned: &Planned) {
    warn(global, platform, &planned.warnings);
    print_plan(global, &planned.plan);
}

/// Tells warnings; where only what matters is wanted, those alone that are of the state's health.
pub(super) fn warn(global: &Global, platform: &Platform, warnings: &[Diagnostic]) {
    let told: Vec<Diagnostic> =
        warnings.iter().filter(|warning| !global.quiet || warning.code == codes::DAMAGED).cloned().collect();
    report::diagnostics(global, &told, platform.texts());
}

/// Prints a plan.
pub(super) fn print_plan(global: &Global, plan: &Plan) {
    if global.is_json() {
        terminal::print(&json::text(&json::plan_json(plan, &BuiltinKinds), true));
        terminal::print("\n");
    } else {
        terminal::print(&text::plan(plan, &BuiltinKinds, &terminal::text_options(global)));
    }
}

/// Shows a plan, asks for a yes if nobody gave one, and applies it.
pub(super) async fn review_and_apply(
    global: &Global,
    platform: &Platform,
    planned: Planned,
    flags: &ApplyFlags,
    command: &'static str,
    interrupts: &Interrupts,
) -> Outcome {
    warn(global, platform, &planned.warnings);
    let plan = planned.plan;
    // In JSON the output is a stream of events; the plan itself is `ksail plan --format json`.
    if !global.is_json() {
        print_plan(global, &plan);
    }
    if !plan.has_changes() {
        if planned.unstored {
            let stored = platform.store_rescued(flags.lock_timeout.0).await.map_err(super::failed(platform))?;
            stored.iter().for_each(|told| terminal::note(&format!("note: {told}")));
        }
        let exit = if plan.is_complete() { Exit::Done } else { Exit::Partial };
        if global.is_json() {
            let json = serde_json::json!({ "type": "no_changes", "complete": plan.is_complete() });
            terminal::print(&format!("{}\n", json::text(&json, false)));
        } else if plan.is_complete() {
            tell_outputs(global, platform).await;
        }
        if plan.header.new_state && command == "destroy" && !global.quiet {
            terminal::note(
                "note: there is no state here; if it was lost, `ksail state recover` finds what carries its marks",
            );
        }
        return Ok(exit);
    }
    let counts = plan.counts();
    let loses = counts.delete + counts.replace > 0;
    let is_asked = !flags.auto_approve && (loses || !flags.asks_for_losses_only);
    if is_asked && flags.asks_for_losses_only && !terminal::can_ask() {
        let message = format!(
            "nobody can be asked, and the plan deletes {} and replaces {}: that needs --force or a plan file",
            counts.delete, counts.replace
        );
        let hint = "look at the plan above, then run the same command again with --force";
        return Err(Error::new(codes::NOT_APPROVED, message, hint).into());
    }
    if is_asked && !approved(command)? {
        terminal::note("nothing was changed");
        return Ok(Exit::Error);
    }
    apply(global, platform, Arc::new(plan), flags, command, interrupts, &[command, "--auto-approve"]).await
}

/// How often a plan that nobody reviewed is made anew because something moved between planning and applying.
const MOST_PLANS: u32 = 3;

/// Plans, and reviews and applies the plan. With --auto-approve nobody reviewed the plan, so that one that is stale by the
/// time of its apply (nothing was called then) is made anew.
pub(super) async fn plan_and_apply(
    global: &Global,
    platform: &Platform,
    options: &PlanOptions,
    flags: &ApplyFlags,
    command: &'static str,
    interrupts: &Interrupts,
) -> Outcome {
    let is_unreviewed = flags.auto_approve || (flags.asks_for_losses_only && !terminal::can_ask());
    for plans in 1.. {
        let planned = platform.plan(options).await.map_err(super::failed(platform))?;
        match review_and_apply(global, platform, planned, flags, command, interrupts).await {
            Err(failure) if failure.exit == Exit::Stale && is_unreviewed && plans < MOST_PLANS => {
                if !global.quiet {
                    terminal::note(
                        "something changed outside since the plan was made, and nothing was called: planning again",
                    );
                }
            }
            outcome => return outcome,
        }
    }
    Ok(Exit::Stale)
}

/// Whether a person says yes. Without a terminal nothing is asked.
fn approved(command: &str) -> Result<bool, Failure> {
    if !terminal::can_ask() {
        let message = format!(
            "nobody can be asked: there is no terminal, and {command} has neither a plan file nor --auto-approve"
        );
        let hint = match command {
            "apply" => "`ksail plan --out FILE`, then `ksail apply FILE`; or `ksail apply --auto-approve`".to_owned(),
            "destroy" => {
                "`ksail plan --destroy --out FILE`, then `ksail apply FILE`; or `ksail destroy --auto-approve` (`ksail cluster delete --force`)"
                    .to_owned()
            }
            other => format!("look at the plan above, then run `ksail {other}` again with --auto-approve"),
        };
        return Err(Error::new(codes::NOT_APPROVED, message, hint).into());
    }
    Ok(terminal::ask("Shall this plan be applied?"))
}

/// Applies a plan and tells how it ended.
pub(super) async fn apply(
    global: &Global,
    platform: &Platform,
    plan: Arc<Plan>,
    flags: &ApplyFlags,
    doing: &'static str,
    interrupts: &Interrupts,
    again: &[&str],
) -> Outcome {
    let options = ApplyOptions {
        limits: flags.limits(),
        lock_wait: flags.lock_timeout.0,
        partial: flags.partial,
        sink: progress::sink(global, &plan, flags.parallelism.get()),
        stop: interrupts.stop.clone(),
        abort: interrupts.abort.clone(),
        doing,
    };
    let applied = platform.apply(Arc::clone(&plan), &options).await.map_err(super::failed(platform))?;
    drop(options);
    tell(global, &applied, &plan, again);
    Ok(applied.exit())
}

fn tell(global: &Global, applied: &Applied, plan: &Plan, again: &[&str]) {
    if global.is_json() {
        return;
    }
    let options = terminal::text_options(global);
    let mut command = vec!["ksail"];
    command.extend(again);
    terminal::print(&events::final_summary(&applied.summary, plan, &command, &options));
    if applied.summary.ending == Ending::Complete && !global.quiet {
        terminal::print(&text::outputs(&outputs_of(&applied.summary.snapshot, &global.settings()), &options));
    }
}

async fn tell_outputs(global: &Global, platform: &Platform) {
    if global.quiet {
        return;
    }
    if let Ok(Some(snapshot)) = platform.snapshot().await {
        terminal::print(&text::outputs(&outputs_of(&snapshot, &global.settings()), &terminal::text_options(global)));
    }
}

/// How long edits of the state wait for another's lock.
pub(super) const fn lock_wait(flags: &crate::args::LockFlags) -> Duration {
    flags.lock_timeout.0
}
