//! `cargo xtask bench`: processes measured from start to exit, ours and terraform's in turn.

mod engine;
mod ksail;
pub(crate) mod measure;
pub(crate) mod results;
pub(crate) mod table;
mod targets;
mod terraform;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use xtask::graph::Shape;

use self::engine::Engine;
use self::measure::Error;
use self::results::{Case, Results, Tool};
use self::terraform::Terraform;

/// The page that tells of what was measured.
pub(crate) const PAGE: &str = "docs/performance.md";

/// A case is not measured again once it has taken this long.
const CASE_BUDGET: Duration = Duration::from_secs(100);

/// Sizes of ours.
const SIZES: [usize; 6] = [500, 1_000, 2_000, 5_000, 10_000, 100_000];

/// Sizes of ours with `--quick`.
const QUICK_SIZES: [usize; 4] = [500, 1_000, 2_000, 10_000];

/// Sizes at which terraform finishes in minutes.
const TERRAFORM: [(Shape, usize); 5] =
    [(Shape::Flat, 500), (Shape::Flat, 1_000), (Shape::Flat, 2_000), (Shape::Layered, 500), (Shape::Layered, 1_000)];

/// The largest of them with `--quick`.
const QUICK_TERRAFORM: usize = 500;

/// Calls in flight where many are asked for.
const MANY_IN_FLIGHT: usize = 64;

/// The size at which durable operations a second are counted.
const MANY_IN_FLIGHT_NODES: usize = 10_000;

/// The graphs whose makespan is compared with what is possible, and the calls in flight.
const MAKESPANS: [(Shape, usize, usize); 4] = [
    (Shape::Flat, 1_000, 10),
    (Shape::Layered, 1_000, 10),
    (Shape::Random, 1_000, 10),
    // Wider than a layer: here the critical path is the bound.
    (Shape::Layered, 1_000, MANY_IN_FLIGHT),
];

/// The size at which an apply is compared with one whose state is a round trip away.
const DISTANT_NODES: usize = 10_000;

/// How far away that state is, in milliseconds.
const ROUND_TRIP_MS: u64 = 20;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave out what takes minutes.
    #[arg(long)]
    quick: bool,
    /// How often each case is measured; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Write the results here, as JSON.
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Write the table of `docs/performance.md` anew.
    #[arg(long)]
    docs: bool,
    /// Exit with 1 if a target is missed.
    #[arg(long)]
    check: bool,
}

/// The folder of what is built.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Measures, tells, and answers with which code to exit.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let root = root();
    let target = target();
    let work = target.join("bench");
    if work.exists() {
        fs::remove_dir_all(&work).map_err(|source| Error::io("clear", &work, source))?;
    }
    fs::create_dir_all(&work).map_err(|source| Error::io("make", &work, source))?;
    say("building the engine's process in release mode");
    let engine = Engine::build(&root, &target, work.join("engine"))?;
    let terraform = Terraform::find(work.join("terraform"))?;
    if terraform.is_none() {
        say("terraform is not installed: nothing is compared");
    }
    let mut results = Results::of_machine(&work, terraform.as_ref().map(Terraform::version), arguments.quick)?;
    measure_cases(arguments, &engine, terraform.as_ref(), &mut results)?;
    for (shape, nodes, parallelism) in MAKESPANS {
        say(&format!("makespan: {shape} {nodes}, {parallelism} in flight"));
        results.makespans.push(engine.makespan(shape, nodes, parallelism)?);
    }
    for shape in Shape::ALL {
        say(&format!("state {ROUND_TRIP_MS} ms away: {shape} {DISTANT_NODES}"));
        results.distant.push(engine.distant(shape, arguments.rounds)?);
    }
    ksail::measure(&root, &target, &work.join("ksail"), &mut results)?;
    results.targets = targets::judge(&results);
    let table = table::markdown(&results);
    let _ = write!(io::stdout(), "{table}");
    if let Some(out) = &arguments.out {
        let json = serde_json::to_vec_pretty(&results).map_err(|source| Error::io("write", out, source.into()))?;
        fs::write(out, json).map_err(|source| Error::io("write", out, source))?;
    }
    if arguments.docs {
        table::into_page(&root.join(PAGE), table::BEGIN, &table)?;
    }
    fs::remove_dir_all(&work).map_err(|source| Error::io("clear", &work, source))?;
    let missed = results.targets.iter().any(|target| target.met == Some(false));
    Ok(if arguments.check && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Measures all cases in turn, so that what else the machine does in between spreads over all of them.
fn measure_cases(
    arguments: &Arguments,
    engine: &Engine,
    terraform: Option<&Terraform>,
    results: &mut Results,
) -> Result<(), Error> {
    let mut cases = cases(arguments.quick, terraform.is_some());
    for round in 1..=arguments.rounds {
        for case in cases.iter_mut().filter(|case| case.worth_another(CASE_BUDGET)) {
            say(&format!("round {round} of {}: {case}", arguments.rounds));
            match (case.tool, terraform) {
                (Tool::Terraform, Some(terraform)) => terraform.measure(case)?,
                _ => engine.measure(case)?,
            }
        }
    }
    results.cases = cases;
    Ok(())
}

fn cases(quick: bool, terraform: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    if terraform {
        let all = TERRAFORM.iter().filter(|(_, nodes)| !quick || *nodes <= QUICK_TERRAFORM);
        cases.extend(all.map(|(shape, nodes)| Case::new(Tool::Terraform, *shape, *nodes, None)));
    }
    let sizes: &[usize] = if quick { &QUICK_SIZES } else { &SIZES };
    for shape in Shape::ALL {
        cases.extend(sizes.iter().map(|nodes| Case::new(Tool::Ksail, shape, *nodes, None)));
        cases.push(Case::new(Tool::Ksail, shape, MANY_IN_FLIGHT_NODES, Some(MANY_IN_FLIGHT)));
    }
    cases
}

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Tells how far it is, on stderr.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
