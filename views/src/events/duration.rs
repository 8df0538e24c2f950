//! Durations for people.

/// A duration, as short as it says enough: `0.4s`, `12s`, `2m05s`, `1h02m`.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A duration that nobody measured: whole seconds, at least one.
pub(super) fn about(ms: u64) -> String {
    let seconds = ms.div_ceil(1000).max(1);
    if seconds < 60 { format!("{seconds}s") } else { duration(seconds.saturating_mul(1000)) }
}

/// Shorter estimates, in milliseconds, are not told: the step is over before they are read.
const SHORTEST_TOLD: u64 = 1000;

/// An estimate that is worth telling.
pub(super) fn estimate(ms: u64) -> Option<String> {
    (ms >= SHORTEST_TOLD).then(|| format!("est. {}", about(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let texts = [0, 449, 9_999, 10_000, 125_000, 3_725_000].map(duration);
        assert_eq!(texts, ["0.0s", "0.4s", "9.9s", "10s", "2m05s", "1h02m"]);
        assert_eq!([0, 999, 1000, 1001].map(estimate), [None, None, Some("est. 1s".into()), Some("est. 2s".into())]);
        assert_eq!([0, 1500, 61_000, u64::MAX].map(about)[..3], ["1s", "2s", "1m01s"]);
    }
}
