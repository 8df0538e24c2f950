//! The conformance suite: what every provider must do, by the contract beside the
//! [`Provider`] trait.
//!
//! A test implements [`Subject`] for a provider and calls [`run_all_ways`], which runs every rule for every kind
//! directly, through a pipe, and under injected faults. Each check gets a fresh [`Setup`] and cleans up after itself.

mod check;
mod harness;
mod listening;
mod report;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ksail_model::{Mark, Path, Value};
use ksail_provider::{Provider, SecretText, Target};

pub use report::{Entry, Report, Rule, Verdict, Way};

use check::check;

/// The seed of [`run_all_ways`]' faults.
const SEED: u64 = 0x006b_7361_696c;

/// Why a subject does not give something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// This kind or provider has no such thing; why, as a fragment.
    #[error("{0}")]
    NotApplicable(String),
    /// It has, and it went wrong.
    #[error("{0}")]
    Broken(String),
}

impl Gap {
    /// There is no such thing, and why.
    pub fn not_applicable(why: impl Into<String>) -> Self {
        Self::NotApplicable(why.into())
    }

    /// It went wrong, and how.
    pub fn broken(how: impl std::fmt::Display) -> Self {
        Self::Broken(how.to_string())
    }
}

/// A provider under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Its name, for the report.
    fn name(&self) -> String;

    /// The kinds that it makes.
    fn kinds(&self) -> Vec<String>;

    /// A new, empty place for one check of one kind: a session, a lineage of its own, and names that nothing else uses. What the
    /// kind needs (a network, an image) is there already.
    async fn fresh(&self, kind: &str) -> Result<Setup, Gap>;

    /// How long things take.
    fn limits(&self) -> Limits {
        Limits::default()
    }
}

/// How long things take at a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The deadline of an ordinary call.
    pub call: Duration,
    /// How long a thing may take to become ready.
    pub ready: Duration,
    /// Cancellations and short deadlines fall at random moments of this time.
    pub window: Duration,
    /// How many of them are tried.
    pub rounds: usize,
    /// How long after a call was given up it may still take effect outside.
    pub settle: Duration,
    /// How long one check may take.
    pub check: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(60),
            ready: Duration::from_secs(60),
            window: Duration::from_millis(300),
            rounds: 4,
            settle: Duration::from_secs(1),
            check: Duration::from_secs(300),
        }
    }
}

/// What one check works with.
pub struct Setup {
    /// The provider.
    pub provider: Arc<dyn Provider>,
    /// The lineage on whose behalf calls are made.
    pub lineage: String,
    /// The kind's case.
    pub case: Case,
    /// The outside, past the provider.
    pub outside: Box<dyn Outside>,
}

/// A wanted spec with the texts of its secrets. Texts have at least eight characters and occur nowhere else.
#[derive(Debug, Clone)]
pub struct Change {
    /// The spec.
    pub spec: Value,
    /// The texts of its secrets.
    pub secrets: BTreeMap<Path, SecretText>,
    /// Which fields differ from the case's first spec.
    pub changed: Vec<Path>,
}

/// What is tried with a kind.
#[derive(Debug, Clone)]
pub struct Case {
    /// A thing that can be made, with its spec. Where the kind has a secret field, the spec holds a secret.
    pub target: Target,
    /// The texts of the secrets in its spec.
    pub secrets: BTreeMap<Path, SecretText>,
    /// Another target of the kind, of which nothing exists and nothing is made.
    pub absent: Target,
    /// A spec that is reached in place, if the kind has one.
    pub change: Option<Change>,
    /// A spec that needs a new thing of the same identity, if the kind has one.
    pub replacement: Option<Change>,
    /// Whether the things of the kind can carry a mark.
    pub carries_mark: bool,
    /// Whether their marks tell the operation that made them. Work that goes on for whoever asks for the same tells none.
    pub tells_operation: bool,
}

impl Case {
    /// A case without secrets, change and replacement, whose things carry marks.
    pub fn new(target: Target, absent: Target) -> Self {
        Self {
            target,
            secrets: BTreeMap::new(),
            absent,
            change: None,
            replacement: None,
            carries_mark: true,
            tells_operation: true,
        }
    }
}

/// How a connection is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// Nothing listens.
    Refused,
    /// It is accepted and never answered.
    Silent,
}

/// The outside of a subject, by its own means and not through the provider.
#[async_trait]
pub trait Outside: Send + Sync {
    /// How many things of the target's identity are there.
    async fn count(&self, target: &Target) -> Result<usize, Gap>;

    /// Makes a thing of the target's identity without any mark. Answers its id, if it has one.
    async fn make_unmarked(&self, target: &Target) -> Result<Option<String>, Gap>;

    /// Makes a thing of the target's identity with a mark that is not the setup's.
    async fn make_marked(&self, target: &Target, mark: &Mark) -> Result<(), Gap>;

    /// A text that changes whenever somebody changes the things of the target's identity, if there is such a text.
    async fn state(&self, target: &Target) -> Result<String, Gap> {
        Err(Gap::NotApplicable(format!("the outside of {} tells no state", target.address)))
    }

    /// The provider, on the same outside, behind a broken connection.
    async fn broken(&self, _how: Breakage) -> Result<Arc<dyn Provider>, Gap> {
        Err(Gap::not_applicable("the connection cannot be broken"))
    }

    /// What is made of the target from now on does not become ready.
    async fn hold_back(&self, _target: &Target) -> Result<(), Gap> {
        Err(Gap::not_applicable("things of this kind are ready at once"))
    }

    /// How many requests the outside got so far.
    async fn requests(&self) -> Result<usize, Gap> {
        Err(Gap::not_applicable("requests are not counted"))
    }

    /// Removes all that the check and this setup made.
    async fn clean_up(&self) -> Result<(), Gap>;
}

/// Runs every rule for every kind, directly.
pub async fn run(subject: &dyn Subject) -> Report {
    run_way(subject, Way::Direct).await
}

/// Runs every rule for every kind in one way.
pub async fn run_way(subject: &dyn Subject, way: Way) -> Report {
    let mut report = Report::new(subject.name());
    for kind in subject.kinds() {
        let mut leaks = Vec::new();
        for rule in Rule::ALL {
            let (verdict, heard) = check(subject, &kind, *rule, way).await;
            leaks.extend(heard.into_iter().map(|what| format!("{what} (while {rule:?} was checked)")));
            report.push(Entry { way, kind: kind.clone(), rule: *rule, verdict });
        }
        // A leak breaks the rule of secrets, whichever check it was that heard it.
        if !leaks.is_empty() {
            report.fail(way, &kind, Rule::Secrets, format!("a secret's text is in {}", leaks.join(", ")));
        }
    }
    report
}

/// Runs every rule for every kind directly, through a pipe, and under injected faults.
pub async fn run_all_ways(subject: &dyn Subject) -> Report {
    let mut report = Report::new(subject.name());
    for way in [Way::Direct, Way::Pipe, Way::Faulty(SEED)] {
        report.join(run_way(subject, way).await);
    }
    report
}
