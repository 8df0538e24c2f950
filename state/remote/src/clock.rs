//! Two clocks: one that only goes forward, also while the machine sleeps, for leases; and the time of day, for people and
//! deadlines.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time of day in milliseconds since the epoch. It may be wrong, and wrong by another amount on another machine.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's time of day.
pub(crate) fn system_clock() -> WallClock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// The time since this machine started, its sleep included: a lease must not look fresh after a laptop was closed.
#[cfg(target_os = "linux")]
pub(crate) fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The time since this process first asked. The machine's sleep may be left out.
#[cfg(not(target_os = "linux"))]
pub(crate) fn uptime() -> Duration {
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(std::time::Instant::now).elapsed()
}
