//! The `ksail` command line.

fn main() {}
