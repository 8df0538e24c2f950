//! Tasks of the project: benchmarks and generated files. `cargo xtask --help` lists them.

mod bench;
mod clusters;
mod objects;
mod schema;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

/// Tasks of the project.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Measure the engine, beside the installed terraform, and judge the result by the targets.
    Bench(bench::Arguments),
    /// Measure objects on a real API server, beside kubectl and the least that a client can do.
    Objects(objects::Arguments),
    /// Measure server-side applies a second of API servers, in turn.
    Applies(objects::Applies),
    /// Measure clusters on a Docker Engine, beside real kind with the same image, and judge the result by the targets.
    Clusters(clusters::Arguments),
    /// Generate the types of Kubernetes from a real API server, or compare them with it.
    KubernetesSchema(schema::Arguments),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Objects(arguments) => objects::run(&arguments, &bench::target()),
        Task::Applies(arguments) => objects::applies(&arguments),
        Task::Clusters(arguments) => clusters::run(&arguments, &bench::target()),
        Task::KubernetesSchema(arguments) => schema::run(&arguments, &bench::target()),
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
