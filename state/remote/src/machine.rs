//! Whether the holder of a lease is provably dead: only when it ran on this very machine, since its last start, among the
//! processes that we can see.

use serde::{Deserialize, Serialize};

/// A process, as it can be found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The machine's start: another one after every boot.
    boot: String,
    /// The namespace that the process id counts in.
    pid_namespace: String,
    pid: i32,
    /// When it started, in the kernel's ticks since the boot: ids are given out again.
    started: String,
}

/// Where the start time stands in `/proc/<pid>/stat`, counted after the command's closing bracket.
const STARTED_FIELD: usize = 19;

impl Process {
    /// This process; `None` where the system does not tell enough.
    pub(crate) fn this() -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let pid_namespace = std::fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned();
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Some(Self { boot, pid_namespace, pid, started: started(pid)? })
    }

    /// Whether it is dead for certain. Everything doubtful is a no.
    pub(crate) fn is_dead(&self) -> bool {
        let Some(this) = Self::this() else { return false };
        if this.boot != self.boot || this.pid_namespace != self.pid_namespace {
            return false;
        }
        let Some(pid) = rustix::process::Pid::from_raw(self.pid) else { return false };
        match rustix::process::test_kill_process(pid) {
            Err(rustix::io::Errno::SRCH) => true,
            // Somebody has that id: another one if it started at another time. A zombie is dead, too.
            _ => stat(self.pid).is_some_and(|stat| {
                stat.split(' ').next() == Some("Z") || started(self.pid).is_some_and(|now| now != self.started)
            }),
        }
    }
}

/// What `/proc/<pid>/stat` says after the command's name, which may hold anything.
fn stat(pid: i32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ").map(|(_, rest)| rest.to_owned())
}

fn started(pid: i32) -> Option<String> {
    stat(pid)?.split(' ').nth(STARTED_FIELD).map(str::to_owned)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_certainly_dead_are_dead() {
        let this = Process::this().unwrap();
        assert!(!this.is_dead());
        assert!(Process { started: "1".into(), ..this.clone() }.is_dead());
        assert!(!Process { boot: "another".into(), started: "1".into(), ..this.clone() }.is_dead());
        assert!(!Process { pid_namespace: "pid:[1]".into(), started: "1".into(), ..this.clone() }.is_dead());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert!(Process { pid, ..this }.is_dead());
    }
}
