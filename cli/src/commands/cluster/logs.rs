//! `ksail cluster logs`.

use std::path::PathBuf;

use clap::Args;
use ksail::{Error, Exit, codes};
use serde_json::json;

use crate::args::Global;
use crate::commands::{Outcome, block_on, failed, open};
use crate::{interrupt, terminal};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder to write into; a new one among temporary files, if none is named
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// metadata.name
    #[arg(long)]
    name: Option<String>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let mut global = global.clone();
    global.set.extend(super::name_set(arguments.name.as_deref()));
    let platform = open(&global)?;
    let folder = match &arguments.folder {
        Some(folder) => global.chdir_path(folder),
        None => temporary(platform.config().name())?,
    };
    let missing = block_on(async {
        let interrupts = interrupt::listen();
        platform.export_logs(&folder, interrupts.stop.clone()).await
    })?
    .map_err(failed(&platform))?;
    let folder = folder.display().to_string();
    if global.is_json() {
        terminal::print_json(&json!({"folder": folder, "missing": missing}));
    } else {
        for why in missing.iter().filter(|_| !global.quiet) {
            terminal::note(&format!("warning: {why}"));
        }
        terminal::print(&format!("{folder}\n"));
    }
    Ok(if missing.is_empty() { Exit::Done } else { Exit::Partial })
}

/// A folder that nobody else can put anything into before us.
fn temporary(cluster: &str) -> Result<PathBuf, Error> {
    let prefix = format!("ksail-logs-{cluster}-");
    let made = tempfile::Builder::new().prefix(&prefix).tempdir();
    made.map(tempfile::TempDir::keep).map_err(|error| {
        Error::new(codes::IO, format!("no temporary folder can be made: {error}"), "name one: `ksail cluster logs DIR`")
    })
}
