//! What a terminal shows while an apply goes on: pure state, fed by events, asked for lines.

use std::collections::{BTreeMap, BTreeSet};

use ksail_execute::Event;
use ksail_model::RecordKey;
use ksail_plan::{Plan, StepDo};

use super::duration::{about, duration, estimate};
use super::line::is_bookkeeping;
use crate::printable::{cut, printable};
use crate::words::{doing, noun};

/// How many running steps have a line of their own; the others are counted.
const MAX_RUNNING_LINES: usize = 12;

#[derive(Debug, Clone)]
struct Running {
    step: StepDo,
    started_ms: u64,
    estimate_ms: u64,
    /// What it is doing beyond its call: waiting for readiness, or for the next try.
    state: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Ahead {
    estimate_ms: u64,
    /// Its estimate and those of the longest chain of steps that need it.
    path_ms: u64,
}

/// The progress of one apply. Feed it every event with [`ProgressModel::update`], and draw [`ProgressModel::lines`] as
/// often as the terminal is refreshed; a call costs what the running steps cost, not what the plan costs.
#[derive(Debug, Clone)]
pub struct ProgressModel {
    parallelism: usize,
    steps: usize,
    done: usize,
    failed: usize,
    blocked: usize,
    resumed: usize,
    finished: bool,
    phase: Option<String>,
    running: BTreeMap<RecordKey, Running>,
    ahead: BTreeMap<(RecordKey, &'static str), Ahead>,
    /// Path and position in `ahead` of every step that is not over, so that the longest is at hand.
    paths: BTreeSet<(u64, (RecordKey, &'static str))>,
    work_ms: u64,
}

impl ProgressModel {
    /// The progress of an apply of a plan with so many calls in flight.
    pub fn new(plan: &Plan, parallelism: usize) -> Self {
        let mut path_ms: Vec<u64> = plan.steps.iter().map(|step| step.estimate_ms).collect();
        let mut tail = vec![0_u64; plan.steps.len()];
        // Each step stands after all that it needs, so that backwards every dependent is known before what it needs.
        for (index, step) in plan.steps.iter().enumerate().rev() {
            path_ms[index] = path_ms[index].saturating_add(tail[index]);
            for (needed, _) in &step.needs {
                if let Some(tail) = usize::try_from(*needed).ok().and_then(|needed| tail.get_mut(needed)) {
                    *tail = (*tail).max(path_ms[index]);
                }
            }
        }
        let ahead: BTreeMap<_, _> = plan
            .steps
            .iter()
            .zip(path_ms)
            .map(|(step, path_ms)| {
                ((step.key.clone(), noun(step.what)), Ahead { estimate_ms: step.estimate_ms, path_ms })
            })
            .collect();
        Self {
            parallelism: parallelism.max(1),
            steps: plan.steps.len(),
            done: 0,
            failed: 0,
            blocked: 0,
            resumed: 0,
            finished: false,
            phase: None,
            running: BTreeMap::new(),
            paths: ahead.iter().map(|(id, ahead)| (ahead.path_ms, id.clone())).collect(),
            work_ms: ahead.values().fold(0, |sum, ahead| sum.saturating_add(ahead.estimate_ms)),
            ahead,
        }
    }

    /// Takes an event.
    pub fn update(&mut self, event: &Event) {
        match event {
            Event::Started { steps, done, .. } => {
                self.steps = *steps;
                self.done = *done;
                self.resumed = *done;
                self.phase = None;
            }
            Event::Verifying { nodes } => self.phase = Some(format!("looking again at {nodes}")),
            Event::StepStarted { key, step, at_ms, estimate_ms } => {
                self.phase = None;
                if !is_bookkeeping(*step) {
                    let running = Running { step: *step, started_ms: *at_ms, estimate_ms: *estimate_ms, state: None };
                    self.running.insert(key.clone(), running);
                }
            }
            Event::StepRetried { key, attempt, message, .. } => {
                self.tell(key, format!("try {attempt} follows: {message}"));
            }
            Event::StepWaiting { key, why, .. } => self.tell(key, format!("not ready: {why}")),
            Event::StepHeld { key, why, .. } => self.tell(key, why.clone()),
            Event::StepDone { key, step, .. } => {
                self.over(key, *step);
                self.done += 1;
            }
            Event::StepFailed { key, step, .. } => {
                self.over(key, *step);
                self.failed += 1;
            }
            Event::StepBlocked { key, step, .. } => {
                self.over(key, *step);
                self.blocked += 1;
            }
            Event::Finished { .. } => {
                self.finished = true;
                self.running.clear();
            }
            Event::Resolved { .. } | Event::Note { .. } => {}
        }
    }

    fn tell(&mut self, key: &RecordKey, state: String) {
        if let Some(running) = self.running.get_mut(key) {
            running.state = Some(state);
        }
    }

    fn over(&mut self, key: &RecordKey, step: StepDo) {
        if self.running.get(key).is_some_and(|running| running.step == step) {
            self.running.remove(key);
        }
        let id = (key.clone(), noun(step));
        if let Some(ahead) = self.ahead.remove(&id) {
            self.work_ms = self.work_ms.saturating_sub(ahead.estimate_ms);
            self.paths.remove(&(ahead.path_ms, id));
        }
    }

    /// How much longer it will take, in milliseconds, from estimates: the longest chain that is left, or the work that is
    /// left shared by all that may run at once, whichever is more. `None` when nothing is left.
    pub fn eta_ms(&self, now_ms: u64) -> Option<u64> {
        if self.finished || self.ahead.is_empty() {
            return None;
        }
        let spent = |running: &Running| now_ms.saturating_sub(running.started_ms).min(running.estimate_ms);
        let spent_ms: u64 = self.running.values().map(spent).sum();
        let left = self.work_ms.saturating_sub(spent_ms) / self.parallelism as u64;
        if self.resumed > 0 {
            // It is not known which steps were done before, only how many.
            let steps = self.steps.max(1) as u64;
            let again = steps.saturating_sub(self.resumed as u64);
            return Some(u64::try_from(u128::from(left) * u128::from(again) / u128::from(steps)).unwrap_or(u64::MAX));
        }
        // The longest chain is shorter by what its first step has run already.
        let path = self.paths.last().map_or(0, |(path_ms, (key, step))| {
            let running = self.running.get(key).filter(|running| noun(running.step) == *step);
            path_ms.saturating_sub(running.map_or(0, spent))
        });
        Some(path.max(left))
    }

    /// The lines to draw now: one a running step, oldest first, then the counts. No line is wider than `width`, and none
    /// has colour or control characters. `now_ms` counts from the apply's begin, as the events do.
    pub fn lines(&self, now_ms: u64, width: usize) -> Vec<String> {
        if self.finished {
            return Vec::new();
        }
        let mut running: Vec<(&RecordKey, &Running)> = self.running.iter().collect();
        running.sort_by_key(|(key, running)| (running.started_ms, *key));
        let mut lines: Vec<String> =
            running.iter().take(MAX_RUNNING_LINES).map(|(key, running)| Self::line(key, running, now_ms)).collect();
        if running.len() > MAX_RUNNING_LINES {
            lines.push(format!("  … and {} more", running.len() - MAX_RUNNING_LINES));
        }
        lines.push(self.counts(now_ms));
        lines.iter().map(|line| cut(&printable(line), width)).collect()
    }

    fn line(key: &RecordKey, running: &Running, now_ms: u64) -> String {
        let elapsed = duration(now_ms.saturating_sub(running.started_ms));
        match running.state.clone().or_else(|| estimate(running.estimate_ms)) {
            Some(told) => format!("  {key}: {}… {elapsed} ({told})", doing(running.step)),
            None => format!("  {key}: {}… {elapsed}", doing(running.step)),
        }
    }

    fn counts(&self, now_ms: u64) -> String {
        let mut parts = vec![format!("{} of {} done", self.done, self.steps)];
        let counted = [(self.running.len(), "running"), (self.failed, "failed"), (self.blocked, "not begun")];
        parts.extend(counted.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")));
        parts.extend(self.phase.clone());
        let mut line = format!("{}, {}", parts.join(", "), duration(now_ms));
        if let Some(eta_ms) = self.eta_ms(now_ms) {
            line.push_str(&format!(", about {} left", about(eta_ms)));
        }
        line
    }
}
