//! `ksail cluster …`: the names that users of KSail know.

use clap::{Args, Subcommand};

use super::{Outcome, apply, destroy, init, plan};
use crate::args::Global;

/// The names that users of KSail know: init, create, update, delete, diff
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Alias,
}

#[derive(Debug, Subcommand)]
enum Alias {
    /// As `ksail init`
    Init(init::Arguments),
    /// As `ksail apply`
    Create(apply::Arguments),
    /// As `ksail apply`
    Update(apply::Arguments),
    /// As `ksail destroy`
    Delete(destroy::Arguments),
    /// As `ksail plan`
    Diff(plan::Arguments),
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Alias::Init(arguments) => init::run(global, arguments),
        Alias::Create(arguments) | Alias::Update(arguments) => apply::run(global, arguments),
        Alias::Delete(arguments) => destroy::run(global, arguments),
        Alias::Diff(arguments) => plan::run(global, arguments),
    }
}
