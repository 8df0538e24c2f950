//! Archives of images as streams, for whoever takes images in: the engine, or containerd on a machine. No image is held in memory.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use ksail_archives::{Archive, Chosen, write};
use ksail_provider::CallError;
use tokio::sync::mpsc;

use crate::call::Call;

/// How much is handed on at once, in bytes, and how many of such are ahead of who takes them.
const CHUNK: usize = 256 * 1024;
const AHEAD: usize = 4;

/// Opens the archive at a path.
pub(crate) async fn open(call: &Call, doing: &str, path: &Path) -> Result<Arc<Archive>, CallError> {
    let file = std::fs::File::open(path).map_err(|error| {
        let error = CallError::refused(format!("{doing}: {}: {error}", path.display()));
        error.hint("the archive must be where the plan was made from: plan again, or `--bundle FILE` names another")
    })?;
    read(call, &format!("{doing}: {}", path.display()), file).await
}

/// Reads what an archive holds.
pub(crate) async fn read(call: &Call, doing: &str, file: std::fs::File) -> Result<Arc<Archive>, CallError> {
    let reading = tokio::task::spawn_blocking(|| Archive::read(file, std::env::consts::ARCH));
    match call.aside(doing, reading).await? {
        Ok(Ok(archive)) => Ok(Arc::new(archive)),
        Ok(Err(error)) => Err(CallError::refused(format!("{doing}: {error}"))),
        Err(error) => Err(CallError::refused(format!("{doing}: {error}"))),
    }
}

/// An image that is not, or no longer, as it was planned.
pub(crate) fn check(doing: &str, archive: &Archive, reference: &str, digest: &str) -> Result<(), CallError> {
    let found = archive.image(reference).map_err(|error| CallError::refused(format!("{doing}: {error}")));
    let found = found.map_err(|error| error.hint("plan again"))?.digest();
    if found == digest {
        return Ok(());
    }
    let message = format!("{doing}: `{reference}` in it is not the planned one: {found}, not {digest}");
    Err(CallError::refused(message).hint("plan again"))
}

/// Some images of an archive, as an archive of their own. What is wrong with a blob is an error at its end.
pub(crate) fn stream(archive: Arc<Archive>, references: Vec<String>) -> impl Stream<Item = io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let chosen: Vec<Chosen<'_>> =
            references.iter().map(|name| Chosen { archive: &archive, from: name, name }).collect();
        let out = Handed { sender: sender.clone(), held: BytesMut::with_capacity(CHUNK) };
        let written = write(&chosen, out).map_err(io::Error::other).and_then(|mut out| out.flush());
        if let Err(error) = written {
            // Who does not listen any more has a reason of its own.
            let _ = sender.blocking_send(Err(error));
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move {
        let next = receiver.recv().await?;
        Some((next, receiver))
    })
}

/// Hands on what is written to it.
struct Handed {
    sender: mpsc::Sender<io::Result<Bytes>>,
    held: BytesMut,
}

impl Write for Handed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.held.len());
        self.held.extend_from_slice(&bytes[..count]);
        if self.held.len() == CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.held, BytesMut::with_capacity(CHUNK)).freeze();
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
