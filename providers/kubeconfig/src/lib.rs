//! The provider of the kind `kubeconfig`: the entries of a cluster in the file that kubectl reads.
//!
//! Only these entries and `current-context` are written; every other byte of the file stays. The mark of whose they are is an
//! extension of each entry, which kubectl keeps when it rewrites the file.

mod document;
mod edit;
mod entries;
mod file;
mod lock;
mod places;
mod provider;
mod source;
mod tree;

pub use places::{Places, default_file};
pub use provider::KubeconfigProvider;
pub use source::MachineFiles;
