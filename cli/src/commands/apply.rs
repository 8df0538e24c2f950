//! `ksail apply`: makes it so.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use ksail::{Error, codes, read_plan};

use super::{Outcome, run_plan};
use crate::args::{ApplyFlags, Global, PlanFlags};
use crate::interrupt;

/// Make it so: apply a plan file as it was shown, or plan, ask, and apply
#[derive(Debug, Args)]
#[command(after_long_help = "A killed apply goes on when the same command is run again.

Examples:
  ksail apply                      plan, ask, apply
  ksail apply plan.json            apply what was reviewed, or refuse it (exit 4)
  ksail apply --auto-approve       in a pipeline without a review
  ksail apply --format json        events as JSON lines")]
pub(crate) struct Arguments {
    /// A plan of `ksail plan --out`
    #[arg(value_name = "PLAN")]
    pub(super) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(super) select: PlanFlags,
    #[command(flatten)]
    pub(super) flags: ApplyFlags,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let select = &arguments.select;
    let selects = !select.targets.is_empty()
        || !select.excludes.is_empty()
        || !select.replace.is_empty()
        || !select.refresh
        || select.bundle.is_some();
    if let Some(file) = arguments.plan.as_ref().filter(|_| selects) {
        let message = format!(
            "{} says already what is applied: --target, --exclude, --replace, --refresh and --bundle go with `ksail plan`",
            file.display()
        );
        return Err(Error::new(codes::USAGE, message, "ksail plan --target … --out FILE").into());
    }
    let global = &global.with(select);
    let plan = arguments.plan.as_deref().map(|file| read_plan(&global.chdir_path(file))).transpose()?;
    let platform = super::open_for(global, plan.as_ref())?;
    super::block_on(async {
        let interrupts = interrupt::listen();
        if let (Some(plan), Some(file)) = (plan, &arguments.plan) {
            let file = file.display().to_string();
            return run_plan::apply(
                global,
                &platform,
                Arc::new(plan),
                &arguments.flags,
                "apply",
                &interrupts,
                &["apply", &file],
            )
            .await;
        }
        let options = run_plan::plan_options(select, &interrupts)?;
        run_plan::plan_and_apply(global, &platform, &options, &arguments.flags, "apply", &interrupts).await
    })?
}
