//! Real kills at random moments: after each, one run of the same command converges, with no orphan and no duplicate by the
//! outside's own listing.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::engine::Engine;
use crate::support::project::{Project, Run, Running};
use crate::support::{ChosenPorts, docker_socket, engine_pids, free_port, signal};

/// How many cuts are made on the embedded engine, where `KSAIL_TEST_KILLS` does not say.
const KILLS: u32 = 200;
/// How many on the real one.
const DOCKER_KILLS: u32 = 30;
/// Of so many runs, one may be over before its kill.
const RUNS_PER_KILL: u32 = 4;
/// One in so many kills takes the engine's process too.
const ENGINE_TOO: u32 = 6;
/// The bounds of the time within which a kill comes after an operation's beginning.
const WITHIN_MIN: Duration = Duration::from_millis(4);
const WITHIN_MAX: Duration = Duration::from_secs(20);

/// What a run shall lead to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    Nothing,
    Two,
    Three,
    OtherUpstream,
}

impl Target {
    const ALL: [Self; 4] = [Self::Nothing, Self::Two, Self::Three, Self::OtherUpstream];

    const fn mirrors(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Two => &["docker.io", "ghcr.io"],
            Self::Three => &["docker.io", "ghcr.io", "quay.io"],
            Self::OtherUpstream => &["docker.io", "quay.io"],
        }
    }

    fn command(self) -> [&'static str; 2] {
        if self == Self::Nothing { ["destroy", "--auto-approve"] } else { ["apply", "--auto-approve"] }
    }

    /// All that shall exist outside, but for images and the engine.
    fn addresses(self, cluster: &str) -> Vec<String> {
        if self == Self::Nothing {
            return Vec::new();
        }
        let mut all = vec!["network/main".to_owned(), "registry/local".to_owned(), "volume/local-registry".to_owned()];
        for host in self.mirrors() {
            all.push(format!("mirror/{host}"));
            all.push(format!("volume/mirror-{host}"));
        }
        let mut all: Vec<String> = all.into_iter().map(|address| format!("{cluster}/{address}")).collect();
        all.sort();
        all
    }
}

/// A world in which commands are killed.
trait World {
    fn project(&self) -> &Project;
    fn cluster(&self) -> &str;
    fn declare(&self, target: Target);
    /// How the outside is asked; `None` if it is gone with all that was in it.
    fn outside(&self) -> Option<Engine>;
    fn kill_engine(&self) {}
    /// What is wrong when nothing shall be left. What is on its way out, and without a name, is swept by the next call that
    /// makes or deletes an engine: it counts only when there was one.
    fn leftovers(&self, _swept: bool) -> Option<String> {
        None
    }
}

struct Storm<'a, W: World> {
    world: &'a W,
    random: fastrand::Rng,
    at: Target,
    cuts: u32,
    early: u32,
    runs: u32,
    /// Kills come within this time after an operation's beginning. It follows what the machine and the engine take, so that
    /// kills fall on all of an operation, and most of them before its end.
    within: Duration,
}

impl<W: World> Storm<'_, W> {
    fn next_target(&mut self) -> Target {
        loop {
            let target = Target::ALL[self.random.usize(..Target::ALL.len())];
            if target != self.at {
                return target;
            }
        }
    }

    /// Starts a command and kills it at a random moment. Answers what it had said, if it died of that.
    fn cut(&mut self, target: Target, in_operation: bool) -> Option<Run> {
        let mut running = self.world.project().start(&target.command());
        if in_operation {
            wait_for_operation(&mut running);
            let micros = u64::try_from(self.within.as_micros()).unwrap_or(u64::MAX);
            std::thread::sleep(Duration::from_micros(self.random.u64(..=micros)));
        } else {
            std::thread::sleep(Duration::from_micros(self.random.u64(..120_000)));
        }
        running.signal(Signal::KILL);
        let with_engine = self.random.u32(..ENGINE_TOO) == 0;
        if with_engine {
            self.world.kill_engine();
        }
        let run = running.end();
        (run.code.is_none()).then_some(run)
    }

    fn is_unfinished(&self) -> bool {
        let pulled = self.world.project().run(&["state", "pull"]);
        serde_json::from_str::<Value>(&pulled.out).is_ok_and(|state| !state["operation"].is_null())
    }

    fn round(&mut self) {
        let target = self.next_target();
        self.world.declare(target);
        // Most kills hit the operation, some what comes before it: planning, the lock, the state's beginning.
        let in_operation = self.random.u32(..8) != 0;
        let killed = self.cut(target, in_operation);
        let unfinished = self.is_unfinished();
        self.runs += 1;
        if in_operation {
            // In balance some three of four kills come before the end, wherever `within` began.
            let within = self.within.mul_f64(if unfinished { 1.15 } else { 0.7 });
            self.within = within.clamp(WITHIN_MIN, WITHIN_MAX);
        }
        if killed.is_some() {
            if unfinished { self.cuts += 1 } else { self.early += 1 }
        }
        let context = format!(
            "run {}: {:?} -> {target:?}, killed: {}, unfinished: {unfinished}; it had said\n{}",
            self.runs,
            self.at,
            killed.is_some(),
            killed.as_ref().map_or("", |run| &run.err)
        );
        let again = self.world.project().run(&target.command());
        assert!(again.code == Some(0), "{context}\n{again}");
        self.check(target, false, &context);
        self.at = target;
    }

    fn check(&self, target: Target, swept: bool, context: &str) {
        let cluster = self.world.cluster();
        let found = self.world.outside().map(|engine| engine.addresses(cluster)).unwrap_or_default();
        assert_eq!(found, target.addresses(cluster), "{context}");
        // Registries and mirrors share one image, which a cluster holds once or not at all.
        let owners = self.world.outside().map(|engine| engine.owner_tags(cluster)).unwrap_or_default();
        assert_eq!(owners.len(), usize::from(target != Target::Nothing), "{owners:?}\n{context}");
        if target == Target::Nothing {
            let listed = self.world.project().run(&["state", "list"]);
            assert_eq!(listed.out, "", "{context}\n{listed}");
            assert_eq!(self.world.leftovers(swept), None, "{context}");
        } else {
            let plan = self.world.project().run(&["plan", "--detailed-exitcode"]);
            assert!(plan.code == Some(0), "{context}\n{plan}");
        }
    }

    fn rage(mut self, wanted: u32) {
        let began = Instant::now();
        while self.cuts < wanted {
            assert!(self.runs < wanted * RUNS_PER_KILL, "only {} of {} runs were cut", self.cuts, self.runs);
            let _ports = ChosenPorts::lock();
            self.round();
        }
        let _ports = ChosenPorts::lock();
        for target in [Target::Two, Target::Nothing] {
            self.world.declare(target);
            self.world.project().run(&target.command()).code(0);
            self.check(target, true, "the end, without kills");
        }
        ksail_test_real::tell(&format!(
            "{}: {} real cuts in the middle of an operation, {} before or after one, {} runs, {} s",
            std::thread::current().name().unwrap_or("kills"),
            self.cuts,
            self.early,
            self.runs,
            began.elapsed().as_secs()
        ));
    }
}

pub(crate) fn wait_for_operation(running: &mut Running) {
    let began = Instant::now();
    while !running.has_said("operation ") && !running.is_over() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_micros(300));
    }
}

pub(crate) fn seed() -> fastrand::Rng {
    let seed =
        std::env::var("KSAIL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("KSAIL_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

pub(crate) fn kills(default: u32) -> u32 {
    std::env::var("KSAIL_TEST_KILLS").ok().and_then(|count| count.parse().ok()).map_or(default, |count: u32| {
        // Other storms get their share.
        if default == KILLS { count } else { (count * default).div_ceil(KILLS) }
    })
}

struct Embedded(Project);

impl World for Embedded {
    fn project(&self) -> &Project {
        &self.0
    }

    fn cluster(&self) -> &'static str {
        "dev"
    }

    fn declare(&self, target: Target) {
        let mirrors: Vec<String> = target
            .mirrors()
            .iter()
            .map(|host| match target {
                Target::OtherUpstream => format!("{host}=https://other.example.com"),
                _ => (*host).to_owned(),
            })
            .collect();
        self.0.declare(&mirrors.iter().map(String::as_str).collect::<Vec<_>>(), "");
    }

    fn outside(&self) -> Option<Engine> {
        self.0.engine_folder().exists().then(|| self.0.engine())
    }

    fn kill_engine(&self) {
        for pid in engine_pids(self.0.path()) {
            signal(pid, Signal::KILL);
        }
    }

    fn leftovers(&self, swept: bool) -> Option<String> {
        let pids = self.0.engine_pids();
        if !pids.is_empty() {
            return Some(format!("engines run: {pids:?}"));
        }
        let left: Vec<String> = std::fs::read_dir(self.0.state())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| {
                let is_nameless = name.starts_with(".making") || name.starts_with(".deleted");
                name.starts_with("engine") || (swept && is_nameless)
            })
            .collect();
        (!left.is_empty()).then(|| format!("{left:?} are left"))
    }
}

#[test]
fn kills_on_the_embedded_engine_lose_nothing() {
    let world = Embedded(Project::quickstart());
    let random = seed();
    let storm = Storm {
        world: &world,
        random,
        at: Target::Nothing,
        cuts: 0,
        early: 0,
        runs: 0,
        within: Duration::from_millis(80),
    };
    storm.rage(kills(KILLS));
}

#[test]
fn a_tag_that_a_kill_would_leave_on_an_image_is_seen() {
    let project = Project::applied();
    let engine = project.engine();
    let held = engine.owner_tags("dev");
    assert_eq!(held.len(), 1, "{held:?}");
    let (name, tag) = held[0].rsplit_once(':').expect("a tag");
    let orphan = format!("/images/{}/tag?repo={name}/c&tag={tag}", held[0]);
    let (status, answer) = engine.call("POST", &orphan, &Value::Null);
    assert_eq!(status, 201, "{answer}");
    assert_eq!(engine.owner_tags("dev").len(), 2);
    assert!(engine.owner_tags("de").is_empty() && engine.owner_tags("image").is_empty());
}

struct Docker {
    project: Project,
    cluster: String,
    engine: Engine,
    upstream: String,
}

impl World for Docker {
    fn project(&self) -> &Project {
        &self.project
    }

    fn cluster(&self) -> &str {
        &self.cluster
    }

    fn declare(&self, target: Target) {
        let path = if target == Target::OtherUpstream { "/other" } else { "" };
        let mirrors: Vec<String> =
            target.mirrors().iter().map(|host| format!("{host}={}{path}", self.upstream)).collect();
        self.project.declare(&mirrors.iter().map(String::as_str).collect::<Vec<_>>(), "");
        let file = self.project.read("ksail.yaml");
        let file = file
            .replace("provider: Embedded", "provider: Docker")
            .replace("name: dev", &format!("name: {}", self.cluster));
        self.project.write("ksail.yaml", &file);
    }

    fn outside(&self) -> Option<Engine> {
        Some(self.engine.clone())
    }
}

#[test]
fn kills_on_a_docker_engine_lose_nothing() {
    let Some(socket) = docker_socket() else { return };
    let engine = Engine::at(&socket);
    let mut project = Project::empty(free_port());
    project.set_env("DOCKER_HOST", &format!("unix://{}", socket.display()));
    let upstream = crate::docker::upstream(&engine);
    let cluster = format!("kill{:08x}", fastrand::u32(..));
    let world = Docker { project, cluster, engine, upstream };
    let random = seed();
    let storm = Storm {
        world: &world,
        random,
        at: Target::Nothing,
        cuts: 0,
        early: 0,
        runs: 0,
        within: Duration::from_millis(1500),
    };
    storm.rage(kills(DOCKER_KILLS));
}
