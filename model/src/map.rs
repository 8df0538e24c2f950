//! The map of a value.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::Value;

/// The map of a value: a [`BTreeMap`] that clones share until one of them is changed.
///
/// The same fields stand in a declaration, in the plan, in an intent, in the record, and in history; a graph of a hundred
/// thousand resources would hold them many times over.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Map(Arc<BTreeMap<String, Value>>);

impl Deref for Map {
    type Target = BTreeMap<String, Value>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Map {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl From<BTreeMap<String, Value>> for Map {
    fn from(map: BTreeMap<String, Value>) -> Self {
        Self(Arc::new(map))
    }
}

impl FromIterator<(String, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(pairs: I) -> Self {
        BTreeMap::from_iter(pairs).into()
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = btree_map::IntoIter<String, Value>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.0).into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a String, &'a Value);
    type IntoIter = btree_map::Iter<'a, String, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_clone_leaves_the_others_alone() {
        let one: Map = [("a".to_owned(), Value::from("1"))].into_iter().collect();
        let mut other = one.clone();
        assert_eq!(one, other);
        other.insert("b".to_owned(), Value::from("2"));
        assert_eq!((one.len(), other.len()), (1, 2));
        assert_eq!(one.into_iter().count(), 1);
    }
}
