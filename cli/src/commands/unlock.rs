//! `ksail unlock`: who holds the lock, and breaks one that outlived its holder.

use clap::Args;
use ksail::Exit;

use super::Outcome;
use crate::args::Global;
use crate::terminal;

/// Tell who holds the lock; with its id, break one whose holder is gone
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  ksail unlock
  ksail unlock 0199f3a2c4")]
pub(crate) struct Arguments {
    /// The lock's id
    #[arg(value_name = "ID")]
    id: Option<String>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let platform = super::open(global)?;
    let held = super::block_on(async {
        platform.unlock(arguments.id.as_deref()).await?;
        platform.state_lock().await
    })?
    .map_err(super::failed(&platform))?;
    if global.is_json() {
        terminal::print_json(&super::state::lock_json(held.as_ref()));
    } else {
        terminal::print(&match held.map(|held| held.owner) {
            None => "the state is not locked\n".to_owned(),
            Some(owner) => {
                format!("locked by {} ({}, pid {}), lock id {}\n", owner.who, owner.doing, owner.pid, owner.id)
            }
        });
    }
    Ok(Exit::Done)
}
