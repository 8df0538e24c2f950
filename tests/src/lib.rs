//! End to end tests on the built binary and on real parts; what their programs share.

pub mod stepped;
