//! What the engine must know of a kind: which fields force replacement, are computed, sensitive,
//! ignored, and how lists compare. Data, so that the middle stays generic.

use std::time::Duration;

use crate::{Path, Value};

/// How a list compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListShape {
    /// By position.
    #[default]
    Ordered,
    /// Order and repetition do not matter.
    Set,
    /// Elements are maps, told apart by the value of this field.
    ByKey(&'static str),
}

/// What is special of a field. Fields without an entry are ordinary: declared, compared as they
/// are, changed in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldSchema {
    /// Which paths, as a pattern ([`Path::covers`]).
    pub path: Path,
    /// A change needs a new resource.
    pub forces_replacement: bool,
    /// Where the declaration leaves it out, the provider decides, and what it decided is not drift.
    pub computed: bool,
    /// Its value is never shown, even where the declaration gave it openly.
    pub sensitive: bool,
    /// How it compares, if it is a list.
    pub list: ListShape,
    /// The text holds YAML or JSON and compares by structure.
    pub structured_text: bool,
    /// A change in place disturbs: it is made on one resource after the other, where edges give an order ([`Strength::InTurn`](crate::Strength::InTurn)).
    pub in_turn: bool,
}

impl FieldSchema {
    /// An ordinary field. The pattern is written by us, in code: a broken one is a programming error
    /// and stands for the whole value, which the tests of each kind would see.
    pub fn new(pattern: &str) -> Self {
        Self {
            path: Path::parse(pattern).unwrap_or_default(),
            forces_replacement: false,
            computed: false,
            sensitive: false,
            list: ListShape::Ordered,
            structured_text: false,
            in_turn: false,
        }
    }

    /// A change needs a new resource.
    #[must_use]
    pub const fn forces_replacement(mut self) -> Self {
        self.forces_replacement = true;
        self
    }

    /// Decided by the provider where it is left out.
    #[must_use]
    pub const fn computed(mut self) -> Self {
        self.computed = true;
        self
    }

    /// Never shown.
    #[must_use]
    pub const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// How the list compares.
    #[must_use]
    pub const fn list(mut self, shape: ListShape) -> Self {
        self.list = shape;
        self
    }

    /// Changed on one resource after the other.
    #[must_use]
    pub const fn in_turn(mut self) -> Self {
        self.in_turn = true;
        self
    }

    /// YAML or JSON in a text.
    #[must_use]
    pub const fn structured_text(mut self) -> Self {
        self.structured_text = true;
        self
    }
}

/// What the engine must know of a kind.
#[derive(Debug, Clone)]
pub struct KindSchema {
    /// The kind, as it stands in addresses.
    pub kind: &'static str,
    /// The version of the spec's shape; records of an older one are upgraded by the kind.
    pub version: u32,
    /// The fields that are not ordinary.
    pub fields: Vec<FieldSchema>,
    /// Whether two generations may exist at once, so that create-before-destroy is possible. If not,
    /// why (a fragment: `its name and host port are fixed`).
    pub may_coexist: Result<(), &'static str>,
    /// Whether the resource hosts others: its loss is the loss of its contents.
    pub is_host: bool,
    /// What is lost when it is deleted (`the blobs it cached`), if anything that the declaration cannot
    /// bring back.
    pub holds_data: Option<&'static str>,
    /// Whether a create may be repeated while an earlier one may still be under way: the outside refuses a second
    /// thing of the same name, or the provider removes it. If not, a thing that is absent after a kill stays unknown until the call's
    /// deadline is past.
    pub repeat_safe: bool,
    /// How long after its caller has died a create may still come to be. What is not wanted any more is waited for so long before it
    /// counts as never made.
    pub lands_within: Duration,
    /// Whether the outside may write a field otherwise than it was declared (`1000m` as `1`, defaults within a list). Then a
    /// field differs only if its declaration changed or what was returned for it last did; what a change of the declaration
    /// would give, a preview tells.
    pub normalises: bool,
    /// How long a create takes where no duration was recorded.
    pub estimate: Duration,
    /// Attributes that a change in place leaves as they are, beside the id.
    pub keeps: &'static [&'static str],
    /// Attributes that follow from what is declared, so that a plan can tell them before the outside does.
    pub follows: Option<Follows>,
}

/// Tells attributes from a resource's name outside and its spec. What it cannot tell yet it leaves out.
pub type Follows = fn(name: &str, spec: &Value) -> Vec<(&'static str, Value)>;

impl KindSchema {
    /// What is known of the field at a path: the flags of every entry that covers it, joined.
    pub fn field(&self, path: &Path) -> FieldSchema {
        let mut joined = FieldSchema { path: path.clone(), ..FieldSchema::new("") };
        for field in self.fields.iter().filter(|field| field.path.covers(path)) {
            joined.forces_replacement |= field.forces_replacement;
            joined.computed |= field.computed;
            joined.sensitive |= field.sensitive;
            joined.structured_text |= field.structured_text;
            joined.in_turn |= field.in_turn;
            if field.path.steps().len() == path.steps().len() {
                joined.list = field.list;
            }
        }
        joined
    }
}

/// The schemas of all kinds, by name.
pub trait Schemas: Send + Sync {
    /// The schema of a kind; `None` if this version of ksail does not know the kind.
    fn schema(&self, kind: &str) -> Option<&KindSchema>;
}
