//! `ksail output`: endpoints and registries.

use clap::Args;
use ksail::{Error, Exit, codes};
use ksail_views::{json, text};

use super::Outcome;
use crate::args::Global;
use crate::report::Failure;
use crate::terminal;

/// Print the outputs of the last apply: endpoints, registries
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  ksail output
  ksail output registry            the value alone
  ksail output --format json")]
pub(crate) struct Arguments {
    /// Only this one
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let platform = super::open(global)?;
    let outputs = super::block_on(platform.outputs())?.map_err(super::failed(&platform))?;
    let Some(name) = &arguments.name else {
        if global.is_json() {
            terminal::print_json(&json::outputs_json(&outputs));
        } else {
            terminal::print(&text::outputs(&outputs, &terminal::text_options(global)));
        }
        return Ok(Exit::Done);
    };
    let Some(value) = outputs.get(name) else {
        let known: Vec<&str> = outputs.keys().map(String::as_str).collect();
        let hint = if known.is_empty() {
            "there are no outputs".to_owned()
        } else {
            format!("the outputs are: {}", known.join(", "))
        };
        return Err(Failure::from(Error::new(codes::NOT_FOUND, format!("there is no output {name}"), hint)));
    };
    match value.as_str() {
        Some(plain) if !global.is_json() => terminal::print(&format!("{plain}\n")),
        _ => terminal::print_json(&value.to_plain_json()),
    }
    Ok(Exit::Done)
}
