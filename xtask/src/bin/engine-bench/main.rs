//! The engine as a process that can be measured from start to exit: it reads a graph, compiles it to declarations of a
//! kind that does nothing, plans, shows the plan, and applies it with durable state in a folder.

mod compile;
mod distant;
mod kind;
mod provider;
mod report;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use xtask::graph::{Graph, Shape};

/// One process of the engine, for measurements.
#[derive(Debug, clap::Parser)]
enum Command {
    /// Write a graph file.
    Generate {
        /// How nodes stand on each other.
        #[arg(long)]
        shape: Shape,
        /// How many nodes.
        #[arg(long)]
        nodes: usize,
        /// Where to.
        #[arg(long)]
        out: PathBuf,
    },
    /// Do what a process of ours does.
    Run(Run),
}

/// What is done with the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Do {
    /// Show what would change.
    Plan,
    /// Plan, show and apply.
    Apply,
    /// The same with another value in one node.
    ChangeOne,
    /// Plan, show and apply the empty declaration.
    Destroy,
}

/// Arguments of a run.
#[derive(Debug, clap::Args)]
struct Run {
    /// What is done.
    #[arg(value_enum)]
    mode: Do,
    /// The graph file.
    #[arg(long)]
    graph: PathBuf,
    /// The state's folder.
    #[arg(long)]
    state: PathBuf,
    /// Calls in flight; the engine's default where it is left out.
    #[arg(long)]
    parallelism: Option<usize>,
    /// Keep the state in a store in memory whose requests take so long, instead of in the folder; it ends with the process.
    #[arg(long, value_name = "MS")]
    round_trip_ms: Option<u64>,
    /// How much of the graph's call times calls take; 0 returns at once.
    #[arg(long, default_value_t = 0.0)]
    scale: f64,
    /// Write what this process knows of itself here, as JSON.
    #[arg(long)]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done: Result<(), Box<dyn std::error::Error>> = match Command::parse() {
        Command::Generate { shape, nodes, out } => Graph::generate(shape, nodes).write(&out).map_err(Into::into),
        Command::Run(arguments) => run::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}
