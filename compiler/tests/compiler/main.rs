//! The compiler by its public API: files in, diagnostics and graphs out.

mod clusters;
mod diagnostics;
mod fields;
mod generated;
mod graphs;
mod images;
mod layering;
mod machines;
mod manifests;
mod secrets;
mod world;
