//! The kinds and types of Kubernetes as a real API server describes them.
//!
//! [`builtin`] answers the [`Catalog`] of the built-in groups: every resource with its names, verbs, subresources and table
//! columns, and every type with its fields, defaults, merge keys and formats. It is read from `data/kubernetes.json`, which
//! `cargo xtask kubernetes-schema` makes of the discovery, OpenAPI v3 and tables of a real server, and of what the published Go
//! types say of zero values (OpenAPI does not); nothing in it is written by hand.
//!
//! [`Types`] also reads the schemas of custom resources ([`Types::add_schema`]), so that one walk serves both.

mod catalog;
mod checks;
mod reader;
mod types;

pub use catalog::{Catalog, Column, Group, Resource, Subresource, Version, builtin, builtin_types_json, custom_types};
pub use checks::{Checks, Rule};
pub use types::{Field, Format, ListMerge, Node, Numbered, Numbers, Object, PatchMerge, Shape, TypeId, Types, Zero};
