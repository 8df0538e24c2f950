//! `ksail show`: a plan file, or what the state knows.

use std::path::PathBuf;

use clap::Args;
use ksail::{Exit, read_plan};

use super::{Outcome, run_plan, state};
use crate::args::Global;

/// Show a plan file, or what the state knows
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  ksail show plan.json
  ksail show plan.json --format json       Terraform's plan JSON (format_version 1.2)
  ksail show                               the state")]
pub(crate) struct Arguments {
    /// A plan of `ksail plan --out`
    #[arg(value_name = "PLAN")]
    plan: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    match &arguments.plan {
        Some(file) => {
            run_plan::print_plan(global, &read_plan(&global.chdir_path(file))?);
            Ok(Exit::Done)
        }
        None => state::show_all(global),
    }
}
