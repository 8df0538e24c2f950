//! `ksail cluster connect`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;
use ksail::{Error, codes};

use crate::args::Global;
use crate::commands::{Outcome, block_on, failed, open};

/// The program that it opens.
const K9S: &str = "k9s";
/// By which variables that knows with what texts are edited, in its order.
const EDITORS: [&str; 3] = ["K9S_EDITOR", "KUBE_EDITOR", "EDITOR"];

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// metadata.name
    #[arg(long)]
    name: Option<String>,
    /// The context, if not the project's own
    #[arg(long)]
    context: Option<String>,
    /// spec.editor
    #[arg(long, value_name = "COMMAND")]
    editor: Option<String>,
    /// Flags of k9s
    #[arg(last = true, value_name = "FLAG")]
    flags: Vec<String>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let mut global = global.clone();
    global.set.extend(super::name_set(arguments.name.as_deref()));
    let platform = open(&global)?;
    let access = block_on(platform.access())?.map_err(failed(&platform))?;
    let mut command = Command::new(K9S);
    let mut by_hand = "kubectl".to_owned();
    if let Some(file) = &access.kubeconfig {
        command.arg("--kubeconfig").arg(file);
        by_hand.push_str(&format!(" --kubeconfig {}", file.display()));
    }
    if let Some(context) = arguments.context.as_ref().or(access.context.as_ref()) {
        command.args(["--context", context]);
        by_hand.push_str(&format!(" --context {context}"));
    }
    if let Some(editor) = arguments.editor.as_ref().or(access.editor.as_ref()) {
        command.envs(EDITORS.map(|name| (name, editor)));
    }
    command.args(&arguments.flags);
    // It takes the place of this process, and with that the terminal and its signals. What comes back is why it could not.
    let error = command.exec();
    let hint = format!("install k9s (https://k9scli.io), or go by hand: `{by_hand} get pods -A`");
    Err(Error::new(codes::IO, format!("`{K9S}` cannot be run: {error}"), hint).into())
}
