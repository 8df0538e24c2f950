//! Names within networks: under which a container reaches another one that runs on a network of both.
//!
//! Addresses are simulated, so a name leads to the port of this machine under which the other one's port is published.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// A container that runs, as others on its networks see it.
#[derive(Debug, Clone)]
pub(crate) struct Neighbour {
    /// Its names, by the id of the network in which each leads to it. The default network knows no names.
    pub(crate) names: BTreeMap<String, BTreeSet<String>>,
    /// Its published ports, by the port as the container sees it.
    pub(crate) ports: BTreeMap<u16, SocketAddr>,
}

/// All containers that run, by id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Neighbours(Arc<RwLock<BTreeMap<String, Neighbour>>>);

/// What one container reaches by name.
#[derive(Debug, Clone)]
pub(crate) struct Neighbourhood {
    all: Neighbours,
    id: String,
}

impl Neighbours {
    /// Replaces what is known of all.
    pub(crate) fn set(&self, all: BTreeMap<String, Neighbour>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// What the container of an id reaches.
    pub(crate) fn of(&self, id: &str) -> Neighbourhood {
        Neighbourhood { all: self.clone(), id: id.to_owned() }
    }
}

impl ksail_registry_client::Neighbours for Neighbourhood {
    /// Where a port of the container of a name is, if there is such a one on a network of ours now.
    fn find(&self, name: &str, port: u16) -> Option<SocketAddr> {
        let all = self.all.0.read().unwrap_or_else(PoisonError::into_inner);
        let ours = all.get(&self.id)?;
        let leads_to = |other: &&Neighbour| {
            ours.names.keys().any(|network| other.names.get(network).is_some_and(|names| names.contains(name)))
        };
        all.values().filter(leads_to).find_map(|other| other.ports.get(&port).copied())
    }
}

#[cfg(test)]
mod tests {
    use ksail_registry_client::Neighbours as _;

    use super::*;

    #[test]
    fn a_name_leads_to_a_container_on_the_same_network_only() {
        let neighbour = |network: &str, name: &str, port: u16| Neighbour {
            names: [(network.to_owned(), [name.to_owned()].into())].into(),
            ports: [(5000, SocketAddr::from(([127, 0, 0, 1], port)))].into(),
        };
        let all = Neighbours::default();
        all.set(
            [("a", neighbour("n", "first", 1)), ("b", neighbour("n", "second", 2)), ("c", neighbour("m", "third", 3))]
                .map(|(id, neighbour)| (id.to_owned(), neighbour))
                .into(),
        );
        let reached = |from: &str, name: &str, port| all.of(from).find(name, port).map(|address| address.port());
        assert_eq!(reached("a", "second", 5000), Some(2));
        assert_eq!(reached("a", "third", 5000), None, "another network");
        assert_eq!(reached("a", "second", 80), None, "a port that is not published");
        assert_eq!(reached("gone", "second", 5000), None);
    }
}
