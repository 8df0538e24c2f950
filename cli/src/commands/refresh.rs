//! `ksail refresh`: takes into the state what is outside.

use clap::Args;
use ksail::Refresh;

use super::{Outcome, run_plan};
use crate::args::{ApplyFlags, Global, PlanFlags};
use crate::interrupt;

/// Take into the state what is outside; nothing outside changes
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  ksail refresh
  ksail plan --refresh-only        only look")]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: ApplyFlags,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let platform = super::open(global)?;
    super::block_on(async {
        let interrupts = interrupt::listen();
        let flags = PlanFlags::default();
        let mut options = run_plan::plan_options(&flags, &interrupts)?;
        options.refresh = Refresh::Only;
        let planned = platform.plan(&options).await.map_err(super::failed(&platform))?;
        run_plan::review_and_apply(global, &platform, planned, &arguments.flags, "refresh", &interrupts).await
    })?
}
