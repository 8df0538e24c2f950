//! The arguments that every command shares.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use ksail::{Limits, Settings};

use crate::commands::Command;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Plan and apply for Kubernetes platforms.
#[derive(Debug, Parser)]
#[command(
    name = "ksail",
    version = ksail::VERSION,
    propagate_version = false,
    after_help = "`ksail COMMAND --help` tells more, with examples.",
    after_long_help = "Exit codes: 0 done, or nothing to do · 1 error · 2 `plan --detailed-exitcode`: there are changes · \
                       3 in part · 4 the plan is stale · 5 the state is locked · 6 refused by protection · 130 interrupted"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Run as if started in this folder
    #[arg(
        short = 'C',
        long = "chdir",
        global = true,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    pub(crate) chdir: PathBuf,
    /// Read this file instead of ksail.yaml
    #[arg(short = 'f', long = "file", alias = "config", global = true, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Take ksail.NAME.yaml: alone if it is complete, else laid over ksail.yaml
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// Override a field of the file, such as `spec.cluster.localRegistry.registry=localhost:5050`
    #[arg(long = "set", global = true, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where the state is: a folder, s3://bucket/prefix or postgres://user@host/database
    #[arg(long, global = true, value_name = "PLACE", env = "KSAIL_STATE")]
    pub(crate) state: Option<String>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t, hide_default_value = true)]
    pub(crate) format: Format,
    /// No colours (also NO_COLOR)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Say only what matters: no progress, no warnings of the file
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// The bundle of commands that plan.
    #[arg(skip)]
    pub(crate) bundle: Option<PathBuf>,
}

impl Global {
    /// What the facade needs of them, with the process's environment.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            project: self.chdir.clone(),
            file: self.file.clone(),
            environment: self.environment.clone(),
            set: self.set.clone(),
            state: self.state.clone(),
            bundle: self.bundle.clone(),
            env: Arc::new(|name| std::env::var(name).ok()),
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("ksail")),
        }
    }

    /// The same, for a plan with these flags.
    pub(crate) fn with(&self, flags: &PlanFlags) -> Self {
        Self { bundle: flags.bundle.clone(), ..self.clone() }
    }

    /// A file named on the command line, as seen from the folder of `-C`; `-` stays itself.
    pub(crate) fn chdir_path(&self, file: &std::path::Path) -> PathBuf {
        let is_here = file.as_os_str() == "-" || self.chdir.as_os_str() == ".";
        if is_here { file.to_owned() } else { self.chdir.join(file) }
    }

    /// Whether results are for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }
}

/// A time such as `30s`, `5m`, `1h30m`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time(pub(crate) Duration);

impl std::str::FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span: jiff::SignedDuration = text.parse().map_err(|_| "write it like 30s, 5m or 1h30m".to_owned())?;
        Duration::try_from(span).map(Self).map_err(|_| "it may not be negative".to_owned())
    }
}

/// A number of calls.
fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "it is a number from 1 on".to_owned())
}

/// Flags of commands that change something.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApplyFlags {
    /// Do not ask
    #[arg(long, alias = "yes")]
    pub(crate) auto_approve: bool,
    /// Calls in flight, by provider
    #[arg(long, value_name = "N", default_value = "10", value_parser = at_least_one)]
    pub(crate) parallelism: NonZeroUsize,
    /// How long to wait for another's lock
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub(crate) lock_timeout: Time,
    /// How long one call, and one wait until ready, may take
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub(crate) timeout: Time,
    /// Apply what is unaffected where something differs from the plan
    #[arg(long)]
    pub(crate) partial: bool,
    /// Whether only a plan that deletes or replaces something needs a yes: so `ksail cluster create` and `update` do.
    #[arg(skip)]
    pub(crate) asks_for_losses_only: bool,
}

impl ApplyFlags {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            calls_in_flight: self.parallelism.get(),
            call_timeout: self.timeout.0,
            wait_timeout: self.timeout.0,
            ..Limits::default()
        }
    }
}

/// Flags of commands that only lock the state.
#[derive(Debug, Clone, Args)]
pub(crate) struct LockFlags {
    /// How long to wait for another's lock
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub(crate) lock_timeout: Time,
}

/// Which resources a plan is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlanFlags {
    /// Only this address or prefix, and what it needs (in a destroy: what needs it)
    #[arg(long = "target", value_name = "ADDRESS")]
    pub(crate) targets: Vec<String>,
    /// All but this address or prefix, and what needs it
    #[arg(long = "exclude", value_name = "ADDRESS")]
    pub(crate) excludes: Vec<String>,
    /// Make this anew
    #[arg(long = "replace", value_name = "ADDRESS")]
    pub(crate) replace: Vec<String>,
    /// Look at what is outside; with `=false` the state is believed
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, default_missing_value = "true", num_args = 0..=1, require_equals = true, hide_default_value = true)]
    pub(crate) refresh: bool,
    /// Take all images from this archive of `ksail bundle create`, and pull none
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
}

/// What a command without these flags plans: everything, looked at.
impl Default for PlanFlags {
    fn default() -> Self {
        Self { targets: Vec::new(), excludes: Vec::new(), replace: Vec::new(), refresh: true, bundle: None }
    }
}
