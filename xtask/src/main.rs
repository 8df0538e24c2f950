//! Tasks of the project: benchmarks and generated files.

fn main() {}
