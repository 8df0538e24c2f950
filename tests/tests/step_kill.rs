//! A process of the same library dies at every single step of an apply and of a destroy; one more apply converges. The outside
//! is a simulated one in a folder, or objects on a real API server.

use std::path::Path;
use std::process::{Command, Output};

use ksail_test_real::tell;
use tempfile::TempDir;

/// More steps than any of these applies has.
const MOST_STEPS: u64 = 2000;

/// What is applied, and killed.
#[derive(Clone, Copy)]
struct Program {
    path: &'static str,
    /// What it makes outlives the folder.
    leaves: bool,
}

const SIMULATED: Program = Program { path: env!("CARGO_BIN_EXE_step-kill"), leaves: false };
const OBJECTS: Program = Program { path: env!("CARGO_BIN_EXE_step-kill-objects"), leaves: true };

fn run(program: Program, folder: &Path, goal: &str, more: &[&str]) -> Output {
    Command::new(program.path).arg(folder).arg(goal).args(more).output().unwrap()
}

#[track_caller]
fn converges(program: Program, folder: &Path, goal: &str, more: &[&str], what: &str) {
    let output = run(program, folder, goal, more);
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder in memory where the machine has such: a process that dies loses nothing that it wrote, synced or not, and
/// syncs would be most of the time.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

/// Kills at step after step, until a run ends without dying. Answers how often it died.
fn cuts(program: Program, before: &[&str], goal: &str, same_plan: bool) -> u64 {
    for step in 1..=MOST_STEPS {
        let folder = folder();
        for goal in before {
            converges(program, folder.path(), goal, &[], "what comes before");
        }
        let output = run(program, folder.path(), goal, &[&step.to_string()]);
        let what = format!("{goal}, killed at step {step}");
        if output.status.code().is_some() {
            assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
            cleared(program, folder.path());
            return step - 1;
        }
        if same_plan && folder.path().join(format!("{goal}.plan")).exists() {
            resumes(program, folder.path(), goal, &what);
        } else {
            converges(program, folder.path(), goal, &[], &what);
        }
        cleared(program, folder.path());
    }
    panic!("{goal} does not come to its end within {MOST_STEPS} steps");
}

/// Destroys what would stay behind.
fn cleared(program: Program, folder: &Path) {
    if program.leaves {
        converges(program, folder, "destroy", &[], "what comes after");
    }
}

/// The retry of a pipeline is the same command with the same plan. After its seal it is told that it was used.
fn resumes(program: Program, folder: &Path, goal: &str, what: &str) {
    let output = run(program, folder, goal, &[&u64::MAX.to_string(), "resume"]);
    let error = String::from_utf8_lossy(&output.stderr);
    let used = error.contains("was applied by operation");
    assert!(output.status.success() || used, "{what}: {error}");
    converges(program, folder, goal, &[], what);
}

#[test]
fn the_first_apply() {
    tell(&format!("first apply: {} real cuts", cuts(SIMULATED, &[], "first", false)));
}

#[test]
fn a_change_with_replacements_and_a_move() {
    tell(&format!("change: {} real cuts", cuts(SIMULATED, &["first"], "changed", false)));
}

#[test]
fn the_same_plan_again() {
    tell(&format!("change, resumed: {} real cuts", cuts(SIMULATED, &["first"], "changed", true)));
}

#[test]
fn a_destroy() {
    tell(&format!("destroy: {} real cuts", cuts(SIMULATED, &["first"], "destroy", false)));
}

/// Whether there is an API server; the test says so where there is none.
fn is_real() -> bool {
    ksail_test_real::variable("KSAIL_TEST_KUBECONFIG", "testbed/kubernetes.sh up; testbed/kubernetes.sh env").is_some()
}

#[test]
fn the_first_apply_of_objects() {
    if is_real() {
        tell(&format!("first apply of objects: {} real cuts", cuts(OBJECTS, &[], "first", false)));
    }
}

#[test]
fn a_change_of_objects_with_a_replacement() {
    if is_real() {
        tell(&format!("change of objects: {} real cuts", cuts(OBJECTS, &["first"], "changed", false)));
    }
}

#[test]
fn the_same_plan_of_objects_again() {
    if is_real() {
        tell(&format!("change of objects, resumed: {} real cuts", cuts(OBJECTS, &["first"], "changed", true)));
    }
}

#[test]
fn a_destroy_of_objects() {
    if is_real() {
        tell(&format!("destroy of objects: {} real cuts", cuts(OBJECTS, &["first"], "destroy", false)));
    }
}
