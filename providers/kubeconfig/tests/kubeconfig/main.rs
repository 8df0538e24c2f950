//! The provider on files of its own.

mod conformance;
mod kills;
mod properties;
mod provider;
mod support;
