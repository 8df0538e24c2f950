//! A thing of the simulated outside.

use std::collections::BTreeMap;

use ksail_model::{Identity, Mark, Ownership, Readiness, Seen, Value};
use serde::{Deserialize, Serialize};

/// A thing of the simulated outside. It holds no secret's text: secrets are kept as fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thing {
    /// Which outside it is in: the world's scope, or the id of the thing that hosts it.
    pub scope: String,
    /// Its kind, as it stands in addresses.
    pub kind: String,
    /// The name that finds it.
    pub name: String,
    /// The id that the world gave it; no two things of a world have the same.
    pub id: String,
    /// Its fields.
    pub fields: Value,
    /// Its attributes (a map); `id` is among them.
    pub attributes: Value,
    /// Whose it is. More than one only where it is shared.
    pub marks: Vec<Mark>,
    /// By which ownership it was made.
    pub ownership: Ownership,
    /// Whether it was there before the first mark.
    pub preexisting: bool,
    /// What its fields were before a lineage took them (ownership of fields), by lineage.
    pub taken: BTreeMap<String, Value>,
    /// When it becomes ready, by the world's clock in milliseconds.
    pub ready_at_ms: u64,
    /// Why it never becomes ready, if so.
    pub held_back: Option<String>,
}

impl Thing {
    /// A thing without a mark, made by hand; `scope` and `id` are filled in by [`World::put`](super::World::put)
    /// where they are empty.
    pub fn foreign(kind: impl Into<String>, name: impl Into<String>, fields: Value) -> Self {
        Self {
            scope: String::new(),
            kind: kind.into(),
            name: name.into(),
            id: String::new(),
            fields,
            attributes: Value::empty_map(),
            marks: Vec::new(),
            ownership: Ownership::Owned,
            preexisting: true,
            taken: BTreeMap::new(),
            ready_at_ms: 0,
            held_back: None,
        }
    }

    /// This thing with a mark.
    #[must_use]
    pub fn marked(mut self, mark: Mark) -> Self {
        self.marks.push(mark);
        self
    }

    /// What finds it.
    pub fn identity(&self) -> Identity {
        Identity::named(self.name.clone())
    }

    /// The mark of a lineage, if it carries one.
    pub fn mark_of(&self, lineage: &str) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.lineage == lineage)
    }

    /// What a provider that acts for `lineage` tells of it at a moment. Of a shared thing only the own mark
    /// is told; of any other the one that it carries, so that an owner can be named.
    pub(crate) fn seen(&self, lineage: &str, now_ms: u64) -> Seen {
        let own = self.mark_of(lineage);
        let mark = if self.ownership == Ownership::Owned { own.or_else(|| self.marks.first()) } else { own };
        Seen {
            id: Some(self.id.clone()),
            fields: self.fields.clone(),
            attributes: self.attributes.clone(),
            mark: mark.cloned(),
            readiness: self.readiness(now_ms),
            others: Vec::new(),
        }
    }

    /// Whether it is ready at a moment.
    pub(crate) fn readiness(&self, now_ms: u64) -> Readiness {
        match &self.held_back {
            Some(why) => Readiness::NotReady(why.clone()),
            None if self.ready_at_ms > now_ms => Readiness::NotReady("it is starting".to_owned()),
            None => Readiness::Ready,
        }
    }
}
