//! `ksail state …`: looks after the state.

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ksail::{Error, Exit, HeldLock, Migrated, Platform, Record, Recovery};
use serde_json::json;

use super::{Outcome, run_plan};
use crate::args::{ApplyFlags, Global, LockFlags, PlanFlags};
use crate::report::Failure;
use crate::{interrupt, terminal};

/// How many operations `history` lists, where nothing else is asked for.
const HISTORY: usize = 20;

/// Look after the state: list, show, pull, push, mv, rm, history, locks, migrate, recover
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what is recorded
    List,
    /// Show one record
    Show {
        /// The resource; the cluster may be left out
        address: String,
    },
    /// Print the state as JSON
    Pull,
    /// Replace the state by one that `pull` printed; a foreign lineage or an older serial is refused
    Push {
        /// The file; `-` is standard input
        // Of another name than the global `--file`, or it would be taken for the configuration.
        #[arg(id = "pushed", value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Give a record another address
    Mv {
        /// The address now
        from: String,
        /// The address from now on
        to: String,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Forget a record; what it stands for stays outside
    Rm {
        /// The resource; the cluster may be left out
        address: String,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// List the operations, newest first
    History {
        /// At most so many
        #[arg(long, default_value_t = HISTORY)]
        limit: usize,
    },
    /// Tell who holds the lock: who, where, which operation, since when
    Locks,
    /// Move the state to another place with its history, prove that both are equal, and seal it here
    #[command(after_long_help = "Examples:
  ksail state migrate --to s3://team-state/shop
  ksail state migrate --to postgres://ksail@db.example.com/ops?prefix=shop")]
    Migrate {
        /// A folder, s3://bucket/prefix or postgres://user@host/database
        #[arg(long, value_name = "PLACE")]
        to: String,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Rebuild a lost state from the marks on what exists, by a plan that is shown first
    Recover {
        /// Whose marks, where there are several
        #[arg(long)]
        lineage: Option<String>,
        #[command(flatten)]
        flags: ApplyFlags,
    },
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let platform = super::open(global)?;
    super::block_on(act(global, &platform, &arguments.command))?
}

/// `ksail show` without a plan.
pub(super) fn show_all(global: &Global) -> Outcome {
    let platform = super::open(global)?;
    super::block_on(list(global, &platform))?
}

async fn act(global: &Global, platform: &Platform, action: &Action) -> Outcome {
    let failed = super::failed(platform);
    match action {
        Action::List => return list(global, platform).await,
        Action::Show { address } => show(global, platform.state_show(address).await.map_err(failed)?.as_ref()),
        Action::Pull => terminal::print(&format!("{}\n", platform.state_pull().await.map_err(failed)?)),
        Action::Push { file, lock } => {
            let text = read(&global.chdir_path(file))?;
            let serial = platform.state_push(&text, run_plan::lock_wait(lock)).await.map_err(failed)?;
            say(global, &format!("the state has serial {serial} now"));
        }
        Action::Mv { from, to, lock } => {
            platform.state_mv(from, to, run_plan::lock_wait(lock)).await.map_err(failed)?;
            say(
                global,
                &format!(
                    "{from} is {to} now; declare it so too, or say so with spec.moved: else the next plan destroys what was moved, and has {from} blocked"
                ),
            );
        }
        Action::Rm { address, lock } => {
            let key = platform.state_rm(address, run_plan::lock_wait(lock)).await.map_err(failed)?;
            say(
                global,
                &format!(
                    "{key} is forgotten; what it stood for is still there, with the mark of this state: `ksail import` takes it up again"
                ),
            );
        }
        Action::History { limit } => history(global, platform, *limit).await?,
        Action::Locks => locks(global, platform).await?,
        Action::Migrate { to, lock } => {
            let moved = platform.migrate_state(to, run_plan::lock_wait(lock)).await.map_err(failed)?;
            if global.is_json() {
                terminal::print_json(&json!({
                    "from": moved.from, "to": moved.to, "lineage": moved.lineage, "serial": moved.serial,
                    "records": moved.records, "operations": moved.operations,
                }));
            }
            say(global, &moved_text(&moved));
        }
        Action::Recover { lineage, flags } => return recover(global, platform, lineage.as_deref(), flags).await,
    }
    Ok(Exit::Done)
}

/// How many plans a recovery takes at most: hosts may have to be brought back one within the other.
const MOST_PLANS: u32 = 4;

fn moved_text(moved: &Migrated) -> String {
    let Migrated { from, to, serial, records, operations, .. } = moved;
    format!(
        "the state (serial {serial}, {records} records, {operations} operations) is in {to} now; what is in {from} is sealed\n\
         hint: set spec.state.path, KSAIL_STATE or --state for all who use it"
    )
}

/// The locks that are held, as `state locks` and `unlock` tell them: a list of none or one.
pub(super) fn lock_json(held: Option<&HeldLock>) -> serde_json::Value {
    serde_json::to_value(held.into_iter().collect::<Vec<_>>()).unwrap_or_default()
}

async fn locks(global: &Global, platform: &Platform) -> Result<(), Failure> {
    let held = platform.state_lock().await.map_err(super::failed(platform))?;
    if global.is_json() {
        terminal::print_json(&lock_json(held.as_ref()));
        return Ok(());
    }
    let Some(HeldLock { owner, lease }) = held else {
        terminal::print("the state is not locked\n");
        return Ok(());
    };
    let when = |ms: u64| {
        let when = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        when.map(|when| format!("{when:.0}")).unwrap_or_default()
    };
    let mut lines = vec![
        format!("id         {}", owner.id),
        format!("who        {}", owner.who),
        format!("operation  {} (pid {})", owner.doing, owner.pid),
        format!("since      {}", when(owner.since_ms)),
    ];
    if let Some(lease) = lease {
        let seconds = lease.ttl_ms / 1000;
        lines.push(format!("lease      {seconds} s, renewed {} by its holder's clock", when(lease.renewed_ms)));
    }
    terminal::print(&format!("{}\n", lines.join("\n")));
    Ok(())
}

async fn recover(global: &Global, platform: &Platform, lineage: Option<&str>, flags: &ApplyFlags) -> Outcome {
    let interrupts = interrupt::listen();
    let select = PlanFlags::default();
    let options = run_plan::plan_options(&select, &interrupts)?;
    for _ in 0..MOST_PLANS {
        let Recovery { planned, lineage, asleep, releases } =
            platform.plan_recovery(lineage, &options).await.map_err(super::failed(platform))?;
        let doing = if releases { "giving up" } else { "taking up" };
        say(global, &format!("{doing} lineage {lineage}"));
        let exit = run_plan::review_and_apply(global, platform, planned, flags, "state recover", &interrupts).await?;
        if exit != Exit::Done || (asleep.is_empty() && !releases) {
            return Ok(exit);
        }
        if !releases {
            say(global, "what did not run is back: looking for what it holds");
        }
    }
    Ok(Exit::Partial)
}

async fn list(global: &Global, platform: &Platform) -> Outcome {
    let rows = platform.state_list().await.map_err(super::failed(platform))?;
    if global.is_json() {
        let list: Vec<_> =
            rows.iter().map(|row| json!({ "address": row.key, "status": row.status, "id": row.id })).collect();
        terminal::print_json(&json!(list));
    } else {
        for row in rows {
            let status = match row.status {
                ksail_model::Status::Present => String::new(),
                other => format!("  ({})", word(&other)),
            };
            terminal::print(&format!("{}{status}\n", row.key));
        }
    }
    Ok(Exit::Done)
}

fn word(status: &ksail_model::Status) -> String {
    match status {
        ksail_model::Status::Creating => "its create was interrupted".to_owned(),
        ksail_model::Status::Present => "present".to_owned(),
        ksail_model::Status::NotReady { why } => format!("not ready: {why}"),
        ksail_model::Status::Deleting => "its deletion was interrupted".to_owned(),
        ksail_model::Status::Deposed => "deposed".to_owned(),
        ksail_model::Status::Stuck { why } => format!("stuck: {why}"),
    }
}

fn show(global: &Global, record: &Record) {
    if global.is_json() {
        terminal::print_json(&serde_json::to_value(record).unwrap_or_default());
        return;
    }
    let declaration = &record.declaration;
    let mut lines = vec![
        format!("# {}", declaration.address),
        format!("name        {}", declaration.identity.name),
        format!("status      {}", word(&record.status)),
        format!("generation  {}", record.generation),
        format!("operation   {}", record.operation),
    ];
    lines.extend(record.id.iter().map(|id| format!("id          {id}")));
    lines.extend(record.scope.iter().map(|scope| format!("scope       {scope}")));
    lines.extend(declaration.host.iter().map(|host| format!("lives in    {host}")));
    lines.extend(declaration.edges.iter().map(|edge| format!("needs       {} ({})", edge.to, edge.condition)));
    if declaration.lifecycle.is_protected() {
        lines.push("protected   yes".to_owned());
    }
    lines.extend(
        ksail_plan::joined(&record.fields, &record.attributes)
            .as_map()
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("  {name} = {value}")),
    );
    terminal::print(&format!("{}\n", lines.join("\n")));
}

async fn history(global: &Global, platform: &Platform, limit: usize) -> Result<(), Failure> {
    let lines = platform.state_history(limit).await.map_err(super::failed(platform))?;
    if global.is_json() {
        let list: Vec<_> = lines
            .iter()
            .map(|line| {
                let operation = &line.operation;
                json!({
                    "operation": operation.header.id, "serial": operation.serial, "kind": operation.header.kind,
                    "result": operation.result, "who": operation.header.who, "commit": operation.header.commit,
                    "began_ms": operation.header.began_ms, "sealed_ms": operation.sealed_ms,
                    "plan_digest": operation.header.plan_digest, "plan": operation.plan,
                    "changes": operation.changes.iter().map(|change| change.key.to_string()).collect::<Vec<_>>(),
                })
            })
            .collect();
        terminal::print_json(&json!(list));
        return Ok(());
    }
    for line in lines {
        let operation = line.operation;
        let when =
            i64::try_from(operation.header.began_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let when = when.map(|when| format!("{when:.0}")).unwrap_or_default();
        let words = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        terminal::print(&format!(
            "{:>4}  {}  {when}  {:<8} {:<10} {:>4} changes  {}\n",
            operation.serial,
            operation.header.id,
            words(json!(operation.header.kind)),
            words(json!(operation.result)),
            operation.changes.len(),
            operation.header.who,
        ));
    }
    Ok(())
}

fn read(path: &std::path::Path) -> Result<String, Failure> {
    let io = |source| Failure::from(Error::Io { doing: "read", path: path.to_owned(), source });
    if path.ends_with("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(io)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(io)
}

fn say(global: &Global, text: &str) {
    if !global.quiet && !global.is_json() {
        terminal::note(text);
    }
}
