//! The commit that the sources are at, for plans and operations.

use std::fs;
use std::path::{Path, PathBuf};

/// The commit that the folder's repository is at, read from its files; `None` outside of one or where it cannot be told.
/// Uncommitted changes are not looked for.
pub(crate) fn commit_of(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let git = folder.ancestors().map(|folder| folder.join(".git")).find(|git| git.exists())?;
    let git = if git.is_file() { linked(&git)? } else { git };
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    match head.trim().strip_prefix("ref: ") {
        None => is_id(head.trim()),
        Some(name) => {
            let common = fs::read_to_string(git.join("commondir")).ok().map(|path| git.join(path.trim()));
            let common = common.unwrap_or(git);
            fs::read_to_string(common.join(name)).ok().and_then(|id| is_id(id.trim())).or_else(|| packed(&common, name))
        }
    }
}

/// A worktree's `.git` is a file that names the real folder.
fn linked(file: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(file).ok()?;
    Some(file.parent()?.join(text.trim().strip_prefix("gitdir: ")?))
}

fn packed(git: &Path, name: &str) -> Option<String> {
    let refs = fs::read_to_string(git.join("packed-refs")).ok()?;
    refs.lines().find_map(|line| {
        let (id, reference) = line.split_once(' ')?;
        if reference == name { is_id(id) } else { None }
    })
}

fn is_id(text: &str) -> Option<String> {
    (text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_owned())
}
