//! Dispatch: ready steps, most critical first, within the budgets of each session. No choices are left to make here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ksail_model::{Condition, RecordKey};
use ksail_plan::{Plan, StepDo};
use ksail_records::Entry;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

use crate::event::Event;
use crate::journal::{Coming, Journal, JournalError};
use crate::pace::Pace;
use crate::request::{Apply, Failure, Skipped};
use crate::sessions::{self, SessionKey, Sessions};
use crate::step::{Called, News, StepError, StepRunner};

/// What a dispatch did.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) done: usize,
    pub(crate) failed: Vec<Failure>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) interrupted: bool,
    /// The end of the operation has been recorded already, with the last outcomes.
    pub(crate) is_sealed: bool,
}

/// What records the end of an operation whose steps are all done.
pub(crate) type Seal = Box<dyn FnOnce() -> Entry + Send>;

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

/// Which slots a step holds until its call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Nothing,
    /// It is being announced, or waits for its turn.
    Place,
    /// Its call is under way.
    Call,
}

/// What came back from a task.
enum Returned {
    Called(usize, Result<Called, StepError>),
    Waited(usize, Result<(), StepError>),
    Sealed(Result<(), JournalError>),
}

/// A step by its longest remaining path, then by the order of the plan.
type Ranked = (u64, Reverse<usize>);

/// Beyond the next turn only what can be expected to have its turn within this time is announced: an announcement that waits
/// for long is taken back.
const SOON: Duration = Duration::from_secs(30);

/// Slots of one session.
#[derive(Default)]
struct Slots {
    /// Steps that are announced, or wait for their turn, or call.
    begun: usize,
    calls: usize,
    waits: usize,
    ready: BinaryHeap<Ranked>,
    /// Those being announced: they will ask for their turn.
    announced: BTreeSet<Ranked>,
    /// Those that ask for their turn.
    asking: BinaryHeap<Ranked>,
    waiting: VecDeque<usize>,
    pace: Pace,
}

impl Slots {
    /// The most critical of all that may call next.
    fn next(&self) -> Option<u64> {
        let heads = [self.ready.peek(), self.announced.last(), self.asking.peek()];
        heads.into_iter().flatten().map(|(priority, _)| *priority).max()
    }

    /// Whether it is more critical than all that wait for their turn.
    fn goes_first(&self, ranked: &Ranked) -> bool {
        [self.announced.last(), self.asking.peek()].into_iter().flatten().all(|other| ranked > other)
    }

    /// Whose turn it is: the most critical one that asks. A free slot is kept for a more critical one that is being announced.
    fn turn(&mut self, budget: usize) -> Option<usize> {
        let free = budget.saturating_sub(self.calls);
        let (priority, _) = *self.asking.peek()?;
        let before = self.announced.iter().rev().take(free).filter(|(other, _)| *other > priority).count();
        if before >= free {
            return None;
        }
        self.asking.pop().map(|(_, Reverse(index))| index)
    }
}

pub(crate) struct Dispatch {
    plan: Arc<Plan>,
    runner: Arc<StepRunner>,
    stages: Vec<Stage>,
    holds: Vec<Holds>,
    /// Who waits for its turn is told here.
    turns: Vec<Option<oneshot::Sender<()>>>,
    /// Up to which condition the needs of a step's dependents are met.
    met: Vec<Option<Condition>>,
    /// Unmet needs of each step.
    unmet: Vec<usize>,
    dependents: Vec<Vec<(usize, Condition)>>,
    priority: Vec<u64>,
    /// The slots of each session, of steps without a call too.
    sessions: Vec<Slots>,
    /// Which of them a step takes its slots from.
    session_of: Vec<usize>,
    /// How many steps of a session may be announced before their turn.
    ahead: usize,
    progress: Progress,
    /// Steps whose last outcome is taken in, and not yet known to be durable.
    recorded: BTreeSet<usize>,
    seal: Option<Seal>,
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
        seal: Seal,
    ) -> Self {
        let plan = Arc::clone(&request.plan);
        let count = plan.steps.len();
        let mut dependents = vec![Vec::new(); count];
        for (index, step) in plan.steps.iter().enumerate() {
            for (needed, condition) in &step.needs {
                dependents[*needed as usize].push((index, *condition));
            }
        }
        let mut numbers: HashMap<Option<SessionKey>, usize> = HashMap::new();
        let mut number = |session| {
            let next = numbers.len();
            *numbers.entry(session).or_insert(next)
        };
        let session_of: Vec<usize> = (0..count).map(|index| number(session_of(&plan, index))).collect();
        let mut dispatch = Self {
            runner: Arc::new(StepRunner::new(request, operation, journal, sessions)),
            stages: vec![Stage::Pending; count],
            holds: vec![Holds::Nothing; count],
            turns: (0..count).map(|_| None).collect(),
            met: vec![None; count],
            unmet: plan.steps.iter().map(|step| step.needs.len()).collect(),
            priority: priorities(&plan, &dependents),
            dependents,
            sessions: numbers.iter().map(|_| Slots::default()).collect(),
            session_of,
            ahead: request.limits.announced_ahead,
            progress: Progress::default(),
            recorded: BTreeSet::new(),
            seal: Some(seal),
            tasks: JoinSet::new(),
            fatal: None,
            plan,
        };
        for &index in &done {
            dispatch.stages[index] = Stage::Done;
            dispatch.progress.done += 1;
        }
        for index in 0..count {
            let key = node_key(&dispatch.plan, index);
            if dispatch.stages[index] == Stage::Pending
                && let Some(why) = differing.get(&key)
            {
                dispatch.skip(index, &key, why);
            }
        }
        for index in done {
            dispatch.meet(index, Condition::Serving);
        }
        for index in 0..count {
            dispatch.enqueue_if_ready(index);
        }
        dispatch
    }

    /// Does the steps. What it is given is held until the first of them are set out.
    pub(crate) async fn run(mut self, mut more: Option<Coming>) -> Result<Progress, JournalError> {
        let stop = self.runner.stop.clone();
        let runner = Arc::clone(&self.runner);
        let mut heard = false;
        loop {
            if self.fatal.is_some() {
                // Whoever waits for a turn goes without it.
                self.turns.fill_with(|| None);
            } else if !stop.is_cancelled() {
                self.start_steps();
                self.give_turns();
            }
            drop(more.take());
            runner.be_patient(self.is_saturated());
            if self.fatal.is_none() && !self.runner.abort.is_cancelled() {
                self.start_waits();
            }
            let next = tokio::select! {
                // What is recorded leads to more: it is heard of before what is over.
                biased;
                news = runner.news.next() => {
                    news.into_iter().for_each(|news| self.hear(news));
                    // Where news never end, those that are over would be kept until the end, each with all that it had.
                    while let Some(over) = self.tasks.try_join_next() {
                        self.take_joined(over);
                    }
                    continue;
                }
                next = self.tasks.join_next() => next,
                () = stop.cancelled(), if !heard => {
                    heard = true;
                    let running: usize = self.sessions.iter().map(|slots| slots.calls + slots.waits).sum();
                    let steps = if running == 1 { "step in flight is" } else { "steps in flight are" };
                    let message = format!("interrupted: {running} {steps} finished, nothing new is begun");
                    self.runner.event(Event::Note { message });
                    continue;
                }
            };
            let Some(over) = next else { break };
            self.take_joined(over);
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

    /// Nothing more can be recorded. The cause is told, not what only follows from it.
    fn stop_for(&mut self, error: JournalError) {
        if matches!(self.fatal, None | Some(JournalError::Stopped)) {
            self.fatal = Some(error);
        }
    }

    fn slots(&mut self, index: usize) -> &mut Slots {
        &mut self.sessions[self.session_of[index]]
    }

    fn ranked(&self, index: usize) -> Ranked {
        (self.priority[index], Reverse(index))
    }

    fn enqueue_if_ready(&mut self, index: usize) {
        if self.stages[index] == Stage::Pending && self.unmet[index] == 0 {
            let ranked = self.ranked(index);
            self.slots(index).ready.push(ranked);
        }
    }

    fn start_steps(&mut self) {
        let calls = self.runner.limits.calls_in_flight.max(1);
        let budget = calls + self.ahead;
        let mut chosen = Vec::new();
        for slots in &mut self.sessions {
            while slots.begun < budget {
                let Some(&ranked) = slots.ready.peek() else { break };
                let turns = u32::try_from(slots.begun / calls).unwrap_or(u32::MAX);
                let call = slots.pace.expected(Duration::from_millis(self.plan.steps[ranked.1.0].estimate_ms), calls);
                if turns > 1 && call.saturating_mul(turns) > SOON && !slots.goes_first(&ranked) {
                    break;
                }
                let Some(ranked @ (_, Reverse(index))) = slots.ready.pop() else { break };
                if self.stages[index] == Stage::Pending {
                    self.stages[index] = Stage::Calling;
                    self.holds[index] = Holds::Place;
                    slots.begun += 1;
                    slots.announced.insert(ranked);
                    chosen.push(index);
                }
            }
        }
        for index in chosen {
            let runner = Arc::clone(&self.runner);
            self.tasks.spawn(async move { Returned::Called(index, runner.call(index).await) });
        }
    }

    fn give_turns(&mut self) {
        let budget = self.runner.limits.calls_in_flight.max(1);
        for slots in &mut self.sessions {
            while let Some(index) = slots.turn(budget) {
                // Nobody may be there any more, if everything stops.
                if self.turns[index].take().is_some_and(|turn| turn.send(()).is_ok()) {
                    slots.calls += 1;
                    slots.pace.begins(index);
                    self.holds[index] = Holds::Call;
                }
            }
        }
    }

    /// Whether all slots are taken, and as many calls as they hold can follow at once: none waits for the journal.
    fn is_saturated(&self) -> bool {
        let budget = self.runner.limits.calls_in_flight.max(1);
        let mut busy = self.sessions.iter().filter(|slots| slots.begun > 0).peekable();
        busy.peek().is_some() && busy.all(|slots| slots.calls >= budget && slots.asking.len() >= budget)
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Asks(index, turn) => {
                let ranked = self.ranked(index);
                let slots = self.slots(index);
                slots.announced.remove(&ranked);
                slots.asking.push(ranked);
                self.turns[index] = Some(turn);
            }
            // Its slot is free, unless a dependent is more critical than all that could take it.
            News::CallOver(index) => {
                self.slots(index).pace.is_over(index);
                let dependents = self.dependents[index].iter().map(|(dependent, _)| *dependent);
                let waiting = dependents.filter(|dependent| self.unmet[*dependent] == 1);
                let most_critical = waiting.map(|dependent| self.priority[dependent]).max();
                let next = self.slots(index).next();
                if next.is_some() && next >= most_critical {
                    self.release(index);
                }
            }
            News::Recorded(index, called) => {
                self.release(index);
                self.meet_called(index, called);
                // It may be heard of after the step itself, which is counted then.
                if called == Called::Ready && self.stages[index] == Stage::Calling {
                    self.recorded.insert(index);
                    self.seal_if_all_is_recorded();
                }
            }
        }
    }

    /// The end of the operation shares the write of its last outcomes: what is recorded later cannot be without them.
    fn seal_if_all_is_recorded(&mut self) {
        if self.progress.done + self.recorded.len() < self.stages.len()
            || self.runner.stop.is_cancelled()
            || self.runner.abort.is_cancelled()
        {
            return;
        }
        let Some(seal) = self.seal.take() else { return };
        let runner = Arc::clone(&self.runner);
        self.tasks.spawn(async move { Returned::Sealed(runner.record(seal()).await) });
    }

    /// A step gives back what it holds.
    fn release(&mut self, index: usize) {
        let holds = std::mem::replace(&mut self.holds[index], Holds::Nothing);
        if holds == Holds::Nothing {
            return;
        }
        let ranked = self.ranked(index);
        let slots = self.slots(index);
        slots.begun -= 1;
        if holds == Holds::Call {
            slots.calls -= 1;
            slots.pace.is_given_up(index);
        }
        slots.announced.remove(&ranked);
    }

    fn start_waits(&mut self) {
        let budget = self.runner.limits.waits_in_flight.max(1);
        for slots in &mut self.sessions {
            while slots.waits < budget {
                let Some(index) = slots.waiting.pop_front() else { break };
                slots.waits += 1;
                let runner = Arc::clone(&self.runner);
                self.tasks.spawn(async move { Returned::Waited(index, runner.wait(index).await) });
            }
        }
    }

    fn take_joined(&mut self, over: Result<Returned, JoinError>) {
        match over {
            Ok(returned) => self.take(returned),
            // A task that panicked has an open intent; the next apply looks at it.
            Err(_) => self.stop_for(JournalError::Stopped),
        }
    }

    fn take(&mut self, returned: Returned) {
        match returned {
            Returned::Sealed(Ok(())) => self.progress.is_sealed = true,
            Returned::Sealed(Err(error)) => self.stop_for(error),
            Returned::Called(index, result) => {
                self.recorded.remove(&index);
                self.release(index);
                match result {
                    Ok(called @ Called::Ready) => {
                        self.done(index);
                        self.meet_called(index, called);
                        self.seal_if_all_is_recorded();
                    }
                    Ok(called @ Called::NotReady) => {
                        self.stages[index] = Stage::Waiting;
                        self.slots(index).waiting.push_back(index);
                        self.meet_called(index, called);
                    }
                    Err(error) => self.failed(index, error),
                }
            }
            Returned::Waited(index, result) => {
                self.slots(index).waits -= 1;
                match result {
                    Ok(()) => {
                        self.done(index);
                        self.meet(index, Condition::Serving);
                    }
                    Err(error) => self.failed(index, error),
                }
            }
        }
    }

    fn done(&mut self, index: usize) {
        self.stages[index] = Stage::Done;
        self.progress.done += 1;
    }

    fn meet_called(&mut self, index: usize, called: Called) {
        self.meet(index, if called == Called::Ready { Condition::Serving } else { Condition::Exists });
    }

    /// What dependents need of a step is met up to a condition, those before it included.
    fn meet(&mut self, index: usize, upto: Condition) {
        let before = self.met[index];
        if before >= Some(upto) {
            return;
        }
        self.met[index] = Some(upto);
        for (dependent, condition) in self.dependents[index].clone() {
            if condition <= upto && before.is_none_or(|before| condition > before) {
                self.unmet[dependent] -= 1;
                self.enqueue_if_ready(dependent);
            }
        }
    }

    fn failed(&mut self, index: usize, error: StepError) {
        let step = &self.plan.steps[index];
        let failure = match error {
            StepError::Journal(error) => {
                self.stop_for(error);
                return;
            }
            // Stopped before its call: as if it had not begun.
            StepError::NotBegun => {
                self.runner.not_begun(index);
                self.stages[index] = Stage::Pending;
                return;
            }
            StepError::NoTurn => {
                self.stages[index] = Stage::Pending;
                self.enqueue_if_ready(index);
                return;
            }
            StepError::Failed(failure) => *failure,
        };
        let key = step.key.clone();
        self.stages[index] = Stage::Failed;
        self.progress.failed.push(failure);
        self.skip_dependents(index, &key);
    }

    fn skip(&mut self, index: usize, by: &RecordKey, why: &str) {
        self.skip_one(index, by, why);
        let key = self.plan.steps[index].key.clone();
        self.skip_dependents(index, &key);
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

    /// A failure closes exactly over what needs it: all whose condition was not met (what only needs it to exist has got that
    /// when it was waited for), and what needs those.
    fn skip_dependents(&mut self, index: usize, by: &RecordKey) {
        let mut todo = vec![(index, by.clone())];
        while let Some((index, by)) = todo.pop() {
            let met = self.met[index];
            for (dependent, condition) in self.dependents[index].clone() {
                if self.stages[dependent] == Stage::Pending && met.is_none_or(|met| condition > met) {
                    self.skip_one(dependent, &by, "what it needs was not done");
                    todo.push((dependent, self.plan.steps[dependent].key.clone()));
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
