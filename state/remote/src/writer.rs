//! The one writer of a stack.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ksail_records::{Entry, Lease, SealedOperation, Snapshot, StateError, Stored, Writer};

use crate::codec::{self, Header, Kind};
use crate::history;
use crate::keys::{self, MOVED};
use crate::lease::Held;
use crate::log::{self, Log, Tail};
use crate::remote::Remote;
use crate::rescue::{self, Fit, Rescue};

/// A log smaller than this is never worth a checkpoint: packed it is some hundred KiB, in a few objects that are read at once.
pub const CHECKPOINT_FLOOR_BYTES: u64 = 16 * 1024 * 1024;
/// A log this many times larger than the snapshot is worth a checkpoint. Both are counted as they unfold.
pub const CHECKPOINT_RATIO: u64 = 2;
/// How many calls are announced before their turn: some times what a quick provider makes in a round trip. Their intents share
/// a segment; of a killed writer, as many are looked at again, a kind at a time.
const ANNOUNCED_AHEAD: usize = 16 * 1024;
/// How long a segment waits for more entries. It is little beside a round trip, and saves one where what follows from an
/// outcome comes a moment later.
const LINGER: Duration = Duration::from_millis(2);
/// So many segments after the last pack are packed when the lease is given back.
const PACK_AT_RELEASE: usize = 32;
/// So many are packed while an apply is at work.
const PACK_AT_WORK: usize = 512;
/// So many packs are made one.
const MOST_PACKS: usize = 16;
/// So many fences are kept, the newest: each is where a writer would write that was stopped that many takeovers ago.
const FENCES_KEPT: usize = 64;
/// How often a fence is put where a stale writer was faster.
const FENCE_TRIES: u32 = 16;

/// The log as this writer left it.
struct Open {
    lineage: String,
    next_segment: u64,
    /// The sequence number of the last entry.
    last: u64,
    tail: Vec<Tail>,
    snapshot_segment: u64,
    snapshot_raw: u64,
    tail_raw: u64,
    old: Vec<String>,
    fences: Vec<String>,
}

/// Writes the state in a store.
pub(crate) struct RemoteWriter {
    remote: Arc<Remote>,
    held: Held,
    open: Option<Open>,
    /// Of the state that was loaded or created.
    lineage: Option<String>,
    rescue: Option<Rescue>,
    /// Nothing of an earlier writer can still be on its way.
    settled: bool,
    /// A write of ours failed or was given up, and may still be on its way: whoever comes next must put a fence.
    failed: bool,
    /// The serial of the operation that went into the history last.
    archived: Option<u64>,
}

impl RemoteWriter {
    pub(crate) fn new(remote: Arc<Remote>, held: Held) -> Self {
        let settled = held.after_clean;
        Self { remote, held, open: None, lineage: None, rescue: None, settled, failed: false, archived: None }
    }

    fn header(&self, lineage: &str) -> Header {
        Header {
            format: 0,
            kind: Kind::Segment,
            lineage: lineage.to_owned(),
            writer: self.held.writer().to_owned(),
            segment: 0,
            sequence: 0,
            count: 0,
            raw: 0,
            checksum: String::new(),
            at_ms: self.remote.now_ms(),
            ahead_ms: self.remote.ahead_ms(),
        }
    }

    fn not_loaded(&self) -> StateError {
        StateError::Io {
            doing: "write to",
            place: self.remote.place(),
            source: std::io::Error::other("it must be loaded first"),
        }
    }

    fn fenced(&self) -> StateError {
        StateError::Fenced { place: self.remote.place() }
    }

    /// Puts a fence where a stale writer would write, unless the one before gave its lease back in order. Nothing that was
    /// read counts before that.
    async fn read_fenced(&mut self) -> Result<Option<Log>, StateError> {
        for _ in 0..FENCE_TRIES {
            let Some(mut log) = log::read(&self.remote, self.held.listed.take()).await? else { return Ok(None) };
            if self.settled {
                return Ok(Some(log));
            }
            let number = log.next_segment;
            let lineage = &log.state.snapshot().lineage;
            let header = Header { segment: number, sequence: log.state.next_sequence(), ..self.header(lineage) };
            let key = keys::segment(number);
            let fence = codec::segment(header, &[], &self.remote.place_of(&key))?;
            if let Some(version) = self.remote.put_if_absent(&key, &fence).await? {
                self.remote.cache.put(&key, &version, &fence);
                log.tail.push(Tail { key, from: number, to: number + 1, segments: vec![fence], is_fence: true });
                log.next_segment += 1;
                self.settled = true;
                return Ok(Some(log));
            }
        }
        Err(self.fenced())
    }

    /// Stores one segment; `Fenced` if another one's is there.
    async fn put(&self, open: &mut Open, first: u64, entries: &[Entry]) -> Result<(), StateError> {
        let number = open.next_segment;
        let key = keys::segment(number);
        let header = Header { segment: number, sequence: first, ..self.header(&open.lineage) };
        let bytes = codec::segment(header, entries, &self.remote.place_of(&key))?;
        self.held.check()?;
        let Some(version) = self.remote.put_if_absent(&key, &bytes).await? else { return Err(self.fenced()) };
        // A stop of the process may have come between: what was stored after the lease's end may be below what another
        // one has taken for all.
        self.held.check()?;
        self.remote.cache.put(&key, &version, &bytes);
        open.tail_raw += raw_bytes(&bytes);
        open.next_segment += 1;
        open.last += entries.len() as u64;
        open.tail.push(Tail { key, from: number, to: number + 1, segments: vec![bytes], is_fence: false });
        Ok(())
    }

    fn keep(&mut self, lineage: &str, first: u64, entries: &[Entry]) -> Result<String, StateError> {
        let remote = &self.remote;
        let writer = self.held.writer();
        let rescue = self.rescue.get_or_insert_with(|| {
            Rescue::new(&remote.rescue_folder(), remote.now_ms(), writer, lineage, &remote.place())
        });
        rescue.keep(first, entries)?;
        Ok(rescue.file())
    }

    /// Makes one object of the segments after the last pack, or of all after the snapshot where there are many packs.
    async fn pack(&self, open: &mut Open) -> Result<(), StateError> {
        let packs = open.tail.iter().filter(|tail| tail.to > tail.from + 1).count();
        let at = match open.tail.iter().rposition(|tail| tail.to > tail.from + 1) {
            Some(last) if packs < MOST_PACKS => last + 1,
            _ => 0,
        };
        let (Some(first), Some(last)) = (open.tail.get(at), open.tail.last()) else { return Ok(()) };
        let (from, to) = (first.from, last.to);
        if to < from + 2 {
            return Ok(());
        }
        let segments: Vec<Bytes> = open.tail[at..].iter().flat_map(|tail| tail.segments.iter().cloned()).collect();
        let key = keys::pack(from, to);
        let bytes = codec::pack(Header { segment: from, ..self.header(&open.lineage) }, &segments);
        self.held.check()?;
        let Some(version) = self.remote.put_if_absent(&key, &bytes).await? else { return Ok(()) };
        self.remote.cache.put(&key, &version, &bytes);
        let taken = open.tail.split_off(at);
        open.tail.push(Tail { key, from, to, segments, is_fence: false });
        open.put_away(taken);
        Ok(())
    }

    /// Deletes what is not needed any more. It does not matter if that fails: the next one sees it again.
    async fn forget(&self, open: &mut Open) {
        open.fences.sort_unstable();
        let over = open.fences.len().saturating_sub(FENCES_KEPT);
        open.old.extend(open.fences.drain(..over));
        if self.remote.delete(&open.old).await.is_ok() {
            open.old.clear();
        }
    }

    /// Deletes what the history is to keep no longer.
    async fn retain(&self) {
        let retention = &self.remote.options.retention;
        // There is no more than one operation a serial.
        let may_be_over = |serial: u64| retention.age.is_some() || serial > retention.count as u64;
        if self.archived.is_some_and(may_be_over) {
            let _ = history::retain(&self.remote, retention).await;
        }
    }

    /// Stores what an earlier writer on this machine could not.
    async fn take_up(&mut self, mut log: Log, warnings: &mut Vec<String>) -> Result<Log, StateError> {
        let (waiting, unreadable) = rescue::waiting(&self.remote.rescue_folder(), &self.remote.place())?;
        warnings.extend(unreadable);
        for kept in waiting {
            match kept.fit(&log) {
                Fit::Stored => kept.done()?,
                Fit::Next(entries) => {
                    let mut open = open_of(&log);
                    let first = log.state.next_sequence();
                    self.put(&mut open, first, &entries).await?;
                    for entry in &entries {
                        let place = kept.file();
                        let sealed = log.state.apply(entry).map_err(|source| StateError::Illegal { place, source })?;
                        log.sealed.extend(sealed);
                    }
                    warnings.push(format!("{} entries of {} are stored now", entries.len(), kept.file()));
                    log.entries.extend(entries);
                    (log.next_segment, log.tail, log.tail_raw) = (open.next_segment, open.tail, open.tail_raw);
                    kept.done()?;
                }
                Fit::Not(why) => {
                    let file = kept.file();
                    let aside = kept.put_aside()?;
                    warnings.push(format!("{file} does not fit any more ({why}); it is kept as {aside}"));
                }
            }
        }
        Ok(log)
    }
}

impl Open {
    /// Objects that others have taken in: fences stay, the rest can go.
    fn put_away(&mut self, tail: Vec<Tail>) {
        for tail in tail {
            if tail.is_fence { &mut self.fences } else { &mut self.old }.push(tail.key);
        }
    }
}

fn raw_bytes(segment: &Bytes) -> u64 {
    codec::Object::open(segment, Kind::Segment, "").map_or(0, |object| object.header.raw)
}

fn open_of(log: &Log) -> Open {
    Open {
        lineage: log.state.snapshot().lineage.clone(),
        next_segment: log.next_segment,
        last: log.state.snapshot().sequence,
        tail: log.tail.clone(),
        snapshot_segment: log.snapshot_segment,
        snapshot_raw: log.snapshot_raw,
        tail_raw: log.tail_raw,
        old: log.old.clone(),
        fences: log.fences.clone(),
    }
}

#[async_trait]
impl Writer for RemoteWriter {
    async fn load(&mut self) -> Result<Stored, StateError> {
        self.open = None;
        let mut warnings = Vec::new();
        let after_clean = self.settled;
        let Some(log) = self.read_fenced().await? else { return Ok(Stored { state: None, warnings }) };
        let log = self.take_up(log, &mut warnings).await?;
        if !after_clean {
            let header = self.header(&log.state.snapshot().lineage);
            history::complete(&self.remote, &header, &log.sealed).await?;
        }
        self.lineage = Some(log.state.snapshot().lineage.clone());
        self.open = Some(open_of(&log));
        Ok(Stored { state: Some(log.state), warnings })
    }

    async fn create(&mut self, snapshot: &Snapshot) -> Result<(), StateError> {
        let place = self.remote.place();
        let exists = || StateError::Io {
            doing: "create a state in",
            place: place.clone(),
            source: std::io::Error::new(std::io::ErrorKind::AlreadyExists, "there is one"),
        };
        if self.open.is_some() {
            return Err(exists());
        }
        self.held.check()?;
        let number = 1;
        let key = keys::snapshot(number);
        let header = Header { segment: number, sequence: snapshot.sequence, ..self.header(&snapshot.lineage) };
        let bytes = codec::snapshot(header, snapshot, &self.remote.place_of(&key))?;
        // Also where this future is dropped on the way.
        self.failed = true;
        let Some(version) = self.remote.put_if_absent(&key, &bytes).await? else { return Err(exists()) };
        self.held.check()?;
        self.failed = false;
        self.remote.cache.put(&key, &version, &bytes);
        self.lineage = Some(snapshot.lineage.clone());
        self.open = Some(Open {
            lineage: snapshot.lineage.clone(),
            next_segment: number,
            last: snapshot.sequence,
            tail: Vec::new(),
            snapshot_segment: number,
            snapshot_raw: codec::Object::open(&bytes, Kind::Snapshot, "").map_or(0, |object| object.header.raw),
            tail_raw: 0,
            old: Vec::new(),
            fences: Vec::new(),
        });
        Ok(())
    }

    async fn append(&mut self, first: u64, entries: &[Entry]) -> Result<(), StateError> {
        if entries.is_empty() {
            return Ok(());
        }
        let Some(mut open) = self.open.take() else { return Err(self.not_loaded()) };
        if first != open.last + 1 {
            self.open = Some(open);
            return Err(self.fenced());
        }
        // Also where this future is dropped on the way.
        self.failed = true;
        if let Err(error) = self.put(&mut open, first, entries).await {
            // It may be stored or not. This writer is at its end: only what is read next decides.
            let file = self.keep(&open.lineage, first, entries)?;
            return Err(StateError::Rescued { place: self.remote.place(), file, source: Box::new(error) });
        }
        self.failed = false;
        if open.tail.iter().rev().take_while(|tail| tail.to == tail.from + 1).count() >= PACK_AT_WORK {
            // A help for readers only: that it fails is not this write's failure.
            let _ = self.pack(&mut open).await;
        }
        self.open = Some(open);
        Ok(())
    }

    async fn append_sealing(
        &mut self,
        first: u64,
        entries: &[Entry],
        sealed: &[SealedOperation],
    ) -> Result<(), StateError> {
        let remote = Arc::clone(&self.remote);
        let headers: Vec<Header> = sealed.iter().map(|operation| self.header(&operation.lineage)).collect();
        self.held.check()?;
        self.archived = sealed.iter().map(|operation| operation.serial).max().or(self.archived);
        // At once: both are a round trip. What is sealed and not archived is completed by whoever comes next.
        let archive = async {
            for (header, operation) in headers.into_iter().zip(sealed) {
                history::store(&remote, header, operation).await?;
            }
            Ok(())
        };
        // The entries go first: what the history is given takes a while to be packed.
        let (appended, archived) = tokio::join!(self.append(first, entries), archive);
        appended?;
        if archived.is_err() {
            self.failed = true;
        }
        archived
    }

    fn announces_ahead(&self) -> usize {
        ANNOUNCED_AHEAD
    }

    fn lingers(&self) -> Duration {
        LINGER
    }

    fn wants_checkpoint(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.tail_raw > CHECKPOINT_FLOOR_BYTES.max(CHECKPOINT_RATIO.saturating_mul(open.snapshot_raw))
        })
    }

    async fn checkpoint(&mut self, snapshot: &Snapshot) -> Result<(), StateError> {
        let Some(mut open) = self.open.take() else { return Err(self.not_loaded()) };
        let number = open.next_segment;
        let key = keys::snapshot(number);
        let place = self.remote.place_of(&key);
        if snapshot.lineage != open.lineage || snapshot.sequence != open.last {
            let why = format!("it ends with entry {}, the log with entry {}", snapshot.sequence, open.last);
            self.open = Some(open);
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
            return Err(StateError::Io { doing: "replace", place, source });
        }
        if number == open.snapshot_segment {
            self.open = Some(open);
            return Ok(());
        }
        let header = Header { segment: number, sequence: snapshot.sequence, ..self.header(&open.lineage) };
        let stored = match codec::snapshot(header, snapshot, &place) {
            Ok(bytes) => match self.held.check() {
                Ok(()) => self.remote.put_if_absent(&key, &bytes).await.map(|version| (version, bytes)),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match stored {
            Ok((Some(version), bytes)) => {
                self.remote.cache.put(&key, &version, &bytes);
                open.old.push(keys::snapshot(open.snapshot_segment));
                let taken = std::mem::take(&mut open.tail);
                open.put_away(taken);
                open.snapshot_segment = number;
                open.snapshot_raw =
                    codec::Object::open(&bytes, Kind::Snapshot, "").map_or(0, |object| object.header.raw);
                open.tail_raw = 0;
                self.open = Some(open);
                Ok(())
            }
            Ok((None, _)) => {
                self.failed = true;
                Err(self.fenced())
            }
            // The segments can go on without it.
            Err(error) => {
                self.open = Some(open);
                Err(error)
            }
        }
    }

    async fn archive(&mut self, operation: &SealedOperation) -> Result<(), StateError> {
        self.held.check()?;
        self.archived = Some(operation.serial);
        history::store(&self.remote, self.header(&operation.lineage), operation).await
    }

    async fn rescue(&mut self, first: u64, entries: &[Entry]) -> Result<Option<String>, StateError> {
        let Some(lineage) = self.lineage.clone() else { return Ok(None) };
        self.failed = true;
        self.keep(&lineage, first, entries).map(Some)
    }

    fn lease(&self) -> Option<Arc<dyn Lease>> {
        Some(self.held.lease())
    }

    async fn seal(&mut self, to: &str) -> Result<(), StateError> {
        self.held.check()?;
        let bytes = Bytes::from(format!("{to}\n{}\n", self.held.writer()));
        match self.remote.put_if_absent(MOVED, &bytes).await? {
            Some(_) => Ok(()),
            None => Err(self.fenced()),
        }
    }

    async fn release(mut self: Box<Self>) -> Result<(), StateError> {
        if let Some(mut open) = self.open.take().filter(|_| !self.failed) {
            // Helps for those who come next, none of which is worth an error now.
            let loose = open.tail.iter().rev().take_while(|tail| tail.to == tail.from + 1).count();
            if loose >= PACK_AT_RELEASE {
                let _ = self.pack(&mut open).await;
            }
            tokio::join!(self.forget(&mut open), self.retain());
        }
        // A lease that cannot be given back expires.
        let _ = self.held.release(self.settled && !self.failed).await;
        Ok(())
    }
}
