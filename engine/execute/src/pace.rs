//! How long the calls of a session take, as they come back.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Of how many calls the mean is made at most: older ones count less and less.
const MEMORY: u32 = 32;

/// The calls of one session. Those that came to nothing count as well: they held their slot as long.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    begun: HashMap<usize, Instant>,
    mean: Duration,
    calls: u32,
}

impl Pace {
    /// A step's call begins.
    pub(crate) fn begins(&mut self, step: usize) {
        self.begun.insert(step, Instant::now());
    }

    /// A step's call has returned.
    pub(crate) fn is_over(&mut self, step: usize) {
        if let Some(began) = self.begun.remove(&step) {
            self.took(began.elapsed());
        }
    }

    /// A step's call was given up, or its end was counted already.
    pub(crate) fn is_given_up(&mut self, step: usize) {
        self.begun.remove(&step);
    }

    fn took(&mut self, took: Duration) {
        self.calls = self.calls.saturating_add(1);
        let weight = self.calls.min(MEMORY);
        self.mean = (self.mean * (weight - 1) + took) / weight;
    }

    /// How long the next one can be expected to take: as was estimated before, until so many have returned as go on at once.
    pub(crate) fn expected(&self, estimated: Duration, at_once: usize) -> Duration {
        if (self.calls as usize) < at_once { estimated } else { self.mean }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESTIMATED: Duration = Duration::from_millis(100);

    #[test]
    fn the_estimate_counts_until_enough_calls_have_returned() {
        let mut pace = Pace::default();
        pace.took(Duration::from_millis(1));
        assert_eq!(pace.expected(ESTIMATED, 2), ESTIMATED);
        pace.took(Duration::from_millis(3));
        assert_eq!(pace.expected(ESTIMATED, 2), Duration::from_millis(2));
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut pace = Pace::default();
        (0..1_000).for_each(|_| pace.took(Duration::from_millis(1)));
        (0..200).for_each(|_| pace.took(Duration::from_secs(1)));
        assert!(pace.expected(ESTIMATED, 1) > Duration::from_millis(990));
    }

    #[test]
    fn a_call_that_is_given_up_says_nothing() {
        let mut pace = Pace::default();
        pace.begins(1);
        pace.is_given_up(1);
        pace.is_over(1);
        assert_eq!(pace.expected(ESTIMATED, 1), ESTIMATED);
        pace.begins(2);
        pace.is_over(2);
        assert!(pace.expected(ESTIMATED, 1) < ESTIMATED);
    }
}
