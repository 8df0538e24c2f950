//! The interface: HTTPS, paths, verbs.

mod discovery;
mod openapi;
mod options;
mod read;
mod reply;
mod reviews;
mod router;
pub(crate) mod selectors;
mod serve;
mod subresources;
mod table;
mod watch;

pub(crate) use serve::serve;
