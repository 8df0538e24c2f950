//! `ksail cluster list`.

use clap::Args;
use ksail::{ClusterOwner, ClusterRow, Exit, Platform, clusters};
use serde_json::json;

use crate::args::{Format, Global};
use crate::commands::{Outcome, block_on};
use crate::terminal;

/// How much of a lineage is told.
const SHORT: usize = 8;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// As --format
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let mut global = global.clone();
    global.format = arguments.output.unwrap_or(global.format);
    let settings = global.settings();
    let rows = block_on(async {
        // It is asked for in any folder: without a project, none of them is its own.
        let own = match Platform::open(settings.clone()) {
            Ok(platform) => platform.snapshot().await.ok().flatten(),
            Err(_) => None,
        };
        clusters(&settings, own.as_ref()).await
    })??;
    if global.is_json() {
        terminal::print_json(&rows.iter().map(as_json).collect());
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        terminal::print("the engine has no clusters\n");
        return Ok(Exit::Done);
    }
    let mut lines = vec![["NAME", "NODES", "STATUS", "OWNER", "IMAGE"].map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    terminal::print(&super::table(&lines));
    Ok(Exit::Done)
}

/// How many of a cluster's nodes run, and what that comes to.
fn status(row: &ClusterRow) -> (usize, &'static str) {
    let running = row.nodes.iter().filter(|node| node.is_running()).count();
    let status = match running {
        0 => "stopped",
        all if all == row.nodes.len() => "running",
        _ => "partly running",
    };
    (running, status)
}

fn cells(row: &ClusterRow) -> [String; 5] {
    let (running, status) = status(row);
    let owner = match &row.owner {
        ClusterOwner::This => "this project".to_owned(),
        ClusterOwner::Other(lineage) => format!("state {}", lineage.get(..SHORT).unwrap_or(lineage)),
        ClusterOwner::Foreign => "not ksail".to_owned(),
    };
    let mut images: Vec<&str> = row.nodes.iter().map(|node| node.image.as_str()).collect();
    images.sort_unstable();
    images.dedup();
    [row.name.clone(), format!("{running}/{}", row.nodes.len()), status.to_owned(), owner, images.join(", ")]
}

fn as_json(row: &ClusterRow) -> serde_json::Value {
    let (lineage, is_ours) = match &row.owner {
        ClusterOwner::Foreign => (None, false),
        ClusterOwner::This => (row.nodes.iter().find_map(|node| node.lineage.as_deref()), true),
        ClusterOwner::Other(lineage) => (Some(lineage.as_str()), false),
    };
    let nodes = row
        .nodes
        .iter()
        .map(|node| json!({"name": node.name, "role": node.role, "image": node.image, "state": node.state}));
    json!({
        "name": row.name, "status": status(row).1, "this_project": is_ours, "lineage": lineage,
        "nodes": nodes.collect::<Vec<_>>(),
    })
}
