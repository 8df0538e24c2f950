//! The calls of the contract, by name.

use std::fmt;

/// A call of the provider contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Batch observation.
    Observe,
    /// Preview.
    Preview,
    /// Creation.
    Create,
    /// Change in place.
    Update,
    /// Deletion.
    Delete,
    /// Wait until ready.
    Wait,
    /// List of everything marked.
    ListOwned,
    /// What a deletion does besides.
    Forecast,
    /// Ports that are taken.
    PortsInUse,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Observe => "observe",
            Self::Preview => "preview",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Wait => "wait",
            Self::ListOwned => "list_owned",
            Self::Forecast => "forecast",
            Self::PortsInUse => "ports_in_use",
        })
    }
}
