//! `ksail undo`: the way back, as a plan.

use clap::Args;

use super::{Outcome, run_plan};
use crate::args::{ApplyFlags, Global, PlanFlags};
use crate::{interrupt, terminal};

/// Plan and apply the declarations as they were before an operation
#[derive(Debug, Args)]
#[command(after_long_help = "What cannot come back (data, old secrets) is listed with the plan.

Examples:
  ksail undo                     the last operation
  ksail undo 0199f3              that operation and all after it; `ksail state history` lists them")]
pub(crate) struct Arguments {
    /// The operation, or the beginning of its id
    #[arg(value_name = "OPERATION")]
    operation: Option<String>,
    #[command(flatten)]
    flags: ApplyFlags,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let platform = super::open(global)?;
    super::block_on(async {
        let interrupts = interrupt::listen();
        let flags = PlanFlags::default();
        let options = run_plan::plan_options(&flags, &interrupts)?;
        let undo =
            platform.plan_undo(arguments.operation.as_deref(), &options).await.map_err(super::failed(&platform))?;
        if !global.quiet && !global.is_json() {
            for operation in &undo.undone {
                let header = &operation.header;
                terminal::note(&format!(
                    "undoing {} of {} ({} changes)",
                    header.id,
                    header.who,
                    operation.changes.len()
                ));
            }
        }
        run_plan::review_and_apply(global, &platform, undo.planned, &arguments.flags, "undo", &interrupts).await
    })?
}
