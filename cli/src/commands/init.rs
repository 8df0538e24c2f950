//! `ksail init`: writes a project.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use clap::{Args, ValueEnum};
use ksail::{Diagnostic, Error, Exit, InitOptions, Platform, SourceFile, codes, init_files};
use ksail_compiler::format::Provider;
use ksail_compiler::{gitignore_lines, name_from_folder};
use serde_json::json;

use super::Outcome;
use crate::args::Global;
use crate::report::Failure;
use crate::{report, terminal};

/// Where it runs.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Where {
    /// The engine that ksail brings along
    Embedded,
    /// A Docker Engine
    Docker,
}

/// Write a project that validates; never over a file without --force
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  ksail init
  ksail init --provider docker --name dev
  ksail init -C my-platform")]
pub(crate) struct Arguments {
    /// The cluster's name; the folder's, if it is not given
    #[arg(long)]
    name: Option<String>,
    /// Where it runs
    #[arg(long, value_enum, ignore_case = true, default_value = "embedded")]
    provider: Where,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let mut options = options(global, arguments.name.as_deref());
    options.provider = match arguments.provider {
        Where::Embedded => Provider::Embedded,
        Where::Docker => Provider::Docker,
    };
    write(global, &options, arguments.force)
}

/// A new project of this name, or of the folder's.
pub(super) fn options(global: &Global, name: Option<&str>) -> InitOptions {
    let name = name.map(str::to_owned).unwrap_or_else(|| {
        let whole = global.chdir.canonicalize().unwrap_or_else(|_| global.chdir.clone());
        name_from_folder(&whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
    });
    InitOptions { name, ..InitOptions::default() }
}

/// Writes the project, if it validates.
pub(super) fn write(global: &Global, options: &InitOptions, force: bool) -> Outcome {
    let folder = &global.chdir;
    let io = |doing: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| Failure::from(Error::Io { doing, path, source })
    };
    let files = init_files(options);
    let there: Vec<String> =
        files.iter().map(|(path, _)| path.clone()).filter(|path| folder.join(path).exists()).collect();
    if !there.is_empty() && !force {
        let message = format!("{} is there already", there.join(", "));
        return Err(Error::new(codes::USAGE, message, "--force writes over it; -C names another folder").into());
    }
    for (name, text) in &files {
        let file = SourceFile { name: name.clone(), text: text.clone() };
        let (found, texts) = Platform::judge_new(&global.settings(), file);
        if found.iter().any(Diagnostic::is_error) {
            return Err(Failure::from(Error::Diagnostics(found)).with_texts(&texts));
        }
        if !global.quiet {
            report::diagnostics(global, &found, &texts);
        }
    }
    fs::create_dir_all(folder).map_err(io("make", folder))?;
    let mut written = Vec::new();
    for (path, text) in &files {
        let path = folder.join(path);
        fs::write(&path, text).map_err(io("write", &path))?;
        say(global, &format!("wrote {}", path.display()));
        written.push(path.display().to_string());
    }
    let ignored = ignore_state(&folder.join(".gitignore")).map_err(io("write", &folder.join(".gitignore")))?;
    if ignored {
        say(global, &format!("{} now ignores .ksail/, where the state is kept", folder.join(".gitignore").display()));
        written.push(folder.join(".gitignore").display().to_string());
    }
    if global.is_json() {
        terminal::print_json(&json!({ "name": options.name, "wrote": written }));
    }
    say(global, "next: `ksail plan`, then `ksail apply`");
    Ok(Exit::Done)
}

fn say(global: &Global, text: &str) {
    if !global.quiet && !global.is_json() {
        terminal::note(text);
    }
}

/// Adds the lines that keep the state out of the repository, where they are missing. Answers whether something was added.
fn ignore_state(path: &Path) -> std::io::Result<bool> {
    let present = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let missing: Vec<_> =
        gitignore_lines().iter().filter(|line| !present.lines().any(|have| have.trim() == line.trim())).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path)?;
    if !present.is_empty() && !present.ends_with('\n') {
        file.write_all(b"\n")?;
    }
    for line in missing {
        writeln!(file, "{line}")?;
    }
    Ok(true)
}
