//! The compiler by its public API: files in, diagnostics and graphs out.

mod graphs;
mod world;
