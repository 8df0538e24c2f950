//! Our process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde::Deserialize;
use xtask::graph::{Graph, Shape};

use super::measure::{Error, child};
use super::results::{Case, Distant, Makespan, Sample, Stage, median};
use super::{DISTANT_NODES, ROUND_TRIP_MS};

/// The process that is measured, and where it works.
pub(crate) struct Engine {
    program: PathBuf,
    work: PathBuf,
}

/// What the process tells of itself.
#[derive(Debug, Deserialize)]
struct Report {
    changes: usize,
    done: usize,
    dispatched_ms: f64,
    written_bytes: Option<u64>,
    peak_bytes: Option<u64>,
}

impl Engine {
    /// Builds the process with the workspace's release profile.
    pub(crate) fn build(root: &Path, target: &Path, work: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&work).map_err(|source| Error::io("make", &work, source))?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(root).args(["build", "--release", "--package", "xtask", "--bin", "engine-bench"]);
        child(&mut cargo, &work)?;
        let program = target.join("release").join(format!("engine-bench{}", std::env::consts::EXE_SUFFIX));
        Ok(Self { program, work })
    }

    /// The file of a graph, made where it is not there yet. The process itself makes it: what this one had in memory
    /// would be counted as its children's.
    fn graph(&self, shape: Shape, nodes: usize) -> Result<PathBuf, Error> {
        let path = self.work.join(format!("{shape}-{nodes}.json"));
        if !path.exists() {
            let mut generate = Command::new(&self.program);
            generate
                .args(["generate", "--shape", &shape.to_string(), "--nodes", &nodes.to_string(), "--out"])
                .arg(&path);
            child(&mut generate, &self.work)?;
        }
        Ok(path)
    }

    fn fresh_state(&self) -> Result<PathBuf, Error> {
        let state = self.work.join("state");
        if state.exists() {
            fs::remove_dir_all(&state).map_err(|source| Error::io("clear", &state, source))?;
        }
        Ok(state)
    }

    fn run(&self, stage: Stage, graph: &Path, state: &Path, more: &[String]) -> Result<Sample, Error> {
        let mode = match stage {
            Stage::Plan | Stage::Replan => "plan",
            Stage::Apply => "apply",
            Stage::ChangeOne => "change-one",
            Stage::Destroy => "destroy",
        };
        let report = self.work.join("report.json");
        let mut command = Command::new(&self.program);
        command.args(["run", mode, "--graph"]).arg(graph).arg("--state").arg(state).arg("--report").arg(&report);
        let mut taken = child(command.args(more), &self.work)?;
        let told: Report = fs::read(&report)
            .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
            .map_err(|source| Error::io("read", &report, source))?;
        check(stage, &told, &self.program)?;
        taken.max_rss_bytes = told.peak_bytes.unwrap_or(taken.max_rss_bytes);
        let applies = !matches!(stage, Stage::Plan | Stage::Replan);
        Ok(Sample { taken, dispatched_ms: applies.then_some(told.dispatched_ms), written_bytes: told.written_bytes })
    }

    /// Measures one round of a case.
    pub(crate) fn measure(&self, case: &mut Case) -> Result<(), Error> {
        let began = Instant::now();
        let graph = self.graph(case.shape, case.nodes)?;
        let state = self.fresh_state()?;
        let more = parallelism(case.parallelism);
        for stage in Stage::ALL {
            let sample = self.run(stage, &graph, &state, &more)?;
            case.note(stage, sample);
        }
        case.round_over(began);
        Ok(())
    }

    /// Applies a graph with its state here and a round trip away, in turn.
    pub(crate) fn distant(&self, shape: Shape, rounds: u32) -> Result<Distant, Error> {
        let path = self.graph(shape, DISTANT_NODES)?;
        let (mut local, mut distant) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            local.push(self.run(Stage::Apply, &path, &self.fresh_state()?, &[])?.taken.wall_ms);
            let more = [format!("--round-trip-ms={ROUND_TRIP_MS}")];
            distant.push(self.run(Stage::Apply, &path, &self.fresh_state()?, &more)?.taken.wall_ms);
        }
        let (local_ms, distant_ms) = (median(local).unwrap_or_default(), median(distant).unwrap_or_default());
        Ok(Distant { shape, nodes: DISTANT_NODES, local_ms, distant_ms })
    }

    /// Applies a graph with simulated calls.
    pub(crate) fn makespan(&self, shape: Shape, nodes: usize, in_flight: usize) -> Result<Makespan, Error> {
        let path = self.graph(shape, nodes)?;
        let mut more = parallelism(Some(in_flight));
        more.push("--scale=1".to_owned());
        let sample = self.run(Stage::Apply, &path, &self.fresh_state()?, &more)?;
        let graph = Graph::read(&path).map_err(|source| Error::io("read", &path, source))?;
        let (critical_path, work) = graph.critical_path_and_work_ms();
        Ok(Makespan {
            shape,
            nodes,
            parallelism: in_flight,
            took_ms: sample.dispatched_ms.unwrap_or_default(),
            critical_path_ms: critical_path as f64,
            work_ms: work as f64 / in_flight as f64,
        })
    }
}

fn parallelism(parallelism: Option<usize>) -> Vec<String> {
    parallelism.map(|calls| format!("--parallelism={calls}")).into_iter().collect()
}

/// A process that did not do what it was asked must not count as a fast one.
fn check(stage: Stage, told: &Report, program: &Path) -> Result<(), Error> {
    let right = match stage {
        Stage::Plan => told.changes > 0 && told.done == 0,
        Stage::Replan => told.changes == 0 && told.done == 0,
        Stage::ChangeOne => told.changes == 1 && told.done == 1,
        Stage::Apply | Stage::Destroy => told.changes > 0 && told.done == told.changes,
    };
    if right {
        return Ok(());
    }
    let why = format!("{stage}: {} changes were planned and {} done", told.changes, told.done);
    Err(Error::io("trust", program, std::io::Error::other(why)))
}
