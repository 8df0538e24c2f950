//! `ksail version`.

use clap::Args;
use ksail::{Exit, VERSION};
use serde_json::json;

use crate::args::Global;
use crate::terminal;

/// Print the version
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(global: &Global, _: &Arguments) -> Exit {
    if global.is_json() {
        terminal::print_json(&json!({ "version": VERSION, "plan_format": 1, "state_format": 1 }));
    } else {
        terminal::print(&format!("ksail {VERSION}\n"));
    }
    Exit::Done
}
