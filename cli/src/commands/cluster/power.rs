//! `ksail cluster stop` and `start`.

use std::sync::Arc;

use clap::Args;
use ksail::{Exit, Power, PowerOptions, PowerOutcome, Powered};
use serde_json::json;

use crate::args::{Global, LockFlags, Time};
use crate::commands::{Outcome, block_on, failed, open};
use crate::{interrupt, terminal};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// metadata.name
    #[arg(long)]
    name: Option<String>,
    /// How long one call, and one wait until ready, may take
    #[arg(long, value_name = "TIME", default_value = "5m")]
    timeout: Time,
    #[command(flatten)]
    lock: LockFlags,
}

pub(super) fn run(global: &Global, arguments: &Arguments, power: Power) -> Outcome {
    let mut global = global.clone();
    global.set.extend(super::name_set(arguments.name.as_deref()));
    let platform = open(&global)?;
    let (is_json, is_quiet) = (global.is_json(), global.quiet);
    let done = block_on(async {
        let interrupts = interrupt::listen();
        let told = move |one: &Powered| {
            if !is_json && one.outcome != PowerOutcome::WasSo && !(is_quiet && one.outcome.is_good()) {
                terminal::note(&line(one, power));
            }
        };
        let options = PowerOptions {
            lock_wait: arguments.lock.lock_timeout.0,
            timeout: arguments.timeout.0,
            cancel: interrupts.stop.clone(),
            told: Arc::new(told),
        };
        let done = platform.power(power, &options).await;
        done.map(|done| (done, interrupts.stop.is_cancelled()))
    })?;
    let (done, is_interrupted) = done.map_err(failed(&platform))?;
    let bad = done.iter().filter(|one| !one.outcome.is_good()).count();
    if global.is_json() {
        terminal::print_json(&done.iter().map(as_json).collect());
    } else if bad == 0 {
        let cluster = done.first().map(|one| one.address.cluster()).unwrap_or_default();
        let (so, hint) = match power {
            Power::Off => ("stopped", "; `ksail cluster start` starts it again"),
            Power::On => ("started, and ready", ""),
        };
        terminal::print(&format!("{cluster} is {so}{hint}\n"));
    }
    Ok(match (bad, is_interrupted) {
        (0, _) => Exit::Done,
        (_, true) => Exit::Interrupted,
        _ => Exit::Partial,
    })
}

fn line(one: &Powered, power: Power) -> String {
    let name = &one.name;
    match (&one.outcome, power) {
        (PowerOutcome::Done, Power::Off) => format!("{name}: stopped"),
        (PowerOutcome::Done, Power::On) => format!("{name}: started"),
        (PowerOutcome::WasSo, Power::Off) => format!("{name}: was stopped"),
        (PowerOutcome::WasSo, Power::On) => format!("{name}: is ready"),
        (PowerOutcome::NotReady(why), _) => {
            format!(
                "{name}: not ready: {why}\n  hint: `ksail plan` shows what mends it, `ksail cluster logs` what it says"
            )
        }
        (PowerOutcome::Failed { message, hint }, _) => {
            let hint = hint.as_deref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
            format!("{name}: {message}{hint}")
        }
    }
}

fn as_json(one: &Powered) -> serde_json::Value {
    let (outcome, message, hint) = match &one.outcome {
        PowerOutcome::Done => ("done", None, None),
        PowerOutcome::WasSo => ("was_so", None, None),
        PowerOutcome::NotReady(why) => ("not_ready", Some(why.as_str()), None),
        PowerOutcome::Failed { message, hint } => ("failed", Some(message.as_str()), hint.as_deref()),
    };
    json!({
        "address": one.address.as_str(), "name": one.name, "outcome": outcome, "message": message, "hint": hint,
    })
}
