//! Graph, diff, plan and explain: pure functions over declarations, records and observations.
//!
//! No IO, clock, randomness or tokio; the crate graph keeps it so.

mod plan;

pub use plan::{
    Action, Blocked, Cause, Counts, Drift, DriftResponse, FieldChange, Mode, PLAN_FORMAT, Plan, PlanHeader, PlanNode,
    PlanStep, Reason, Resolution, SeenAt, StepDo,
};
