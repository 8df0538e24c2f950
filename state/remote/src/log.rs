//! The log as it is stored: the newest snapshot, and the segments and packs after it without a gap.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use ksail_records::{Entry, SealedOperation, Snapshot, State, StateError};
use tokio::time::sleep;

use crate::codec::{Header, Kind, Object};
use crate::keys::{LOG, LogKey, MOVED};
use crate::remote::Remote;
use crate::store::{Listed, Version};

/// Objects that are fetched at once.
const FETCHES: usize = 16;
/// How often the list is read again because a writer replaced what was in it.
const READ_TRIES: u32 = 20;
/// The pause between two such tries.
const READ_PAUSE: std::time::Duration = std::time::Duration::from_millis(25);
/// Clocks that differ by less are taken for equal, in milliseconds.
const SAME_CLOCK_MS: i64 = 5_000;
/// What is added to a deadline that is carried over to another clock, because clocks are known to about a second.
const CLOCK_MARGIN_MS: u64 = 2_000;

/// An object after the snapshot.
#[derive(Clone)]
pub(crate) struct Tail {
    pub(crate) key: String,
    /// Its first segment, and the first after it.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Its segments, as they were stored; a loose one is itself.
    pub(crate) segments: Vec<Bytes>,
    /// Whether it is a fence, which stays.
    pub(crate) is_fence: bool,
}

/// What was read.
pub(crate) struct Log {
    pub(crate) state: State,
    pub(crate) sealed: Vec<SealedOperation>,
    /// The entries after the snapshot, the first of which has the sequence number `first`.
    pub(crate) first: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) next_segment: u64,
    pub(crate) tail: Vec<Tail>,
    pub(crate) snapshot_segment: u64,
    pub(crate) snapshot_raw: u64,
    pub(crate) tail_raw: u64,
    /// Keys that are not needed any more: snapshots and packs that newer ones have taken in.
    pub(crate) old: Vec<String>,
    /// Keys of loose segments that are not needed for what they hold. They are fences, or what a deletion that was cut
    /// short left.
    pub(crate) fences: Vec<String>,
}

/// What the list shows.
struct Chosen {
    snapshot: Option<(u64, Listed)>,
    tail: Vec<(u64, u64, Listed)>,
    old: Vec<String>,
    fences: Vec<String>,
    /// Objects after a gap: a writer is at work, or something is missing.
    apart: Option<u64>,
}

fn choose(listed: Vec<Listed>) -> Chosen {
    let mut snapshot: Option<(u64, Listed)> = None;
    let mut segments: BTreeMap<u64, Listed> = BTreeMap::new();
    let mut packs: BTreeMap<u64, (u64, Listed)> = BTreeMap::new();
    let mut old = Vec::new();
    for object in listed {
        match LogKey::parse(&object.key) {
            Some(LogKey::Snapshot(number)) => {
                // They come in order, so that each is newer than the one before.
                old.extend(snapshot.replace((number, object)).map(|(_, older)| older.key));
            }
            Some(LogKey::Segment(number)) => drop(segments.insert(number, object)),
            Some(LogKey::Pack(from, to)) => {
                // The largest comes last.
                old.extend(packs.insert(from, (to, object)).map(|(_, smaller)| smaller.key));
            }
            Some(LogKey::Moved) | None => {}
        }
    }
    let mut next = snapshot.as_ref().map_or(1, |(number, _)| *number);
    let mut tail = Vec::new();
    loop {
        if let Some((to, pack)) = packs.remove(&next).filter(|(to, _)| *to > next) {
            tail.push((next, to, pack));
            next = to;
        } else if let Some(segment) = segments.remove(&next) {
            tail.push((next, next + 1, segment));
            next += 1;
        } else {
            break;
        }
    }
    let apart = segments.keys().chain(packs.keys()).copied().find(|number| *number >= next);
    let fences = segments.into_iter().filter(|(number, _)| *number < next).map(|(_, object)| object.key).collect();
    old.extend(packs.into_iter().filter(|(number, _)| *number < next).map(|(_, (_, object))| object.key));
    Chosen { snapshot, tail, old, fences, apart }
}

/// Reads the log; `None` if there is none. Its objects may be known already, from a list that is not older than the last write.
pub(crate) async fn read(remote: &Remote, mut known: Option<Vec<Listed>>) -> Result<Option<Log>, StateError> {
    let mut missing = None;
    for _ in 0..READ_TRIES {
        let listed = match known.take() {
            Some(listed) => listed,
            None => remote.list(LOG, None).await?,
        };
        if listed.iter().any(|object| object.key == MOVED) {
            return Err(moved(remote).await?);
        }
        let chosen = choose(listed);
        let Some((number, snapshot)) = chosen.snapshot.clone() else {
            match chosen.tail.first().map(|(from, ..)| *from).or(chosen.apart) {
                None => return Ok(None),
                Some(segment) => missing = Some(format!("there is a segment {segment} and no snapshot")),
            }
            sleep(READ_PAUSE).await;
            continue;
        };
        if let Some(apart) = chosen.apart {
            let next = chosen.tail.last().map_or(number, |(_, to, _)| *to);
            missing = Some(format!("segment {next} is missing before segment {apart}"));
            sleep(READ_PAUSE).await;
            continue;
        }
        match fetch(remote, &snapshot, &chosen).await? {
            Some(objects) => {
                let wanted = chosen.tail.iter().map(|(_, _, object)| object).chain([&snapshot]);
                remote.cache.keep(wanted.map(|object| (object.key.as_str(), &object.version)));
                return replay(remote, number, &snapshot, objects, chosen).map(Some);
            }
            // A checkpoint or a pack came in between: the next list shows it.
            None => missing = Some("an object is gone while it is in the list".to_owned()),
        }
        sleep(READ_PAUSE).await;
    }
    Err(StateError::Damaged { place: remote.place_of(LOG), why: missing.unwrap_or_default() })
}

/// The error for a state that was moved.
async fn moved(remote: &Remote) -> Result<StateError, StateError> {
    let to = remote.get(MOVED).await?.map(|(bytes, _)| String::from_utf8_lossy(&bytes).trim().to_owned());
    let to = to.unwrap_or_default();
    // The first line is for us, the rest makes the bytes their writer's own.
    let to = to.lines().next().unwrap_or_default().to_owned();
    Ok(StateError::Moved { place: remote.place(), to })
}

/// Gets the snapshot and the tail, in this order; `None` if one of them is gone meanwhile.
async fn fetch(remote: &Remote, snapshot: &Listed, chosen: &Chosen) -> Result<Option<Vec<Bytes>>, StateError> {
    let wanted = [snapshot].into_iter().chain(chosen.tail.iter().map(|(_, _, object)| object));
    let wanted: Vec<Listed> = wanted.cloned().collect();
    stream::iter(wanted.into_iter().map(|object| async move { cached(remote, &object.key, &object.version).await }))
        .buffered(FETCHES)
        .try_collect::<Vec<Option<Bytes>>>()
        .await
        .map(|objects| objects.into_iter().collect())
}

async fn cached(remote: &Remote, key: &str, version: &Version) -> Result<Option<Bytes>, StateError> {
    if let Some(bytes) = remote.cache.get(key, version)
        && is_whole(&bytes, key)
    {
        return Ok(Some(bytes));
    }
    let Some((bytes, found)) = remote.get(key).await? else { return Ok(None) };
    remote.cache.put(key, &found, &bytes);
    Ok(Some(bytes))
}

fn kind_of(key: &str) -> Option<Kind> {
    match LogKey::parse(key)? {
        LogKey::Snapshot(_) => Some(Kind::Snapshot),
        LogKey::Segment(_) => Some(Kind::Segment),
        LogKey::Pack(..) => Some(Kind::Pack),
        LogKey::Moved => None,
    }
}

fn is_whole(bytes: &Bytes, key: &str) -> bool {
    kind_of(key).is_some_and(|kind| Object::open(bytes, kind, key).is_ok())
}

fn replay(
    remote: &Remote,
    number: u64,
    listed: &Listed,
    objects: Vec<Bytes>,
    chosen: Chosen,
) -> Result<Log, StateError> {
    let mut objects = objects.into_iter();
    let place = remote.place_of(&listed.key);
    let object = Object::open(&objects.next().unwrap_or_default(), Kind::Snapshot, &place)?;
    let mut snapshot = object.snapshot()?;
    if snapshot.lineage != object.header.lineage {
        return Err(StateError::Damaged { place, why: "it is of another lineage than its first line says".to_owned() });
    }
    shift_open(&mut snapshot, shift(remote, &object.header));
    let mut log = Log {
        first: snapshot.sequence + 1,
        state: State::new(snapshot),
        sealed: Vec::new(),
        entries: Vec::new(),
        next_segment: number,
        tail: Vec::new(),
        snapshot_segment: number,
        snapshot_raw: object.header.raw,
        tail_raw: 0,
        old: chosen.old,
        fences: chosen.fences,
    };
    for ((from, to, listed), bytes) in chosen.tail.into_iter().zip(objects) {
        let place = remote.place_of(&listed.key);
        let segments = if to > from + 1 || LogKey::parse(&listed.key) == Some(LogKey::Pack(from, to)) {
            Object::open(&bytes, Kind::Pack, &place)?.segments()?
        } else {
            vec![bytes]
        };
        if segments.len() as u64 != to - from {
            return Err(StateError::Damaged { place, why: "it holds another number of segments".to_owned() });
        }
        let mut is_fence = true;
        for segment in &segments {
            is_fence &= !log.take(remote, segment, &place)?;
        }
        is_fence &= matches!(LogKey::parse(&listed.key), Some(LogKey::Segment(_)));
        log.tail.push(Tail { key: listed.key, from, to, segments, is_fence });
    }
    Ok(log)
}

impl Log {
    /// Takes in one segment. Answers whether it has entries.
    fn take(&mut self, remote: &Remote, bytes: &Bytes, place: &str) -> Result<bool, StateError> {
        let object = Object::open(bytes, Kind::Segment, place)?;
        let header = &object.header;
        let damaged = |why: String| Err(StateError::Damaged { place: place.to_owned(), why });
        let snapshot = self.state.snapshot();
        if header.lineage != snapshot.lineage {
            return damaged(format!("it has lineage {}, the snapshot {}", header.lineage, snapshot.lineage));
        }
        if header.segment != self.next_segment {
            return damaged(format!("it is segment {}, not {}", header.segment, self.next_segment));
        }
        if header.sequence != self.state.next_sequence() {
            return damaged(format!("it begins with entry {}, after entry {}", header.sequence, snapshot.sequence));
        }
        let shift = shift(remote, header);
        for mut entry in object.entries()? {
            if let Entry::Intent(intent) = &mut entry {
                intent.deadline_ms = shifted(intent.deadline_ms, shift);
            }
            let sealed = self.state.apply(&entry);
            let sealed = sealed.map_err(|source| StateError::Illegal { place: format!("{place},"), source })?;
            self.sealed.extend(sealed);
            self.entries.push(entry);
        }
        self.tail_raw += header.raw;
        self.next_segment += 1;
        Ok(header.count > 0)
    }
}

/// How far deadlines of this object are to be moved to be of our clock.
fn shift(remote: &Remote, header: &Header) -> Option<i64> {
    let shift = header.ahead_ms?.saturating_sub(remote.ahead_ms()?);
    (shift.abs() > SAME_CLOCK_MS).then_some(shift)
}

fn shifted(deadline_ms: u64, shift: Option<i64>) -> u64 {
    match shift {
        None => deadline_ms,
        Some(shift) => deadline_ms.saturating_add_signed(shift).saturating_add(CLOCK_MARGIN_MS),
    }
}

fn shift_open(snapshot: &mut Snapshot, shift: Option<i64>) {
    for open in snapshot.open.values_mut() {
        open.intent.deadline_ms = shifted(open.intent.deadline_ms, shift);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    fn listed(keys: &[String]) -> Vec<Listed> {
        let object = |key: &String| Listed { key: key.clone(), version: Version("v".into()), size: 1, modified_ms: 1 };
        let mut listed: Vec<Listed> = keys.iter().map(object).collect();
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        listed
    }

    #[test]
    fn the_newest_snapshot_and_what_follows_it_are_chosen() {
        use keys::{pack, segment, snapshot};
        let chosen = choose(listed(&[
            snapshot(1),
            segment(1),
            segment(2),
            snapshot(3),
            segment(3),
            segment(4),
            pack(3, 5),
            segment(5),
            segment(7),
        ]));
        assert_eq!(chosen.snapshot.map(|(number, _)| number), Some(3));
        let tail: Vec<(u64, u64)> = chosen.tail.iter().map(|(from, to, _)| (*from, *to)).collect();
        assert_eq!(tail, [(3, 5), (5, 6)]);
        assert_eq!(chosen.apart, Some(7));
        assert_eq!(chosen.old, [snapshot(1)]);
        assert_eq!(chosen.fences, [segment(1), segment(2), segment(3), segment(4)]);
    }

    #[test]
    fn deadlines_move_with_the_clock_they_were_written_by() {
        assert_eq!(shifted(100_000, None), 100_000);
        assert_eq!(shifted(3_700_000, Some(-3_600_000)), 102_000);
        assert_eq!(shifted(100_000, Some(3_600_000)), 3_702_000);
    }
}
