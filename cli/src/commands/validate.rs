//! `ksail validate`: judges the file alone.

use clap::Args;
use ksail::{Diagnostic, Exit};
use serde_json::json;

use super::Outcome;
use crate::args::Global;
use crate::{report, terminal};

/// Judge the file alone: keys, types, contradictions
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  ksail validate
  ksail validate -f platform.yaml --environment prod
  ksail validate --format json")]
pub(crate) struct Arguments {}

pub(crate) fn run(global: &Global, _: &Arguments) -> Outcome {
    let platform = super::open(global)?;
    let diagnostics = platform.validate();
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    if global.is_json() {
        let list: Vec<_> = diagnostics.iter().map(report::json).collect();
        terminal::print_json(&json!({ "valid": errors == 0, "diagnostics": list }));
    } else {
        let told: Vec<Diagnostic> =
            diagnostics.iter().filter(|diagnostic| diagnostic.is_error() || !global.quiet).cloned().collect();
        report::diagnostics(global, &told, platform.texts());
        let file = platform.files().base.display();
        match errors {
            0 if global.quiet => {}
            0 => terminal::print(&format!("{file} is valid\n")),
            1 => terminal::note(&format!("{file} has 1 error")),
            count => terminal::note(&format!("{file} has {count} errors")),
        }
    }
    Ok(if errors == 0 { Exit::Done } else { Exit::Error })
}
