//! `ksail import`: something that exists becomes ours.

use clap::Args;

use super::{Outcome, run_plan};
use crate::args::{ApplyFlags, Global, PlanFlags};
use crate::interrupt;

/// Adopt what exists outside as a declared resource, by a plan that is shown first
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  ksail import network/main my-network
  ksail import dev/registry/local 4f1c0de2a9b3
  ksail import cluster/main dev")]
pub(crate) struct Arguments {
    /// The declared resource
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// Its name or id outside
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    flags: ApplyFlags,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let platform = super::open(global)?;
    super::block_on(async {
        let interrupts = interrupt::listen();
        let flags = PlanFlags::default();
        let options = run_plan::plan_options(&flags, &interrupts)?;
        let planned =
            platform.plan_import(&arguments.address, &arguments.id, options).await.map_err(super::failed(&platform))?;
        run_plan::review_and_apply(global, &platform, planned, &arguments.flags, "import", &interrupts).await
    })?
}
