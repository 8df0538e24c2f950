//! Limits, each with a name and a default, and what the engine is given instead of reading it.

use std::collections::BTreeMap;
use std::time::Duration;

use ksail_model::{Path, Value};
use ksail_provider::SecretText;

/// The limits of an apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Calls in flight, by provider session.
    pub calls_in_flight: usize,
    /// Calls that are announced before it is their turn, by provider session: the intent of the next one is durable when a
    /// slot becomes free. Only calls that are safe to repeat are, for a kill leaves their intents open.
    pub announced_ahead: usize,
    /// Waits in flight, by provider session; a wait holds no call slot.
    pub waits_in_flight: usize,
    /// How long one call may take.
    pub call_timeout: Duration,
    /// How long one wait may take.
    pub wait_timeout: Duration,
    /// How long one batch of observations may take.
    pub observe_timeout: Duration,
    /// How often a call that certainly did not happen is tried, the first time included.
    pub attempts: u32,
    /// How often a call of unknown outcome is repeated, the first time included; the contract makes it safe.
    pub indeterminate_attempts: u32,
    /// The wait before the second attempt; it doubles.
    pub backoff: Duration,
    /// The longest wait between attempts, also where the outside asks for more.
    pub longest_backoff: Duration,
}

/// How many threads drive tasks at most, beside the one that waits for the command.
const MOST_WORKERS: usize = 2;

/// How many threads shall drive the tasks of an apply on a machine of so many cores. A server on the same machine needs a core too, and
/// with one thread tasks wake each other without waking a thread.
pub fn workers(cores: usize) -> usize {
    cores.saturating_sub(1).clamp(1, MOST_WORKERS)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_in_flight: 10,
            announced_ahead: 100,
            waits_in_flight: 100,
            call_timeout: Duration::from_secs(300),
            wait_timeout: Duration::from_secs(300),
            observe_timeout: Duration::from_secs(30),
            attempts: 5,
            indeterminate_attempts: 2,
            backoff: Duration::from_millis(200),
            longest_backoff: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// The wait before an attempt (from 2), or what the outside asked for.
    pub(crate) fn backoff(&self, attempt: u32, asked_ms: Option<u64>) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << attempt.saturating_sub(2).min(16));
        asked_ms.map_or(doubled, Duration::from_millis).min(self.longest_backoff)
    }
}

/// The time of day. The engine has no clock of its own.
pub trait Clock: Send + Sync {
    /// Milliseconds since the epoch.
    fn now_ms(&self) -> u64;
}

/// Resolves secrets, at the moment of the call.
pub trait Secrets: Send + Sync {
    /// The texts of the secrets in a spec, by path. The error names the reference, never the text.
    fn texts(&self, spec: &Value) -> Result<BTreeMap<Path, SecretText>, String>;

    /// The spec with the fingerprint of each secret as it is now.
    fn fingerprinted(&self, spec: &Value) -> Result<Value, String>;
}

/// For graphs without secrets: any secret is an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn texts(&self, spec: &Value) -> Result<BTreeMap<Path, SecretText>, String> {
        if spec.secrets().is_empty() { Ok(BTreeMap::new()) } else { Err("no secrets can be resolved here".to_owned()) }
    }

    fn fingerprinted(&self, spec: &Value) -> Result<Value, String> {
        self.texts(spec).map(|_| spec.clone())
    }
}
