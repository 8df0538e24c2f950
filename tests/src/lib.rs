//! End to end tests on the built binary and on real parts.
