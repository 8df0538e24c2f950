//! `ksail graph`: what stands on what.

use clap::Args;
use ksail::Exit;
use ksail_views::dot;

use super::{Outcome, run_plan};
use crate::args::{Global, PlanFlags};
use crate::{interrupt, terminal};

/// Print the graph of the plan in DOT, for graphviz
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  ksail graph | dot -Tsvg > graph.svg
  ksail graph --tree
  ksail graph --format json | jq .edges")]
pub(crate) struct Arguments {
    /// As a tree for the terminal
    #[arg(long)]
    tree: bool,
    #[command(flatten)]
    flags: PlanFlags,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let platform = super::open(&global.with(&arguments.flags))?;
    super::block_on(async {
        let interrupts = interrupt::listen();
        let options = run_plan::plan_options(&arguments.flags, &interrupts)?;
        let planned = platform.plan(&options).await.map_err(super::failed(&platform))?;
        if global.is_json() {
            terminal::print_json(&dot::graph_json(&planned.plan));
            return Ok(Exit::Done);
        }
        let text = if arguments.tree { dot::graph_text(&planned.plan) } else { dot::graph_dot(&planned.plan) };
        terminal::print(&text);
        Ok(Exit::Done)
    })?
}
