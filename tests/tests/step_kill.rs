//! A process of the same library dies at every single step of an apply and of a destroy; one more apply converges.

use std::path::Path;
use std::process::{Command, Output};

use ksail_test_real::tell;
use tempfile::TempDir;

/// More steps than any of these applies has.
const MOST_STEPS: u64 = 2000;

fn run(folder: &Path, goal: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_step-kill")).arg(folder).arg(goal).args(more).output().unwrap()
}

#[track_caller]
fn converges(folder: &Path, goal: &str, more: &[&str], what: &str) {
    let output = run(folder, goal, more);
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder in memory where the machine has such: a process that dies loses nothing that it wrote, synced or not, and
/// syncs would be most of the time.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

/// Kills at step after step, until a run ends without dying. Answers how often it died.
fn cuts(before: &[&str], goal: &str, same_plan: bool) -> u64 {
    for step in 1..=MOST_STEPS {
        let folder = folder();
        for goal in before {
            converges(folder.path(), goal, &[], "what comes before");
        }
        let output = run(folder.path(), goal, &[&step.to_string()]);
        let what = format!("{goal}, killed at step {step}");
        if output.status.code().is_some() {
            assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
            return step - 1;
        }
        if same_plan && folder.path().join(format!("{goal}.plan")).exists() {
            resumes(folder.path(), goal, &what);
        } else {
            converges(folder.path(), goal, &[], &what);
        }
    }
    panic!("{goal} does not come to its end within {MOST_STEPS} steps");
}

/// The retry of a pipeline is the same command with the same plan. After its seal it is told that it was used.
fn resumes(folder: &Path, goal: &str, what: &str) {
    let output = run(folder, goal, &[&u64::MAX.to_string(), "resume"]);
    let error = String::from_utf8_lossy(&output.stderr);
    let used = error.contains("was applied by operation");
    assert!(output.status.success() || used, "{what}: {error}");
    converges(folder, goal, &[], what);
}

#[test]
fn the_first_apply() {
    tell(&format!("first apply: {} real cuts", cuts(&[], "first", false)));
}

#[test]
fn a_change_with_replacements_and_a_move() {
    tell(&format!("change: {} real cuts", cuts(&["first"], "changed", false)));
}

#[test]
fn the_same_plan_again() {
    tell(&format!("change, resumed: {} real cuts", cuts(&["first"], "changed", true)));
}

#[test]
fn a_destroy() {
    tell(&format!("destroy: {} real cuts", cuts(&["first"], "destroy", false)));
}
