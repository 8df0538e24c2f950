//! What the caller chooses.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

/// The version of ksail.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Looks an environment variable up.
pub(crate) type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What the caller chooses. The facade reads no environment of its own.
#[derive(Clone)]
pub struct Settings {
    /// The project's folder (`-C`).
    pub project: PathBuf,
    /// The configuration (`-f`), relative to the project; `ksail.yaml` if it is not given.
    pub file: Option<PathBuf>,
    /// The environment (`--environment`).
    pub environment: Option<String>,
    /// Arguments of `--set`.
    pub set: Vec<String>,
    /// The state's place, over what the file says (`--state`, `KSAIL_STATE`).
    pub state: Option<String>,
    /// The bundle that all images are to be taken from (`--bundle`), relative to the project.
    pub bundle: Option<PathBuf>,
    /// Environment variables.
    pub env: Environment,
    /// The binary that runs the embedded engine.
    pub program: PathBuf,
}

impl Settings {
    /// The home folder.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        (self.env)("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
    }

    /// A path as it stands in a spec, for who asks: below the home folder (`~/…`), absolute, or relative to the project's folder.
    pub(crate) fn path(&self, written: &str) -> PathBuf {
        let path = match (written.strip_prefix("~/"), self.home()) {
            (Some(below), Some(home)) => home.join(below),
            _ => self.project.join(written),
        };
        std::path::absolute(&path).unwrap_or(path)
    }

    /// The folder for the user's own configuration.
    pub(crate) fn config_folder(&self) -> Option<PathBuf> {
        (self.env)("XDG_CONFIG_HOME")
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from)
            .or_else(|| self.home().map(|home| home.join(".config")))
    }

    /// `user@host`.
    pub(crate) fn who(&self) -> String {
        let user = ["USER", "LOGNAME"].iter().find_map(|name| (self.env)(name)).filter(|user| !user.is_empty());
        let user = user.or_else(user_in_passwd).unwrap_or_else(|| format!("uid{}", rustix::process::getuid().as_raw()));
        format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
    }
}

/// The user's name where the environment does not tell it (in containers and services).
fn user_in_passwd() -> Option<String> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(uid.as_str())).then(|| name.to_owned())
    })
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// A new id that sorts by time.
pub(crate) fn new_id() -> String {
    Uuid::now_v7().simple().to_string()
}
