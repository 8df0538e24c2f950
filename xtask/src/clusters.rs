//! `cargo xtask clusters`: clusters on a Docker Engine, by ksail and by real kind with the same image, in turn, each until all nodes
//! are ready as kind means it.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::bench::measure::{Error, Taken, child};
use crate::bench::results::median;
use crate::bench::{PAGE, root, table};

/// Where the page has this table.
const BEGIN: &str = "<!-- table: written by `cargo xtask clusters --docs` -->";
/// By how many nodes a cluster has, what part of kind's time its creation takes at most.
const TARGETS: [(u32, f64); 2] = [(1, 0.8), (4, 0.7)];
/// How long adding a worker takes at most, in seconds, and how much memory our process, in bytes.
const WORKER_SECONDS: f64 = 10.0;
const MEMORY: f64 = 60.0 * 1_000_000.0;

/// Arguments of `clusters`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The engine (`testbed/docker.sh env` sets it).
    #[arg(long, env = "KSAIL_TEST_DOCKER_HOST")]
    docker_host: String,
    /// The node image, by its name on the engine (`testbed/node-image.sh env` sets it).
    #[arg(long, env = "KSAIL_TEST_NODE_IMAGE")]
    image: String,
    /// Real kind.
    #[arg(long, env = "KSAIL_TEST_KIND")]
    kind: PathBuf,
    /// The binary that is measured; left out, that of `target/release`.
    #[arg(long)]
    ksail: Option<PathBuf>,
    /// Write the table of `docs/performance.md` anew.
    #[arg(long)]
    docs: bool,
    /// Exit with 1 if a target is missed.
    #[arg(long)]
    check: bool,
}

/// What the rounds of one size took.
#[derive(Default)]
struct Case {
    kind_ms: Vec<f64>,
    ksail_ms: Vec<f64>,
    worker_ms: Vec<f64>,
    memory: Vec<f64>,
}

/// One project on the engine.
struct Project<'a> {
    arguments: &'a Arguments,
    ksail: PathBuf,
    folder: PathBuf,
    work: &'a Path,
}

/// Measures, and prints a table.
pub(crate) fn run(arguments: &Arguments, target: &Path) -> Result<ExitCode, Error> {
    let work = target.join("bench-clusters");
    if work.exists() {
        fs::remove_dir_all(&work).map_err(|source| Error::io("clear", &work, source))?;
    }
    fs::create_dir_all(&work).map_err(|source| Error::io("make", &work, source))?;
    let mut text =
        String::from("| nodes | kind | ksail | part of kind\'s time | at most | |\n|---:|---:|---:|---:|---:|---|\n");
    let mut all = Case::default();
    let mut is_met = true;
    let word = |is_met: bool| if is_met { "pass" } else { "**fail**" };
    for (nodes, most) in TARGETS {
        let mut case = Case::default();
        for round in 0..arguments.rounds {
            measure(arguments, target, &work, nodes, round, &mut case)?;
        }
        let [kind, ksail] = [&case.kind_ms, &case.ksail_ms].map(|times| median(times.clone()).unwrap_or(f64::NAN));
        let part = ksail / kind;
        is_met &= part <= most;
        let (kind, ksail) = (kind / 1000.0, ksail / 1000.0);
        let _ =
            writeln!(text, "| {nodes} | {kind:.1} s | {ksail:.1} s | {part:.2} | {most} | {} |", word(part <= most));
        all.worker_ms.extend(case.worker_ms);
        all.memory.extend(case.memory);
    }
    let worker = median(all.worker_ms).unwrap_or(f64::NAN) / 1000.0;
    let memory = all.memory.into_iter().fold(0.0, f64::max);
    is_met &= worker <= WORKER_SECONDS && memory <= MEMORY;
    let _ = writeln!(text, "\n| | found | at most | |\n|---|---:|---:|---|");
    let _ = writeln!(
        text,
        "| a worker added | {worker:.1} s | {WORKER_SECONDS} s | {} |\n| memory of an apply, the largest | {:.1} MB | {} MB | {} |",
        word(worker <= WORKER_SECONDS),
        memory / 1_000_000.0,
        MEMORY / 1_000_000.0,
        word(memory <= MEMORY),
    );
    let _ = writeln!(text, "\n{} rounds in turn, the median of each.", arguments.rounds);
    let _ = write!(std::io::stdout(), "{text}");
    if arguments.docs {
        table::into_page(&root().join(PAGE), BEGIN, &text)?;
    }
    Ok(if arguments.check && !is_met { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One round of a size: kind\'s cluster and ours, one after the other, none beside the other.
fn measure(
    arguments: &Arguments,
    target: &Path,
    work: &Path,
    nodes: u32,
    round: u32,
    case: &mut Case,
) -> Result<(), Error> {
    let name = format!("bench{}-{nodes}-{round}", std::process::id());
    let ksail = arguments.ksail.clone().unwrap_or_else(|| target.join("release/ksail"));
    let project = Project { arguments, ksail, folder: work.join(&name), work };
    fs::create_dir_all(&project.folder).map_err(|source| Error::io("make", &project.folder, source))?;
    let file = project.folder.join("kind.yaml");
    write(&file, &kind_file(nodes))?;
    let file = file.display().to_string();
    let created = project.by_kind(&["create", "cluster", "--config", &file, "--wait", "120s", "--name", &name]);
    // What was made must not stay, whatever came out.
    project.by_kind(&["delete", "cluster", "--name", &name])?;
    case.kind_ms.push(created?.wall_ms);
    let made = project.create(&name, nodes, case);
    project.by_ksail(&["destroy", "--auto-approve"])?;
    made
}

impl Project<'_> {
    fn by_kind(&self, words: &[&str]) -> Result<Taken, Error> {
        let mut command = Command::new(&self.arguments.kind);
        command.args(words).args(if words[0] == "create" {
            vec!["--image", &self.arguments.image]
        } else {
            Vec::new()
        });
        self.run(&mut command)
    }

    fn by_ksail(&self, words: &[&str]) -> Result<Taken, Error> {
        let mut command = Command::new(&self.ksail);
        command.arg("-C").arg(&self.folder).args(words);
        self.run(&mut command)
    }

    /// With a home of its own, so that nobody\'s kubeconfig is written.
    fn run(&self, command: &mut Command) -> Result<Taken, Error> {
        let kubeconfig = self.folder.join("kubeconfig");
        command.env("DOCKER_HOST", &self.arguments.docker_host).env("HOME", self.work).env("KUBECONFIG", kubeconfig);
        child(command, self.work)
    }

    fn create(&self, name: &str, nodes: u32, case: &mut Case) -> Result<(), Error> {
        let file = self.folder.join("ksail.yaml");
        write(&file, &self.declaration(name))?;
        let taken = self.by_ksail(&["apply", "--auto-approve"])?;
        case.ksail_ms.push(taken.wall_ms);
        case.memory.push(taken.max_rss_bytes as f64);
        if nodes > 1 {
            write(&self.folder.join("kind.yaml"), &kind_file(nodes + 1))?;
            let taken = self.by_ksail(&["apply", "--auto-approve"])?;
            case.worker_ms.push(taken.wall_ms);
            case.memory.push(taken.max_rss_bytes as f64);
        }
        // What is measured must be what was asked for.
        self.by_ksail(&["plan", "--detailed-exitcode"]).map(drop)
    }

    fn declaration(&self, name: &str) -> String {
        let version = self.arguments.image.rsplit(':').next().unwrap_or_default();
        format!(
            "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  cluster: {{provider: Docker, \
             distribution: Vanilla, kubernetesVersion: {version}}}\n"
        )
    }
}

fn kind_file(nodes: u32) -> String {
    let workers = "- role: worker\n".repeat(usize::try_from(nodes).map_or(0, |nodes| nodes.saturating_sub(1)));
    format!("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n{workers}")
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::io("write", path, source))
}
