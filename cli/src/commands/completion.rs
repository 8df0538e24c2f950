//! `ksail completion`: completions for shells.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use ksail::Exit;

use crate::args::Cli;
use crate::terminal;

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  ksail completion bash > /etc/bash_completion.d/ksail
  ksail completion zsh > ~/.zfunc/_ksail")]
pub(crate) struct Arguments {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "ksail", &mut script);
    terminal::print(&String::from_utf8_lossy(&script));
    Exit::Done
}
