//! The `ksail` command line.

mod args;
mod commands;
mod interrupt;
mod progress;
mod report;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    terminal::start_logging(&cli.global);
    match commands::run(&cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => report::failure(&cli.global, &failure),
    }
}
