//! What was measured.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use xtask::graph::Shape;

use super::measure::{Error, Taken};

/// How often the disk is asked how long a sync takes.
const SYNCS: usize = 200;

/// How many bytes are written before each sync.
const SYNC_BYTES: usize = 4096;

/// Whose process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tool {
    /// Ours.
    Ksail,
    /// Terraform's.
    Terraform,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Plan, with nothing there.
    Plan,
    /// Plan and make everything.
    Apply,
    /// Plan, with everything there.
    Replan,
    /// Plan and change one.
    ChangeOne,
    /// Plan and delete everything.
    Destroy,
}

impl Stage {
    /// In the order in which they are measured.
    pub(crate) const ALL: [Self; 5] = [Self::Plan, Self::Apply, Self::Replan, Self::ChangeOne, Self::Destroy];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Replan => "plan without changes",
            Self::ChangeOne => "change one",
            Self::Destroy => "destroy",
        })
    }
}

/// One process.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Sample {
    /// What it took.
    #[serde(flatten)]
    pub(crate) taken: Taken,
    /// From the lock to the seal, in milliseconds, if it tells.
    pub(crate) dispatched_ms: Option<f64>,
    /// The bytes that it wrote to files, if it tells.
    pub(crate) written_bytes: Option<u64>,
}

/// A graph and who works on it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    /// Who.
    pub(crate) tool: Tool,
    /// The graph's shape.
    pub(crate) shape: Shape,
    /// The graph's size.
    pub(crate) nodes: usize,
    /// Calls in flight; `None` for the tool's default (10 for both).
    pub(crate) parallelism: Option<usize>,
    /// All processes, by what they did.
    pub(crate) samples: BTreeMap<Stage, Vec<Sample>>,
    #[serde(skip)]
    rounds: u32,
    #[serde(skip)]
    spent: Duration,
}

impl Case {
    /// A case that was not measured yet.
    pub(crate) fn new(tool: Tool, shape: Shape, nodes: usize, parallelism: Option<usize>) -> Self {
        Self { tool, shape, nodes, parallelism, samples: BTreeMap::new(), rounds: 0, spent: Duration::ZERO }
    }

    /// Whether another round would stay within the budget, going by the rounds so far.
    pub(crate) fn worth_another(&self, budget: Duration) -> bool {
        self.rounds == 0 || self.spent + self.spent / self.rounds <= budget
    }

    /// Notes that a round began at this time and is over.
    pub(crate) fn round_over(&mut self, began: Instant) {
        self.rounds += 1;
        self.spent += began.elapsed();
    }

    /// Notes a process.
    pub(crate) fn note(&mut self, stage: Stage, sample: Sample) {
        self.samples.entry(stage).or_default().push(sample);
    }

    /// The median of something over the processes of a stage.
    pub(crate) fn median(&self, stage: Stage, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        median(self.samples.get(&stage)?.iter().filter_map(of).collect())
    }

    /// The median time of a stage, in milliseconds.
    pub(crate) fn wall_ms(&self, stage: Stage) -> Option<f64> {
        self.median(stage, |sample| Some(sample.taken.wall_ms))
    }

    /// The median of the largest resident memory of a stage, in bytes.
    pub(crate) fn max_rss(&self, stage: Stage) -> Option<f64> {
        self.median(stage, |sample| Some(sample.taken.max_rss_bytes as f64))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tool = match self.tool {
            Tool::Ksail => "ksail",
            Tool::Terraform => "terraform",
        };
        write!(f, "{tool} {} {}", self.shape, self.nodes)?;
        self.parallelism.map_or(Ok(()), |parallelism| write!(f, ", {parallelism} in flight"))
    }
}

/// The median; of an even number of values the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// How long an apply took with simulated calls, and the least it could take.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Makespan {
    /// The graph's shape.
    pub(crate) shape: Shape,
    /// The graph's size.
    pub(crate) nodes: usize,
    /// Calls in flight.
    pub(crate) parallelism: usize,
    /// From the lock to the seal, in milliseconds.
    pub(crate) took_ms: f64,
    /// The longest path, in milliseconds.
    pub(crate) critical_path_ms: f64,
    /// All calls divided by the calls in flight, in milliseconds.
    pub(crate) work_ms: f64,
}

impl Makespan {
    /// How many times the least it took.
    pub(crate) fn ratio(&self) -> f64 {
        self.took_ms / self.critical_path_ms.max(self.work_ms)
    }
}

/// How long an apply took with its state here, and with its state a round trip away, from start to exit.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Distant {
    /// The graph's shape.
    pub(crate) shape: Shape,
    /// The graph's size.
    pub(crate) nodes: usize,
    /// With its state in a folder, in milliseconds (median).
    pub(crate) local_ms: f64,
    /// With its state a round trip away, in milliseconds (median).
    pub(crate) distant_ms: f64,
}

impl Distant {
    /// How many times as long it takes.
    pub(crate) fn ratio(&self) -> f64 {
        self.distant_ms / self.local_ms
    }
}

/// A target and how it came out.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Target {
    /// What shall be.
    pub(crate) wanted: String,
    /// What is.
    pub(crate) found: String,
    /// Whether it is met; `None` if it was not measured.
    pub(crate) met: Option<bool>,
}

/// All that was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Results {
    /// Whether this was a quick run.
    pub(crate) quick: bool,
    /// The system and the processor's kind.
    pub(crate) system: String,
    /// How many processors there are.
    pub(crate) cores: usize,
    /// How long the disk takes to make a small write durable, in milliseconds (median).
    pub(crate) sync_ms: f64,
    /// Terraform's version, if it is installed.
    pub(crate) terraform: Option<String>,
    /// The graphs.
    pub(crate) cases: Vec<Case>,
    /// With simulated calls.
    pub(crate) makespans: Vec<Makespan>,
    /// With a remote state.
    pub(crate) distant: Vec<Distant>,
    /// Times of commands of the binary `ksail` by name, in milliseconds (median).
    pub(crate) commands_ms: BTreeMap<String, f64>,
    /// Why commands were left out.
    pub(crate) skipped: Vec<String>,
    /// The targets.
    pub(crate) targets: Vec<Target>,
}

impl Results {
    /// What can be told of the machine; `folder` is on the disk that is measured.
    pub(crate) fn of_machine(folder: &Path, terraform: Option<String>, quick: bool) -> Result<Self, Error> {
        Ok(Self {
            quick,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            sync_ms: sync_ms(folder)?,
            terraform,
            ..Self::default()
        })
    }
}

fn sync_ms(folder: &Path) -> Result<f64, Error> {
    let path = folder.join("sync");
    let fail = |source| Error::io("write", &path, source);
    let mut file = File::create(&path).map_err(fail)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[0; SYNC_BYTES]).and_then(|()| file.sync_data()).map_err(fail)?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(times).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
