//! The embedded engine process as a resource.
