//! What every part of ksail shares: addresses, values, declarations with their origins, kind
//! schemas, observations, records and diagnostics.
//!
//! This crate is pure: no tokio, no files, no clock, no randomness.

mod address;
mod declaration;
mod diagnostic;
mod digest;
mod map;
mod observation;
mod origin;
mod path;
mod record;
mod schema;
mod secret;
mod value;

pub use address::{Address, AddressError, Selector};
pub use declaration::{
    Choice, Condition, Declaration, DeclaredGraph, Edge, ForceOn, Identity, Import, Lifecycle, Move, Ownership,
    ProviderConfig, Removal, Strength,
};
pub use diagnostic::{Code, Diagnostic, Label, Severity};
pub use digest::Digest;
pub use map::Map;
pub use observation::{Mark, Observation, Others, Preview, Readiness, Scope, Seen, UnknownReason};
pub use origin::{Origin, Origins, Span};
pub use path::{Path, PathError, Step};
pub use record::{Durations, Record, RecordKey, Status};
pub use schema::{FieldSchema, Follows, KindSchema, ListShape, Schemas};
pub use secret::{Fingerprint, Secret, SecretPart};
pub use value::{Reference, Value};
