//! `ksail cluster info`.

use clap::Args;
use ksail::{ClusterInfo, Exit};
use ksail_views::{json as views_json, text};
use serde_json::json;

use crate::args::{Format, Global};
use crate::commands::{Outcome, block_on, failed, open};
use crate::terminal;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// metadata.name
    #[arg(long)]
    name: Option<String>,
    /// As --format
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let mut global = global.clone();
    global.format = arguments.output.unwrap_or(global.format);
    global.set.extend(super::name_set(arguments.name.as_deref()));
    let platform = open(&global)?;
    let info = block_on(platform.cluster_info())?.map_err(failed(&platform))?;
    if global.is_json() {
        terminal::print_json(&as_json(&info));
        return Ok(Exit::Done);
    }
    let version = info.version.as_deref().map(|version| format!(", Kubernetes {version}")).unwrap_or_default();
    let mut said = format!("{} on {}{version}\n\n", info.name, info.provider);
    let mut lines = vec![["RESOURCE", "NAME", "STATUS", "ENDPOINT"].map(str::to_owned)];
    lines.extend(info.parts.iter().map(|part| {
        let endpoint = part.endpoint.clone().unwrap_or_default();
        [part.address.without_cluster().to_owned(), part.name.clone(), part.status.clone(), endpoint]
    }));
    said.push_str(&super::table(&lines));
    said.push('\n');
    said.push_str(&text::outputs(&info.outputs, &terminal::text_options(&global)));
    terminal::print(&said);
    Ok(Exit::Done)
}

fn as_json(info: &ClusterInfo) -> serde_json::Value {
    let parts = info.parts.iter().map(|part| {
        json!({
            "address": part.address.as_str(), "name": part.name, "ready": part.is_ready, "status": part.status,
            "endpoint": part.endpoint,
        })
    });
    json!({
        "name": info.name, "provider": info.provider, "kubernetesVersion": info.version,
        "resources": parts.collect::<Vec<_>>(), "outputs": views_json::outputs_json(&info.outputs),
    })
}
