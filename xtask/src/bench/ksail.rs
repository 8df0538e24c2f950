//! Commands of the binary itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::measure::{Error, child};
use super::results::{Results, median};
use super::targets::COMMANDS_MS;

/// How often a command is measured.
const REPETITIONS: usize = 20;

/// Measures `ksail version`, and `ksail plan` of the quickstart after its apply. What is not built or not there is
/// noted as skipped.
pub(crate) fn measure(root: &Path, target: &Path, work: &Path, results: &mut Results) -> Result<(), Error> {
    let program = target.join("release").join(format!("ksail{}", std::env::consts::EXE_SUFFIX));
    let [(version, _), (plan, _)] = COMMANDS_MS;
    if !program.exists() {
        results.skipped.push("the commands: build the binary first, with `cargo build --release`".to_owned());
        return Ok(());
    }
    fs::create_dir_all(work).map_err(|source| Error::io("make", work, source))?;
    results.commands_ms.insert(version.to_owned(), repeated(work, || run(&program, work, &["version"]))?);
    let quickstart = root.join("examples/quickstart");
    if !quickstart.exists() {
        results.skipped.push("the quickstart: examples/quickstart is not there".to_owned());
        return Ok(());
    }
    let project = work.join("quickstart");
    copy(&quickstart, &project)?;
    child(&mut run(&program, &project, &["apply", "--auto-approve"]), work)?;
    // Without changes the code is 0; any other is an error here.
    let took = repeated(work, || run(&program, &project, &["plan", "--detailed-exitcode"]));
    // What was started must not stay, whatever came out.
    child(&mut run(&program, &project, &["destroy", "--auto-approve"]), work)?;
    results.commands_ms.insert(plan.to_owned(), took?);
    Ok(())
}

fn run(program: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments);
    command
}

fn repeated(work: &Path, command: impl Fn() -> Command) -> Result<f64, Error> {
    let mut times = Vec::with_capacity(REPETITIONS);
    for _ in 0..REPETITIONS {
        times.push(child(&mut command(), work)?.wall_ms);
    }
    Ok(median(times).unwrap_or_default())
}

/// Copies a project without its state.
fn copy(from: &Path, to: &PathBuf) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(|source| Error::io("make", to, source))?;
    let read = |source| Error::io("read", from, source);
    for entry in fs::read_dir(from).map_err(read)? {
        let entry = entry.map_err(read)?;
        let (path, name) = (entry.path(), entry.file_name());
        if name == ".ksail" {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name)).map_err(|source| Error::io("copy", &path, source))?;
        }
    }
    Ok(())
}
