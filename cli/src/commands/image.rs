//! `ksail image load`: images into the nodes of a cluster.

use std::path::Path;

use clap::{Args, Subcommand};
use ksail::{Error, Exit, ImageSet, NodeImages, codes};
use serde_json::json;

use super::{Outcome, block_on, failed, open};
use crate::args::Global;
use crate::report::Failure;
use crate::{interrupt, terminal};

/// What names of archives end in: such a one that is not there is no image's name.
const ENDINGS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

/// Put images into the nodes of a cluster on Docker
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put images of the engine, or all of an archive, into every node; what a node has already it does not get again
    #[command(after_long_help = "Examples:
  ksail image load shop/web:dev shop/api:dev   images of the engine
  ksail image load images.tar                  an archive: as `docker save` writes it, or an OCI layout in a tar
  ksail image load shop/web:dev --name kind    into another cluster of the engine, whoever made it")]
    Load(Load),
}

#[derive(Debug, Args)]
struct Load {
    /// Images of the engine, or one archive
    #[arg(value_name = "ARCHIVE|IMAGE", required = true)]
    images: Vec<String>,
    /// Only into this node; may be repeated
    #[arg(long = "node", value_name = "NODE")]
    nodes: Vec<String>,
    /// metadata.name
    #[arg(long)]
    name: Option<String>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let Command::Load(load) = &arguments.command;
    let mut global = global.clone();
    global.set.extend(super::cluster::name_set(load.name.as_deref()));
    let platform = open(&global)?;
    let images = images(&global, &load.images)?;
    let done = block_on(async {
        let interrupts = interrupt::listen();
        platform.load_images(&images, &load.nodes, interrupts.stop.clone()).await
    })?
    .map_err(failed(&platform))?;
    tell(&global, &done);
    Ok(Exit::Done)
}

/// What is meant: a file that is there is an archive.
fn images(global: &Global, named: &[String]) -> Result<ImageSet, Failure> {
    let path = |text: &String| global.chdir_path(Path::new(text));
    match named {
        [one] if path(one).is_file() => Ok(ImageSet::Archive(path(one))),
        _ => {
            if let Some(file) = named.iter().find(|text| path(text).is_file()) {
                let message = format!("{file} is an archive, and is loaded by itself");
                return Err(Error::new(codes::USAGE, message, format!("ksail image load {file}")).into());
            }
            if let Some(gone) = named.iter().find(|text| ENDINGS.iter().any(|ending| text.ends_with(ending))) {
                let message = format!("there is no archive {}", path(gone).display());
                return Err(Error::new(codes::IO, message, "`docker save -o FILE IMAGE…` writes one").into());
            }
            Ok(ImageSet::Engine(named.to_vec()))
        }
    }
}

fn tell(global: &Global, done: &[NodeImages]) {
    if global.is_json() {
        let node = |one: &NodeImages| json!({"node": one.node, "loaded": one.loaded, "present": one.present});
        terminal::print_json(&json!(done.iter().map(node).collect::<Vec<_>>()));
        return;
    }
    for one in done {
        for image in &one.loaded {
            terminal::print(&format!("{}: {image} loaded\n", one.node));
        }
        for image in one.present.iter().filter(|_| !global.quiet) {
            terminal::print(&format!("{}: {image} was there\n", one.node));
        }
    }
}
