//! What clusters need of the machine that an engine runs on: how it keeps processes apart, how much there is, and its limits.

use std::path::PathBuf;

use ksail_provider::CallError;

use crate::call::Call;
use crate::ipv6::{self, Ipv6};
use crate::podman;

/// The machine that an engine runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Where the engine answers.
    pub place: String,
    /// The engine's name and version.
    pub engine: String,
    /// Whether it is Podman.
    pub is_podman: bool,
    /// The operating system, as the engine names it.
    pub system: String,
    /// Which version of cgroups it has, if the engine tells.
    pub cgroup_version: Option<u8>,
    /// Whether the engine runs without root.
    pub is_rootless: bool,
    /// What of a container the engine cannot limit (`memory`, `cpu`, `pids`).
    pub unlimited: Vec<&'static str>,
    /// How many processors there are.
    pub processors: u64,
    /// How many bytes of memory there are.
    pub memory: u64,
    /// Where the engine keeps what it has.
    pub folder: PathBuf,
    /// What the engine itself warns of.
    pub warnings: Vec<String>,
    /// What only the machine itself can tell; `None` where the engine is on another one, or in a virtual machine.
    pub own: Option<OwnFacts>,
}

/// What a machine tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFacts {
    /// How many inotify instances one user may have.
    pub inotify_instances: Option<u64>,
    /// How many files one user may watch by inotify.
    pub inotify_watches: Option<u64>,
    /// How it stands to IPv6.
    pub ipv6: Option<Ipv6>,
    /// The first port that a user without root may listen on.
    pub first_port: Option<u16>,
    /// Bytes free in the engine's folder.
    pub disk_free: Option<u64>,
}

pub(crate) async fn facts(call: &Call) -> Result<HostFacts, CallError> {
    let info = call.list("tell of the engine", || call.session.docker.info()).await?;
    let folder = PathBuf::from(info.docker_root_dir.unwrap_or_default());
    let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
    let is_here = call.session.local && is_this(info.kernel_version.as_deref(), info.name.as_deref());
    let security = info.security_options.unwrap_or_default();
    Ok(HostFacts {
        place: call.place().to_owned(),
        engine: format!("{} {}", podman::name(call.session.is_podman), info.server_version.unwrap_or_default()),
        is_podman: call.session.is_podman,
        system: info.operating_system.unwrap_or_default(),
        cgroup_version: info.cgroup_version.and_then(|version| version.to_string().parse().ok()),
        is_rootless: security.iter().any(|option| option.contains("rootless")),
        unlimited: [("memory", info.memory_limit), ("cpu", info.cpu_cfs_quota), ("pids", info.pids_limit)]
            .into_iter()
            .filter(|(_, limits)| *limits == Some(false))
            .map(|(name, _)| name)
            .collect(),
        processors: number(info.ncpu),
        memory: number(info.mem_total),
        warnings: info.warnings.unwrap_or_default(),
        own: is_here.then(|| own(&folder)),
        folder,
    })
}

/// Whether a machine is the one that this runs on: a virtual machine has another kernel, or another name.
fn is_this(kernel: Option<&str>, name: Option<&str>) -> bool {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let is = |path: &str, told: Option<&str>| read(path).is_some_and(|text| Some(text.trim()) == told);
    is("/proc/sys/kernel/osrelease", kernel) && is("/proc/sys/kernel/hostname", name)
}

fn own(folder: &std::path::Path) -> OwnFacts {
    let limit = |name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
        text.trim().parse().ok()
    };
    OwnFacts {
        inotify_instances: limit("fs/inotify/max_user_instances"),
        inotify_watches: limit("fs/inotify/max_user_watches"),
        ipv6: ipv6::here(),
        first_port: limit("net/ipv4/ip_unprivileged_port_start").and_then(|port| u16::try_from(port).ok()),
        disk_free: disk_free(folder),
    }
}

#[cfg(unix)]
fn disk_free(folder: &std::path::Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn disk_free(_: &std::path::Path) -> Option<u64> {
    None
}
