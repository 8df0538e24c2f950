//! The map of a value.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use litemap::LiteMap;

use crate::Value;

/// The map of a value: sorted by key, in one piece of memory, and shared by clones until one of them is changed.
///
/// The same fields stand in a declaration, in the plan, in an intent, in the record, and in history; a graph of a hundred
/// thousand resources would hold them many times over. Most of them are few, for which a node of a B-tree is far too large.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Map(Arc<LiteMap<String, Value>>);

/// So many pairs get room one by one.
const FEW: usize = 4;

impl Map {
    /// The value of a key, which is null where there was none. A map of a few pairs has no room for more than they are: most of
    /// them stay as they are, and there are many.
    pub(crate) fn slot(&mut self, key: &str) -> &mut Value {
        let map = Arc::make_mut(&mut self.0);
        if map.len() < FEW && !map.contains_key(key) {
            let mut exact = Vec::with_capacity(map.len() + 1);
            exact.append(&mut std::mem::take(map).into_tuple_vec());
            *map = LiteMap::from_sorted_store_unchecked(exact);
        }
        map.entry(key.to_owned()).or_default()
    }
}

impl Deref for Map {
    type Target = LiteMap<String, Value>;

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
        // A B-tree's pairs are sorted and without duplicates, and it knows how many they are: nothing is left unused.
        Self(Arc::new(LiteMap::from_sorted_store_unchecked(map.into_iter().collect())))
    }
}

impl FromIterator<(String, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(pairs: I) -> Self {
        BTreeMap::from_iter(pairs).into()
    }
}

impl Extend<(String, Value)> for Map {
    fn extend<I: IntoIterator<Item = (String, Value)>>(&mut self, pairs: I) {
        for (key, value) in pairs {
            self.insert(key, value);
        }
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.0).into_tuple_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a String, &'a Value);
    type IntoIter = <&'a LiteMap<String, Value> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
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

    #[test]
    fn a_slot_is_the_value_of_its_key() {
        let mut map = Map::default();
        for key in ["c", "a", "f", "b", "e", "d"] {
            assert_eq!(*map.slot(key), Value::Null);
            *map.slot(key) = Value::from(key);
        }
        assert_eq!(*map.slot("c"), Value::from("c"));
        assert_eq!(map.keys().collect::<Vec<_>>(), ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn keys_are_in_order_and_the_last_value_of_a_key_counts() {
        let mut map: Map =
            [("b", "1"), ("a", "2"), ("b", "3")].map(|(k, v)| (k.to_owned(), Value::from(v))).into_iter().collect();
        map.extend([("aa".to_owned(), Value::from("4"))]);
        let pairs: Vec<_> = map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", Some("2")), ("aa", Some("4")), ("b", Some("3"))]);
    }
}
