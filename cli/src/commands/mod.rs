//! The commands: one file each, with its arguments and one function.

mod apply;
mod bundle;
mod cluster;
mod completion;
mod destroy;
mod doctor;
mod engine_process;
mod explain;
mod graph;
mod image;
mod import;
mod init;
mod output;
mod plan;
mod refresh;
mod run_plan;
mod show;
mod state;
mod undo;
mod unlock;
mod validate;
mod version;

use std::num::NonZeroUsize;

use clap::Subcommand;
use ksail::{Error, Exit, Platform, codes};

use crate::args::{Cli, Global};
use crate::report::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Arguments),
    Validate(validate::Arguments),
    Plan(plan::Arguments),
    Apply(apply::Arguments),
    Destroy(destroy::Arguments),
    Show(show::Arguments),
    Explain(explain::Arguments),
    Refresh(refresh::Arguments),
    Import(import::Arguments),
    Undo(undo::Arguments),
    Output(output::Arguments),
    Graph(graph::Arguments),
    State(state::Arguments),
    Unlock(unlock::Arguments),
    Cluster(cluster::Arguments),
    Image(image::Arguments),
    Bundle(bundle::Arguments),
    Doctor(doctor::Arguments),
    Completion(completion::Arguments),
    Version(version::Arguments),
    #[command(name = "__engine", hide = true)]
    Engine(engine_process::Arguments),
}

pub(crate) type Outcome = Result<Exit, Failure>;

/// Runs the command.
pub(crate) fn run(cli: &Cli) -> Outcome {
    let global = &cli.global;
    match &cli.command {
        Command::Init(arguments) => init::run(global, arguments),
        Command::Validate(arguments) => validate::run(global, arguments),
        Command::Plan(arguments) => plan::run(global, arguments),
        Command::Apply(arguments) => apply::run(global, arguments),
        Command::Destroy(arguments) => destroy::run(global, arguments),
        Command::Show(arguments) => show::run(global, arguments),
        Command::Explain(arguments) => explain::run(global, arguments),
        Command::Refresh(arguments) => refresh::run(global, arguments),
        Command::Import(arguments) => import::run(global, arguments),
        Command::Undo(arguments) => undo::run(global, arguments),
        Command::Output(arguments) => output::run(global, arguments),
        Command::Graph(arguments) => graph::run(global, arguments),
        Command::State(arguments) => state::run(global, arguments),
        Command::Unlock(arguments) => unlock::run(global, arguments),
        Command::Cluster(arguments) => cluster::run(global, arguments),
        Command::Bundle(arguments) => bundle::run(global, arguments),
        Command::Image(arguments) => image::run(global, arguments),
        Command::Doctor(arguments) => doctor::run(global, arguments),
        Command::Completion(arguments) => Ok(completion::run(arguments)),
        Command::Version(arguments) => Ok(version::run(global, arguments)),
        Command::Engine(arguments) => engine_process::run(arguments),
    }
}

/// Opens the project, and says how its files were taken together where that is not plain.
fn open(global: &Global) -> Result<Platform, Failure> {
    let platform = Platform::open(global.settings())?;
    if global.environment.is_some() && !global.quiet && !global.is_json() {
        crate::terminal::note(&platform.layering());
    }
    Ok(platform)
}

/// Opens the project for a plan file, which says itself which stack and environment it is of.
fn open_for(global: &Global, plan: Option<&ksail::Plan>) -> Result<Platform, Failure> {
    match plan {
        None => open(global),
        Some(plan) => {
            let mut settings = global.settings();
            settings.environment = settings.environment.or_else(|| plan.header.environment.clone());
            Ok(Platform::open_for_plan(settings, plan)?)
        }
    }
}

/// A failure of a project, with the texts that its diagnostics point into.
fn failed(platform: &Platform) -> impl Fn(Error) -> Failure + '_ {
    |error| Failure::from(error).with_texts(platform.texts())
}

/// How many threads drive the tasks of what serves others.
const SERVERS: usize = 2;

/// Runs a command's future to its end on a small runtime.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    block_on_workers(ksail_execute::workers(cores), future)
}

/// Runs to its end what serves others.
fn serve<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    block_on_workers(SERVERS, future)
}

fn block_on_workers<T>(workers: usize, future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().map_err(|error| {
            Error::new(codes::IO, format!("no runtime can be started: {error}"), "are there too many threads?")
        })?;
    let result = runtime.block_on(future);
    // What is still blocked (a resolver, a file) must not hold the command up.
    runtime.shutdown_background();
    Ok(result)
}
