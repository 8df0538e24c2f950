//! `ksail bundle create`: all images of a plan in one archive.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ksail::{Bundle, Exit};
use serde_json::json;

use super::{Outcome, block_on, failed, open};
use crate::args::Global;
use crate::{interrupt, terminal};

/// How many bytes are a megabyte.
const MEGABYTE: u64 = 1_000_000;

/// Bring all images that a plan needs to where nothing can be pulled
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write every image that a plan needs into one archive, an OCI layout in a tar; the engine pulls those that it lacks
    #[command(after_long_help = "Examples:
  ksail bundle create -o images.tar       where images can be pulled
  ksail apply --bundle images.tar         where nothing can")]
    Create(Create),
}

#[derive(Debug, Args)]
struct Create {
    /// The archive to write
    #[arg(long, short, value_name = "FILE", default_value = "bundle.tar")]
    output: PathBuf,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let Command::Create(create) = &arguments.command;
    let platform = open(global)?;
    let out = global.chdir_path(&create.output);
    let bundle = block_on(async {
        let interrupts = interrupt::listen();
        platform.create_bundle(&out, interrupts.stop.clone()).await
    })?
    .map_err(failed(&platform))?;
    tell(global, &bundle);
    Ok(Exit::Done)
}

fn tell(global: &Global, bundle: &Bundle) {
    let path = bundle.path.display().to_string();
    if global.is_json() {
        terminal::print_json(&json!({
            "path": path,
            "bytes": bundle.bytes,
            "images": bundle.images,
            "pulled": bundle.pulled,
        }));
        return;
    }
    for image in bundle.pulled.iter().filter(|_| !global.quiet) {
        terminal::note(&format!("{image} was pulled, and stays on the engine"));
    }
    for image in bundle.images.keys() {
        terminal::print(&format!("{image}\n"));
    }
    if !global.quiet {
        let size = bundle.bytes.div_ceil(MEGABYTE);
        terminal::note(&format!(
            "{path}: {} images, {size} MB; `ksail apply --bundle {path}` takes them from there",
            bundle.images.len()
        ));
    }
}
