//! The lines of the log: `<crc32c of the JSON, 8 hexadecimal digits> <JSON>` and a newline.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Digits of the checksum.
const CHECKSUM_LEN: usize = 8;
/// Where the JSON begins: after the checksum and a space.
const JSON_AT: usize = CHECKSUM_LEN + 1;

/// A change: the object, or nothing if it was deleted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record<'a> {
    #[serde(rename = "v")]
    pub(crate) version: u64,
    #[serde(rename = "r", borrow)]
    pub(crate) resource: Cow<'a, str>,
    #[serde(rename = "ns", borrow)]
    pub(crate) namespace: Cow<'a, str>,
    #[serde(rename = "n", borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(rename = "o", borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<&'a RawValue>,
}

impl Record<'_> {
    /// The line of a change.
    pub(crate) fn line(
        version: u64,
        resource: &str,
        namespace: &str,
        name: &str,
        json: Option<&bytes::Bytes>,
    ) -> Vec<u8> {
        let mut line = Vec::with_capacity(json.map_or(0, bytes::Bytes::len) + 160);
        line.extend_from_slice(b"00000000 ");
        let head = Record {
            version,
            resource: Cow::Borrowed(resource),
            namespace: Cow::Borrowed(namespace),
            name: Cow::Borrowed(name),
            object: None,
        };
        serde_json::to_writer(&mut line, &head).expect("a record can be written as JSON");
        if let Some(json) = json {
            // The object is JSON already: it goes in before the closing brace.
            line.pop();
            line.extend_from_slice(b",\"o\":");
            line.extend_from_slice(json);
            line.push(b'}');
        }
        seal(&mut line);
        line
    }
}

/// The header of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) format: u32,
    /// `log` or `snapshot`.
    pub(crate) file: String,
    /// How many records follow, in a snapshot.
    #[serde(default)]
    pub(crate) records: u64,
    /// The version of the last change before a log, or the last within a snapshot.
    pub(crate) version: u64,
}

impl Header {
    /// The first line of a file.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = b"00000000 ".to_vec();
        serde_json::to_writer(&mut line, self).expect("a header can be written as JSON");
        seal(&mut line);
        line
    }
}

fn seal(line: &mut Vec<u8>) {
    let checksum = format!("{:08x}", crc32c::crc32c(&line[JSON_AT..]));
    line[..CHECKSUM_LEN].copy_from_slice(checksum.as_bytes());
    line.push(b'\n');
}

/// The JSON of a line without its newline; `None` if the line is torn or changed.
pub(crate) fn check(line: &[u8]) -> Option<&[u8]> {
    let checksum = line.get(..CHECKSUM_LEN)?;
    let json = line.get(JSON_AT..)?;
    let expected = format!("{:08x}", crc32c::crc32c(json));
    (line[CHECKSUM_LEN] == b' ' && checksum == expected.as_bytes()).then_some(json)
}
