//! What the history keeps of a plan, where a backend keeps plans.

use std::sync::Arc;

use ksail_model::Digest;
use ksail_plan::{Nodes, Plan, PlanNode};
use ksail_records::KeptPlan;
use tokio::task::JoinHandle;

/// A plan that is being made ready for the history, beside all else.
pub(crate) struct KeptPlanToBe {
    /// Which plan.
    pub(crate) digest: Digest,
    task: JoinHandle<Option<KeptPlan>>,
}

impl KeptPlanToBe {
    /// Begins.
    pub(crate) fn start(plan: &Arc<Plan>) -> Self {
        let digest = plan.digest.clone();
        let plan = Arc::clone(plan);
        Self { digest, task: tokio::task::spawn_blocking(move || kept(&plan)) }
    }

    /// Waits until it is ready. A plan that cannot be written is not kept.
    pub(crate) async fn made(self) -> Option<KeptPlan> {
        self.task.await.ok().flatten()
    }
}

/// All of a plan but the resources that do not change.
fn kept(plan: &Plan) -> Option<KeptPlan> {
    let is_kept = |node: &PlanNode| node.action.is_change() || node.import.is_some() || node.moved_from.is_some();
    if plan.nodes.values().all(is_kept) {
        return KeptPlan::of(plan).ok();
    }
    let nodes: Nodes = plan.nodes.values().filter(|node| is_kept(node)).cloned().collect();
    KeptPlan::of(&Plan {
        format: plan.format,
        header: plan.header.clone(),
        content_digest: plan.content_digest.clone(),
        digest: plan.digest.clone(),
        nodes,
        steps: plan.steps.clone(),
        drift: plan.drift.clone(),
        resolutions: plan.resolutions.clone(),
        yielded: plan.yielded.clone(),
        providers: plan.providers.clone(),
        outputs: plan.outputs.clone(),
        outputs_before: plan.outputs_before.clone(),
        notes: plan.notes.clone(),
    })
    .ok()
}
