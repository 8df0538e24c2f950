//! `ksail destroy`: the plan for the empty declaration, applied.

use clap::Args;

use super::{Outcome, run_plan};
use crate::args::{ApplyFlags, Global, PlanFlags};
use crate::interrupt;

/// Delete everything that the state knows, by a plan that is shown first
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  ksail destroy
  ksail destroy --auto-approve
  ksail destroy --target mirror/docker.io
  ksail plan --destroy --out plan.json && ksail apply plan.json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) select: PlanFlags,
    #[command(flatten)]
    pub(super) flags: ApplyFlags,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let platform = super::open(global)?;
    super::block_on(async {
        let interrupts = interrupt::listen();
        let mut options = run_plan::plan_options(&arguments.select, &interrupts)?;
        options.destroy = true;
        run_plan::plan_and_apply(global, &platform, &options, &arguments.flags, "destroy", &interrupts).await
    })?
}
