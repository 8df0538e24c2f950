//! Where each leaf of a declaration came from. `explain` is made of these.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Path;

/// A place in a text file. Lines and columns count from 1, columns in characters; `length` is in
/// characters and stays on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Span {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// Length in characters.
    pub length: u32,
}

/// Where a leaf came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Origin {
    /// A place in a file, as the user names the file.
    File {
        /// The file, as the user named it.
        file: Arc<str>,
        /// The place.
        span: Span,
    },
    /// A place in a file laid over another (`ksail.<environment>.yaml`).
    Overlay {
        /// The file, as the user named it.
        file: Arc<str>,
        /// The place.
        span: Span,
    },
    /// A flag of the command line.
    Flag {
        /// The flag with its argument, as written.
        flag: Arc<str>,
    },
    /// An environment variable.
    Env {
        /// The variable's name.
        name: Arc<str>,
    },
    /// A default of the format.
    Default {
        /// The field whose default it is.
        field: Arc<str>,
    },
    /// An entry of the catalogue (pinned versions and images).
    Catalogue {
        /// The entry's name.
        entry: Arc<str>,
    },
    /// Follows from other declarations; says why.
    Derived {
        /// A fragment such as `every registry needs the network`.
        why: Arc<str>,
    },
    /// Chosen at planning (a free port).
    Chosen {
        /// A fragment that says how it was chosen.
        why: Arc<str>,
    },
    /// Taken from the state (undo, a recorded choice).
    State {
        /// The operation or the record that it came from.
        what: Arc<str>,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, span } => write!(f, "{file}:{}:{}", span.line, span.column),
            Self::Overlay { file, span } => write!(f, "{file}:{}:{} (overlay)", span.line, span.column),
            Self::Flag { flag } => write!(f, "flag {flag}"),
            Self::Env { name } => write!(f, "environment variable {name}"),
            Self::Default { field } => write!(f, "default of {field}"),
            Self::Catalogue { entry } => write!(f, "catalogue entry {entry}"),
            Self::Derived { why } => write!(f, "derived: {why}"),
            Self::Chosen { why } => write!(f, "chosen at planning: {why}"),
            Self::State { what } => write!(f, "state: {what}"),
        }
    }
}

/// The origins of a declaration's leaves. A leaf without an entry takes that of the nearest path
/// above it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origins(Vec<(Path, Origin)>);

impl Origins {
    /// Origins where all leaves came from one place.
    pub fn all(origin: Origin) -> Self {
        Self(vec![(Path::root(), origin)])
    }

    /// Sets the origin of a path and all below it that has no nearer entry.
    pub fn set(&mut self, path: Path, origin: Origin) {
        match self.0.iter_mut().find(|(known, _)| *known == path) {
            Some((_, old)) => *old = origin,
            None => self.0.push((path, origin)),
        }
    }

    /// The nearest origin of a path.
    pub fn of(&self, path: &Path) -> Option<&Origin> {
        self.0
            .iter()
            .filter(|(known, _)| known.covers(path))
            .max_by_key(|(known, _)| known.steps().len())
            .map(|(_, origin)| origin)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Origin)> {
        self.0.iter().map(|(path, origin)| (path, origin))
    }

    /// Whether no origin is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_origin_wins() {
        let mut origins = Origins::all(Origin::Default { field: "spec".into() });
        origins.set(Path::key("a"), Origin::Flag { flag: "--set a=1".into() });
        assert_eq!(origins.of(&Path::parse("a.b").unwrap()).unwrap().to_string(), "flag --set a=1");
        assert_eq!(origins.of(&Path::parse("c").unwrap()).unwrap().to_string(), "default of spec");
    }
}
