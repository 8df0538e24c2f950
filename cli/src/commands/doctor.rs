//! `ksail doctor`.

use clap::Args;
use ksail::{Check, Exit, Platform, Verdict, doctor};
use serde_json::json;

use super::Outcome;
use crate::args::Global;
use crate::terminal;

/// Look at what clusters need of this machine: engine, cgroups, limits, disk, ports, proxies, DNS; each with a remedy
#[derive(Debug, Args)]
#[command(
    after_long_help = "Where there is a project, it is looked at what that needs. Exit code 1: something will not work.

Examples:
  ksail doctor
  ksail doctor --format json"
)]
pub(crate) struct Arguments {}

pub(crate) fn run(global: &Global, _: &Arguments) -> Outcome {
    let settings = global.settings();
    // Without a project, or with one that cannot be read, it is this machine that is asked for.
    let project = Platform::open(settings.clone()).ok();
    let checks = super::block_on(doctor(&settings, project.as_ref()))?;
    if global.is_json() {
        terminal::print_json(&checks.iter().map(as_json).collect());
    } else {
        terminal::print(&checks.iter().map(line).collect::<String>());
    }
    let is_bad = checks.iter().any(|check| check.verdict == Verdict::Bad);
    Ok(if is_bad { Exit::Error } else { Exit::Done })
}

fn line(check: &Check) -> String {
    let sign = match check.verdict {
        Verdict::Good => "ok  ",
        Verdict::Skipped => "-   ",
        Verdict::Warning => "warn",
        Verdict::Bad => "BAD ",
    };
    let remedy = check.remedy.as_deref().map(|remedy| format!("      hint: {remedy}\n")).unwrap_or_default();
    format!("{sign}  {:8}{}\n{remedy}", check.name, check.found)
}

fn as_json(check: &Check) -> serde_json::Value {
    json!({"check": check.name, "verdict": check.verdict.word(), "found": check.found, "remedy": check.remedy})
}
