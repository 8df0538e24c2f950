//! The files of manifests that an entry of `spec.manifests` means.

use std::fs;
use std::path::{Path, PathBuf};

use ksail_compiler::SourceFile;

/// The largest file of manifests, and how many files one entry may mean.
const LARGEST_FILE_BYTES: u64 = 16 * 1024 * 1024;
const MOST_FILES: usize = 20_000;
/// How manifests end in a folder.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads a file, all manifests of a folder and of what is below it, or the files that fit a pattern. Hidden files and folders
/// are left out of folders.
pub(crate) fn read(project: &Path, entry: &str) -> Result<Vec<SourceFile>, String> {
    let path = project.join(entry);
    let mut found = Vec::new();
    if path.is_dir() {
        walk(&path, &mut found)?;
        if found.is_empty() {
            return Err("the folder holds no .yaml, .yml or .json".to_owned());
        }
    } else if path.is_file() {
        found.push(path);
    } else if entry.contains(['*', '?', '[']) {
        // What leads to the project is no pattern.
        let pattern = Path::new(&glob::Pattern::escape(&project.to_string_lossy())).join(entry);
        for path in glob::glob(&pattern.to_string_lossy()).map_err(|error| error.to_string())? {
            let path = path.map_err(|error| error.to_string())?;
            if path.is_file() {
                found.push(path);
            }
        }
        if found.is_empty() {
            return Err("no file fits the pattern".to_owned());
        }
    } else {
        return Err("there is no such file or folder".to_owned());
    }
    if found.len() > MOST_FILES {
        return Err(format!("it means {} files; at most {MOST_FILES} are read", found.len()));
    }
    found.sort();
    found.into_iter().map(|path| text(project, &path)).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // A link to a folder could lead in a circle.
        if entry.file_type().map_err(failed)?.is_dir() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) && path.is_file()
        {
            found.push(path);
        }
        if found.len() > MOST_FILES {
            break;
        }
    }
    Ok(())
}

fn text(project: &Path, path: &Path) -> Result<SourceFile, String> {
    let named = path.strip_prefix(project).unwrap_or(path).display().to_string();
    let failed = |error: std::io::Error| format!("{named}: {error}");
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > LARGEST_FILE_BYTES {
        return Err(format!("{named} has {size} bytes; at most {LARGEST_FILE_BYTES} are read"));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    Ok(SourceFile { name: named, text })
}
