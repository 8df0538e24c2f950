//! Dispatch: ready steps, most critical first, within the budgets of each session. No choices are left to make here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use ksail_model::{Condition, RecordKey};
use ksail_plan::{Plan, StepDo};
use tokio::task::JoinSet;

use crate::apply::{Apply, Failure, Skipped};
use crate::event::Event;
use crate::journal::{Journal, JournalError};
use crate::sessions::{self, SessionKey, Sessions};
use crate::step::{Called, StepError, StepRunner};

/// What a dispatch did.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) done: usize,
    pub(crate) failed: Vec<Failure>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) interrupted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Pending,
    Calling,
    /// The call has returned and it is not ready yet: waits for a wait slot, or waits.
    Waiting,
    Done,
    Failed,
    Skipped,
}

/// What came back from a task.
enum Returned {
    Called(usize, Result<Called, StepError>),
    Waited(usize, Result<(), StepError>),
}

/// Slots of one session.
#[derive(Default)]
struct Slots {
    calls: usize,
    waits: usize,
    /// Ready steps: longest remaining path first, then the order of the plan.
    ready: BinaryHeap<(u64, Reverse<usize>)>,
    waiting: VecDeque<usize>,
}

pub(crate) struct Dispatch {
    plan: Arc<Plan>,
    runner: Arc<StepRunner>,
    stages: Vec<Stage>,
    /// Steps that gave their slot back before their outcome was durable.
    slot_given_back: Vec<bool>,
    /// Unmet needs of each step.
    unmet: Vec<usize>,
    dependents: Vec<Vec<(usize, Condition)>>,
    priority: Vec<u64>,
    sessions: HashMap<Option<SessionKey>, Slots>,
    session_of: Vec<Option<SessionKey>>,
    progress: Progress,
    tasks: JoinSet<Returned>,
    fatal: Option<JournalError>,
}

impl Dispatch {
    pub(crate) fn new(
        request: &Apply,
        operation: String,
        journal: Journal,
        sessions: Arc<Sessions>,
        done: BTreeSet<usize>,
        differing: BTreeMap<RecordKey, String>,
    ) -> Self {
        let plan = Arc::clone(&request.plan);
        let count = plan.steps.len();
        let mut dependents = vec![Vec::new(); count];
        for (index, step) in plan.steps.iter().enumerate() {
            for (needed, condition) in &step.needs {
                dependents[*needed as usize].push((index, *condition));
            }
        }
        let session_of = (0..count).map(|index| session_of(&plan, index)).collect();
        let mut dispatch = Self {
            runner: Arc::new(StepRunner::new(request, operation, journal, sessions)),
            stages: vec![Stage::Pending; count],
            slot_given_back: vec![false; count],
            unmet: plan.steps.iter().map(|step| step.needs.len()).collect(),
            priority: priorities(&plan, &dependents),
            dependents,
            sessions: HashMap::new(),
            session_of,
            progress: Progress::default(),
            tasks: JoinSet::new(),
            fatal: None,
            plan,
        };
        for index in done {
            dispatch.stages[index] = Stage::Done;
            dispatch.progress.done += 1;
        }
        for index in 0..count {
            if dispatch.stages[index] == Stage::Done {
                for (dependent, _) in dispatch.dependents[index].clone() {
                    dispatch.unmet[dependent] -= 1;
                }
            }
        }
        for index in 0..count {
            let key = node_key(&dispatch.plan, index);
            if dispatch.stages[index] == Stage::Pending
                && let Some(why) = differing.get(&key)
            {
                dispatch.skip(index, &key, why);
            }
        }
        for index in 0..count {
            dispatch.enqueue_if_ready(index);
        }
        dispatch
    }

    pub(crate) async fn run(mut self) -> Result<Progress, JournalError> {
        let stop = self.runner.stop.clone();
        let runner = Arc::clone(&self.runner);
        let mut heard = false;
        loop {
            if !stop.is_cancelled() && self.fatal.is_none() {
                self.start_steps();
            }
            if self.fatal.is_none() && !self.runner.abort.is_cancelled() {
                self.start_waits();
            }
            let next = tokio::select! {
                next = self.tasks.join_next() => next,
                over = runner.calls_over.next() => {
                    over.into_iter().for_each(|index| self.give_slot_back(index));
                    continue;
                }
                () = stop.cancelled(), if !heard => {
                    heard = true;
                    let running = self.tasks.len();
                    let message = format!("interrupted: {running} steps in flight are finished, nothing new is begun");
                    self.runner.event(Event::Note { message });
                    continue;
                }
            };
            match next {
                Some(Ok(returned)) => self.take(returned),
                // A task that panicked has an open intent; the next apply looks at it.
                Some(Err(_)) => self.fatal = Some(JournalError::Stopped),
                None => break,
            }
        }
        if let Some(error) = self.fatal {
            return Err(error);
        }
        for index in (0..self.stages.len()).filter(|&index| self.stages[index] == Stage::Waiting) {
            self.runner.not_begun(index);
        }
        let is_over = |stage: &Stage| *stage == Stage::Done;
        self.progress.interrupted = (self.runner.abort.is_cancelled() && !self.stages.iter().all(is_over))
            || self.stages.iter().any(|stage| matches!(stage, Stage::Pending | Stage::Waiting));
        Ok(self.progress)
    }

    fn slots(&mut self, index: usize) -> &mut Slots {
        self.sessions.entry(self.session_of[index].clone()).or_default()
    }

    fn enqueue_if_ready(&mut self, index: usize) {
        if self.stages[index] == Stage::Pending && self.unmet[index] == 0 {
            let priority = self.priority[index];
            self.slots(index).ready.push((priority, Reverse(index)));
        }
    }

    fn start_steps(&mut self) {
        let budget = self.runner.limits.calls_in_flight.max(1);
        let mut chosen = Vec::new();
        for slots in self.sessions.values_mut() {
            while slots.calls < budget {
                let Some((_, Reverse(index))) = slots.ready.pop() else { break };
                if self.stages[index] == Stage::Pending {
                    slots.calls += 1;
                    chosen.push(index);
                }
            }
        }
        for index in chosen {
            self.stages[index] = Stage::Calling;
            let runner = Arc::clone(&self.runner);
            self.tasks.spawn(async move { Returned::Called(index, runner.call(index).await) });
        }
    }

    /// The call is over and its outcome is on its way to the disk: the intent of the next step can go with it. The slot is
    /// kept for a dependent that is more critical than all that is ready.
    fn give_slot_back(&mut self, index: usize) {
        if self.stages[index] != Stage::Calling || self.slot_given_back[index] {
            return;
        }
        let dependents = self.dependents[index].iter().map(|(dependent, _)| *dependent);
        let waiting = dependents.filter(|dependent| self.unmet[*dependent] == 1);
        let most_critical = waiting.map(|dependent| self.priority[dependent]).max();
        let slots = self.slots(index);
        let next = slots.ready.peek().map(|(priority, _)| *priority);
        if next.is_some() && next >= most_critical {
            slots.calls -= 1;
            self.slot_given_back[index] = true;
        }
    }

    fn start_waits(&mut self) {
        let budget = self.runner.limits.waits_in_flight.max(1);
        for slots in self.sessions.values_mut() {
            while slots.waits < budget {
                let Some(index) = slots.waiting.pop_front() else { break };
                slots.waits += 1;
                let runner = Arc::clone(&self.runner);
                self.tasks.spawn(async move { Returned::Waited(index, runner.wait(index).await) });
            }
        }
    }

    fn take(&mut self, returned: Returned) {
        match returned {
            Returned::Called(index, result) => {
                if !std::mem::take(&mut self.slot_given_back[index]) {
                    self.slots(index).calls -= 1;
                }
                match result {
                    Ok(Called::Ready) => self.done(index, Condition::Exists),
                    Ok(Called::NotReady) => {
                        self.stages[index] = Stage::Waiting;
                        self.slots(index).waiting.push_back(index);
                        self.meet(index, |condition| condition == Condition::Exists);
                    }
                    Err(error) => self.failed(index, error),
                }
            }
            Returned::Waited(index, result) => {
                self.slots(index).waits -= 1;
                match result {
                    Ok(()) => self.done(index, Condition::Established),
                    Err(error) => self.failed(index, error),
                }
            }
        }
    }

    /// The step is over; of its dependents' conditions, those from `from` on are still to be met.
    fn done(&mut self, index: usize, from: Condition) {
        self.stages[index] = Stage::Done;
        self.progress.done += 1;
        self.meet(index, |condition| condition >= from);
    }

    fn meet(&mut self, index: usize, met: impl Fn(Condition) -> bool) {
        for (dependent, condition) in self.dependents[index].clone() {
            if met(condition) {
                self.unmet[dependent] -= 1;
                self.enqueue_if_ready(dependent);
            }
        }
    }

    fn failed(&mut self, index: usize, error: StepError) {
        let step = &self.plan.steps[index];
        let failure = match error {
            StepError::Journal(error) => {
                self.fatal = Some(error);
                return;
            }
            // Stopped before its call: as if it had not begun.
            StepError::NotBegun => {
                self.runner.not_begun(index);
                self.stages[index] = Stage::Pending;
                return;
            }
            StepError::Failed(failure) => *failure,
        };
        let key = step.key.clone();
        // What only needs it to exist has got that when it was waited for.
        let met = (self.stages[index] == Stage::Waiting).then_some(Condition::Exists);
        self.stages[index] = Stage::Failed;
        self.progress.failed.push(failure);
        self.skip_dependents(index, &key, met);
    }

    fn skip(&mut self, index: usize, by: &RecordKey, why: &str) {
        self.skip_one(index, by, why);
        let key = self.plan.steps[index].key.clone();
        self.skip_dependents(index, &key, None);
    }

    fn skip_one(&mut self, index: usize, by: &RecordKey, why: &str) {
        self.stages[index] = Stage::Skipped;
        let step = &self.plan.steps[index];
        let skipped = Skipped { key: step.key.clone(), step: step.what, by: by.clone(), why: why.to_owned() };
        self.runner.event(Event::StepBlocked {
            key: skipped.key.clone(),
            step: skipped.step,
            by: skipped.by.clone(),
            why: skipped.why.clone(),
        });
        self.progress.skipped.push(skipped);
    }

    /// A failure closes exactly over what needs it: all whose condition was not met, and what needs those.
    fn skip_dependents(&mut self, index: usize, by: &RecordKey, met: Option<Condition>) {
        let mut todo = vec![(index, by.clone(), met)];
        while let Some((index, by, met)) = todo.pop() {
            for (dependent, condition) in self.dependents[index].clone() {
                if self.stages[dependent] == Stage::Pending && met != Some(condition) {
                    self.skip_one(dependent, &by, "what it needs was not done");
                    todo.push((dependent, self.plan.steps[dependent].key.clone(), None));
                }
            }
        }
    }
}

/// The node that a step belongs to: its own, or that of the current resource whose old one it deletes.
fn node_key(plan: &Plan, index: usize) -> RecordKey {
    let key = &plan.steps[index].key;
    if plan.nodes.contains_key(key) { key.clone() } else { RecordKey::current(key.address.clone()) }
}

/// The session that a step calls; `None` for steps without a call.
fn session_of(plan: &Plan, index: usize) -> Option<SessionKey> {
    let step = &plan.steps[index];
    if matches!(step.what, StepDo::Put | StepDo::Forget | StepDo::Depose) {
        return None;
    }
    let node = plan.nodes.get(&step.key).or_else(|| plan.nodes.get(&RecordKey::current(step.key.address.clone())))?;
    let recorded = node.record.as_ref().map(|record| &record.declaration);
    let declaration = match step.what {
        StepDo::Delete => recorded.or(node.declaration.as_ref()),
        _ => node.declaration.as_ref().or(recorded),
    }?;
    Some(sessions::session_of(declaration))
}

/// The longest remaining path of each step, in milliseconds, itself included.
fn priorities(plan: &Plan, dependents: &[Vec<(usize, Condition)>]) -> Vec<u64> {
    let mut priority = vec![0; plan.steps.len()];
    // Steps stand after all that they need, so that one pass from the end sees every dependent first.
    for index in (0..plan.steps.len()).rev() {
        let rest = dependents[index].iter().map(|(dependent, _)| priority[*dependent]).max().unwrap_or(0);
        priority[index] = u64::saturating_add(rest, plan.steps[index].estimate_ms.max(1));
    }
    priority
}
