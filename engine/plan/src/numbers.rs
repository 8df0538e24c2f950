//! The resources of a plan by number, while it is made: one search finds the number of a key, and what is known of the resource
//! stands at that place of a list. Each edge of a large graph is followed several times, and a search among a hundred thousand
//! keys takes as long as all else that is done with one.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;

use ksail_model::{Address, RecordKey};

/// Finds equal numbers in equal runs: nothing is random, and nothing goes through it in its order.
type Fixed = BuildHasherDefault<DefaultHasher>;

/// The keys of a plan's resources, in order; a key's place is its number.
pub(crate) struct Numbers {
    keys: Vec<RecordKey>,
    current: HashMap<Address, u32, Fixed>,
}

impl Numbers {
    /// Numbers keys, each once, in their order.
    pub(crate) fn new(mut keys: Vec<RecordKey>) -> Self {
        keys.sort();
        keys.dedup();
        let mut current = HashMap::with_capacity_and_hasher(keys.len(), Fixed::default());
        for (number, key) in (0..).zip(&keys) {
            if key.deposed.is_none() {
                current.insert(key.address.clone(), number);
            }
        }
        Self { keys, current }
    }

    /// The keys, in order.
    pub(crate) fn keys(&self) -> &[RecordKey] {
        &self.keys
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of the current resource at an address.
    pub(crate) fn at(&self, address: &Address) -> Option<usize> {
        self.current.get(address).map(|number| *number as usize)
    }

    /// The number of a key.
    pub(crate) fn of(&self, key: &RecordKey) -> Option<usize> {
        match key.deposed {
            None => self.at(&key.address),
            Some(_) => self.keys.binary_search(key).ok(),
        }
    }
}

/// What is known of resources, each under its number.
pub(crate) struct ByKey<'n, T> {
    numbers: &'n Numbers,
    of: Vec<Option<T>>,
}

impl<'n, T> ByKey<'n, T> {
    /// Nothing yet.
    pub(crate) fn new(numbers: &'n Numbers) -> Self {
        Self { numbers, of: (0..numbers.len()).map(|_| None).collect() }
    }

    /// One for each resource, in the order of their numbers.
    pub(crate) fn of_all(numbers: &'n Numbers, all: impl Iterator<Item = T>) -> Self {
        let of: Vec<Option<T>> = all.map(Some).collect();
        debug_assert_eq!(of.len(), numbers.len());
        Self { numbers, of }
    }

    /// All keys, in order, also those under which there is nothing yet.
    pub(crate) fn numbers(&self) -> &'n Numbers {
        self.numbers
    }

    /// What stands under a key.
    pub(crate) fn get(&self, key: &RecordKey) -> Option<&T> {
        self.of.get(self.numbers.of(key)?)?.as_ref()
    }

    /// What stands under the current resource of an address.
    pub(crate) fn current(&self, address: &Address) -> Option<&T> {
        self.of.get(self.numbers.at(address)?)?.as_ref()
    }

    /// What stands under a number.
    pub(crate) fn at(&self, number: usize) -> Option<&T> {
        self.of.get(number)?.as_ref()
    }

    /// Whether something stands under a key.
    pub(crate) fn contains_key(&self, key: &RecordKey) -> bool {
        self.get(key).is_some()
    }

    /// Puts something under a key; one that has no number stays without it.
    pub(crate) fn insert(&mut self, key: &RecordKey, value: T) {
        if let Some(number) = self.numbers.of(key) {
            self.of[number] = Some(value);
        }
    }

    /// The keys under which something stands, with it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'n RecordKey, &T)> {
        self.numbers.keys().iter().zip(&self.of).filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }

    /// What stands there, in the order of keys.
    pub(crate) fn into_values(self) -> Vec<T> {
        // Both have the same size, so that the list stays where it is.
        self.of.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_numbers_of_their_order() {
        let address = |name: &str| Address::new("c", "k", &[name]);
        let old = RecordKey { address: address("a"), deposed: Some(1) };
        let current = |name| RecordKey::current(address(name));
        let numbers = Numbers::new(vec![current("b"), old.clone(), current("a"), current("b")]);
        assert_eq!(numbers.keys(), [current("a"), old.clone(), current("b")]);
        assert_eq!((numbers.of(&old), numbers.of(&current("b")), numbers.len()), (Some(1), Some(2), 3));
        assert_eq!((numbers.at(&address("a")), numbers.at(&address("c"))), (Some(0), None));
        assert_eq!(numbers.of(&RecordKey { address: address("b"), deposed: Some(1) }), None);
    }
}
