//! How the facade fails: each error with its documented code, a hint, and the exit code of the command.

use std::path::PathBuf;

use ksail_execute::{ApplyError, JournalError};
use ksail_model::{Code, Diagnostic};
use ksail_plan::PlanError;
use ksail_records::StateError;

/// Error codes of everything but the file (those are `KS01..`).
pub mod codes {
    use ksail_model::Code;

    /// Resources need each other in a circle.
    pub const CYCLE: Code = Code(201);
    /// Protected resources would be lost.
    pub const PROTECTED: Code = Code(202);
    /// A selector selects nothing.
    pub const SELECTS_NOTHING: Code = Code(203);
    /// A move or an import cannot be made.
    pub const BAD_MOVE: Code = Code(204);
    /// A port is in use.
    pub const PORT_IN_USE: Code = Code(205);
    /// The graph is not sound.
    pub const GRAPH: Code = Code(206);
    /// A plan file cannot be read.
    pub const PLAN_FILE: Code = Code(207);
    /// A cluster cannot be taken to a version.
    pub const VERSION: Code = Code(208);
    /// The engine's machine is not fit for a plan.
    pub const UNFIT_HOST: Code = Code(209);
    /// The plan is stale.
    pub const STALE: Code = Code(301);
    /// The plan was applied before.
    pub const USED: Code = Code(302);
    /// The journal cannot be written.
    pub const JOURNAL: Code = Code(303);
    /// Nothing says yes to the plan.
    pub const NOT_APPROVED: Code = Code(304);
    /// The state is locked.
    pub const LOCKED: Code = Code(401);
    /// The state is of a newer format.
    pub const NEWER_FORMAT: Code = Code(402);
    /// The state is damaged.
    pub const DAMAGED: Code = Code(403);
    /// There is no room for the state.
    pub const FULL: Code = Code(404);
    /// The state may not be written.
    pub const READ_ONLY: Code = Code(405);
    /// The state is another's.
    pub const OTHER_STATE: Code = Code(406);
    /// The state cannot be read or written.
    pub const STATE_IO: Code = Code(407);
    /// There is no such state, record or operation.
    pub const NOT_FOUND: Code = Code(408);
    /// The state's place cannot be used.
    pub const BACKEND: Code = Code(409);
    /// What exists belongs to another lineage.
    pub const FOREIGN: Code = Code(410);
    /// The store of the state cannot be reached.
    pub const UNREACHABLE: Code = Code(411);
    /// The store of the state refuses our credentials.
    pub const DENIED: Code = Code(412);
    /// The lease on the state is lost.
    pub const LEASE_LOST: Code = Code(413);
    /// What could not be stored is kept on this machine.
    pub const RESCUED: Code = Code(414);
    /// The state was moved elsewhere.
    pub const MOVED: Code = Code(415);
    /// A provider cannot be reached.
    pub const PROVIDER: Code = Code(501);
    /// A secret cannot be resolved.
    pub const SECRET: Code = Code(601);
    /// A file cannot be read or written.
    pub const IO: Code = Code(701);
    /// A command line that cannot be carried out.
    pub const USAGE: Code = Code(702);

    /// Every code of this module.
    pub const ALL: &[Code] = &[
        CYCLE,
        PROTECTED,
        SELECTS_NOTHING,
        BAD_MOVE,
        PORT_IN_USE,
        GRAPH,
        PLAN_FILE,
        VERSION,
        UNFIT_HOST,
        STALE,
        USED,
        JOURNAL,
        NOT_APPROVED,
        LOCKED,
        NEWER_FORMAT,
        DAMAGED,
        FULL,
        READ_ONLY,
        OTHER_STATE,
        STATE_IO,
        NOT_FOUND,
        BACKEND,
        FOREIGN,
        UNREACHABLE,
        DENIED,
        LEASE_LOST,
        RESCUED,
        MOVED,
        PROVIDER,
        SECRET,
        IO,
        USAGE,
    ];
}

/// Documented exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// An error.
    Error = 1,
    /// `plan --detailed-exitcode`: there are changes, drift included.
    Changes = 2,
    /// In part: nodes failed or blocked.
    Partial = 3,
    /// The plan is stale.
    Stale = 4,
    /// The state is locked.
    Locked = 5,
    /// Refused by policy or protection.
    Refused = 6,
    /// Interrupted in order.
    Interrupted = 130,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is wrong with the file or the command line.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Diagnostics(Vec<Diagnostic>),
    /// No plan can be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// An apply did not happen.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// An error with a code, and a hint.
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Diagnostics(vec![Diagnostic::error(code, message).hint(hint)])
    }

    /// The exit code of the command.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Plan(PlanError::Protected(_)) => Exit::Refused,
            Self::Apply(ApplyError::Stale(_) | ApplyError::Used { .. }) => Exit::Stale,
            Self::Apply(ApplyError::State(StateError::Locked { .. })) | Self::State(StateError::Locked { .. }) => {
                Exit::Locked
            }
            _ => Exit::Error,
        }
    }

    /// What to tell the user.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            Self::Diagnostics(diagnostics) => diagnostics.clone(),
            Self::Plan(error) => vec![plan_diagnostic(error)],
            Self::Apply(error) => vec![apply_diagnostic(error)],
            Self::State(error) => vec![state_diagnostic(error)],
            Self::Io { source, .. } => vec![Diagnostic::error(codes::IO, format!("{self}: {source}"))],
        }
    }
}

/// An error with all that caused it, as one line.
pub fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn plan_diagnostic(error: &PlanError) -> Diagnostic {
    let (code, hint) = match error {
        PlanError::Cycle(_) => (codes::CYCLE, "take one of these dependencies away, or make one of them soft"),
        PlanError::StepCycle(_) => (
            codes::CYCLE,
            "if one of them only has another address now, say so with spec.moved, and nothing of it is destroyed; or make the \
             change in two applies",
        ),
        PlanError::Protected(_) => (
            codes::PROTECTED,
            "to give them up, declare them with `protect: false` under spec.lifecycle and apply that first",
        ),
        PlanError::SelectsNothing { .. } => (codes::SELECTS_NOTHING, "`ksail state list` names what there is"),
        PlanError::BadMove { .. } | PlanError::ImportUndeclared { .. } => {
            (codes::BAD_MOVE, "`ksail plan` without it names the addresses that are declared")
        }
        PlanError::DanglingEdge { .. } | PlanError::UnknownKind { .. } => {
            (codes::GRAPH, "a newer ksail may know it: `ksail version`")
        }
    };
    Diagnostic::error(code, error.to_string()).hint(hint)
}

fn apply_diagnostic(error: &ApplyError) -> Diagnostic {
    match error {
        ApplyError::State(error) => state_diagnostic(error),
        ApplyError::Journal(JournalError::Write(cause)) if matches!(**cause, StateError::Rescued { .. }) => {
            Diagnostic::error(codes::RESCUED, whole(error)).hint(RESCUED_HINT)
        }
        ApplyError::Journal(_) => Diagnostic::error(codes::JOURNAL, whole(error))
            .hint("nothing is lost: mend the cause and run the same command again, it goes on from what is recorded"),
        ApplyError::Stale(_) => Diagnostic::error(codes::STALE, error.to_string())
            .hint("nothing was called; make a new plan with `ksail plan`, or apply what is unaffected with --partial"),
        ApplyError::Used { .. } => Diagnostic::error(codes::USED, error.to_string())
            .hint("nothing was called; `ksail plan` tells whether anything is left to do"),
    }
}

/// What to do when something could not be stored.
const RESCUED_HINT: &str = "nothing is lost: mend the cause and run the same command again on this machine, it stores what is kept there and goes on";

fn state_diagnostic(error: &StateError) -> Diagnostic {
    let (code, hint) = match error {
        StateError::Unfit { hint, .. } => return Diagnostic::error(codes::BACKEND, whole(error)).hint(hint.clone()),
        StateError::Moved { to, .. } => {
            let hint = format!("use it there: --state {to}, KSAIL_STATE or spec.state.path");
            return Diagnostic::error(codes::MOVED, whole(error)).hint(hint);
        }
        StateError::Unreachable { .. } => {
            (codes::UNREACHABLE, "check the address, the endpoint and the network, then run the same command again")
        }
        StateError::Denied { .. } => (
            codes::DENIED,
            "renew the credentials (AWS_*, a profile, PGPASSWORD) or ask for the rights that the guide's page on the backend lists, then run the same command again",
        ),
        StateError::LeaseLost { .. } => (
            codes::LEASE_LOST,
            "`ksail state locks` tells who has it; run the same command again: calls that were cut off are looked at first",
        ),
        StateError::Rescued { .. } => (codes::RESCUED, RESCUED_HINT),
        StateError::Locked { .. } => (
            codes::LOCKED,
            "wait for it with --lock-timeout 5m; `ksail state locks` tells more, `ksail unlock` breaks the lock of a holder that is gone",
        ),
        StateError::NewerFormat { .. } => (codes::NEWER_FORMAT, "use the ksail that wrote it, or a newer one"),
        StateError::Damaged { .. } | StateError::Illegal { .. } => (
            codes::DAMAGED,
            "nothing was changed; move snapshot.json and journal of that folder aside, then `ksail state recover` rebuilds the state from what exists",
        ),
        StateError::Full { .. } => {
            (codes::FULL, "make room and run the same command again: it goes on from what is recorded")
        }
        StateError::ReadOnly { .. } => {
            (codes::READ_ONLY, "give yourself the right to write there, or choose another folder with --state")
        }
        StateError::Fenced { .. } => {
            (codes::STATE_IO, "run the command again: it starts from what the other one wrote")
        }
        StateError::LockMismatch { .. } => (codes::LOCKED, "`ksail unlock` without an id tells who holds it"),
        StateError::OtherStack { .. } => (codes::OTHER_STATE, "check metadata.name, --environment and --state"),
        StateError::Io { .. } => (
            codes::STATE_IO,
            "mend what the system says of it, or choose another place with --state, then run the same command again",
        ),
    };
    Diagnostic::error(code, whole(error)).hint(hint)
}
