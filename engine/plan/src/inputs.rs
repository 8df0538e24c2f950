//! What a plan is made from, and how making one fails.

use std::collections::BTreeMap;

use ksail_model::{Address, DeclaredGraph, Observation, Preview, RecordKey, Schemas, Scope, Selector};
use ksail_records::Snapshot;

use crate::graph::CycleLink;
use crate::{PlanHeader, StepDo};

/// An observation with the outside that it was made in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What was seen.
    pub observation: Observation,
    /// Which outside answered; `None` where none did.
    pub scope: Option<Scope>,
}

/// What the user asked for beside the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Only these and what they need.
    pub targets: Vec<Selector>,
    /// All but these and what needs them.
    pub excludes: Vec<Selector>,
    /// Make these anew.
    pub replace: Vec<Selector>,
}

/// All that a plan is made from.
pub struct Inputs<'a> {
    /// What is wanted; empty for a destroy.
    pub declared: &'a DeclaredGraph,
    /// What the state knows.
    pub snapshot: &'a Snapshot,
    /// What was seen, by record key; what is missing was not looked at.
    pub observations: &'a BTreeMap<RecordKey, Observed>,
    /// What the outside says that changes would give.
    pub previews: &'a BTreeMap<RecordKey, Preview>,
    /// The kinds.
    pub schemas: &'a dyn Schemas,
    /// What the user asked for.
    pub options: &'a Options,
    /// The head of the plan.
    pub header: PlanHeader,
}

/// Why no plan can be made. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Resources need each other.
    #[error("resources need each other in a circle: {}", path(.0))]
    Cycle(Vec<CycleLink>),
    /// Steps of which each would wait for the one before it, and the first for the last.
    #[error("steps would wait for each other in a circle: {}", steps(.0))]
    StepCycle(Vec<(StepDo, RecordKey)>),
    /// An edge leads to what is not declared.
    #[error("{from} needs {to}, which is not declared")]
    DanglingEdge {
        /// Whose edge.
        from: Address,
        /// Where it leads.
        to: Address,
    },
    /// A kind that this ksail does not know.
    #[error("{address} is of a kind that this ksail does not know")]
    UnknownKind {
        /// Which resource.
        address: Address,
    },
    /// Protected resources would be deleted or made anew.
    #[error("protected, and would be {}: {}", if .0.len() == 1 { "lost" } else { "lost together" }, protected(.0))]
    Protected(Vec<(RecordKey, String)>),
    /// A selector selects nothing.
    #[error("{flag} {selector} selects no resource")]
    SelectsNothing {
        /// Which flag.
        flag: &'static str,
        /// What it said.
        selector: String,
    },
    /// A move cannot be made.
    #[error("{from} cannot move to {to}: {why}")]
    BadMove {
        /// From.
        from: Address,
        /// To.
        to: Address,
        /// Why, as a fragment.
        why: String,
    },
    /// An import names what is not declared.
    #[error("{address} is to be imported and is not declared")]
    ImportUndeclared {
        /// Which.
        address: Address,
    },
}

fn steps(circle: &[(StepDo, RecordKey)]) -> String {
    let word = |what: StepDo| match what {
        StepDo::Create => "create",
        StepDo::Update => "change",
        StepDo::Delete => "destroy",
        StepDo::Wait => "wait for",
        StepDo::Depose => "depose",
        StepDo::Put => "record",
        StepDo::Forget => "forget",
    };
    let again = circle.first();
    let told: Vec<String> = circle.iter().chain(again).map(|(what, key)| format!("{} {key}", word(*what))).collect();
    told.join(" → ")
}

fn path(links: &[CycleLink]) -> String {
    let mut text = String::new();
    for link in links {
        text.push_str(&format!("{} → ({}) ", link.from, link.origin));
    }
    text.push_str("→ ");
    text.push_str(&links.first().map(|link| link.from.to_string()).unwrap_or_default());
    text
}

fn protected(nodes: &[(RecordKey, String)]) -> String {
    nodes.iter().map(|(key, what)| format!("{key} ({what})")).collect::<Vec<_>>().join(", ")
}
