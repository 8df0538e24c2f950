//! What the suite found.

use std::fmt;

/// How the provider was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In this process.
    Direct,
    /// Through a pipe.
    Pipe,
    /// Under faults of this seed; the caller repeats what failed or is not known.
    Faulty(u64),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.pad("direct"),
            Self::Pipe => f.pad("pipe"),
            Self::Faulty(_) => f.pad("faulty"),
        }
    }
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal,)+) => {
        /// A rule of the contract. Its number is that of the paragraph beside the trait.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rule {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The paragraph of the contract.
            pub const fn number(self) -> u8 {
                match self { $(Self::$name => $number),+ }
            }
        }
    };
}

rules! {
    /// A batch is answered in order, one observation a target, with no more requests than there are kinds.
    Batch = 1,
    /// A connection that is refused, silent or too slow never makes a thing absent.
    UnknownNeverAbsent = 2,
    /// A creation that is repeated makes no second thing and returns the first.
    CreateOnce = 3,
    /// A thing that another operation of ours made is adopted by its mark, which list and observation show.
    Adoption = 3,
    /// A thing without a mark is `NotOurs` to a creation and stays as it is.
    UnmarkedKept = 3,
    /// A thing of another lineage is `NotOurs` to a creation and stays as it is.
    OtherLineageKept = 3,
    /// A creation whose reply was lost, repeated, ends as one.
    LostCreateReply = 4,
    /// A change, and the same again, ends as one; in place.
    Update = 4,
    /// A change whose reply was lost, repeated, ends as one.
    LostUpdateReply = 4,
    /// A deletion whose reply was lost, repeated, ends as one.
    LostDeleteReply = 4,
    /// A call past its deadline is indeterminate (or certainly not sent), and safe to repeat.
    Indeterminate = 5,
    /// Deletion of what is gone is `WasAbsent`.
    DeleteGone = 6,
    /// A thing without a mark or of another lineage is not deleted, nor changed.
    ForeignDelete = 6,
    /// What was imported without a mark is deleted by its recorded id, and only by that.
    AdoptedDelete = 6,
    /// After a replacement, the deletion of the former generation leaves the new one.
    Generation = 6,
    /// A shared thing stays while another needs it or was there before us.
    Sharing = 6,
    /// A cancelled call returns within a second, tells the truth, and is safe to repeat.
    Cancellation = 7,
    /// A call returns within a second after its deadline.
    Deadline = 7,
    /// A creation does not wait for readiness; a wait does.
    Readiness = 8,
    /// A wait that ends at its deadline answers "not ready" and why.
    WaitDeadline = 8,
    /// No reply, error or log holds a secret's text; observations hold its fingerprint.
    Secrets = 9,
    /// What a call returned as fields is what observations return.
    Quiet = 10,
    /// The list of everything marked holds what was made and nothing else.
    Listing = 10,
    /// Previews change nothing, and are as many as the requests.
    Previews = 10,
}

impl Rule {
    /// Whether the rule means something where the caller sees injected faults and repeats.
    pub(super) const fn holds_under_faults(self) -> bool {
        !matches!(
            self,
            Self::UnknownNeverAbsent
                | Self::LostCreateReply
                | Self::LostUpdateReply
                | Self::LostDeleteReply
                | Self::Indeterminate
                | Self::Cancellation
                | Self::Deadline
                | Self::WaitDeadline
        )
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:2} {self:?}", self.number()))
    }
}

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The rule holds.
    Pass,
    /// It does not, and what was seen.
    Fail(String),
    /// It could not be checked, and why.
    NotApplicable(String),
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How the provider was reached.
    pub way: Way,
    /// The kind.
    pub kind: String,
    /// The rule.
    pub rule: Rule,
    /// What came of it.
    pub verdict: Verdict,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7} {:12} {:22} ", self.way, self.kind, self.rule)?;
        match &self.verdict {
            Verdict::Pass => f.write_str("pass"),
            Verdict::Fail(why) => write!(f, "FAIL: {why}"),
            Verdict::NotApplicable(why) => write!(f, "not applicable: {why}"),
        }
    }
}

/// What came of all checks. Displays as a line a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    subject: String,
    entries: Vec<Entry>,
}

impl Report {
    pub(super) const fn new(subject: String) -> Self {
        Self { subject, entries: Vec::new() }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Turns a verdict that was given already into a failure.
    pub(super) fn fail(&mut self, way: Way, kind: &str, rule: Rule, why: String) {
        let given = self.entries.iter_mut().find(|e| e.way == way && e.kind == kind && e.rule == rule);
        if let Some(entry) = given {
            entry.verdict = Verdict::Fail(why);
        }
    }

    pub(super) fn join(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// Every check, in the order in which they ran.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| matches!(entry.verdict, Verdict::Fail(_)))
    }

    /// Whether a rule failed for some kind, in some way.
    pub fn fails(&self, rule: Rule) -> bool {
        self.failures().any(|entry| entry.rule == rule)
    }

    /// Whether a rule passed for some kind, in some way.
    pub fn passes(&self, rule: Rule) -> bool {
        self.entries.iter().any(|entry| entry.rule == rule && entry.verdict == Verdict::Pass)
    }

    /// Whether nothing failed.
    pub fn conforms(&self) -> bool {
        self.failures().next().is_none()
    }

    /// Panics with every failure, if there is one.
    ///
    /// # Panics
    /// When a check failed, or nothing was checked at all.
    #[track_caller]
    pub fn assert_conforms(&self) {
        let failures: Vec<String> = self.failures().map(ToString::to_string).collect();
        assert!(failures.is_empty(), "{} does not conform:\n{}", self.subject, failures.join("\n"));
        assert!(!self.entries.is_empty(), "{} gave no kinds to check", self.subject);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.subject)?;
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}
