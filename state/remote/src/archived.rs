//! A sealed operation as an object. It is the last that an apply writes, and of a large one most is its plan: while nothing else is
//! left to do, the plan is packed on one processor and what it did on another. What comes out is one stream.

use std::io::{BufWriter, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use ksail_records::{KeptPlan, SealedOperation, StateError};

use crate::codec::{Header, PIECE_BYTES, operation as object, unwritable};

/// What comes before a plan and after it: it is the last field.
const BEFORE_PLAN: &[u8] = b",\"plan\":";
const AFTER_PLAN: &[u8] = b"}";

/// A part of the JSON, packed so that another one can follow.
struct Part {
    raw: u64,
    packed: Vec<u8>,
}

/// The object of an operation.
pub(crate) async fn encode(header: Header, operation: &SealedOperation, place: &str) -> Result<Bytes, StateError> {
    let plan = operation.plan.clone().map(|plan| tokio::task::spawn_blocking(move || end(Some(&plan))));
    let begin = begin(operation).map_err(|error| unwritable(place, &error))?;
    let end = match plan {
        Some(plan) => plan.await.map_err(|error| unwritable(place, &error))?,
        None => end(None),
    };
    let end = end.map_err(|error| unwritable(place, &error))?;
    Ok(object(header, begin.raw + end.raw, &[begin.packed, end.packed].concat()))
}

/// All but the plan, without the bracket that closes it.
fn begin(operation: &SealedOperation) -> std::io::Result<Part> {
    let operation = SealedOperation { plan: None, ..operation.clone() };
    let mut out = AllButLast { encoder: DeflateEncoder::new(Vec::new(), Compression::fast()), raw: 0, last: None };
    let mut buffered = BufWriter::with_capacity(PIECE_BYTES, &mut out);
    serde_json::to_writer(&mut buffered, &operation)?;
    buffered.flush()?;
    drop(buffered);
    // Ends at a whole byte, without the mark of the stream's end.
    out.encoder.flush()?;
    Ok(Part { raw: out.raw, packed: std::mem::take(out.encoder.get_mut()) })
}

/// The plan, and the end of the stream. It refers to nothing before it.
fn end(plan: Option<&KeptPlan>) -> std::io::Result<Part> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    let parts = plan.map(|plan| [BEFORE_PLAN, plan.json().as_bytes()]);
    let mut raw = 0;
    for part in parts.into_iter().flatten().chain([AFTER_PLAN]) {
        encoder.write_all(part)?;
        raw += part.len() as u64;
    }
    Ok(Part { raw, packed: encoder.finish()? })
}

/// Holds the last byte back.
struct AllButLast {
    encoder: DeflateEncoder<Vec<u8>>,
    raw: u64,
    last: Option<u8>,
}

impl Write for AllButLast {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let Some((last, before)) = bytes.split_last() else { return Ok(0) };
        for piece in [self.last.replace(*last).as_slice(), before] {
            self.encoder.write_all(piece)?;
            self.raw += piece.len() as u64;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ksail_model::Digest;
    use ksail_records::{FORMAT, OperationHeader, OperationKind, OperationResult};

    use super::*;
    use crate::codec::{Kind, Object};

    fn sealed(plan: Option<KeptPlan>) -> SealedOperation {
        SealedOperation {
            format: FORMAT,
            lineage: "l".into(),
            serial: 3,
            header: OperationHeader {
                id: "op".into(),
                kind: OperationKind::Apply,
                parent_serial: 2,
                plan_digest: Digest::of_bytes(b"plan"),
                who: "somebody".into(),
                began_ms: 1,
                begins: false,
                commit: None,
            },
            result: OperationResult::Complete,
            sealed_ms: 5,
            changes: Vec::new(),
            outputs_before: None,
            plan,
        }
    }

    fn header() -> Header {
        Header {
            format: 0,
            kind: Kind::Operation,
            lineage: "l".into(),
            writer: "w".into(),
            segment: 0,
            sequence: 0,
            count: 0,
            raw: 0,
            checksum: String::new(),
            at_ms: 5,
            ahead_ms: None,
        }
    }

    #[tokio::test]
    async fn what_is_packed_in_two_parts_is_read_as_one() {
        // Larger than the window of the encoder and than its pieces.
        let large: Vec<String> = (0..50_000).map(|number| format!("node {number}")).collect();
        for plan in [None, Some(KeptPlan::of(&"small").unwrap()), Some(KeptPlan::of(&large).unwrap())] {
            let operation = sealed(plan);
            let bytes = encode(header(), &operation, "here").await.unwrap();
            let object = Object::open(&bytes, Kind::Operation, "here").unwrap();
            assert_eq!(object.header.raw, serde_json::to_vec(&operation).unwrap().len() as u64);
            assert_eq!(object.operation().unwrap(), operation);
        }
    }
}
