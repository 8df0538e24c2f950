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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; a wrong command line is an error like any other, and 2 means changes.
            if error.use_stderr() && report::wants_json(std::env::args_os()) {
                terminal::note(&report::json(&report::usage(&error)).to_string());
            } else {
                let _ = error.print();
            }
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    terminal::start_logging();
    match commands::run(&cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => report::failure(&cli.global, &failure),
    }
}
