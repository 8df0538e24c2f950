//! Objects as bytes: a line `ksail <crc32c of the JSON> <JSON>` that says what it is, then a payload with its own checksum.
//! Every object names its lineage and the writer that made it, so that no two writers ever make the same bytes.

use std::io::{BufWriter, Read as _, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use ksail_records::{Entry, FORMAT, SealedOperation, Snapshot, StateError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How an object begins.
const MAGIC: &[u8] = b"ksail ";
/// Digits of a checksum.
const CHECKSUM_LEN: usize = 8;
/// The most bytes that an object may unfold to.
const MOST_RAW_BYTES: u64 = 4 << 30;
/// How much is given to the encoder at once.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// What an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Entries of the journal; none of them in a fence.
    Segment,
    /// A checkpoint.
    Snapshot,
    /// Several segments.
    Pack,
    /// A sealed operation.
    Operation,
}

/// The first line of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) format: u32,
    pub(crate) kind: Kind,
    pub(crate) lineage: String,
    /// Made once for each holding of the lease.
    pub(crate) writer: String,
    /// The segment's number; of a snapshot, the first that it does not hold; of a pack, its first.
    pub(crate) segment: u64,
    /// The sequence number of the first entry; of a snapshot, of the last that it has taken in.
    pub(crate) sequence: u64,
    /// How many entries (segment) or segments (pack).
    pub(crate) count: u64,
    /// The payload's bytes before it was packed.
    pub(crate) raw: u64,
    /// The payload's checksum.
    pub(crate) checksum: String,
    /// The writer's time of day, in milliseconds since the epoch.
    pub(crate) at_ms: u64,
    /// How far the store's clock was ahead of that, in milliseconds. Deadlines in the payload are of the writer's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ahead_ms: Option<i64>,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

fn checksum(bytes: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(bytes))
}

/// An object. The header's checksum, count of bytes and format are filled in.
fn encode(header: Header, raw: u64, payload: &[u8]) -> Bytes {
    let header = Header { format: FORMAT, raw, checksum: checksum(payload), ..header };
    let json = serde_json::to_vec(&header).unwrap_or_default();
    let mut out = Vec::with_capacity(MAGIC.len() + CHECKSUM_LEN + json.len() + payload.len() + 2);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(checksum(&json).as_bytes());
    out.push(b' ');
    out.extend_from_slice(&json);
    out.push(b'\n');
    out.extend_from_slice(payload);
    Bytes::from(out)
}

fn packed<T: Serialize>(content: &T, level: Compression) -> Result<(u64, Vec<u8>), serde_json::Error> {
    // JSON is written in pieces of some bytes, and every call of the encoder has a price of its own.
    let encoder = Counting { encoder: DeflateEncoder::new(Vec::new(), level), bytes: 0 };
    let mut buffered = BufWriter::with_capacity(PIECE_BYTES, encoder);
    serde_json::to_writer(&mut buffered, content)?;
    let Counting { encoder, bytes } =
        buffered.into_inner().map_err(|error| serde_json::Error::io(error.into_error()))?;
    let packed = encoder.finish().map_err(serde_json::Error::io)?;
    Ok((bytes, packed))
}

struct Counting {
    encoder: DeflateEncoder<Vec<u8>>,
    bytes: u64,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.encoder.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.encoder.flush()
    }
}

pub(crate) fn unwritable(place: &str, error: &dyn std::error::Error) -> StateError {
    StateError::Io { doing: "encode", place: place.to_owned(), source: std::io::Error::other(error.to_string()) }
}

/// A segment of these entries.
pub(crate) fn segment(header: Header, entries: &[Entry], place: &str) -> Result<Bytes, StateError> {
    let (raw, payload) = packed(&entries, Compression::fast()).map_err(|error| unwritable(place, &error))?;
    Ok(encode(Header { kind: Kind::Segment, count: entries.len() as u64, ..header }, raw, &payload))
}

/// A checkpoint.
pub(crate) fn snapshot(header: Header, snapshot: &Snapshot, place: &str) -> Result<Bytes, StateError> {
    let (raw, payload) = packed(snapshot, Compression::fast()).map_err(|error| unwritable(place, &error))?;
    Ok(encode(Header { kind: Kind::Snapshot, count: 1, ..header }, raw, &payload))
}

/// A sealed operation, from its packed JSON.
pub(crate) fn operation(header: Header, raw: u64, payload: &[u8]) -> Bytes {
    encode(Header { kind: Kind::Operation, count: 1, ..header }, raw, payload)
}

/// A pack of segments, each with its length before it.
pub(crate) fn pack(header: Header, segments: &[Bytes]) -> Bytes {
    let mut payload = Vec::with_capacity(segments.iter().map(|segment| segment.len() + 8).sum());
    for segment in segments {
        payload.extend_from_slice(&(segment.len() as u64).to_be_bytes());
        payload.extend_from_slice(segment);
    }
    let raw = payload.len() as u64;
    encode(Header { kind: Kind::Pack, count: segments.len() as u64, ..header }, raw, &payload)
}

/// An object that was read and whose checksums hold.
pub(crate) struct Object {
    pub(crate) header: Header,
    payload: Bytes,
    place: String,
}

impl Object {
    /// Reads an object that is expected to be of this kind.
    pub(crate) fn open(bytes: &Bytes, kind: Kind, place: &str) -> Result<Self, StateError> {
        let damaged = |why: &str| StateError::Damaged { place: place.to_owned(), why: why.to_owned() };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it is not an object of a state"))?;
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("its first line has no end"))?;
        let line = &rest[..end];
        let json = line.get(CHECKSUM_LEN + 1..).ok_or_else(|| damaged("its first line is cut off"))?;
        if line[CHECKSUM_LEN] != b' ' || checksum(json).as_bytes() != &line[..CHECKSUM_LEN] {
            return Err(damaged("its first line does not match its checksum"));
        }
        if let Ok(FormatOnly { format }) = serde_json::from_slice(json)
            && format > FORMAT
        {
            return Err(StateError::NewerFormat { place: place.to_owned(), found: format, known: FORMAT });
        }
        let header: Header = serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))?;
        let payload = bytes.slice(MAGIC.len() + end + 1..);
        if checksum(&payload) != header.checksum {
            return Err(damaged("it does not match its checksum"));
        }
        if header.kind != kind {
            return Err(damaged("it holds something else than its key says"));
        }
        Ok(Self { header, payload, place: place.to_owned() })
    }

    fn damaged(&self, why: impl Into<String>) -> StateError {
        StateError::Damaged { place: self.place.clone(), why: why.into() }
    }

    fn content<T: DeserializeOwned>(&self) -> Result<T, StateError> {
        if self.header.raw > MOST_RAW_BYTES {
            return Err(self.damaged(format!("it says that it holds {} bytes", self.header.raw)));
        }
        let mut raw = Vec::with_capacity(usize::try_from(self.header.raw).unwrap_or(0));
        let mut decoder = DeflateDecoder::new(&self.payload[..]).take(self.header.raw + 1);
        decoder.read_to_end(&mut raw).map_err(|error| self.damaged(error.to_string()))?;
        if raw.len() as u64 != self.header.raw {
            return Err(self.damaged("it holds another number of bytes than it says"));
        }
        serde_json::from_slice(&raw).map_err(|error| self.damaged(error.to_string()))
    }

    pub(crate) fn entries(&self) -> Result<Vec<Entry>, StateError> {
        let entries: Vec<Entry> = self.content()?;
        if entries.len() as u64 == self.header.count {
            Ok(entries)
        } else {
            Err(self.damaged(format!("it holds {} entries instead of {}", entries.len(), self.header.count)))
        }
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot, StateError> {
        self.content()
    }

    pub(crate) fn operation(&self) -> Result<SealedOperation, StateError> {
        self.content()
    }

    /// The segments of a pack, as they were stored.
    pub(crate) fn segments(&self) -> Result<Vec<Bytes>, StateError> {
        let mut rest = self.payload.clone();
        let mut found = Vec::new();
        while !rest.is_empty() {
            let length = rest.get(..8).and_then(|head| <[u8; 8]>::try_from(head).ok()).map(u64::from_be_bytes);
            let length = length.and_then(|length| usize::try_from(length).ok());
            let Some(length) = length.filter(|length| *length <= rest.len() - 8) else {
                return Err(self.damaged("a segment in it is cut off"));
            };
            found.push(rest.slice(8..8 + length));
            rest = rest.slice(8 + length..);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            format: 0,
            kind: Kind::Segment,
            lineage: "l".into(),
            writer: "w".into(),
            segment: 3,
            sequence: 7,
            count: 0,
            raw: 0,
            checksum: String::new(),
            at_ms: 5,
            ahead_ms: None,
        }
    }

    #[test]
    fn what_is_written_is_read_and_a_changed_byte_is_noticed() {
        let entry = Entry::Seal { operation: "op".into(), result: ksail_records::OperationResult::Complete, at_ms: 9 };
        let bytes = segment(header(), std::slice::from_ref(&entry), "here").unwrap();
        let read = Object::open(&bytes, Kind::Segment, "here").unwrap();
        assert_eq!((read.header.segment, read.header.sequence, read.header.count), (3, 7, 1));
        assert_eq!(read.entries().unwrap(), [entry]);
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            let read = Object::open(&Bytes::from(changed), Kind::Segment, "here").and_then(|object| object.entries());
            assert!(read.is_err(), "a change of byte {at} was not noticed");
        }
    }

    #[test]
    fn a_pack_gives_its_segments_back() {
        let segments = [segment(header(), &[], "a").unwrap(), segment(header(), &[], "b").unwrap()];
        let bytes = pack(header(), &segments);
        let read = Object::open(&bytes, Kind::Pack, "here").unwrap();
        assert_eq!(read.segments().unwrap(), segments);
    }

    #[test]
    fn a_newer_format_is_named() {
        let json = br#"{"format":99,"other":true}"#;
        let bytes = [MAGIC, checksum(json).as_bytes(), b" ", json, b"\n"].concat();
        let error = Object::open(&Bytes::from(bytes), Kind::Segment, "here").err().unwrap();
        assert!(matches!(error, StateError::NewerFormat { found: 99, .. }), "{error}");
    }
}
