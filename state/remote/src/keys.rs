//! Keys of the objects of one stack. All that a reader needs lies below `log/`, so that one list shows it.

/// What belongs to the log: snapshots, segments, packs, and the mark that the state was moved.
pub(crate) const LOG: &str = "log/";
/// Sealed operations.
pub(crate) const HISTORY: &str = "history/";
/// The lease.
pub(crate) const LEASE: &str = "lease";
/// The vault, as it is sealed.
pub(crate) const VAULT: &str = "vault.age";
/// The mark that the state was moved. It sorts after all numbers.
pub(crate) const MOVED: &str = "log/moved";

/// Digits of a segment's number, so that keys sort by it.
const NUMBER_DIGITS: usize = 20;
/// Digits of a serial.
const SERIAL_DIGITS: usize = 10;

/// What a key of the log stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogKey {
    /// All segments before this number, as a state.
    Snapshot(u64),
    /// One segment.
    Segment(u64),
    /// The segments from one number up to, and without, another.
    Pack(u64, u64),
    /// The state was moved.
    Moved,
}

impl LogKey {
    pub(crate) fn parse(key: &str) -> Option<Self> {
        if key == MOVED {
            return Some(Self::Moved);
        }
        let (number, sort) = key.strip_prefix(LOG)?.split_once('-')?;
        let number = number.parse().ok()?;
        match sort {
            "segment" => Some(Self::Segment(number)),
            "snapshot" => Some(Self::Snapshot(number)),
            other => Some(Self::Pack(number, other.strip_prefix("pack-")?.parse().ok()?)),
        }
    }
}

pub(crate) fn segment(number: u64) -> String {
    format!("{LOG}{number:0NUMBER_DIGITS$}-segment")
}

pub(crate) fn snapshot(number: u64) -> String {
    format!("{LOG}{number:0NUMBER_DIGITS$}-snapshot")
}

pub(crate) fn pack(from: u64, to: u64) -> String {
    format!("{LOG}{from:0NUMBER_DIGITS$}-pack-{to:0NUMBER_DIGITS$}")
}

/// The key of a sealed operation. Ids are made of letters, digits and `-`; nothing else reaches a key.
pub(crate) fn operation(serial: u64, id: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let id: String = id.chars().map(safe).collect();
    format!("{HISTORY}{serial:0SERIAL_DIGITS$}-{id}")
}

/// What comes before all operations of this serial.
pub(crate) fn before_serial(serial: u64) -> String {
    format!("{HISTORY}{serial:0SERIAL_DIGITS$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written_and_sort_by_number() {
        assert_eq!(LogKey::parse(&segment(7)), Some(LogKey::Segment(7)));
        assert_eq!(LogKey::parse(&snapshot(u64::MAX)), Some(LogKey::Snapshot(u64::MAX)));
        assert_eq!(LogKey::parse(&pack(3, 40)), Some(LogKey::Pack(3, 40)));
        assert_eq!(LogKey::parse(MOVED), Some(LogKey::Moved));
        assert_eq!(LogKey::parse("log/x-segment"), None);
        assert!(segment(9) < segment(10) && segment(10) < snapshot(10) && snapshot(u64::MAX).as_str() < MOVED);
    }

    #[test]
    fn an_operations_key_holds_nothing_strange() {
        assert_eq!(operation(12, "../a b"), "history/0000000012-___a_b");
    }
}
