//! Graph, diff, plan and explain: pure functions over declarations, records and observations.
//!
//! No IO, clock, randomness or tokio; the crate graph keeps it so.

mod classify;
mod diff;
mod digests;
mod explain;
mod fields;
mod graph;
mod ignored;
mod inputs;
mod look;
mod nodes;
mod notes;
mod numbers;
mod plan;
mod planner;
mod recorded;
mod resolve;
mod seen;
mod select;
mod steps;

pub use diff::{Difference, diff};
pub use digests::digest_of;
pub use explain::{ChangeCause, Explanation, explain};
pub use graph::CycleLink;
pub use inputs::{Inputs, Observed, Options, PlanError};
pub use look::{LookItem, in_order, look_list};
pub use nodes::Nodes;
pub use plan::{
    Action, Blocked, Cause, Counts, Drift, DriftResponse, FieldChange, Mode, PLAN_FORMAT, Plan, PlanHeader, PlanNode,
    PlanStep, Reason, Resolution, SeenAt, StepDo,
};
pub use planner::plan;
pub use recorded::RecordChange;
pub use resolve::{joined, resolve_open_intents};
pub use seen::{resolve_references, seen_digest};
