//! The servers of the embedded engine: OCI registries and the engine interface.
