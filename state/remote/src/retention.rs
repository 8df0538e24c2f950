//! How much of the history is kept.

use std::time::Duration;

/// How much of the history is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many operations.
    pub count: usize,
    /// Those that are not older than this, by the store's clock, counted from the newest; `None`: of any age.
    pub age: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { count: 1000, age: None }
    }
}
