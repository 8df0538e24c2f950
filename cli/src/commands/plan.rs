//! `ksail plan`: what an apply would do.

use std::path::PathBuf;

use clap::Args;
use ksail::{Exit, Refresh, write_plan};

use super::{Outcome, run_plan};
use crate::args::{Global, PlanFlags};
use crate::{interrupt, terminal};

/// Show what an apply would do; takes no lock and writes nothing
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "Examples:
  ksail plan
  ksail plan --out plan.json && ksail apply plan.json
  ksail plan --detailed-exitcode        0 no changes, 2 changes, 3 something is blocked
  ksail plan --target mirror --format json | conftest test -")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) flags: PlanFlags,
    /// Write the plan here, for `ksail apply FILE`
    #[arg(long, short, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Exit with 2 where there are changes, drift included
    #[arg(long)]
    pub(super) detailed_exitcode: bool,
    /// Plan to destroy everything
    #[arg(long)]
    pub(super) destroy: bool,
    /// Plan only to take into the state what is outside
    #[arg(long, conflicts_with_all = ["destroy", "replace"])]
    pub(super) refresh_only: bool,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let global = &global.with(&arguments.flags);
    let platform = super::open(global)?;
    super::block_on(async {
        let interrupts = interrupt::listen();
        let mut options = run_plan::plan_options(&arguments.flags, &interrupts)?;
        options.destroy = arguments.destroy;
        if arguments.refresh_only {
            options.refresh = Refresh::Only;
        }
        let planned = platform.plan(&options).await.map_err(super::failed(&platform))?;
        run_plan::show(global, &platform, &planned);
        if let Some(out) = &arguments.out {
            write_plan(&planned.plan, &global.chdir_path(out))?;
            if !global.is_json() && !global.quiet {
                terminal::note(&format!(
                    "the plan is in {}; apply it with `ksail apply {}`",
                    out.display(),
                    out.display()
                ));
            }
        }
        Ok(if !planned.plan.is_complete() {
            Exit::Partial
        } else if arguments.detailed_exitcode && planned.plan.has_changes() {
            Exit::Changes
        } else {
            Exit::Done
        })
    })?
}
