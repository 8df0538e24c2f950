//! Where kubeconfigs are, as kubectl looks for them.

use std::path::{Path, PathBuf};

/// The file of a user who says nothing else.
const DEFAULT: &str = "~/.kube/config";

/// What paths are relative to, and which files kubectl would read.
#[derive(Debug, Clone)]
pub struct Places {
    /// The user's home folder, if it is known.
    pub home: Option<PathBuf>,
    /// What relative paths are relative to.
    pub project: PathBuf,
    /// The value of `KUBECONFIG`, if it is set.
    pub kubeconfig: Option<String>,
    /// A file that the configuration names, beside those.
    pub named: Option<String>,
}

impl Places {
    /// A path as it is written in a spec: below the home folder, absolute, or relative to the project's folder.
    ///
    /// # Errors
    /// If it is below a home folder that is not known.
    pub(crate) fn path(&self, written: &str) -> Result<PathBuf, String> {
        match (written.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => Ok(home.join(rest)),
            (Some(_), None) => Err(format!("HOME is not set, and {written} is below it")),
            (None, _) => Ok(self.project.join(written)),
        }
    }

    /// The files that kubectl reads together, as they are written in a spec.
    pub(crate) fn together(&self) -> Vec<String> {
        let listed = listed(self.kubeconfig.as_deref());
        match listed.is_empty() {
            true => vec![DEFAULT.to_owned()],
            false => listed.iter().map(|path| self.written(path)).collect(),
        }
    }

    /// All files that entries of ours may be in.
    pub(crate) fn all(&self) -> Vec<String> {
        let mut all = self.together();
        all.extend(self.named.clone());
        all.push(DEFAULT.to_owned());
        let mut seen: Vec<String> = Vec::new();
        all.retain(|file| {
            !seen.contains(file) && {
                seen.push(file.clone());
                true
            }
        });
        // Without a home folder nothing is below it.
        all.retain(|file| self.path(file).is_ok());
        all
    }

    fn written(&self, path: &Path) -> String {
        written(path, self.home.as_deref())
    }
}

/// The files of `KUBECONFIG`, each once.
fn listed(kubeconfig: Option<&str>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in std::env::split_paths(kubeconfig.unwrap_or_default()) {
        if !path.as_os_str().is_empty() && !files.contains(&path) {
            files.push(path);
        }
    }
    files
}

/// A path as it stands in a spec: what is below the home folder is the same for each user of a state.
fn written(path: &Path, home: Option<&Path>) -> String {
    match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

/// The file that kubectl writes new entries to: of those in `KUBECONFIG` the first that exists, or else the last; without it
/// `~/.kube/config`. A relative path is relative to the folder that the process runs in, `here`.
pub fn default_file(kubeconfig: Option<&str>, home: Option<&Path>, here: &Path) -> String {
    let files = listed(kubeconfig);
    let found = files.iter().find(|path| here.join(path).exists()).or(files.last());
    found.map_or_else(|| DEFAULT.to_owned(), |path| written(&here.join(path), home))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_entries_go_where_kubectl_would_put_them() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        std::fs::write(home.join("b"), "").unwrap();
        let check = |kubeconfig: &str, wanted: &str| {
            let listed = kubeconfig.replace('@', home.to_str().unwrap());
            assert_eq!(default_file(Some(&listed), Some(home), Path::new("/")), wanted, "{kubeconfig}");
        };
        check("", "~/.kube/config");
        check(":", "~/.kube/config");
        check("@/a", "~/a");
        check("@/a:@/b:@/c", "~/b");
        check("@/a::@/c", "~/c");
        check("/elsewhere/a", "/elsewhere/a");
        assert_eq!(default_file(None, None, Path::new("/")), "~/.kube/config");
        assert_eq!(default_file(Some("x"), Some(home), home), "~/x");
    }
}
